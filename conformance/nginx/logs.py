#!/usr/bin/env python3
"""The same requests to a real nginx and to `narthex standalone`, and the lines of their access logs compared.

Both have the same `log_format`: every variable that does not tell of a time, an address or a port, with each of the three
escapings. What tells of those is compared by its form: how many values, how they are separated, how many digits.
Exit status: 0 all the same, 1 something differs, 2 a proxy did not start, 77 there is no nginx.
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import time

from pair import MAIN, OWN_FOLDER, PATIENCE, Listener, free_port, missing, narthex, nginx, objects, read_head, side_by_side, user

# Compared as they are. One line of a log holds them all, with this between.
BETWEEN = " <> "
SAME = """remote_addr remote_user request status body_bytes_sent http_referer http_user_agent request_length
request_method uri document_uri request_uri args query_string is_args host http_host scheme server_protocol
content_length content_type cookie_a cookie_missing arg_b arg_missing sent_http_content_type sent_http_x_gone
upstream_status upstream_response_length upstream_http_x_back upstream_cookie_b http_x_in http_x_missing
request_completion pipe https server_name http_cookie http_x_forwarded_for proxy_protocol_addr
binary_remote_addr""".split()
# Compared by their form: digits are written as 0, runs of them before a dot as one.
FORM = "request_time upstream_response_time upstream_connect_time upstream_header_time upstream_addr msec time_local time_iso8601 connection_requests".split()

NGINX = MAIN + """worker_processes 1;
error_log %(folder)s/error.log crit;
http {
  log_format lines escape=%(escape)s '%(format)s';
  access_log %(folder)s/nginx.access lines;
  server_tokens off;
  """ + OWN_FOLDER + """  default_type text/html;
  reset_timedout_connection on;
  client_max_body_size 1k;
  client_header_buffer_size 1k;
  large_client_header_buffers 4 8k;
  underscores_in_headers off;
  merge_slashes on;
  port_in_redirect off;
  upstream backend { server 127.0.0.1:%(backend)d max_fails=0; }
  upstream refuses { server 127.0.0.1:%(dead)d max_fails=0; server 127.0.0.1:%(dead2)d max_fails=0; server 127.0.0.1:%(dead3)d max_fails=0; }
  server { listen 127.0.0.1:%(port)d default_server; server_name _; location / { return 404; } }
  server { listen 127.0.0.1:%(port)d; server_name logs.test; location / { %(common)s proxy_pass http://backend; } }
  server { listen 127.0.0.1:%(port)d; server_name refuses.test; location / { %(common)s proxy_pass http://refuses; } }
  server { listen 127.0.0.1:%(port)d; server_name redirects.test; location / { return 301 https://else.test/x; } }
  server { listen 127.0.0.1:%(port)d; server_name denies.test; location / { deny all; %(common)s proxy_pass http://backend; } }
}
"""
COMMON = """proxy_set_header Host $http_host; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_connect_timeout 2s; proxy_read_timeout 2s; proxy_next_upstream error timeout http_503; proxy_next_upstream_tries 3;
proxy_request_buffering on; proxy_buffering off;"""
HOSTS = {
    "logs": {},
    "refuses": {"service": "refuses"},
    "redirects": {"permanent-redirect": "https://else.test/x"},
    "denies": {"denylist-source-range": "0.0.0.0/0"},
}


def get(target="/", *fields, method="GET", host="logs.test", body=b"", version="1.1", end=None):
    """The bytes of a request."""
    lines = ["%s %s HTTP/%s" % (method, target, version)] if isinstance(target, str) else []
    head = "".join("%s\r\n" % line for line in lines).encode("latin-1")
    head += b"" if isinstance(target, str) else target
    if host is not None:
        head += b"Host: " + host.encode() + b"\r\n"
    for field in fields:
        head += (field if isinstance(field, bytes) else field.encode("latin-1")) + b"\r\n"
    return {"bytes": head + b"Connection: close\r\n\r\n" + body, "end": end}


# name: request. `end` says how the client goes: "abort" at once when the backend has the request.
REQUESTS = {
    "plain": get(),
    "arguments": get("/a/b.html?b=1&c=%20x&B=2"),
    "no value": get("/?"),
    "escaped path": get("/a%20b/%7Ex//y/./z/../w?b=%22"),
    "high bytes in the path": get(b"GET /\xc3\xa4\xff?b=\xe4 HTTP/1.1\r\n"),
    "quotes": get('/q"x\\y?b="', 'User-Agent: a "quoted" \\ agent', "Referer: http://r.test/'x'"),
    "binary agent": get("/", b"User-Agent: \xff\xfe\x80 \xc3\xa4\t-", b"Referer: a\tb"),
    "json specials": get("/?b=</script>", "User-Agent: {\"a\": [1, 2]} \u007e /*"),
    "cookies": get("/", "Cookie: a=1; b=2; a=3", "Cookie: c=4"),
    "two fields": get("/", "X-In: one", "X-In: two", "X-Forwarded-For: 1.2.3.4, 5.6.7.8"),
    "user": get("/", "Authorization: Basic dXNlcjpwYXNz"),
    "user without colon": get("/", "Authorization: Basic dXNlcg=="),
    "empty user": get("/", "Authorization: Basic OnBhc3M="),
    "binary user": get("/", "Authorization: Basic 5CJcOng="),
    "bearer": get("/", "Authorization: Bearer abc"),
    "head": get("/", method="HEAD"),
    "options": get("/", method="OPTIONS"),
    "own method": get("/", method="PURGE"),
    "old": get("/old", version="1.0"),
    "post": get("/", "Content-Length: 5", "Content-Type: text/x; a=\"b\"", method="POST", body=b"hello"),
    "post nothing": get("/", "Content-Length: 0", method="POST"),
    "chunked": get("/", "Transfer-Encoding: chunked", method="POST", body=b"5\r\nhello\r\n0\r\n\r\n"),
    "too large": get("/", "Content-Length: 5000", method="POST", body=b"x" * 5000),
    "long target": get("/" + "a" * 3000),
    "other status": get("/", "X-Status: 404"),
    "no content": get("/", "X-Status: 204"),
    "not modified": get("/", "X-Status: 304"),
    "fields of answers": get("/", "X-Send: X-Back: one", "X-Send: Set-Cookie: b=2; Path=/"),
    "odd fields of answers": get("/", 'X-Send: X-Back: "q" \\ z', "X-Send: X-Gone: 1"),
    "type of answers": get("/", "X-Type: text/html; charset=utf-8"),
    "large answer": get("/", "X-Size: 100000"),
    "chunked answer": get("/", "X-Chunked: 1", "X-Size: 3000"),
    "retried": get("/", host="refuses.test"),
    "retried post": get("/", "Content-Length: 2", method="POST", host="refuses.test", body=b"ab"),
    "last resort": get("/", "X-Status: 503"),
    "broken answer": get("/", "X-Break: 1"),
    "silent backend": get("/", "X-Silent: 1"),
    "client goes": get("/", "X-Silent: 1", end="abort"),
    "client goes early": get("/", "Content-Length: 500", method="POST", body=b"half", end="abort at once"),
    "unknown host": get("/", host="unknown.test"),
    "host with port": get("/", host="logs.test:8080"),
    "host in capitals": get("/", host="LOGS.test"),
    "absolute": get("http://logs.test/abs?b=1", host="logs.test"),
    "redirect": get("/r?b=1", host="redirects.test"),
    "denied": get("/", host="denies.test"),
    "no host": get("/", host=None),
    "no host, old": get("/", host=None, version="1.0"),
    "bad line": get(b"GET / HTP/1.1\r\n"),
    "bad version": get("/", version="3.0"),
    "bad escape": get("/%zz"),
    "outside": get("/../../etc"),
    "bad length": get("/", "Content-Length: x", method="POST"),
    "expectation": get("/", "Expect: 100-continue", "Content-Length: 2", method="POST", body=b"ab"),
    "range": get("/", "Range: bytes=0-3"),
    "many arguments": get("/?" + "&".join("a%d=%d" % (n, n) for n in range(60)) + "&b=last"),
    "argument in capitals": get("/?B=x&b=y"),
    "fragment": get("/a#b"),
    "plus": get("/a+b?b=c+d"),
    "semicolon": get("/a;p=1?b=1;2"),
}
# Where we deliberately write something else, or nginx does so for reasons of its own: variables (all where none) and why.
DELIBERATE = {
    "high bytes in the path": ("", "bytes that no target may hold are refused (RFC 9112 section 3.2)"),
    "quotes": ("", "the same"),
    "fragment": ("", "the same"),
    "two fields": ("http_x_in", "nginx before 1.23 shows the first line only; later ones join them, as we do"),
    "chunked": ("content_length", "nginx counts the body that it has read; we show the field"),
    "chunked answer": ("upstream_response_length", "nginx counts the framing too when it does not buffer"),
    "client goes early": ("status", "499, as for all clients that go; nginx says 400 where the body was missing"),
    "no host": ("uri document_uri request_uri", "the head is refused before its target is taken apart"),
    "bad length": ("uri document_uri request_uri host http_host content_length server_name", "the same"),
    "bad line": ("uri document_uri request_length server_protocol", "the same"),
    "bad version": ("uri document_uri request_length server_protocol request_method", "the same"),
    "broken answer": ("request_completion", "the client did not get the whole answer, though nginx sent all it had"),
    "binary agent": ("http_user_agent http_referer", "only without the default escaping: bytes that are no UTF-8 never get out raw"),
    "binary user": ("remote_user", "the same"),
    "bad escape": ("request_length", "nginx stops counting where it stops reading"),
    "outside": ("", "the same"),
    "expectation": ("body_bytes_sent", "nginx counts the interim answer"),
}


class Backend(Listener):
    """Answers as the request asks."""

    def __init__(self):
        self.reached = 0
        super().__init__()

    def answer(self, reader, stream):
        line, listed = read_head(reader)
        if len(line.split()) != 3:
            return False
        fields, sends = dict(listed), [value for name, value in listed if name == "x-send"]
        reader.read(int(fields.get("content-length", "0")))
        if "chunked" in fields.get("transfer-encoding", ""):
            while size := int(reader.readline().split(b";")[0], 16):
                reader.read(size + 2)
            reader.readline()
        self.reached += 1
        if "x-silent" in fields:
            # Longer than the proxies wait, and gone when they are.
            stream.settimeout(5)
            stream.recv(1)
            return False
        status = fields.get("x-status", "200")
        page = b"p" * int(fields.get("x-size", "20"))
        out = ["HTTP/1.1 %s X" % status, "Content-Type: " + fields.get("x-type", "text/plain")] + sends
        none = status in ("204", "304") or line.startswith("HEAD ")
        if "x-break" in fields:
            stream.sendall("\r\n".join(out + ["Content-Length: 100", "", "part"]).encode("latin-1"))
            return False
        if "x-chunked" in fields:
            head = "\r\n".join(out + ["Transfer-Encoding: chunked", "", ""]).encode("latin-1")
            stream.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(page), page))
            return True
        if status not in ("204", "304"):
            out.append("Content-Length: %d" % len(page))
        stream.sendall("\r\n".join(out + ["", ""]).encode("latin-1") + (b"" if none else page))
        return True


def send(port, request, backend):
    """Sends the bytes, and reads to the end unless the client is to go."""
    before = backend.reached
    stream = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    try:
        stream.sendall(request["bytes"])
        if request["end"] == "abort":
            end = time.monotonic() + PATIENCE
            while backend.reached == before and time.monotonic() < end:
                time.sleep(0.01)
            return
        if request["end"] == "abort at once":
            time.sleep(0.2)
            return
        while stream.recv(65536):
            pass
    except OSError:
        pass  # A refusal may come before all was taken.
    finally:
        stream.close()


def lines_of(path, count):
    """The lines of a log, once there are more than `count`."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")[:-1]
        if len(lines) > count:
            return lines
        time.sleep(0.02)
    return lines


def parts(line):
    """Values by name, those that are compared by form reduced to it."""
    values = line.decode("latin-1").split(BETWEEN)
    found = dict(zip(SAME + FORM, values))
    for name in FORM:
        text = found.get(name, "")
        text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
        found[name] = re.sub(r"[A-Z][a-z]{2}(?=/)", "Mon", re.sub(r"\d+(?=\.)", "0", re.sub(r"(?<=\.)\d+", lambda m: "0" * len(m[0]), text)))
        if name in ("time_local", "time_iso8601", "msec", "connection_requests"):
            found[name] = re.sub(r"\d", "0", found[name])
    return found


def run(binary, escape, only, verbose):
    backend = Backend()
    dead = [free_port() for _ in range(3)]
    text = BETWEEN.join("$" + name for name in SAME + FORM)

    def start(folder, ports):
        values = {"folder": folder, "user": user(), "escape": escape, "format": text, "backend": backend.port}
        values.update(port=ports["nginx"], common=COMMON, dead=dead[0], dead2=dead[1], dead3=dead[2])
        data = {
            "log-format-upstream": text,
            "access-log-path": os.path.join(folder, "narthex.access"),
            "proxy-body-size": "1k",
            "proxy-read-timeout": "2",
            "proxy-connect-timeout": "2",
            "proxy-next-upstream": "error timeout http_503",
            "enable-access-log-for-default-backend": "true",
        }
        if escape in ("json", "none"):
            data["log-format-escape-" + escape] = "true"
        manifests = objects(HOSTS, {"backend": [backend.port], "refuses": dead}, data)
        return {
            "nginx": nginx(NGINX % values, folder),
            "narthex": narthex(binary, manifests, ports["narthex"], folder, "--workers=1", "--passive-health=off"),
        }

    differing = same = 0
    with side_by_side(start) as (folder, ports):
        for name, request in REQUESTS.items():
            if only and name not in only:
                continue
            found = {}
            for proxy, port in ports.items():
                path = os.path.join(folder, proxy + ".access")
                before = len(open(path, "rb").read().split(b"\n")) - 1 if os.path.exists(path) else 0
                send(port, request, backend)
                found[proxy] = parts(b"\n".join(lines_of(path, before)[before:]))
            theirs, ours = found["nginx"], found["narthex"]
            strict = escape == "default" and name.startswith("binary")
            spared, _ = ("none", "") if strict else DELIBERATE.get(name, ("none", ""))
            differences = [key for key in SAME + FORM if theirs.get(key) != ours.get(key)]
            differences = [key for key in differences if spared and key not in spared.split()]
            if escape != "default":
                # Neither do control characters.
                differences = [key for key in differences if key != "binary_remote_addr"]
            if differences:
                differing += 1
                for key in differences:
                    print("DIFFER %s, %s: $%s\n   nginx   %r\n   narthex %r" % (escape, name, key, theirs.get(key), ours.get(key)))
            else:
                same += 1
                if verbose:
                    print("same   %s, %s" % (escape, name))
    return same, differing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the binary")
    parser.add_argument("--only", action="append", help="name of a request")
    parser.add_argument("--escape", action="append", help="default, json or none")
    parser.add_argument("-v", action="store_true", help="tell of what is the same, too")
    arguments = parser.parse_args()
    if missing():
        return 77
    same = differing = 0
    for escape in arguments.escape or ("default", "json", "none"):
        more = run(arguments.bin, escape, arguments.only, arguments.v)
        same, differing = same + more[0], differing + more[1]
    print("%d lines the same, %d differ" % (same, differing))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
