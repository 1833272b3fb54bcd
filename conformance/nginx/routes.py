#!/usr/bin/env python3
"""Ingresses that chance made, in a real nginx and in `narthex standalone`, request by request.

Each host has a few Ingresses of different age with paths of all types, with and without expressions and rewrite targets.
Here they become locations by the rules of ingress-nginx, a second time and in another language than in the binary; nginx
then chooses among them. Compared are status, `Location`, which backend was asked, and what for. The seed is fixed, so a
run can be had again; ARGS='--seed N --hosts N' tries others.
Exit status: 0 all the same, 1 something differs, 2 a proxy did not start, 77 there is no nginx.
"""

import argparse
import random
import socket
import sys

from pair import MAIN, OWN_FOLDER, PATIENCE, Listener, declared, missing, narthex, nginx, objects, side_by_side, user

SERVICES = ["s%d" % number for number in range(6)]
WORDS = ["a", "b", "ab", "api", "v1", "Foo", "x.y", "a-b", "a_b", "~u"]
EXPRESSIONS = [
    "/a(/|$)(.*)", "/api/(.*)", "/(.*)", "/a|/b", "/[a-z]+", "/v1/[0-9]{2,3}/?$", "/(?!api)(.*)", "/a(?=/b)", "/(a|ab)(c|bcd)?(d*)",
    "/v[0-9]+/(.*)", r"/\w+/x", "/a$", r"/.*\.(png|jpg)$", "/a.c", "/(?:a|b)/(.*)", "/[^/]+/x", r"/\d{1,}", "/foo/?(.*)", "/api(/.*)?",
    r"/x\.y/(.*)", "/a/([^/]+)/b/(.*)", "/(a)(b)?(.*)", "/api/?", "/[A-Z]+", "/a{2}", "/a*?b", "/(?i)foo", r"/\S+\s", r"/a\/b", "/()",
    "/((a)|b)/((c)|d)", "/v1/.+", "/a[.]b", r"/[\w.-]+", "/(?<rest>a+)/(?<tail>.*)", "/a(b(c(d)?)?)?", "/[^a]", "/.", "/a/?$", "/~u/(.*)",
]
TARGETS = ["/", "/$1", "/$2", "/new/$1", "/$1/$2", "/new", "/x$1y", "/$2/$1", "/$3", "/new/$1$2", "/a", "/$rest"]
TAILS = ["", "/", "/x", "/b", "/b/c", "c", "//", "/../b", "/./x", "/%62", "/%2Fx", "/c%20d", ";p=1", "/12", "/123/", "/pic.PNG", "/x.y", "bcdd",
         "/%e4%bd%a0", "/%E4%BD%A0?q=%2F", "?q=1", "/?q=/", "/x?a=b&c=/d/", "/a+b", "/a%0Ab", "/%25", "/'x'", "/b/..", "/%2e%2e/b", "/&=:@"]

NGINX = MAIN + """error_log %(folder)s/error.log notice;
http {
  access_log off;
  server_names_hash_bucket_size 128;
  server_names_hash_max_size 4096;
  port_in_redirect off;
  server_tokens off;
  """ + OWN_FOLDER + """
%(servers)s
}
"""
PROXY = """
      proxy_set_header Host $http_host;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass http://127.0.0.1:%d;"""


class Backend(Listener):
    """Says who it is, and what it was asked for."""

    def __init__(self, name):
        self.name = name
        super().__init__()

    def answer(self, reader, stream):
        line = reader.readline()
        while reader.readline() not in (b"\r\n", b""):
            pass
        if line:
            text = self.name.encode() + b" " + line.split(b" ", 1)[1].rsplit(b" ", 1)[0]
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        return line


# --- what chance makes ----------------------------------------------------------------------------------------------


def plain(chance):
    path = "/" + "/".join(chance.choices(WORDS, k=chance.choice([0, 1, 1, 1, 2, 2, 3])))
    return path + "/" if path != "/" and chance.random() < 0.25 else path


