"""The client of the annotation vectors: one request over one new connection, HTTP/1 or a gRPC call.

`annotations_blackbox` asks by it; what answers are worth is for `judge`.
"""

import asyncio
import base64
import json
import re
import socket
import ssl
import time

from annotations import grpc
from annotations.backends import by_name
from routing_blackbox import common_name, parse

CHUNK = 65536
PATIENCE = 10  # seconds for one answer
GRPC = "application/grpc"


class Answer:
    """What came back; `trouble` says why there is no whole answer."""

    def __init__(self):
        self.status, self.fields, self.body, self.trouble, self.refused = None, {}, "", "no answer", False
        self.certificate, self.tls, self.seconds = None, None, 0.0

    def field(self, name):
        return self.fields.get(name, [None])[0]

    @property
    def seen(self):
        """The request as the backend saw it; empty where none said so."""
        try:
            seen = json.loads(self.body) if self.body.startswith("{") else {}
        except ValueError:
            seen = {}
        return seen


def calls(request):
    """True for a gRPC call."""
    return any(
        name.lower() == "content-type" and value.startswith(GRPC) for name, value in request.get("headers") or []
    )


async def ask(port, request, authorities, jar):
    answer, start = Answer(), time.monotonic()
    converse = call if calls(request) else exchange
    try:
        work = connected(port, request, authorities, answer, converse, jar)
        await asyncio.wait_for(work, request.get("timeout", PATIENCE))
    except ConnectionRefusedError:
        answer.refused, answer.trouble = True, "connection refused"
    except (asyncio.TimeoutError, asyncio.IncompleteReadError, OSError, ValueError, LookupError) as error:
        answer.trouble = repr(error)
    answer.seconds = time.monotonic() - start
    return answer


async def connected(port, request, authorities, answer, converse, jar):
    plain = socket.socket()
    plain.setblocking(False)
    loop, writer = asyncio.get_running_loop(), None
    try:
        await loop.sock_connect(plain, ("127.0.0.1", port))
        if "proxy_protocol_line" in request:
            await loop.sock_sendall(plain, request["proxy_protocol_line"].encode() + b"\r\n")
        options = {}
        if request.get("scheme") == "https":
            name = request["sni"] if "sni" in request else (request.get("host") or "").split(":")[0]
            options = {"ssl": tls(request, authorities), "server_hostname": name or ""}
        reader, writer = await asyncio.open_connection(sock=plain, **options)
        if options:
            connection = writer.get_extra_info("ssl_object")
            answer.certificate = connection.getpeercert(True)
            answer.tls = {"version": connection.version(), "cipher": connection.cipher()[0]}
        await converse(reader, writer, request, answer, jar)
        answer.trouble = None
    finally:
        if writer:
            writer.transport.abort()
        plain.close()


def tls(request, authorities):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if calls(request):
        context.set_alpn_protocols(["h2"])
    if "client_cert" in request:
        pair = authorities.leaf(request["client_cert"]["cn"], (), request["client_cert"]["ca"])
        context.load_cert_chain(pair.certificate, pair.key)
    return context


# --- HTTP/1 -----------------------------------------------------------------------------------------------------------


def message(request, jar):
    fields = [tuple(field) for field in request.get("headers") or []]
    names = {name.lower() for name, _ in fields}
    body = (request.get("body") or "").encode() or b"x" * request.get("body_size", 0)
    if request.get("basic_auth"):
        fields.append(("Authorization", "Basic " + base64.b64encode(":".join(request["basic_auth"]).encode()).decode()))
    cookies = {**(jar if request.get("keep_cookies") else {}), **(request.get("cookies") or {})}
    if cookies:
        fields.append(("Cookie", "; ".join("%s=%s" % cookie for cookie in cookies.items())))
    if "user-agent" not in names:
        fields.append(("User-Agent", "vectors"))
    if "connection" not in names:
        fields.append(("Connection", "close"))
    if request.get("chunked"):
        fields.append(("Transfer-Encoding", "chunked"))
        parts = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)] + [b""]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    elif body or request["method"] in ("POST", "PUT", "PATCH"):
        fields.append(("Content-Length", str(len(body))))
    lines = ["%s %s HTTP/1.1" % (request["method"], request["path"])]
    if request.get("host") is not None:
        lines.append("Host: " + request["host"])
    return "\r\n".join(lines + ["%s: %s" % field for field in fields] + ["", ""]).encode() + body


async def exchange(reader, writer, request, answer, jar):
    # An answer may come before the body has been sent.
    sending, data = asyncio.ensure_future(send(writer, message(request, jar))), b""
    try:
        while True:
            part = await reader.read(CHUNK)
            data += part
            found, complete = parse(data, request["method"])
            if complete or not part:
                break
    finally:
        sending.cancel()
    if found is None:
        raise ConnectionError("the connection ended without an answer")
    answer.status, answer.fields, answer.body = found["status"], found["fields"], found["body"]
    if not complete and ("content-length" in found["fields"] or "transfer-encoding" in found["fields"]):
        if answer.status not in (204, 304):
            raise ConnectionError("the answer %d was cut" % answer.status)
    if request.get("keep_cookies"):
        for line in found["fields"].get("set-cookie", []):
            name, _, value = line.split(";")[0].partition("=")
            jar[name.strip()] = value.strip()


async def send(writer, data):
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        pass


# --- gRPC -------------------------------------------------------------------------------------------------------------


async def call(reader, writer, request, answer, jar):
    secured = writer.get_extra_info("ssl_object")
    if secured and secured.selected_alpn_protocol() != "h2":
        raise ConnectionError("ALPN did not choose h2")
    fields = [(":method", "POST"), (":scheme", request.get("scheme", "http")), (":path", request["path"])]
    fields += [(":authority", request["host"])] + [(name.lower(), value) for name, value in request["headers"]]
    connection = grpc.Connection(reader, writer)
    writer.write(grpc.PREFACE + grpc.frame(grpc.SETTINGS, 0, 0))
    connection.send(1, fields, grpc.EMPTY_MESSAGE)
    _, answered, body = await connection.message()
    answer.fields = by_name(answered)
    answer.status, answer.body = int(answer.field(":status")), bytes(body[5:]).decode("utf-8", "replace")


# --- by the openssl command -------------------------------------------------------------------------------------------


async def openssl(*arguments, data=b""):
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.DEVNULL}
    child = await asyncio.create_subprocess_exec("openssl", *arguments, **pipes)
    try:
        return (await asyncio.wait_for(child.communicate(data), 10))[0].decode(errors="replace")
    finally:
        if child.returncode is None:
            child.kill()


async def shake_hands(port, name, *options):
    """What openssl tells about a handshake."""
    return await openssl("s_client", "-connect", "127.0.0.1:%d" % port, "-servername", name, *options)


async def certificate_facts(answer, port, request):
    names = await openssl("x509", "-inform", "DER", "-noout", "-ext", "subjectAltName", data=answer.certificate)
    chain = await shake_hands(port, request.get("sni") or request["host"], "-showcerts")
    return {
        "cn": common_name(answer.certificate),
        "dns_names": re.findall(r"DNS:([^,\s]+)", names),
        "chain_length": chain.count("-----BEGIN CERTIFICATE-----"),
    }
