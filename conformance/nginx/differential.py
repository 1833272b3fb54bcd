#!/usr/bin/env python3
"""The same requests to a real nginx and to `narthex standalone`, answer by answer.

Each case is an Ingress with annotations and the directives that ingress-nginx renders from them. Both proxies stand before
one backend of ours, which answers as the request asks. Compared are status, the fields that the family is about, and the
body (inflated where it came compressed). Nothing depends on time but waits that are long beside what they wait for.
Exit status: 0 all the same, 1 something differs, 2 a proxy did not start.
"""

import argparse
import gzip
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from cases import SCENES

PATIENCE = 20  # seconds for one answer
READY = 30  # seconds until a proxy is ready
PAGE = b"<p>a line of text that repeats</p>\n"

NGINX = """
daemon off;
worker_processes 2;
pid %(folder)s/nginx.pid;
error_log %(folder)s/error.log notice;
%(user)s
events { worker_connections 512; }
http {
  access_log off;
  server_tokens off;
  client_body_temp_path %(folder)s/body;
  proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi;
  scgi_temp_path %(folder)s/scgi;
  default_type text/html;
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


class Backend:
    """Answers what the request asks for, and keeps what it saw."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.seen, self.lock = [], threading.Lock()
        self.holding, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        reader = stream.makefile("rb")
        try:
            while self.answer(reader, stream):
                pass
        except (OSError, ValueError):
            pass
        finally:
            stream.close()

    def answer(self, reader, stream):
        line = reader.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        fields = []
        while (text := reader.readline().decode("latin-1").rstrip("\r\n")):
            name, _, value = text.partition(":")
            fields.append((name.lower(), value.strip()))
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


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# --- the two proxies ------------------------------------------------------------------------------------------------


def directives(case):
    given = {line.split()[0] for line in case.get("nginx", [])}
    lines = ["%s %s" % item for item in DEFAULTS.items() if item[0] not in given]
    return "\n".join("      %s;" % line for line in lines + case.get("nginx", []))


def nginx(scene, port, backend, folder):
    servers = []
    for case in scene["cases"]:
        server = "\n".join("    " + text for text in case.get("server", []))
        server = server.replace("BACKEND", "127.0.0.1:%d" % backend)
        host = case["name"] + ".test"
        servers.append(SERVER % {"port": port, "host": host, "server": server, "location": directives(case)})
    http_lines = scene.get("http", []) + [line for case in scene["cases"] for line in case.get("http", [])]
    text = NGINX % {
        "folder": folder,
        "user": "user root;" if os.geteuid() == 0 else "",
        "http": "\n".join("  %s;" % line if not line.endswith("}") else "  " + line for line in http_lines),
        "backend": backend,
        "servers": "".join(servers),
    }
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w") as file:
        file.write(text)
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    log = open(os.path.join(folder, "nginx.log"), "wb")
    return subprocess.Popen([binary, "-p", folder, "-c", path, "-e", folder + "/error.log"], stdout=log, stderr=log)


def objects(scene, backend):
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "nginx"},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    }
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config", "namespace": "default"},
        "data": dict(scene.get("configmap", {}), **{"disable-access-log": "true"}),
    }
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "backend", "namespace": "default"},
        "spec": {"ports": [{"port": 80, "targetPort": backend}]},
    }
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "backend-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "backend"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"port": backend, "protocol": "TCP"}],
    }
    for case in scene["cases"]:
        service = {"service": {"name": "backend", "port": {"number": 80}}}
        annotations = {
            "nginx.ingress.kubernetes.io/" + name: value.replace("BACKEND", "127.0.0.1:%d" % backend)
            for name, value in case.get("annotations", {}).items()
        }
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": case["name"], "namespace": "default", "annotations": annotations},
            "spec": {
                "ingressClassName": "nginx",
                "rules": [
                    {
                        "host": case["name"] + ".test",
                        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]},
                    }
                ],
            },
        }


def narthex(binary, scene, port, backend, folder):
    manifests = os.path.join(folder, "manifests")
    os.mkdir(manifests)
    with open(os.path.join(manifests, "all.yaml"), "w") as file:
        file.write("\n---\n".join(json.dumps(one) for one in objects(scene, backend)) + "\n")
    command = [binary, "standalone", "--manifests", manifests, "--configmap=default/config", "--workers=2"]
    command += ["--http-addr=127.0.0.1:%d" % port, "--https-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"]
    log = open(os.path.join(folder, "narthex.log"), "wb")
    return subprocess.Popen(command, stdout=log, stderr=log)


def ready(child, port):
    end = time.monotonic() + READY
    while time.monotonic() < end and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


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
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    ports = {"nginx": free_port(), "narthex": free_port()}
    children = [
        nginx(scene, ports["nginx"], backend.port, folder),
        narthex(binary, scene, ports["narthex"], backend.port, folder),
    ]
    failures = passes = 0
    try:
        for child, name in zip(children, ports):
            if not ready(child, ports[name]):
                print("%s did not start:\n%s" % (name, open(os.path.join(folder, name + ".log")).read()[-2000:]))
                sys.exit(2)
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
    finally:
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return passes, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, help="the binary")
    parser.add_argument("--only", action="append", help="name of a case")
    parser.add_argument("-v", action="store_true", help="tell of what is the same, too")
    arguments = parser.parse_args()
    passes = failures = 0
    for scene in SCENES:
        cases = [case for case in scene["cases"] if not arguments.only or case["name"] in arguments.only]
        if cases:
            more = run(dict(scene, cases=cases), arguments.bin, arguments.v)
            passes, failures = passes + more[0], failures + more[1]
    print("%d steps the same, %d differ" % (passes, failures))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
