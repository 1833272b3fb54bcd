#!/usr/bin/env python3
"""Attacks at the numbers that are promised, against the built binary, and what each of them cost.

usage: attacks.py --bin BIN [slow-heads | floods | long-connections | stale | poison]... [--short]

slow-heads        10,000 connections whose head never ends (P15): memory of each, what another client feels, when they go
floods            100,000 HTTP/2 frames a second of each kind, again and again after each GOAWAY (P16): time to GOAWAY,
                  share of one core, memory
long-connections  200 WebSockets and 200 downloads over TLS through 1,000 swaps and 100 certificate renewals (P2)
stale             100,000 GETs and 10,000 POSTs to a backend that closes just when its connections are used again (P22)
poison            200,000 requests to a backend that sends more than it should (P13): no byte of it reaches another client

Each prints one line, `NAME: figures`, and `FAILED: ...` where a promise does not hold; --short is a tenth of each.
Figures of an optimised build count (`make attacks BIN=...`); one with debug assertions is slower and larger.
"""

import argparse
import asyncio
import contextlib
import os
import random
import re
import resource
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from ports import free_ports
from soak import resident

MANIFESTS = """apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: a
  namespace: default
  creationTimestamp: "2024-01-01T00:00:00Z"
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: "false"
    nginx.ingress.kubernetes.io/proxy-connect-timeout: "{number}"
spec:
  ingressClassName: nginx
  tls: [{{hosts: [h.test], secretName: pair}}]
  rules:
  - host: h.test
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: b, port: {{number: 80}}}}}}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: b, namespace: default}}
spec: {{clusterIP: 10.96.0.9, ports: [{{port: 80, targetPort: 8080, protocol: TCP}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: b-1, namespace: default, labels: {{kubernetes.io/service-name: b}}}}
addressType: IPv4
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}]
ports: [{{port: {port}, protocol: TCP}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: config, namespace: default}}
data: {{disable-access-log: "true", keep-alive-requests: "1000000"{keys}}}
"""

FAULTS: list[str] = []
# How a backend's connection ends, at the latest with the run.
ENDS = (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError)


def hold(condition: bool, fault: str) -> None:
    if not condition:
        FAULTS.append(fault)


class Proxy:
    """The binary over a directory of its own, with one backend."""

    def __init__(self, binary: str, backend_port: int, keys: str = "", tls: bool = False) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.backend_port, self.keys, self.pairs = backend_port, keys, []
        if tls:
            self.pairs = [self.pair(number) for number in range(2)]
        self.write(5, 0)
        self.http, self.https, self.admin = free_ports(3)
        self.process = subprocess.Popen(
            [binary, "standalone", "--manifests", self.directory.name, "--configmap=default/config", "--workers=1",
             f"--http-addr=127.0.0.1:{self.http}", f"--https-addr=127.0.0.1:{self.https}",
             f"--admin-addr=127.0.0.1:{self.admin}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for _ in range(800):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=2).close()
                return
            time.sleep(0.05)
        raise SystemExit("the proxy does not become ready")

    def pair(self, number: int) -> str:
        """A Secret with a pair of its own."""
        key, certificate = (f"{self.directory.name}/{number}.{end}" for end in ("key", "crt"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
             "-out", certificate, "-subj", "/CN=h.test", "-addext", "subjectAltName=DNS:h.test", "-days", "90"],
            check=True, capture_output=True,
        )
        lines = {name: Path(path).read_text().replace("\n", "\n    ") for name, path in (("crt", certificate), ("key", key))}
        return ("---\napiVersion: v1\nkind: Secret\nmetadata: {name: pair, namespace: default}\ntype: kubernetes.io/tls\n"
                f"stringData:\n  tls.crt: |\n    {lines['crt']}\n  tls.key: |\n    {lines['key']}\n")

    def write(self, number: int, pair: int) -> None:
        text = MANIFESTS.format(port=self.backend_port, number=number, keys=self.keys)
        text += self.pairs[pair % 2] if self.pairs else ""
        path = Path(self.directory.name)
        (path / "next.tmp").write_text(text)
        (path / "next.tmp").rename(path / "all.yaml")

    def metric(self, name: str) -> float:
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10).read().decode()
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)", text, re.M)
        return float(found[1]) if found else 0.0

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        return resident(self.process.pid)

    def stop(self) -> None:
        hold(self.process.poll() is None, "the proxy ended by itself")
        hold(self.metric("narthex_panics_total") == 0, "a panic")
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()


