"""Thousands of connections that do nothing: served once and idle, or turned into tunnels to a back-end of our own."""

import multiprocessing
import selectors
import socket

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Echo:
    """A back-end on all addresses of loopback that agrees to every upgrade and keeps quiet."""

    def __enter__(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("0.0.0.0", 0))
        self.listener.listen(4096)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        # A process of its own, for its descriptors.
        self.process = multiprocessing.get_context("fork").Process(target=self.serve, daemon=True)
        self.process.start()
        self.listener.close()
        return self

    def serve(self):
        chosen = selectors.DefaultSelector()
        chosen.register(self.listener, selectors.EVENT_READ)
        while True:
            for key, _ in chosen.select():
                if key.fileobj is self.listener:
                    try:
                        taken, _ = self.listener.accept()
                    except OSError:
                        continue
                    chosen.register(taken, selectors.EVENT_READ)
                    continue
                try:
                    asked = key.fileobj.recv(65536)
                    if asked:
                        key.fileobj.sendall(ANSWER if b"pgrade: websocket" in asked else PLAIN)
                        continue
                except OSError:
                    pass
                chosen.unregister(key.fileobj)
                key.fileobj.close()

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()


def open_all(port, count, kind, host):
    """`count` connections, each after its first answer."""
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    head = f"GET /small HTTP/1.1\r\nHost: {host}\r\n{upgrade if kind == 'tunnel' else ''}\r\n".encode()
    held = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port), 10)
        one.sendall(head)
        got = b""
        while b"\r\n\r\n" not in got:
            part = one.recv(4096)
            if not part:
                raise RuntimeError(f"connection {len(held)} was closed after {got!r}")
            got += part
        wanted = b"HTTP/1.1 101" if kind == "tunnel" else b"HTTP/1.1 200"
        if not got.startswith(wanted):
            raise RuntimeError(f"connection {len(held)} was answered {got[:80]!r}")
        held.append(one)
    return held


def close_all(held):
    for one in held:
        one.close()
