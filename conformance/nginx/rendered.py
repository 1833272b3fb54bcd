#!/usr/bin/env python3
"""Ingresses with annotations that chance made: ingress-nginx's own controller renders them, a real nginx with its Lua code
serves that, and `narthex standalone` serves the same manifests. Every request goes to both.

Compared are status, fields and body of the answer; backends of ours answer with what they were asked, so that what they
saw is compared too. What ingress-nginx makes of an object is not written here a second time: `rendered/build` makes a
program of the controller itself (Go and a checkout). What docs/differences.md names is kept from chance, or made the same
before it is compared (`Backend`, `compared`, `same`). The seed is fixed; ARGS='--seed N --hosts N' tries others.
Exit status: 0 all the same, 1 something differs, 2 a proxy did not start, 77 something is missing.
"""

import argparse
import base64
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys

from chance import PASSWORDS, some_config, some_fields, some_host
from pair import PATIENCE, Listener, declared, narthex, objects, read_head, side_by_side
from routes import SERVICES, plain, some_requests

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import ingress_nginx  # noqa: E402
from ports import free_port  # noqa: E402

# Fields of answers that differ on purpose or by time.
UNTOLD = {"date", "connection", "keep-alive", "content-length", "transfer-encoding", "vary"}
# With `server-tokens` each tells its own name.
OWN_SERVER = re.compile(r"Server: (nginx/[0-9.]+|narthex)(?=\r|$)", re.IGNORECASE)
OWN_FOOTER = re.compile(r"<center>nginx/[0-9.]+</center>")
# What an error backend is asked with, and what we ask it in another way: by HTTP/1.1, without what clients claim.
TO_ERROR_BACKEND = "x-code"
ASKED_DIFFERENTLY = {"connection", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-original-forwarded-for", "authorization", "proxy"}


class Backend(Listener):
    """Answers with the request as it came: its body is one JSON text. `X-Status` and `X-Send` of a request shape it."""

    def __init__(self, name):
        self.name = name
        super().__init__()

    def answer(self, reader, stream):
        line, fields = read_head(reader)
        if not line:
            return False
        first = dict(reversed(fields))
        body = reader.read(int(first.get("content-length", "0")))
        if TO_ERROR_BACKEND in first:
            line = line.replace("HTTP/1.0", "HTTP/1.1")
            fields = [field for field in fields if field[0] not in ASKED_DIFFERENTLY]
        seen = {"backend": self.name, "line": line, "fields": sorted(fields), "body": len(body)}
        page = json.dumps(seen).encode()
        out = ["HTTP/1.1 %s X" % first.get("x-status", "200"), "Content-Type: application/json", "Content-Length: %d" % len(page)]
        out += [value for name, value in fields if name == "x-send"]
        stream.sendall("\r\n".join(out + ["", ""]).encode("latin-1") + (b"" if line.startswith("HEAD ") else page))
        return "close" not in first.get("connection", "")


def manifests(hosts, ports, config, secure):
    config = {"global-allowed-response-headers": "X-Custom,X-Other", "annotations-risk-level": "Critical", **config}
    yield from objects({}, {name: [port] for name, port in ports.items()}, config)
    meta = {"namespace": "default"}
    yield {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": dict(meta, name="passwords"),
           "data": {"auth": base64.b64encode(PASSWORDS.encode()).decode()}}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": dict(meta, name="fields"), "data": {"X-Custom": "one", "X-Other": "two; three"}}
    yield from declared(hosts, secure)


def only_there(listed):
    """What the controller needs to know and Narthex is told by flags: one worker, loopback."""
    for one in listed:
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "config":
            one["data"].update({"worker-processes": "1", "bind-address": "127.0.0.1", "disable-ipv6": "true", "disable-access-log": "true",
                                "error-log-path": "error.log"})
        yield one


def rendered_nginx(controller, listed, folder, port):
    """nginx with what the controller renders."""
    own = os.path.join(folder, "rendered")
    os.mkdir(own)
    source = os.path.join(folder, "rendered.yaml")
    with open(source, "w") as file:
        file.write("\n---\n".join(json.dumps(one) for one in only_there(listed)) + "\n")
    controller.render(source, own, "default/config", (port, free_port()))
    controller.count("none.test")
    log = open(os.path.join(folder, "nginx.log"), "wb")
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return subprocess.Popen([binary, "-p", own, "-c", own + "/nginx.conf", "-e", own + "/error.log"], stdout=log, stderr=log)


def ask(port, host, method, target, fields, body):
    """(status, fields, body) of one connection; what names the port is made the same."""
    lines = ["%s %s HTTP/1.1" % (method, target), "Host: " + host, "Connection: close", "X-Request-ID: 0123456789abcdef", *fields]
    if body is not None:
        lines.append("Content-Length: %d" % len(body))
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as stream:
        stream.sendall("\r\n".join(lines + ["", ""]).encode("latin-1") + (body or b""))
        answer = b""
        try:
            while part := stream.recv(65536):
                answer += part
        except ConnectionError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = OWN_SERVER.sub("Server: ours", head.decode("latin-1").replace(str(port), "PORT")).split("\r\n")
    told = sorted((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:]) if name.lower() not in UNTOLD)
    if any(line.lower() == "transfer-encoding: chunked" for line in lines):
        body = b"".join(re.split(rb"(?:^|\r\n)[0-9a-f]+\r\n", body)).removesuffix(b"\r\n")
    status = lines[0].split(" ")[1] if " " in lines[0] else ""
    page = OWN_FOOTER.sub("<center>nginx</center>", body.decode("latin-1").replace(str(port), "PORT"))
    return status, compared(status, told), page


