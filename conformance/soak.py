#!/usr/bin/env python3
"""Mixed load against the built binary while its table changes, and what that does to its memory.

usage: soak.py --bin BIN [--seconds N] [--limit MIB_PER_MINUTE]

Keep-alive requests, uploads, aborted requests and WebSocket-like tunnels run side by side; a manifest is rewritten ten
times a second and endpoints come and go. It prints the resident size, its slope over the last part of the run, open
descriptors before and after, and fails on an answer that cannot be explained, on a slope above the limit, and on
descriptors that do not come back. A short run judges errors and descriptors only: its slope is warming up.
"""

import argparse
import asyncio
import contextlib
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from ports import free_ports

MANIFESTS = """apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: a
  namespace: default
  creationTimestamp: "2024-01-01T00:00:00Z"
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: "false"
    nginx.ingress.kubernetes.io/proxy-read-timeout: "{timeout}"
spec:
  ingressClassName: nginx
  rules:
  - host: h.test
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: b, port: {{number: 80}}}}}}}}]}}
  - host: extra{extra}.test
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
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}{more}]
ports: [{{port: {port}, protocol: TCP}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: config, namespace: default}}
data: {{disable-access-log: "true", upstream-keepalive-timeout: "5", keep-alive: "5"}}
"""

BODY = b"x" * 4000

# Descriptors that may have come since the first count, which is taken as soon as the process is ready: a worker or two
# open theirs a moment later. What thousands of requests leak would be hundreds.
SPARE = 12


