#!/usr/bin/env python3
"""The same requests to a real nginx and to `narthex standalone`, answer by answer.

Each case is an Ingress with annotations and the directives that ingress-nginx renders from them. Both proxies stand before
one backend of ours, which answers as the request asks. Compared are status, the fields that the family is about, and the
body (inflated where it came compressed). Nothing depends on time but waits that are long beside what they wait for.
Exit status: 0 all the same, 1 something differs, 2 a proxy did not start, 77 there is no nginx.
"""

import argparse
import gzip
import http.client
import json
import re
import sys
import threading
import time

from cases import SCENES
from pair import MAIN, OWN_FOLDER, PATIENCE, Listener, missing, narthex, nginx, objects, read_head, side_by_side, user

PAGE = b"<p>a line of text that repeats</p>\n"

NGINX = MAIN + """worker_processes 2;
error_log %(folder)s/error.log notice;
http {
  access_log off;
  server_tokens off;
  """ + OWN_FOLDER + """  default_type text/html;
  reset_timedout_connection on;
  client_body_buffer_size 8k;
  port_in_redirect off;
  proxy_ssl_session_reuse on;
%(http)s
  upstream backend { server 127.0.0.1:%(backend)d; keepalive 32; }
%(servers)s
}
"""

SERVER = """
  server {
    listen 127.0.0.1:%(port)d;
    server_name %(host)s;
%(server)s
    location / {
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header Connection "";
      proxy_http_version 1.1;
      proxy_connect_timeout 5s;
      proxy_send_timeout 60s;
      proxy_read_timeout 60s;
      proxy_next_upstream error timeout;
      proxy_next_upstream_tries 3;
%(location)s
      proxy_pass http://backend;
    }
  }
"""

# What ingress-nginx renders where no annotation says otherwise.
DEFAULTS = {
    "client_max_body_size": "1m",
    "proxy_buffering": "off",
    "proxy_request_buffering": "on",
    "proxy_redirect": "off",
    "proxy_cookie_domain": "off",
    "proxy_cookie_path": "off",
}