def compared(status, told):
    """Fields of an answer without what differs on purpose."""
    if status == "204":
        # Of a preflight: this nginx's module for fields drops it there.
        return [field for field in told if field[0] != "content-type"]
    if status in ("301", "413"):
        return [field for field in told if not field[0].startswith("access-control-")]
    return told


def same(theirs, ours, config, doubled):
    """Whether two answers are the same but for what docs/differences.md says; `doubled`: an Ingress of the host has two rules for
    one path."""
    if doubled:
        theirs, ours = unnamed(theirs), unnamed(ours)
    if theirs != ours and "404" in config.get("custom-http-errors", "").split(","):
        # Its own 404, the page for a 404, asks for that page itself.
        return (theirs[0], ours[0]) == ("500", "404")
    return theirs == ours


def unnamed(answer):
    """An answer without the Service that an error backend was told."""
    status, fields, body = answer
    if body.startswith("{"):
        seen = json.loads(body)
        seen["fields"] = [field for field in seen["fields"] if field[0] != "x-service-name"]
        body = json.dumps(seen)
    return status, fields, body


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--home", help="the folder that rendered/build makes; beside the binary's unless said")
    parser.add_argument("--build", action="store_true", help="make that folder first")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--keep", help="copy the rendered nginx.conf and what the controller said to this folder")
    args = parser.parse_args()
    # Where the benchmarks look for it, too.
    home = args.home or os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(args.bin))), "peers", "ingress-nginx")
    if args.build and subprocess.run([os.path.join(os.path.dirname(ingress_nginx.__file__), "rendered", "build"), home]).returncode:
        sys.exit(77)
    why = ingress_nginx.lacking(home)
    if why:
        print("SKIPPED: ingress-nginx: " + why, file=sys.stderr)
        sys.exit(77)
    chance = random.Random(args.seed)
    hosts = {}
    while len(hosts) < args.hosts:
        ingresses = some_host(chance, len(hosts))
        if ingresses:
            hosts["h%d.test" % len(hosts)] = ingresses
    hosts["ready.test"] = [{"annotations": {}, "paths": [{"path": "/", "pathType": "Prefix", "service": "s0"}], "created": 0, "name": "ready"}]
    config = some_config(chance)
    if "custom-http-errors" in config:
        for one in (one for ingresses in hosts.values() for one in ingresses):
            # Without effect there beside that key.
            one["annotations"].pop("disable-proxy-intercept-errors", None)
    # Asked in clear text, so that they are told to come by TLS; no certificate is needed for that.
    secure = {one["name"] for ingresses in hosts.values() for one in ingresses if chance.random() < 0.1} - {"ready"}
    ports = {name: Backend(name).port for name in [*SERVICES, "canary"]}
    # Services of one host only lead to the same backends.
    used = {rule["service"] for ingresses in hosts.values() for one in ingresses for rule in one["paths"]}
    ports.update({name: ports[name.split("-")[0]] for name in sorted(used) if name not in ports})
    controller = ingress_nginx.Controller(home)

    def start(folder, listening):
        children = {
            "nginx": rendered_nginx(controller, manifests(hosts, ports, config, secure), folder, listening["nginx"]),
            "narthex": narthex(args.bin, manifests(hosts, ports, config, secure), listening["narthex"], folder, "--allow-upstream-cidr=127.0.0.0/8"),
        }
        if args.keep:
            os.makedirs(args.keep, exist_ok=True)
            for name in ("nginx.conf", "render.log"):
                shutil.copy(os.path.join(folder, "rendered", name), args.keep)
        return children

    asked = wrong = 0
    try:
        with side_by_side(start) as (_, listening):
            controller.configure(lambda: ask(listening["nginx"], "ready.test", "GET", "/", [], None)[0] in ("200", "403"))
            for host, ingresses in hosts.items():
                paths = [rule["path"] for one in ingresses for rule in one["paths"]]
                doubled = any(len({rule["path"] for rule in one["paths"]}) < len(one["paths"]) for one in ingresses)
                canaries = any("canary" in one["annotations"] for one in ingresses)
                for target in [*some_requests(chance, paths), "/", plain(chance)]:
                    method = chance.choice(["GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT"])
                    body = b"b" * chance.choice([0, 5, 100, 3000]) if method in ("POST", "PUT") else None
                    name = chance.choice([host] * 8 + ["www." + host, "alias-" + host[1:], host.upper(), host + ":80", "none.test"])
                    request = (name, method, target, some_fields(chance, canaries), body)
                    theirs, ours = (ask(listening[which], *request) for which in ("nginx", "narthex"))
                    asked += 1
                    if not same(theirs, ours, config, doubled):
                        wrong += 1
                        tell(request, theirs, ours, ingresses)
    finally:
        controller.close()
    print("%d hosts, %d requests, %d differ (seed %d, %s)" % (len(hosts), asked, wrong, args.seed, config or "no keys"))
    sys.exit(1 if wrong else 0)


def tell(request, theirs, ours, ingresses):
    name, method, target, fields, body = request
    print("%s %s%s %s%s" % (method, name, target, fields, "" if body is None else " %d bytes" % len(body)))
    for what, one, other in zip(("status", "fields", "body"), theirs, ours):
        if one != other:
            print("  %s\n    ingress-nginx %s\n    narthex       %s" % (what, one, other))
    for one in ingresses:
        print("    %s %s" % (one["annotations"], [(rule["pathType"], rule["path"], rule["service"]) for rule in one["paths"]]))


if __name__ == "__main__":
    main()
