#!/usr/bin/env python3
"""Routing vectors against `narthex standalone`, by a client that shares no code with it.

For each case: a directory of manifests, a fresh process, an echo backend for each endpoint on loopback. Judged are status,
redirect, which endpoint answered, what it received, the certificate, answer fields, body, spread over endpoints and
shares of canaries. Exit status: 0 all as expected, 1 something failed.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time

import yaml

from ports import free_ports

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "tests", "data")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PATIENCE = 5  # seconds for one answer
READY = 30  # seconds until a process is ready
TOLERANCE = 0.12  # of shares
OBSERVED_PORT = 19001  # of the first backend where the vectors were observed; part of some cookies


# --- certificates ---------------------------------------------------------------------------------------------------


class Authority:
    """Makes self-signed pairs, each once."""

    def __init__(self, folder):
        self.folder, self.made = folder, {}

    def pair(self, common_name, names):
        key = (common_name, tuple(names or []))
        if key not in self.made:
            base = os.path.join(self.folder, "pair%d" % len(self.made))
            command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            command += ["-days", "30", "-keyout", base + ".key", "-out", base + ".crt"]
            command += ["-subj", "/CN=" + (common_name or "none")]
            if names:
                command += ["-addext", "subjectAltName=" + ",".join("DNS:" + name for name in names)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.made[key] = tuple(open(base + end, "rb").read() for end in (".crt", ".key"))
        return self.made[key]


def common_name(der):
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "multiline"]
    text = subprocess.run(command, input=der, stdout=subprocess.PIPE).stdout.decode()
    found = re.search(r"commonName\s*=\s*(.*)", text)
    return found.group(1).strip() if found else None


# --- backends -------------------------------------------------------------------------------------------------------


class Echo:
    """One endpoint; tells what it received. Requests may ask for a status, a Location, or a failure."""

    def __init__(self, identity, label):
        self.identity, self.label = identity, label

    async def start(self, address):
        self.server = await asyncio.start_server(self.serve, address, 0)
        self.address, self.port = self.server.sockets[0].getsockname()[:2]

    async def serve(self, reader, writer):
        try:
            while await self.answer(reader, writer):
                pass
        except (
            asyncio.IncompleteReadError,
            asyncio.CancelledError,
            asyncio.LimitOverrunError,
            ConnectionError,
            ValueError,
        ):
            pass
        finally:
            writer.close()

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = (lines[0].split(" ", 2) + ["", ""])[:3]
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
        first = {}
        for name, value in fields:
            first.setdefault(name.lower(), value)
        await self.skip_body(reader, first)
        if first.get("x-echo-fail") in ("all", self.label):
            return False
        seen = {"ident": self.identity, "method": method, "target": target, "headers": fields}
        body = json.dumps(seen).encode()
        out = [
            "HTTP/1.1 %s X" % first.get("x-echo-status", "200"),
            "Content-Type: application/json",
            "Content-Length: %d" % len(body),
            "X-Echo-Ident: " + self.identity,
            "X-Echo-Addr: %s:%d" % (self.address, self.port),
        ]
        if "x-echo-location" in first:
            out.append("Location: " + first["x-echo-location"])
        writer.write("\r\n".join(out + ["", ""]).encode("latin-1") + (b"" if method == "HEAD" else body))
        await writer.drain()
        return True

    @staticmethod
    async def skip_body(reader, fields):
        if "content-length" in fields:
            await reader.readexactly(int(fields["content-length"]))
        elif "chunked" in fields.get("transfer-encoding", "").lower():
            size = 1
            while size:
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                await reader.readexactly(size + 2)


# --- a case as objects ----------------------------------------------------------------------------------------------


def document(kind, version, namespace, name, **rest):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **rest.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def references(ingress):
    """`namespace/name` and port of each Service that an Ingress names."""
    namespace, spec = ingress["metadata"].get("namespace", "default"), ingress.get("spec", {})
    backends = [spec.get("defaultBackend")]
    for rule in spec.get("rules") or []:
        backends += [path.get("backend") for path in (rule.get("http") or {}).get("paths") or []]
    for backend in backends:
        if backend and backend.get("service"):
            port = backend["service"].get("port") or {}
            yield "%s/%s" % (namespace, backend["service"]["name"]), port.get("number", port.get("name"))
    for name, value in (ingress["metadata"].get("annotations") or {}).items():
        if name.endswith("/default-backend"):
            yield "%s/%s" % (namespace, value), 80


class Scene:
    """The objects and flags of a case, and its running backends."""

    def __init__(self, case, authority):
        self.case, self.authority = case, authority
        self.flags, self.documents, self.echoes = dict(case.get("flags") or {}), [], []

    async def build(self):
        case = self.case
        for name, controller in (case.get("ingressClasses") or {"nginx": "k8s.io/ingress-nginx"}).items():
            self.add("IngressClass", "networking.k8s.io/v1", None, name, spec={"controller": controller})
        services = {}
        for ingress in case["ingresses"]:
            self.documents.append(ingress)
            for service, port in references(ingress):
                services.setdefault(service, set()).add(port)
        fallback = self.flags.get("default-backend-service")
        if fallback:
            services.setdefault(fallback, set()).add(80)
        declared = case.get("services") or {}
        for service in declared:
            services.setdefault(service, {80})
        for service, ports in services.items():
            await self.service(service, ports, declared.get(service) or {})
        for key, wanted in (case.get("secrets") or {}).items():
            certificate, private = self.authority.pair(wanted.get("commonName"), wanted.get("dnsNames"))
            data = {"tls.crt": certificate, "tls.key": private}
            data = {name: base64.b64encode(value).decode() for name, value in data.items()}
            self.add("Secret", "v1", *key.split("/"), type="kubernetes.io/tls", data=data)
        if case.get("configmap"):
            data = {key: str(value) for key, value in case["configmap"].items()}
            self.add("ConfigMap", "v1", "sys", "cfg", data=data)
            self.flags["configmap"] = "sys/cfg"
        self.flags.setdefault("watch-ingress-without-class", False)

    def add(self, kind, version, namespace, name, **rest):
        self.documents.append(document(kind, version, namespace, name, **rest))

    async def service(self, key, ports, declared):
        if declared.get("exists") is False:
            return
        namespace, name = key.split("/")
        numbers = sorted(port for port in ports if isinstance(port, int))
        names = sorted(port for port in ports if isinstance(port, str))
        single = len(ports) == 1
        listed = [(None if single else "p%d" % number, number, number) for number in numbers]
        free = (number for number in range(80, 65536) if number not in numbers)
        listed += [(port, next(free), port) for port in names]
        service_ports = []
        for port_name, number, reference in listed:
            named = {"name": port_name} if port_name else {}
            service_ports.append({"port": number, "protocol": "TCP", "targetPort": 8080, **named})
            for index, endpoint in enumerate(declared.get("endpoints", ["ready:127.0.0.1"])):
                address, port = await self.endpoint(endpoint, "%s-%s-%s" % (namespace, name, reference))
                self.add(
                    "EndpointSlice",
                    "discovery.k8s.io/v1",
                    namespace,
                    "%s-%d-%d" % (name, number, index),
                    metadata={"labels": {"kubernetes.io/service-name": name}},
                    addressType="IPv4",
                    endpoints=[{"addresses": [address], "conditions": {"ready": True}}],
                    ports=[{"port": port, "protocol": "TCP", **named}],
                )
        spec = {"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": service_ports}
        self.add("Service", "v1", namespace, name, spec=spec)

    async def endpoint(self, declared, identity):
        if declared == "refusing":
            return "127.0.0.1", free_ports(1)[0]
        label = declared.split(":", 1)[1]
        echo = Echo(identity, label)
        await echo.start(label if label.startswith("127.") else "127.0.0.1")
        self.echoes.append(echo)
        return echo.address, echo.port


# --- client ---------------------------------------------------------------------------------------------------------


def request_bytes(request):
    if "raw" in request:
        return request["raw"].encode("latin-1")
    fields = [tuple(field) for field in request.get("headers") or []]
    names = {name.lower() for name, _ in fields}
    body = (request.get("body") or "").encode()
    lines = ["%s %s HTTP/1.1" % (request["method"], request["path"])]
    if request.get("host") is not None:
        lines.append("Host: " + request["host"])
    lines += ["%s: %s" % field for field in fields]
    if "user-agent" not in names:
        lines.append("User-Agent: vectors")
    if (body or request["method"] in ("POST", "PUT", "PATCH")) and not names & {"content-length", "transfer-encoding"}:
        lines.append("Content-Length: %d" % len(body))
    if "connection" not in names:
        lines.append("Connection: close")
    return "\r\n".join(lines + ["", ""]).encode() + body


def unchunk(data):
    body = b""
    try:
        while True:
            line, data = data.split(b"\r\n", 1)
            size = int(line.split(b";")[0], 16)
            if size == 0:
                return body, True
            if len(data) < size + 2:
                return body, False
            body, data = body + data[:size], data[size + 2 :]
    except ValueError:
        return body, False


def parse(data, method):
    """The answer in `data` and whether it is complete; None while its head is not."""
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None, False
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    fields = {}
    for name, _, value in (line.partition(":") for line in lines[1:]):
        fields.setdefault(name.lower(), []).append(value.strip())
    complete = method == "HEAD"
    if "transfer-encoding" in fields:
        body, complete = unchunk(body)
    elif "content-length" in fields:
        complete = complete or len(body) >= int(fields["content-length"][0])
    status = int(lines[0].split(" ")[1])
    return {"status": status, "fields": fields, "body": body.decode("utf-8", "replace")}, complete


async def ask(port, tls, request, patience=PATIENCE):
    options = {}
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host = (request.get("host") or "").split(":")[0] or None
        options = {"ssl": context, "server_hostname": request.get("sni", host) or ""}
    connecting = asyncio.open_connection("127.0.0.1", port, **options)
    reader, writer = await asyncio.wait_for(connecting, patience)
    certificate = common_name(writer.get_extra_info("ssl_object").getpeercert(True)) if tls else None
    if request.get("proxy_protocol_line") is not None:
        writer.write(request["proxy_protocol_line"].encode() + b"\r\n")
    writer.write(request_bytes(request))
    data, answer = b"", None
    try:
        await writer.drain()
        while True:
            part = await asyncio.wait_for(reader.read(65536), patience)
            data += part
            answer, complete = parse(data, request.get("method"))
            if complete or not part:
                break
    except (asyncio.TimeoutError, ConnectionError):
        pass
    writer.close()
    return {**(answer or {"status": None, "fields": {}, "body": ""}), "certificate": certificate}


# --- judge ----------------------------------------------------------------------------------------------------------


class Unexpected(Exception):
    pass


def expect(holds, why, *values):
    if not holds:
        raise Unexpected(why % values)


def listed(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def fits(found, wanted):
    """True when `found` is `wanted`, where `<…>` stands for a text without `;` and `|`."""
    pattern = "".join("[^;|]+" if part.startswith("<") else re.escape(part) for part in re.split("(<[^>]*>)", wanted))
    return re.fullmatch(pattern, found) is not None


def usual_ports(text, ports):
    """`text` with the two listen ports as 80 and 443."""
    for port, usual in zip(ports, (80, 443)):
        if text == str(port):
            return str(usual)
        text = re.sub(r":%d\b" % port, ":%d" % usual, text)
    return text


class Judge:
    def __init__(self, request, expected, ports):
        self.request, self.expected, self.ports = request, expected, ports

    def judge(self, answers):
        for answer in answers:
            self.one(answer)
        echoes = [answer["fields"] for answer in answers]
        if "distinct_endpoints" in self.expected:
            seen = {fields["x-echo-addr"][0] for fields in echoes if "x-echo-addr" in fields}
            expect(len(seen) == self.expected["distinct_endpoints"], "endpoints %s", seen)
        for backend, wanted in self.expected.get("share", {}).items():
            share = sum(fields.get("x-echo-ident") == [backend] for fields in echoes) / len(echoes)
            expect(abs(share - wanted) <= TOLERANCE, "share of %s %.2f, expected %.2f", backend, share, wanted)

    def one(self, answer):
        expected, fields = self.expected, answer["fields"]
        expect(answer["status"] == expected["status"], "status %s, expected %s", answer["status"], expected["status"])
        if "redirect" in expected:
            location = fields.get("location", [None])[0]
            location = location and usual_ports(location, self.ports)
            expect(location == expected["redirect"], "redirect %r, expected %r", location, expected["redirect"])
        # An echo has no body for HEAD, so its target was not observed.
        if "upstream_path" in expected and self.request.get("method") != "HEAD":
            self.backend(answer, fields.get("x-echo-ident", [None])[0])
        for name, wanted in (expected.get("response_headers") or {}).items():
            found = [self.as_observed(value, fields) for value in fields.get(name.lower(), [])]
            self.same(name, found, wanted)
        if expected.get("certificate_cn") is not None:
            found = answer["certificate"]
            expect(
                found == expected["certificate_cn"], "certificate %r, expected %r", found, expected["certificate_cn"]
            )
        if expected.get("body") is not None and not answer["body"].startswith("{"):
            same = answer["body"].replace("\r\n", "\n") == expected["body"].replace("\r\n", "\n")
            expect(same, "body %r", answer["body"][:80])

    def backend(self, answer, identity):
        path, backend = self.expected["upstream_path"], self.expected.get("backend")
        if path is None:
            return expect(identity is None, "reached %s, expected an answer of the proxy", identity)
        expect(identity is not None, "no backend reached, expected %s", backend)
        if backend and backend != "upstream-default-backend":
            # nginx names this one by its Service alone; the port is its first.
            backend = re.sub("^custom-default-backend-(.*)$", r"\1-80", backend)
            expect(identity == backend, "backend %s, expected %s", identity, backend)
        seen = json.loads(answer["body"])
        expect(
            seen["target"].encode("latin-1", "replace") == path.encode(), "target %r, expected %r", seen["target"], path
        )
        for name, wanted in (self.expected.get("upstream_headers") or {}).items():
            found = [usual_ports(value, self.ports) for key, value in seen["headers"] if key.lower() == name.lower()]
            self.same(name, found, wanted)

    def as_observed(self, value, fields):
        """The value with the hash of the endpoint that answered as the hash of the endpoint that was observed."""
        address = fields.get("x-echo-addr", [""])[0]
        hashes = []
        for one in (address, "%s:%d" % (address.rpartition(":")[0], OBSERVED_PORT)):
            hashes.append(hashlib.md5(("%s%s" % (self.expected.get("backend"), one)).encode()).hexdigest())
        return value.replace(*hashes)

    @staticmethod
    def same(name, found, wanted):
        wanted = listed(wanted)
        same = len(found) == len(wanted) and all(fits(*pair) for pair in zip(found, wanted))
        expect(same, "%s: %r, expected %r", name, found, wanted)


# --- running --------------------------------------------------------------------------------------------------------


class Process:
    """The binary over a directory of manifests."""

    def __init__(self, binary, scene, folder):
        self.log = os.path.join(folder, "log")
        manifests = os.path.join(folder, "manifests")
        os.mkdir(manifests)
        with open(os.path.join(manifests, "all.yaml"), "w") as file:
            yaml.safe_dump_all(scene.documents, file, allow_unicode=True)
        self.http, self.https, self.admin = free_ports(3)
        command = [binary, "standalone", "--manifests", manifests]
        addresses = (("http", self.http), ("https", self.https), ("admin", self.admin))
        command += ["--%s-addr=127.0.0.1:%d" % address for address in addresses]
        command += [
            "--%s=%s" % (name, str(value).lower() if value in (True, False) else value)
            for name, value in scene.flags.items()
        ]
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(command, stdout=log, stderr=log)

    async def ready(self):
        end = time.monotonic() + READY
        while time.monotonic() < end and self.child.poll() is None:
            try:
                probe = {"method": "GET", "host": "localhost", "path": "/readyz"}
                if (await ask(self.admin, False, probe, patience=1))["status"] == 200:
                    return True
            except (OSError, asyncio.TimeoutError):
                pass
            await asyncio.sleep(0.02)
        return False

    def stop(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


async def run(case, binary, ours, authority, folder):
    """A reason for each request that failed, by its index."""
    scene = Scene(case, authority)
    await scene.build()
    process = Process(binary, scene, folder)
    failures = {}
    try:
        if not await process.ready():
            return dict.fromkeys(range(len(case["requests"])), "not ready: " + open(process.log).read()[-200:])
        for index, vector in enumerate(case["requests"]):
            request = vector["request"]
            own = ours.get((case["name"], index))
            tls = request.get("scheme") == "https"
            try:
                answers = []
                for _ in range(request.get("repeat", 1)):
                    answers.append(await ask(process.https if tls else process.http, tls, request))
                # nginx kept its old configuration there; ours only has to have an answer.
                if case.get("config_valid", True) or own:
                    Judge(request, own or vector["expect"], (process.http, process.https)).judge(answers)
            except (Unexpected, OSError, asyncio.TimeoutError, ValueError) as error:
                failures[index] = "%s %s %s" % (request.get("host"), request.get("path"), str(error) or repr(error))
    finally:
        process.stop()
        for echo in scene.echoes:
            echo.server.close()
    return failures


def load(path):
    with open(path) as file:
        return yaml.load(file, Loader=LOADER)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="the binary")
    parser.add_argument("--vectors", default=os.path.join(DATA, "routing-vectors.yaml"))
    parser.add_argument("--decided", default=os.path.join(DATA, "decided.yaml"), help="deliberate differences")
    parser.add_argument("--only", action="append", metavar="CASE", help="these cases only")
    parser.add_argument("--jobs", type=int, default=4, help="processes at a time")
    arguments = parser.parse_args()
    decided = load(arguments.decided)["decided"]
    ours = {(one["case"], one["request"]): one["ours"] for one in decided if one["vectors"] == "routing"}
    cases = [case for case in load(arguments.vectors)["cases"] if not arguments.only or case["name"] in arguments.only]
    folder, slots = tempfile.mkdtemp(), asyncio.Semaphore(arguments.jobs)
    authority = Authority(folder)

    async def slot(case):
        async with slots:
            return case, await run(case, arguments.bin, ours, authority, tempfile.mkdtemp(dir=folder))

    passed = failed = 0
    try:
        for finished in asyncio.as_completed([slot(case) for case in cases]):
            case, failures = await finished
            passed, failed = passed + len(case["requests"]) - len(failures), failed + len(failures)
            for index, why in sorted(failures.items()):
                print("FAIL %s[%d] %s" % (case["name"], index, why))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
