"""What stands behind the proxy in the annotation vectors: echoes, FastCGI responders, gRPC services, a name server.

All run in the event loop of the judge, on loopback. `scene` starts and stops them; a list for each Service keeps what
it was asked. No behaviour of the proxy is judged here.
"""

import asyncio
import base64
import json
import struct
import urllib.parse

from annotations import grpc

BODY_SHOWN = 65536  # bytes of a request's body that are kept
GONE = (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError, LookupError, OSError)
JSON, TEXT = ("Content-Type", "application/json"), ("Content-Type", "text/plain")
BEGIN, END, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6  # FastCGI records


class Endpoint:
    """One listener. `kind` is one of the vectors; a `responder`, from request to answer, goes before it."""

    def __init__(self, identity, label, kind, record, tls=None, responder=None):
        self.identity, self.label, self.kind, self.record = identity, label, kind, record
        self.tls, self.responder, self.writers, self.server = tls, responder, set(), None

    async def start(self, port=0):
        serve = {"fastcgi": self.fastcgi, "grpc": self.grpc, "grpcs": self.grpc, "closed": self.closed}
        self.talk = serve.get(self.kind, self.http)
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def stop(self):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            await self.talk(reader, writer)
        except GONE:
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def marks(self):
        return [("X-Echo-Ident", self.identity), ("X-Echo-Addr", self.address), ("X-Echo-Label", self.label)]

    async def closed(self, reader, writer):
        pass

    # --- HTTP/1 ---

    async def http(self, reader, writer):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, version = head[0].split(" ", 2)
            fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
            named = by_name(fields)
            body = await read_body(reader, named)
            request = {"method": method, "target": target, "version": version, "headers": fields}
            request["body"] = body[:BODY_SHOWN].decode("latin-1")
            self.record.append(request)
            if first(named, "x-echo-fail") in ("all", self.label):
                return
            await asyncio.sleep(float(first(named, "x-echo-delay", 0)))
            seen = {"ident": self.identity, **request, "tls": handshake(writer)}
            status, out, content = await self.answer(request, named, body, json.dumps(seen).encode())
            out = out + self.marks() + [("X-Echo-Target", target)]
            if status not in (204, 304):
                out.append(("Content-Length", str(len(content))))
            lines = ["HTTP/1.1 %d X" % status] + ["%s: %s" % field for field in out] + ["", ""]
            writer.write("\r\n".join(lines).encode("latin-1") + (b"" if method == "HEAD" else content))
            await writer.drain()
            if version == "HTTP/1.0" or "close" in first(named, "connection", "").lower():
                return

    async def answer(self, request, named, body, echo):
        """Status, fields and body."""
        if self.responder:
            return await self.responder(request, body)
        if self.kind.startswith("status:"):
            return int(self.kind.partition(":")[2]), [], b""
        if self.kind == "httpbun":
            return await httpbun(request["target"], named, echo)
        if self.kind == "errors":
            return 200, [JSON], echo
        return obedient(named, echo)

    # --- gRPC ---

    async def grpc(self, reader, writer):
        if await reader.readexactly(len(grpc.PREFACE)) != grpc.PREFACE:
            return
        writer.write(grpc.frame(grpc.SETTINGS, 0, 0))
        connection, answers = grpc.Connection(reader, writer), []
        try:
            while True:
                stream, fields, _ = await connection.message()
                answers.append(asyncio.ensure_future(self.unary(connection, stream, fields)))
        finally:
            for answer in answers:
                answer.cancel()

    async def unary(self, connection, stream, fields):
        named = by_name(fields)
        if ":authority" not in named:
            fields += [(":authority", value) for value in named.get("host", [])]
        request = {"method": first(named, ":method"), "target": first(named, ":path"), "headers": fields, "body": ""}
        self.record.append(request)
        await asyncio.sleep(float(first(named, "x-echo-delay", 0)))
        message = json.dumps({"ident": self.identity, **request}).encode()
        out = [(":status", "200"), ("content-type", "application/grpc")]
        out += [(name.lower(), value) for name, value in self.marks()]
        body = b"\0" + len(message).to_bytes(4, "big") + message
        connection.send(stream, out, body, [("grpc-status", "0")])
        await connection.writer.drain()

    # --- FastCGI ---

    async def fastcgi(self, reader, writer):
        keep, parameters, stdin = 0, b"", b""
        while True:
            _, kind, request, length, padding = struct.unpack("!BBHHBx", await reader.readexactly(8))
            content = (await reader.readexactly(length + padding))[:length]
            if kind == BEGIN:
                keep, parameters, stdin = content[2] & 1, b"", b""
            elif kind == PARAMS:
                parameters += content
            elif kind == STDIN and length:
                stdin += content
            elif kind == STDIN:
                named = dict(pairs(parameters))
                seen = {"method": named.get("REQUEST_METHOD"), "target": named.get("REQUEST_URI"), "headers": []}
                self.record.append({**seen, "body": stdin[:BODY_SHOWN].decode("latin-1")})
                fields = [("Status", "200 OK"), TEXT] + self.marks()
                out = "".join("%s: %s\r\n" % field for field in fields) + "\r\nHello world!\n" + json.dumps(named)
                for number, data in ((STDOUT, out.encode()), (STDOUT, b""), (END, bytes(8))):
                    writer.write(struct.pack("!BBHHBx", 1, number, request, len(data), 0) + data)
                await writer.drain()
                if not keep:
                    return