async def read_head(reader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()


async def read_answer(reader) -> tuple[int, bytes, bool]:
    head = await read_head(reader)
    length = re.search(r"content-length: (\d+)", head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(" ")[1]), body, "connection: close" in head


async def plain(reader, writer) -> None:
    """Answers everything."""
    with contextlib.suppress(*ENDS):
        while True:
            length = re.search(r"content-length: (\d+)", await read_head(reader))
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    writer.close()


async def serve(handler) -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, backlog=4096)
    return server, server.sockets[0].getsockname()[1]


async def latencies(port: int, count: int) -> list[float]:
    """Milliseconds of requests, one after the other, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = []
    for _ in range(count):
        begin = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\nHost: h.test\r\n\r\n")
        status, _, _ = await read_answer(reader)
        hold(status == 200, f"a bystander gets {status}")
        taken.append(1000 * (time.monotonic() - begin))
    writer.close()
    return sorted(taken)


async def slow_heads(binary: str, scale: float) -> None:
    # A proxy has half of the descriptors for clients; what comes beyond them waits in the kernel and is not held.
    held = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 512) // 2 - 64
    count, patience = min(int(10_000 * scale), held), 60 if scale == 1 else 10
    server, port = await serve(plain)
    proxy = Proxy(binary, port, f', client-header-timeout: "{patience}"')
    await latencies(proxy.http, 500)
    calm, before = await latencies(proxy.http, 2000), proxy.resident()
    begin, clients = time.monotonic(), []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http)
        writer.write(b"GET / HTTP/1.1\r\nHost: h.test\r\nX-Slow: ")
        clients.append((reader, writer))
    last = time.monotonic()
    there = 0.0
    while there < count and time.monotonic() - last < 10:
        there = proxy.metric("narthex_connections")
    each = 1024 * (proxy.resident() - before) / count
    busy = await latencies(proxy.http, 2000)
    while (left := proxy.metric("narthex_connections")) > 2 and time.monotonic() - last < patience + 10:
        await asyncio.sleep(0.2)
    gone = time.monotonic() - last
    for _, writer in clients:
        writer.transport.abort()
    proxy.stop()
    server.close()
    calm_99, busy_99 = calm[len(calm) * 99 // 100], busy[len(busy) * 99 // 100]
    print(f"slow-heads: {count} half heads within {last - begin:.0f} s cost {each:.1f} KiB each; another client's median "
          f"{statistics.median(calm):.2f} ms before and {statistics.median(busy):.2f} ms meanwhile, 99 of 100 within "
          f"{calm_99:.2f} and {busy_99:.2f} ms; {left:.0f} left {gone:.0f} s after the last one came")
    hold(there >= count, f"only {there:.0f} connections")
    hold(each <= 32, f"{each:.1f} KiB for each slow head")
    hold(left <= 2 and gone <= patience + 5, f"{left} slow heads are still there after {gone:.0f} s")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literals(*fields: tuple[str, str]) -> bytes:
    return b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields)


REQUEST = literals((":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h.test"))

# Each gives the frames of one unit of the attack; `first` opens what it needs.
FLOODS = {
    "PING": (b"", lambda n: frame(6, 0, 0, bytes(8))),
    "SETTINGS": (b"", lambda n: frame(4, 0, 0)),
    "PRIORITY": (b"", lambda n: frame(2, 0, 1, b"\0\0\0\0\1")),
    "unknown": (b"", lambda n: frame(0x42, 0, 0, b"x")),
    "WINDOW_UPDATE": (b"", lambda n: frame(8, 0, 0, b"\0\0\0\1")),
    "empty DATA": (frame(1, 4, 1, REQUEST), lambda n: frame(0, 0, 1)),
    "CONTINUATION": (frame(1, 1, 1, REQUEST), lambda n: frame(9, 0, 1)),
    "rapid reset": (b"", lambda n: frame(1, 5, 2 * n + 1, REQUEST) + frame(3, 0, 2 * n + 1, b"\0\0\0\x08")),
    "provoked resets": (b"", lambda n: frame(1, 4, 2 * n + 1, REQUEST) + frame(8, 0, 2 * n + 1, bytes(4))),
}


async def flood(proxy: Proxy, first: bytes, unit, seconds: float, rate: int) -> tuple[float, int, int]:
    """Sends at a rate, over a new connection after each end. The longest time to an end, connections, and frames."""
    per_unit, batch = (2 if len(unit(0)) > 20 else 1), 500
    end, longest, connections, frames = time.monotonic() + seconds, 0.0, 0, 0
    while time.monotonic() < end:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http)
        connections += 1
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + first)
        begin, sent, closed = time.monotonic(), 0, asyncio.Event()

        async def watch(reader=reader, closed=closed) -> None:
            with contextlib.suppress(OSError):
                while await reader.read(65536):
                    pass
            closed.set()

        watching = asyncio.create_task(watch())
        while not closed.is_set() and time.monotonic() - begin < 5:
            writer.write(b"".join(unit(number) for number in range(sent, sent + batch)))
            sent += batch
            with contextlib.suppress(OSError):
                await writer.drain()
            ahead = begin + sent * per_unit / rate - time.monotonic()
            await asyncio.sleep(max(0, ahead))
        longest, frames = max(longest, time.monotonic() - begin), frames + sent * per_unit
        writer.transport.abort()
        await watching
    return longest, connections, frames


async def floods(binary: str, scale: float) -> None:
    rate, seconds = 100_000, 10 * scale
    server, port = await serve(plain)
    proxy = Proxy(binary, port)
    await latencies(proxy.http, 500)
    said = []
    for name, (first, unit) in FLOODS.items():
        before, spent, begin = proxy.resident(), proxy.cpu(), time.monotonic()
        longest, connections, frames = await flood(proxy, first, unit, seconds, rate)
        took = time.monotonic() - begin
        share, grown = 100 * (proxy.cpu() - spent) / took, proxy.resident() - before
        said.append(f"{name} {frames / took / 1000:.0f}, {1000 * longest:.0f} ms, {share:.0f} %, {grown:+.1f} MiB")
        hold(longest <= 1, f"{name}: {longest:.2f} s to the end")
        hold(share <= 25 * max(1, frames / took / rate), f"{name}: {share:.0f} % of a core")
        hold(grown <= 8, f"{name}: {grown:.1f} MiB")
        hold(connections > 1, f"{name}: the connection lives on")
    await latencies(proxy.http, 100)
    proxy.stop()
    server.close()
    print("floods: thousands of frames a second from one attacker, longest time to the end of a connection, share of a core, "
          f"memory: {'; '.join(said)}")


async def long_backend(reader, writer) -> None:
    """A tunnel that echoes, or a download of a line every tenth of a second until its client says that it is over."""
    with contextlib.suppress(*ENDS):
        head = await read_head(reader)
        if "upgrade: websocket" in head:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(10**9):
                line = b"%08d" % number
                writer.write(b"8\r\n%s\r\n" % line)
                await writer.drain()
                await asyncio.sleep(0.5)
    writer.close()


async def long_connections(binary: str, scale: float) -> None:
    count, swaps, renewals = int(200 * scale), int(1000 * scale), int(100 * scale)
    server, port = await serve(long_backend)
    proxy = Proxy(binary, port, tls=True)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def connect() -> tuple:
        return await asyncio.open_connection("127.0.0.1", proxy.https, ssl=context, server_hostname="h.test")

    tunnels, downloads, faults, stop = [], [], [], asyncio.Event()
    for _ in range(count):
        reader, writer = await connect()
        writer.write(b"GET /w HTTP/1.1\r\nHost: h.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = await read_head(reader)
        hold(" 101 " in head, f"no tunnel: {head[:40]}")
        tunnels.append((reader, writer))
        reader, writer = await connect()
        writer.write(b"GET /d HTTP/1.1\r\nHost: h.test\r\n\r\n")
        head = await read_head(reader)
        hold(" 200 " in head, f"no download: {head[:40]}")
        downloads.append((reader, writer))

    async def download(reader) -> int:
        wanted = 0
        while not stop.is_set():
            try:
                size = int((await reader.readuntil(b"\r\n")).strip() or b"0", 16)
                data = await reader.readexactly(size + 2)
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                faults.append(f"download: {error!r}")
                return wanted
            # The proxy may join pieces.
            for at in range(0, size, 8):
                if data[at:at + 8] != b"%08d" % wanted:
                    faults.append(f"download: {data!r} instead of {wanted}")
                wanted += 1
        return wanted

    reading = [asyncio.create_task(download(reader)) for reader, _ in downloads]
    first, seen, echoes, pair = proxy.metric("narthex_generation"), set(), 0, 0
    for number in range(swaps):
        renews = number % max(1, swaps // renewals) == 0
        pair += renews
        generation = proxy.metric("narthex_generation")
        proxy.write(5 + number % 7, pair)
        if number % 7:
            proxy.process.send_signal(1)
        begin = time.monotonic()
        while proxy.metric("narthex_generation") == generation and time.monotonic() - begin < 5:
            await asyncio.sleep(0.002)
        if renews:
            _, writer = await connect()
            seen.add(writer.get_extra_info("ssl_object").getpeercert(True))
            writer.close()
        if number % max(1, swaps // 20) == 0:
            for reader, writer in tunnels:
                writer.write(b"%06d" % number)
            for reader, _ in tunnels:
                try:
                    echoes += await asyncio.wait_for(reader.readexactly(6), 10) == b"%06d" % number
                except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                    faults.append(f"tunnel: {error!r}")
    generations = proxy.metric("narthex_generation") - first
    stop.set()
    pieces = sum(await asyncio.gather(*reading))
    for _, writer in tunnels + downloads:
        writer.transport.abort()
    proxy.stop()
    server.close()
    print(f"long-connections: {count} WebSockets and {count} downloads over TLS, {generations:.0f} swaps, {pair} renewals "
          f"of the certificate, {echoes} echoes, {pieces} pieces, {len(faults)} cut")
    hold(not faults, "; ".join(sorted(set(faults))[:5]))
    hold(generations >= swaps, f"only {generations} swaps")
    hold(len(seen) == 2, f"{len(seen)} certificates seen")
    hold(echoes == count * len(range(0, swaps, max(1, swaps // 20))), "an echo is missing")


async def stale(binary: str, scale: float) -> None:
    gets, posts, idle, seen = int(100_000 * scale), int(10_000 * scale), 0.02, {}

    async def closing(reader, writer) -> None:
        """Closes a connection that nobody used for a moment, as a server with a short keep-alive does."""
        with contextlib.suppress(*ENDS):
            patience = None
            while True:
                head = await asyncio.wait_for(read_head(reader), patience)
                patience = idle
                length = re.search(r"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                if body:
                    seen[body] = seen.get(body, 0) + 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    server, port = await serve(closing)
    proxy = Proxy(binary, port)
    statuses: dict[tuple[str, int], int] = {}
    left = {"GET": gets, "POST": posts}

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http)
        while left["GET"] > 0 or left["POST"] > 0:
            method = "POST" if left["POST"] > 0 and (left["GET"] <= 0 or random.random() < 0.1) else "GET"
            left[method] -= 1
            body = b"%012d" % (left[method] * 1000 + number) if method == "POST" else b""
            writer.write(b"%s / HTTP/1.1\r\nHost: h.test\r\nContent-Length: %d\r\n\r\n%s" % (method.encode(), len(body), body))
            status, _, closes = await read_answer(reader)
            statuses[method, status] = statuses.get((method, status), 0) + 1
            if closes:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http)
            # Just when the backend lets go of the connection.
            await asyncio.sleep(idle * random.uniform(0.95, 1.05))
        writer.close()

    await asyncio.gather(*[client(number) for number in range(100)])
    proxy.stop()
    server.close()
    failed_gets = sum(count for (method, status), count in statuses.items() if method == "GET" and status != 200)
    failed_posts = sum(count for (method, status), count in statuses.items() if method == "POST" and status != 200)
    doubled = sum(count > 1 for count in seen.values())
    print(f"stale: {gets} GETs, {failed_gets} failed; {posts} POSTs, {doubled} doubled, {failed_posts} answered 502 since "
          "they could not be sent again")
    hold(failed_gets == 0, f"{failed_gets} GETs failed: {statuses}")
    hold(doubled == 0, f"{doubled} POSTs came twice")


POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"


async def poison(binary: str, scale: float) -> None:
    count = int(200_000 * scale)

    async def hostile(reader, writer) -> None:
        """Right answers that say whose they are, half of them with more behind them than there should be. Bytes that
        come later than the answer, while the next request is on its way, are that request's answer to anybody."""
        with contextlib.suppress(*ENDS):
            while True:
                head = await read_head(reader)
                name = head.split(" ")[1].encode()
                good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name)
                kind = int(name.rsplit(b"-", 1)[1])
                if kind == 0:
                    writer.write(good + POISON)
                elif kind == 1:
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" + POISON)
                elif kind == 2:
                    writer.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n" + POISON)
                elif kind == 3:
                    # Asked for by HEAD.
                    writer.write(good + POISON)
                elif kind == 4:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(name), name)
                                 + POISON)
                elif kind == 5:
                    writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + good + POISON)
                else:
                    writer.write(good)
                await writer.drain()
        writer.close()

    server, port = await serve(hostile)
    proxy = Proxy(binary, port)
    left, wrong, failed = [count], [], {}

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http)
        while left[0] > 0:
            left[0] -= 1
            name = b"/%d-%d-%d" % (number, left[0], random.randrange(12))
            method = b"HEAD" if name.endswith(b"-3") else b"GET"
            writer.write(b"%s %s HTTP/1.1\r\nHost: h.test\r\n\r\n" % (method, name))
            head = await read_head(reader)
            status = int(head.split(" ")[1])
            length = re.search(r"content-length: (\d+)", head)
            body = b""
            if "transfer-encoding: chunked" in head:
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                await reader.readexactly(2)
            elif method == b"GET" and status not in (204, 304):
                body = await reader.readexactly(int(length[1]) if length else 0)
            if status == 200 and body != (name if method == b"GET" else b""):
                wrong.append((name, body))
            elif status not in (200, 204, 304):
                failed[status] = failed.get(status, 0) + 1
            if "connection: close" in head:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http)
        writer.close()

    await asyncio.gather(*[client(number) for number in range(50)])
    proxy.stop()
    server.close()
    print(f"poison: {count} requests, half of the answers with more behind them, {len(wrong)} saw bytes of another, "
          f"{sum(failed.values())} failed")
    hold(not wrong, f"somebody else's bytes: {wrong[:3]}")
    hold(not failed, f"failed: {failed}")


ATTACKS = {"slow-heads": slow_heads, "floods": floods, "long-connections": long_connections, "stale": stale, "poison": poison}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", required=True)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []], default=[])
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for name in arguments.attacks or ATTACKS:
        asyncio.run(ATTACKS[name](arguments.bin, 0.1 if arguments.short else 1))
    for fault in FAULTS[:20]:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
