#!/usr/bin/env python3
"""Ingresses with annotations that chance made: ingress-nginx's own controller renders them, a real nginx with its Lua code
serves that, and `narthex standalone` serves the same manifests. Every request goes to both.

Compared are status, fields and body of the answer; backends of ours answer with what they were asked, so that what they
saw is compared too. What ingress-nginx makes of an object is not written here a second time: `rendered/build` makes a
program of the controller itself (Go and a checkout). What docs/differences.md names is kept from chance, or made the same
before it is compared (`Backend`, `compared`). The seed is fixed; ARGS='--seed N --hosts N' tries others.
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

from pair import PATIENCE, PREFIX, Listener, narthex, objects, side_by_side
from routes import SERVICES, locations, plain, some_ingress, some_requests

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import ingress_nginx  # noqa: E402
from ports import free_port  # noqa: E402

# user:secret, by `openssl passwd -apr1 -salt narthex0 secret`.
PASSWORDS = "user:$apr1$narthex0$8TM5a7kICSJiT/904whVL1\n"
SIGNED_IN = "Basic " + base64.b64encode(b"user:secret").decode()
ORIGINS = ["https://a.test", "http://b.test:8080", "https://x.a.test"]
# Fields of answers that differ on purpose or by time.
UNTOLD = {"date", "connection", "keep-alive", "content-length", "transfer-encoding", "vary"}
# What an error backend is asked with, and what we ask it in another way: by HTTP/1.1, without what clients claim.
TO_ERROR_BACKEND = "x-code"
ASKED_DIFFERENTLY = {"connection", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-original-forwarded-for", "authorization", "proxy"}


class Backend(Listener):
    """Answers with the request as it came: its body is one JSON text. `X-Status` and `X-Send` of a request shape it."""

    def __init__(self, name):
        self.name = name
        super().__init__()

    def answer(self, reader, stream):
        line = reader.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            return False
        fields = []
        while (text := reader.readline().decode("latin-1").rstrip("\r\n")):
            name, _, value = text.partition(":")
            fields.append((name.lower(), value.strip()))
        first = dict(reversed(fields))
        body = reader.read(int(first.get("content-length", "0")))
        if TO_ERROR_BACKEND in first:
            line = line.replace("HTTP/1.0", "HTTP/1.1")
            fields = [field for field in fields if field[0] not in ASKED_DIFFERENTLY]
        seen = {"backend": self.name, "line": line, "fields": sorted(fields), "body": len(body)}
        page = json.dumps(seen).encode()
        head = ["HTTP/1.1 %s X" % first.get("x-status", "200"), "Content-Type: application/json", "Content-Length: %d" % len(page)]
        head += [value for name, value in fields if name == "x-send"]
        stream.sendall("\r\n".join(head + ["", ""]).encode("latin-1") + (b"" if line.startswith("HEAD ") else page))
        return "close" not in first.get("connection", "")


# --- what chance makes ----------------------------------------------------------------------------------------------


def one_of(name, *values):
    return lambda chance: {name: chance.choice(values)}


def cors(chance):
    out = {"enable-cors": "true"}
    for name, values in {
        "cors-allow-origin": ["*", "https://a.test", "https://a.test, http://b.test:8080", "https://*.a.test"],
        "cors-allow-methods": ["GET, PUT", "GET"],
        "cors-allow-headers": ["X-One, X-Two", "Authorization"],
        "cors-allow-credentials": ["true", "false"],
        "cors-expose-headers": ["X-One", "*"],
        "cors-max-age": ["600", "0"],
    }.items():
        if chance.random() < 0.4:
            out[name] = chance.choice(values)
    return out


def password(chance):
    out = {"auth-type": "basic", "auth-secret": "passwords"}
    if chance.random() < 0.5:
        out["auth-realm"] = chance.choice(["here", "two words"])
    if chance.random() < 0.3:
        out.update(satisfy=chance.choice(["any", "all"]), **{"whitelist-source-range": chance.choice(["10.0.0.0/8", "127.0.0.0/8"])})
    return out


def redirect(chance):
    kind = chance.choice(["permanent", "temporal"])
    out = {kind + "-redirect": chance.choice(["https://other.test/x", "/there", "https://other.test/?a=b"])}
    if chance.random() < 0.5:
        out[kind + "-redirect-code"] = chance.choice(["301", "308", "307", "302", "303", "200"])
    if chance.random() < 0.3:
        out["relative-redirects"] = "true"
    return out


def rewritten(chance):
    out = {}
    if chance.random() < 0.6:
        out["proxy-cookie-domain"] = chance.choice(["backend.test front.test", "off"])
    if chance.random() < 0.6:
        out["proxy-cookie-path"] = chance.choice(["/one/ /two/", "/ /base", "off"])
    if chance.random() < 0.6:
        out["proxy-redirect-from"] = chance.choice(["http://backend.test/", "off"])
        out["proxy-redirect-to"] = chance.choice(["/front/", "https://front.test/"])
    return out


def errors(chance):
    out = {"custom-http-errors": chance.choice(["404", "404,503", "418,500"])}
    if chance.random() < 0.7:
        out["default-backend"] = chance.choice(SERVICES)
    if chance.random() < 0.2:
        out["disable-proxy-intercept-errors"] = "true"
    return out


FEATURES = [
    cors, password, redirect, rewritten, errors,
    one_of("app-root", "/app", "/a/b"),
    one_of("force-ssl-redirect", "true", "false"),
    one_of("ssl-redirect", "true", "false"),
    one_of("preserve-trailing-slash", "true"),
    one_of("upstream-vhost", "inner.test", "inner.test:81"),
    one_of("proxy-body-size", "1k", "10", "0", "1m"),
    one_of("client-body-buffer-size", "1k", "64k"),
    one_of("whitelist-source-range", "10.0.0.0/8", "127.0.0.0/8, 10.0.0.0/8", "0.0.0.0/0"),
    one_of("denylist-source-range", "10.0.0.0/8", "127.0.0.1/32"),
    one_of("x-forwarded-prefix", "/prefix", "/a/b"),
    one_of("connection-proxy-header", "keep-alive", "close"),
    one_of("proxy-http-version", "1.0", "1.1"),
    one_of("default-backend", *SERVICES),
    one_of("proxy-buffering", "on", "off"),
    one_of("proxy-request-buffering", "on", "off"),
    one_of("proxy-next-upstream", "off", "error http_502", "http_500"),
    one_of("service-upstream", "false"),
    one_of("enable-access-log", "false"),
    one_of("custom-headers", "default/fields"),
    one_of("from-to-www-redirect", "true"),
    one_of("server-alias", "alias-%d.test"),
]


def some_host(chance, number):
    """The Ingresses of a host, or None where nginx would refuse its locations."""
    expressions = chance.random() < 0.35
    ingresses = [some_ingress(chance, expressions) for _ in range(chance.randint(1, 3))]
    for place, one in enumerate(ingresses):
        # Of two rules for one path, one of them exact, ingress-nginx names the first one's Service in logs and to error
        # backends, whichever of them it asked.
        one["paths"] = list({rule["path"]: rule for rule in one["paths"]}.values())
        # Names in no order, and each of its own: they decide between Ingresses of one second.
        one["name"] += "%d-%d" % (number, place)
        # A name that no expression of the file may have.
        if one["annotations"].get("rewrite-target") == "/$rest":
            one["annotations"]["rewrite-target"] = "/$1"
    if not locations(ingresses):
        return None
    for one in ingresses:
        for feature in chance.sample(FEATURES, chance.choice([0, 1, 1, 2, 2, 3])):
            one["annotations"].update(feature(chance))
        if "server-alias" in one["annotations"]:
            one["annotations"]["server-alias"] = "alias-%d.test" % number
        # Of several the longest path's counts there, the oldest Ingress's here.
        if sum("app-root" in other["annotations"] for other in ingresses) > 1:
            one["annotations"].pop("app-root", None)
    main = ingresses[0]
    if not expressions and len(ingresses) == 1 and chance.random() < 0.3:
        # To ingress-nginx a canary is one of a Service, wherever that is used: these are used here only.
        for rule in main["paths"]:
            rule["service"] = "%s-%d" % (rule["service"], number)
        # And the error backend would be a copy of that Service, canary included.
        main["annotations"].pop("custom-http-errors", None)
        ingresses.append(canary(chance, main, number))
    return ingresses


def canary(chance, main, number):
    """One that takes requests of `main` by a field or a cookie: nothing by weight."""
    annotations = {"canary": "true"}
    if chance.random() < 0.7:
        annotations["canary-by-header"] = "X-Canary"
        if chance.random() < 0.5:
            annotations[chance.choice(["canary-by-header-value", "canary-by-header-pattern"])] = "yes"
    if chance.random() < 0.5 or len(annotations) == 1:
        annotations["canary-by-cookie"] = "canary"
    service = "canary-%d" % number
    paths = [dict(rule, service=service) for rule in main["paths"]]
    return {"annotations": annotations, "paths": paths, "created": main["created"], "name": "canary-" + main["name"]}


def some_fields(chance, canaries):
    """Fields of a request, by chance: what annotations look at, and `canaries` where there is one."""
    fields = []
    for share, choices in (
        (0.4, ["Origin: " + origin for origin in ORIGINS]),
        (0.3, ["Authorization: " + SIGNED_IN, "Authorization: Basic eDp5"]),
        (0.25, ["X-Status: 404", "X-Status: 503", "X-Status: 500", "X-Status: 418"]),
        (0.2, ["X-Send: Location: http://backend.test/one/x", "X-Send: Location: /one/", "X-Send: Set-Cookie: a=b; Domain=backend.test; Path=/one/x"]),
        (0.3 if canaries else 0, ["X-Canary: always", "X-Canary: never", "X-Canary: yes"]),
        # One line: we join several, nginx passes them on.
        (0.1, ["Cookie: a=1; b=2"]) if not canaries else (0.3, ["Cookie: canary=always", "Cookie: canary=never", "Cookie: a=1; canary=always"]),
        (0.2, ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test", "X-Real-IP: 1.2.3.4"]),
        (0.1, ["X_Under_Score: 1", "Proxy: x", "Accept: application/json", "X-Original-Forwarded-For: 4.3.2.1"]),
        (0.1, ["X-One: 1\r\nX-One: 2", "Te: trailers"]),
    ):
        if chance.random() < share:
            fields.append(chance.choice(choices))
    return fields


# --- both proxies ---------------------------------------------------------------------------------------------------


def manifests(hosts, ports):
    config = {"global-allowed-response-headers": "X-Custom,X-Other", "annotations-risk-level": "Critical"}
    yield from objects({}, {name: [port] for name, port in ports.items()}, config)
    meta = {"namespace": "default"}
    yield {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": dict(meta, name="passwords"),
           "data": {"auth": base64.b64encode(PASSWORDS.encode()).decode()}}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": dict(meta, name="fields"), "data": {"X-Custom": "one", "X-Other": "two; three"}}
    for host, ingresses in hosts.items():
        for one in ingresses:
            paths = [
                {"path": rule["path"], "pathType": rule["pathType"], "backend": {"service": {"name": rule["service"], "port": {"number": 80}}}}
                for rule in one["paths"]
            ]
            yield {
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {
                    "namespace": "default", "name": one["name"], "creationTimestamp": "2024-01-01T00:00:0%dZ" % one["created"],
                    "annotations": {PREFIX + key: text for key, text in one["annotations"].items()},
                },
                "spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": paths}}]},
            }


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
    lines = head.decode("latin-1").replace(str(port), "PORT").split("\r\n")
    told = sorted((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:]) if name.lower() not in UNTOLD)
    if any(line.lower() == "transfer-encoding: chunked" for line in lines):
        body = b"".join(re.split(rb"(?:^|\r\n)[0-9a-f]+\r\n", body)).removesuffix(b"\r\n")
    status = lines[0].split(" ")[1] if " " in lines[0] else ""
    return status, compared(status, told), body.decode("latin-1").replace(str(port), "PORT")


def compared(status, told):
    """Fields of an answer without what differs on purpose."""
    if status == "204":
        # Of a preflight: this nginx's module for fields drops it there.
        return [field for field in told if field[0] != "content-type"]
    if status in ("301", "413"):
        return [field for field in told if not field[0].startswith("access-control-")]
    return told


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
    ports = {name: Backend(name).port for name in [*SERVICES, "canary"]}
    # Services of one host only lead to the same backends.
    used = {rule["service"] for ingresses in hosts.values() for one in ingresses for rule in one["paths"]}
    ports.update({name: ports[name.split("-")[0]] for name in sorted(used) if name not in ports})
    controller = ingress_nginx.Controller(home)

    def start(folder, listening):
        children = {
            "nginx": rendered_nginx(controller, manifests(hosts, ports), folder, listening["nginx"]),
            "narthex": narthex(args.bin, manifests(hosts, ports), listening["narthex"], folder, "--allow-upstream-cidr=127.0.0.0/8"),
        }
        if args.keep:
            os.makedirs(args.keep, exist_ok=True)
            for name in ("nginx.conf", "render.log"):
                shutil.copy(os.path.join(folder, "rendered", name), args.keep)
        return children

    asked = wrong = 0
    try:
        with side_by_side(start) as (_, listening):
            controller.configure(lambda: ask(listening["nginx"], "ready.test", "GET", "/", [], None)[0] == "200")
            for host, ingresses in hosts.items():
                paths = [rule["path"] for one in ingresses for rule in one["paths"]]
                canaries = any("canary" in one["annotations"] for one in ingresses)
                for target in [*some_requests(chance, paths), "/", plain(chance)]:
                    method = chance.choice(["GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT"])
                    body = b"b" * chance.choice([0, 5, 100, 3000]) if method in ("POST", "PUT") else None
                    name = chance.choice([host] * 8 + ["www." + host, "alias-" + host[1:], host.upper(), host + ":80", "none.test"])
                    request = (name, method, target, some_fields(chance, canaries), body)
                    theirs, ours = (ask(listening[which], *request) for which in ("nginx", "narthex"))
                    asked += 1
                    if theirs != ours:
                        wrong += 1
                        tell(request, theirs, ours, ingresses)
    finally:
        controller.close()
    print("%d hosts, %d requests, %d differ (seed %d)" % (len(hosts), asked, wrong, args.seed))
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