ATOMS = ["a", "b", "c", "1", "-", "/", "/", ".", "[ab]", "[^/]", "[^a]", r"\d", r"\w", r"\W", r"\D", "[[:alpha:]]", "[a-c1-3_-]", r"\.", r"\/", "A",
         r"\x61", r"[\w.]", r"\b", "$", "[]a]", r"\Qa.\E", r"\-", r"[\d-]", "%", "~", "é"]
OPENINGS = ["(", "(", "(", "(?:", "(?:", "(?i:", "(?-i:", "(?=", "(?!", "(?>"]
AFTER = ["", "", "", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,}", "*?", "+?", "??", "*+", "?+"]


def expression(chance, depth=0):
    """A pattern that PCRE knows, of every kind of part."""
    # Begins with something to read: an assertion that is repeated alone is an error here, and nobody writes one.
    parts = [chance.choice(ATOMS[:10])]
    for _ in range(chance.randint(0, 2)):
        deeper = depth < 2 and chance.random() < 0.35
        opening = chance.choice(OPENINGS)
        atom = opening + expression(chance, depth + 1) + ")" if deeper else chance.choice(ATOMS)
        looks = deeper and opening in ("(?=", "(?!") or atom in ("$", r"\b")
        parts.append(atom + ("" if looks or atom.endswith(r"\E") else chance.choice(AFTER)))
    text = "".join(parts)
    return text + "|" + expression(chance, depth + 1) if depth < 2 and chance.random() < 0.15 else text


def some_ingress(chance, expressions):
    annotations, paths = {}, []
    regular = expressions and chance.random() < 0.6
    if regular and chance.random() < 0.6:
        annotations["use-regex"] = "true"
    if expressions and chance.random() < 0.6:
        annotations["rewrite-target"] = chance.choice(TARGETS)
    for _ in range(chance.randint(1, 4)):
        if regular and chance.random() < 0.75:
            kind, path = "ImplementationSpecific", chance.choice(EXPRESSIONS) if chance.random() < 0.6 else "/" + expression(chance)
        else:
            kind, path = chance.choice(["Prefix", "Prefix", "Exact", "ImplementationSpecific"]), plain(chance)
        paths.append({"path": path, "pathType": kind, "service": chance.choice(SERVICES)})
    return {"annotations": annotations, "paths": paths, "created": chance.randint(0, 2), "name": chance.choice("abc")}


def some_requests(chance, paths):
    for _ in range(24):
        start = chance.choice(paths + [plain(chance)])
        for mark, text in (("(/|$)", "/"), ("(.*)", "r"), ("[0-9]+", "7"), ("(?:", ""), ("(?!", ""), ("(?=", ""), ("(?<rest>", ""), (".*", "z"), (r"\w+", "w")):
            start = start.replace(mark, text)
        start = "".join(letter for letter in start if letter.isascii() and letter.isalnum() or letter in "/._-~") or "/"
        if chance.random() < 0.15:
            start = start.swapcase()
        yield (start if start.startswith("/") else "/" + start) + chance.choice(TAILS)


# --- as ingress-nginx would -----------------------------------------------------------------------------------------