class Backend(Listener):
    """Answers what the request asks for, and keeps what it saw."""

    def __init__(self):
        self.seen, self.lock = [], threading.Lock()
        self.holding, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        super().__init__()

    def answer(self, reader, stream):
        line, fields = read_head(reader)
        line = line.split()
        if len(line) != 3:
            return False
        first = dict(reversed(fields))
        body = reader.read(int(first.get("content-length", "0")))
        if "chunked" in first.get("transfer-encoding", ""):
            while (size := int(reader.readline().split(b";")[0], 16)):
                body += reader.read(size)
                reader.readline()
            reader.readline()
        with self.lock:
            self.seen.append({"method": line[0], "target": line[1], "fields": first, "body": body})
        if "x-hold" in first:
            self.holding.release()
            self.gate.acquire(timeout=PATIENCE)
        self.write(stream, line[0], first, fields)
        return True

    @staticmethod
    def write(stream, method, first, fields):
        size = int(first.get("x-size", "32"))
        page = (PAGE * (size // len(PAGE) + 1))[:size]
        out = ["HTTP/1.1 %s X" % first.get("x-status", "200"), "Content-Type: " + first.get("x-type", "text/plain")]
        out += [value for name, value in fields if name == "x-send"]
        chunked = "x-chunked" in first
        out.append("Transfer-Encoding: chunked" if chunked else "Content-Length: %d" % size)
        stream.sendall("\r\n".join(out + ["", ""]).encode("latin-1"))
        if method == "HEAD":
            return
        if chunked:
            half = size // 2
            for part in (page[:half], page[half:]):
                stream.sendall(b"%x\r\n%s\r\n" % (len(part), part) if part else b"")
            stream.sendall(b"0\r\n\r\n")
        else:
            stream.sendall(page)


# --- the two proxies ------------------------------------------------------------------------------------------------


def directives(case):
    given = {line.split()[0] for line in case.get("nginx", [])}
    lines = ["%s %s" % item for item in DEFAULTS.items() if item[0] not in given]
    return "\n".join("      %s;" % line for line in lines + case.get("nginx", []))


def configuration(scene, port, backend, folder):
    servers = []
    for case in scene["cases"]:
        server = "\n".join("    " + text for text in case.get("server", []))
        server = server.replace("BACKEND", "127.0.0.1:%d" % backend)
        host = case["name"] + ".test"
        servers.append(SERVER % {"port": port, "host": host, "server": server, "location": directives(case)})
    http_lines = scene.get("http", []) + [line for case in scene["cases"] for line in case.get("http", [])]
    return NGINX % {
        "folder": folder,
        "user": user(),
        "http": "\n".join("  %s;" % line if not line.endswith("}") else "  " + line for line in http_lines),
        "backend": backend,
        "servers": "".join(servers),
    }


def manifests(scene, backend):
    hosts = {
        case["name"]: {
            name: value.replace("BACKEND", "127.0.0.1:%d" % backend)
            for name, value in case.get("annotations", {}).items()
        }
        for case in scene["cases"]
    }
    data = dict(scene.get("configmap", {}), **{"disable-access-log": "true"})
    return objects(hosts, {"backend": [backend]}, data)


# --- requests and answers -------------------------------------------------------------------------------------------


def ask(port, host, request):
    """One request over a connection of its own; what came back, in words that can be compared."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    body = request.get("body")
    if body is None and "size" in request:
        body = b"x" * request["size"]
    try:
        connection.putrequest(
            request.get("method", "GET"), request.get("path", "/"), skip_host=True, skip_accept_encoding=True
        )
        connection.putheader("Host", request.get("host", host))
        for name, value in request.get("fields", []):
            connection.putheader(name, value)
        if body is not None and request.get("chunked"):
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            for at in range(0, len(body), 16384):
                part = body[at : at + 16384]
                connection.send(b"%x\r\n%s\r\n" % (len(part), part))
            connection.send(b"0\r\n\r\n")
        else:
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            try:
                if body:
                    connection.send(body)
            except OSError:
                pass  # A refusal may come before the body was taken.
        answer = connection.getresponse()
        text = answer.read()
        return describe(answer, text, request)
    except (OSError, http.client.HTTPException) as error:
        return {"error": type(error).__name__}
    finally:
        connection.close()


FIELDS = ("location", "refresh", "set-cookie", "content-encoding", "vary", "etag", "content-type", "accept-ranges")


# What says nothing: the order of `Vary` lines, empty attributes of cookies.
ALIKE = {
    "vary": sorted,
    "set-cookie": lambda values: [re.sub(r"(; )+", "; ", value + "; ")[:-2] for value in values],
}


def describe(answer, text, request):
    seen = {"status": answer.status}
    for name in FIELDS:
        values = [value for key, value in answer.getheaders() if key.lower() == name]
        if values:
            seen[name] = ALIKE.get(name, list)(values)
    compressed = seen.get("content-encoding") == ["gzip"]
    if compressed:
        text = gzip.decompress(text)
    if answer.getheader("content-length") is not None and not compressed:
        seen["content-length"] = answer.getheader("content-length")
    seen["body"] = text.decode("latin-1") if len(text) < 400 else "%d bytes, %08x" % (len(text), hash(text) & 0xFFFFFFFF)
    return seen


class Player:
    """Plays the steps of a case against one proxy."""

    def __init__(self, port, host, backend):
        self.port, self.host, self.backend, self.held = port, host, backend, []

    def play(self, step):
        if "wait" in step:
            time.sleep(step["wait"])
            return None
        if "hold" in step:
            request = dict(step["hold"], fields=step["hold"].get("fields", []) + [("X-Hold", "1")])
            outcome = []
            thread = threading.Thread(target=lambda: outcome.append(ask(self.port, self.host, request)))
            thread.start()
            self.held.append((thread, outcome))
            reached = self.backend.holding.acquire(timeout=PATIENCE)
            return {"reached": reached}
        if "release" in step:
            answers = []
            for thread, outcome in self.held:
                self.backend.gate.release()
            for thread, outcome in self.held:
                thread.join()
                answers += outcome
            self.held = []
            # The proxy may learn of the end a moment after the client.
            time.sleep(0.2)
            return {"released": answers}
        if "seen" in step:
            with self.backend.lock:
                before = len(self.backend.seen)
            answer = ask(self.port, self.host, step["seen"])
            time.sleep(step.get("settle", 0))
            with self.backend.lock:
                seen = self.backend.seen[before:]
            words = sorted(
                "%s %s %d %s" % (one["method"], one["target"], len(one["body"]), one["fields"].get("content-length"))
                for one in seen
            )
            return {"answer": answer, "backend": words}
        return [ask(self.port, self.host, step) for _ in range(step.get("repeat", 1))]


def run(scene, binary, verbose):
    backend = Backend()

    def start(folder, ports):
        ours = manifests(scene, backend.port)
        return {
            "nginx": nginx(configuration(scene, ports["nginx"], backend.port, folder), folder),
            "narthex": narthex(binary, ours, ports["narthex"], folder, "--workers=2"),
        }

    failures = passes = 0
    with side_by_side(start) as (_, ports):
        for case in scene["cases"]:
            host = case["name"] + ".test"
            players = {name: Player(port, host, backend) for name, port in ports.items()}
            for index, step in enumerate(case["steps"]):
                found = {name: player.play(step) for name, player in players.items()}
                same = found["nginx"] == found["narthex"]
                passes, failures = passes + same, failures + (not same)
                if not same or verbose:
                    print("%s %s[%d]" % ("same  " if same else "DIFFER", case["name"], index))
                if not same:
                    for name in found:
                        print("   %-8s %s" % (name, json.dumps(found[name])[:1500]))
    return passes, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, help="the binary")
    parser.add_argument("--only", action="append", help="name of a case")
    parser.add_argument("-v", action="store_true", help="tell of what is the same, too")
    arguments = parser.parse_args()
    if missing():
        return 77
    passes = failures = 0
    for scene in SCENES:
        cases = [case for case in scene["cases"] if not arguments.only or case["name"] in arguments.only]
        if cases:
            more = run(dict(scene, cases=cases), arguments.bin, arguments.v)
            passes, failures = passes + more[0], failures + more[1]
    print("%d steps the same, %d differ" % (passes, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