def pairs(data):
    """Names and values of FastCGI parameters (FastCGI specification, section 3.4)."""
    at = 0
    while at < len(data):
        lengths = []
        for _ in range(2):
            if data[at] & 0x80:
                lengths.append(int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF)
                at += 4
            else:
                lengths.append(data[at])
                at += 1
        middle, end = at + lengths[0], at + sum(lengths)
        yield data[at:middle].decode("latin-1"), data[middle:end].decode("latin-1")
        at = end


def by_name(fields):
    named = {}
    for name, value in fields:
        named.setdefault(name.lower(), []).append(value)
    return named


def first(named, name, absent=None):
    return named.get(name, [absent])[0]


async def read_body(reader, named):
    if "chunked" not in first(named, "transfer-encoding", "").lower():
        return await reader.readexactly(int(first(named, "content-length", 0)))
    body, size = b"", 1
    while size:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        body += (await reader.readexactly(size + 2))[:size]
    return body


def handshake(writer):
    """Of TLS: the name that was asked for, and the common name of the client's certificate."""
    connection = writer.get_extra_info("ssl_object")
    if connection is None:
        return None
    subject = dict(pair for part in (connection.getpeercert() or {}).get("subject", ()) for pair in part)
    return {"sni": getattr(connection, "asked_name", None), "client_cn": subject.get("commonName")}


def remember_name(connection, name, _):
    connection.asked_name = name


def obedient(named, echo):
    """The echo of a request, changed as its own fields wish."""
    fields, body = [JSON], echo
    if "x-echo-body-size" in named:
        fields, body = [TEXT], b"x" * int(first(named, "x-echo-body-size"))
    if "x-echo-location" in named:
        fields.append(("Location", first(named, "x-echo-location")))
    for wish in named.get("x-echo-header", []):
        name, _, value = wish.partition(":")
        fields.append((name.strip(), value.strip()))
    if "x-echo-header-size" in named:
        fields.append(("X-Big", "b" * int(first(named, "x-echo-header-size"))))
    return int(first(named, "x-echo-status", 200)), fields, body


def kind_of(content_type):
    return [("Content-Type", content_type)]


async def httpbun(target, named, echo):
    """The paths of the public test service httpbun that the vectors use."""
    path, _, query = target.partition("?")
    asked, arguments = urllib.parse.parse_qsl(query), path.strip("/").split("/")
    name, arguments = arguments[0], arguments[1:]
    if name == "basic-auth" and len(arguments) == 2:
        wanted = "Basic " + base64.b64encode(":".join(arguments).encode()).decode()
        if first(named, "authorization") != wanted:
            return 401, [("WWW-Authenticate", 'Basic realm="Fake Realm"')], b""
    elif name == "status" and len(arguments) == 1:
        return int(arguments[0]), [], b""
    elif name == "bytes" and len(arguments) == 1:
        size = int(arguments[0])
        return 200, kind_of("application/octet-stream"), (b"narthex " * (size // 8 + 1))[:size]
    elif name == "xml":
        slides = b"<slide><title>one of several</title></slide>\n" * 14
        return 200, kind_of("application/xml"), b'<?xml version="1.0"?>\n<slides>' + slides + b"</slides>"
    elif name == "html":
        text = b"<p>Nothing to read here, but enough of it.</p>\n" * 65
        return 200, kind_of("text/html"), b"<!doctype html><html><body>" + text + b"</body></html>"
    elif name == "response-headers":
        return 200, [JSON] + asked, echo
    elif name == "cookies" and len(arguments) == 3 and arguments[0] == "set":
        return 200, [("Set-Cookie", "=".join(arguments[1:])), TEXT], b"OK\n"
    elif name == "error":
        return 503, [], b""
    elif name == "redirect-to":
        return 302, [("Location", dict(asked).get("url", "/"))], b""
    elif name in ("sleep", "delay") and len(arguments) == 1:
        await asyncio.sleep(float(arguments[0]))
        return 200, [TEXT], b"ok"
    return 200, [JSON], echo


class Names(asyncio.DatagramProtocol):
    """A name server: names below vectors.test are 127.0.0.1, others do not exist (RFC 1035)."""

    A, SECONDS = 1, 5

    async def start(self):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return transport.get_extra_info("sockname")[1]

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, query, peer):
        labels, at = [], 12
        try:
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].lower())
                at += query[at] + 1
        except IndexError:
            return
        question = query[12 : at + 5]
        known = labels[-2:] == [b"vectors", b"test"]
        answered = known and int.from_bytes(question[-4:-2], "big") == self.A
        head = query[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, int(answered), 0, 0)
        record = struct.pack("!HHHIH4B", 0xC00C, self.A, 1, self.SECONDS, 4, 127, 0, 0, 1)
        self.transport.sendto(head + question + (record if answered else b""), peer)