async def backend(reader, writer):
    """Answers requests with a body, and echoes after an upgrade."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            if "upgrade: websocket" in head:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
                while data := await reader.read(4096):
                    writer.write(data)
                    await writer.drain()
                break
            length = re.search(r"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
            await writer.drain()
    writer.close()


class Load:
    """What clients do, and how it went."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port = port
        self.end = time.monotonic() + seconds
        self.requests = 0
        self.errors: list[str] = []
        self.late: list[float] = []

    def over(self) -> bool:
        return time.monotonic() >= self.end

    async def answer(self, reader) -> tuple[int, bool]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = re.search(r"content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        return int(head.split(" ")[1]), "connection: close" in head

    async def keep_alive(self, pause: float, upload: int) -> None:
        while not self.over():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                closing = False
                while not closing and not self.over():
                    begin = time.monotonic()
                    if upload:
                        writer.write(b"POST /u HTTP/1.1\r\nHost: h.test\r\nContent-Length: %d\r\n\r\n" % upload)
                        writer.write(b"y" * upload)
                    else:
                        writer.write(b"GET /g HTTP/1.1\r\nHost: h.test\r\n\r\n")
                    status, closing = await self.answer(reader)
                    self.late.append(time.monotonic() - begin)
                    self.requests += 1
                    if status != 200:
                        self.errors.append(f"status {status}")
                    await asyncio.sleep(pause)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.errors.append(repr(error))
            finally:
                writer.close()

    async def aborting(self) -> None:
        while not self.over():
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(random.choice([b"GET /a HTTP/1.1\r\nHost: h", b"POST /a HTTP/1.1\r\nHost: h.test\r\nContent-Length: 9999\r\n\r\nabc",
                                        b"GET /a HTTP/1.1\r\nHost: h.test\r\n\r\n"]))
            await asyncio.sleep(0.01)
            writer.transport.abort()
            await asyncio.sleep(0.02)

    async def tunnel(self) -> None:
        while not self.over():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"GET /w HTTP/1.1\r\nHost: h.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" 101 " not in head:
                    self.errors.append(f"no tunnel: {head[:40]!r}")
                for _ in range(50):
                    if self.over():
                        break
                    writer.write(b"ping")
                    await reader.readexactly(4)
                    await asyncio.sleep(0.1)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.errors.append(f"tunnel: {error!r}")
            writer.close()


def resident(pid: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def slope(samples: list[tuple[float, float]]) -> float:
    """MiB a minute, by least squares."""
    if len(samples) < 3:
        return 0.0
    middle = sum(at for at, _ in samples) / len(samples)
    mean = sum(size for _, size in samples) / len(samples)
    spread = sum((at - middle) ** 2 for at, _ in samples)
    return 60 * sum((at - middle) * (size - mean) for at, size in samples) / spread


async def run(arguments: argparse.Namespace, directory: Path) -> int:
    http, https, admin = free_ports(3)
    server = await asyncio.start_server(backend, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def write(number: int) -> None:
        # Every other table has an endpoint more, which refuses and is tried around.
        more = ", {addresses: [127.0.0.9], conditions: {ready: false}}" if number % 2 else ""
        text = MANIFESTS.format(port=port, timeout=60 + number % 7, extra=number % 5, more=more)
        (directory / "next.tmp").write_text(text)
        (directory / "next.tmp").rename(directory / "all.yaml")

    write(0)
    proxy = subprocess.Popen(
        [arguments.bin, "standalone", "--manifests", str(directory), "--configmap=default/config", "--workers=1",
         f"--http-addr=127.0.0.1:{http}", f"--https-addr=127.0.0.1:{https}", f"--admin-addr=127.0.0.1:{admin}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(400):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2).close()
                break
            await asyncio.sleep(0.05)
        descriptors = len(os.listdir(f"/proc/{proxy.pid}/fd"))
        load, begin, sizes = Load(http, arguments.seconds), time.monotonic(), []

        async def churn() -> None:
            number = 0
            while not load.over():
                number += 1
                write(number)
                await asyncio.sleep(0.1)

        async def watch() -> None:
            while not load.over():
                sizes.append((time.monotonic() - begin, resident(proxy.pid)))
                await asyncio.sleep(1)

        await asyncio.gather(
            churn(), watch(), *[load.keep_alive(0.01, 0) for _ in range(12)],
            *[load.keep_alive(0.05, 30_000) for _ in range(2)], *[load.keep_alive(0.2, 200_000) for _ in range(2)],
            *[load.aborting() for _ in range(3)], *[load.tunnel() for _ in range(6)],
        )
        after, wait = len(os.listdir(f"/proc/{proxy.pid}/fd")), time.monotonic()
        while after > descriptors + SPARE and time.monotonic() - wait < 90:
            await asyncio.sleep(0.5)
            after = len(os.listdir(f"/proc/{proxy.pid}/fd"))
        text = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5).read().decode()
        bound = float(re.search(r"^narthex_memory_bound_bytes (\S+)", text, re.M)[1]) / 2**20
        generations = re.search(r"^narthex_generation (\S+)", text, re.M)[1]
        panics = sum(float(value) for value in re.findall(r"^narthex_panics_total\S* (\S+)", text, re.M))
    finally:
        proxy.kill()
        proxy.wait()
        server.close()
    late = sorted(load.late)
    # The last six tenths: the first are caches and pools that fill.
    steady = [sample for sample in sizes if sample[0] > 0.4 * arguments.seconds]
    rise, largest = slope(steady), max(size for _, size in sizes)
    long_enough = arguments.seconds >= 300
    print(f"{load.requests} requests, {generations} generations, {len(load.errors)} errors, {panics:.0f} panics")
    print(f"99 of 100 answers within {1000 * late[len(late) * 99 // 100]:.1f} ms")
    print(f"resident {sizes[0][1]:.1f} MiB at first, {largest:.1f} MiB at most of a bound of {bound:.0f} MiB")
    print(f"slope {rise:+.2f} MiB a minute" + ("" if long_enough else " (too short a run to judge)"))
    print(f"descriptors {descriptors} before, {after} after")
    faults = [f"unexplained: {error}" for error in sorted(set(load.errors))[:10]]
    faults += ["memory grows"] * (long_enough and rise > arguments.limit)
    faults += ["more memory than the bound"] * (largest > 1.1 * bound)
    faults += ["descriptors do not come back"] * (after > descriptors + SPARE)
    faults += ["a panic"] * (panics > 0)
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--limit", type=float, default=1.0, help="MiB a minute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(run(arguments, Path(directory)))


if __name__ == "__main__":
    sys.exit(main())