def locations(ingresses):
    """The locations of a host as (kind, path, service, rewrite target) in the order of the file; None: nginx would refuse them."""
    ordered = sorted(sorted(ingresses, key=lambda one: "default/" + one["name"], reverse=True), key=lambda one: one["created"])
    # The root belongs to who made the host, until somebody has a rule for it.
    found = [{"path": "/", "kind": "Prefix", "service": None, "owner": ordered[0], "implied": True}]
    for one in ordered:
        for rule in one["paths"]:
            kind = "Exact" if rule["pathType"] == "Exact" else "Prefix"
            known = next((other for other in found if other["path"] == rule["path"]), None)
            new = {"path": rule["path"], "kind": kind, "service": rule["service"], "owner": one, "implied": False}
            if known is None or known["kind"] != kind:
                found.append(new)
            elif known["implied"]:
                known.update(new)
    found.sort(key=lambda one: (len(one["path"].encode()), one["path"].encode()), reverse=True)
    # `sort` with `reverse` keeps the order of equals.
    exact = {one["path"] for one in found if one["kind"] == "Exact"}
    spread = []
    for one in found:
        annotations, path = one["owner"]["annotations"], one["path"]
        target = annotations.get("rewrite-target", "")
        regular = annotations.get("use-regex") == "true" or (target and target != path)
        if one["kind"] == "Exact" or path == "/" or regular:
            spread.append((one["kind"], path, one["service"], target, annotations))
            continue
        spread.append(("Prefix", path if path.endswith("/") else path + "/", one["service"], target, annotations))
        if path not in exact:
            spread.append(("Exact", path, one["service"], target, annotations))
    by_expression = any(annotations.get("use-regex") == "true" or (target and target != path) for _, path, _, target, annotations in spread)
    made = [("~*" if by_expression else kind, path, service, target if target != path else "") for kind, path, service, target, _ in spread]
    if not by_expression and len({(kind, path) for kind, path, _, _ in made}) < len(made):
        return None
    return made


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def server(host, port, made, ports):
    out = ["  server {", "    listen 127.0.0.1:%d;" % port, "    server_name %s;" % host]
    for kind, path, service, target in made:
        how = {"~*": "~* " + quoted("^" + path), "Exact": "= " + quoted(path), "Prefix": quoted(path)}[kind]
        out.append("    location %s {" % how)
        if target:
            out.append("      rewrite %s %s break;" % (quoted("(?i)" + path), target))
        out.append("      return 404;" if service is None else PROXY % ports[service])
        out.append("    }")
    return "\n".join(out + ["  }"])


def manifests(hosts, ports):
    yield from objects({}, {name: [port] for name, port in ports.items()}, {})
    yield from declared(hosts)


# --- asking ---------------------------------------------------------------------------------------------------------


def ask(port, host, target):
    """Status, `Location` and what the backend said, of one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as stream:
        stream.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (target, host)).encode("latin-1"))
        answer = b""
        while part := stream.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    place = [line for line in lines if line.lower().startswith("location:")]
    status = lines[0].split(" ")[1]
    return status, place, body if status == "200" else b""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--hosts", type=int, default=150)
    args = parser.parse_args()
    if missing():
        sys.exit(77)
    chance = random.Random(args.seed)
    hosts, made = {}, {}
    while len(hosts) < args.hosts:
        expressions = chance.random() < 0.6
        ingresses = [some_ingress(chance, expressions) for _ in range(chance.randint(1, 4))]
        for place, one in enumerate(ingresses):
            # Names in no order, and each of its own: they decide between Ingresses of one second.
            one["name"] += "%d-%d" % (len(hosts), place)
        rendered = locations(ingresses)
        if rendered:
            host = "h%d.test" % len(hosts)
            hosts[host], made[host] = ingresses, rendered
    ports = {name: Backend(name).port for name in SERVICES}

    def start(folder, listening):
        servers = "\n".join(server(host, listening["nginx"], made[host], ports) for host in hosts)
        return {
            "nginx": nginx(NGINX % {"folder": folder, "user": user(), "servers": servers}, folder),
            "narthex": narthex(args.bin, manifests(hosts, ports), listening["narthex"], folder, "--allow-upstream-cidr=127.0.0.0/8"),
        }

    asked = wrong = 0
    with side_by_side(start) as (_, listening):
        for host, ingresses in hosts.items():
            paths = [rule["path"] for one in ingresses for rule in one["paths"]]
            for target in some_requests(chance, paths):
                theirs, ours = (ask(listening[name], host, target) for name in ("nginx", "narthex"))
                asked += 1
                if theirs != ours:
                    wrong += 1
                    print("%s %s\n  nginx    %s\n  narthex  %s" % (host, target, theirs, ours))
                    for kind, path, service, rewrite in made[host]:
                        print("    %s %s -> %s %s" % (kind, path, service, rewrite))
    print("%d hosts, %d requests, %d differ (seed %d)" % (len(hosts), asked, wrong, args.seed))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
