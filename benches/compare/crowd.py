"""Thousands of connections that do nothing: served once and idle, or turned into tunnels to a back-end of our own."""

import multiprocessing
import os
import selectors
import socket
import threading

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
        chosen, parent = selectors.DefaultSelector(), os.getppid()
        chosen.register(self.listener, selectors.EVENT_READ)
        # Nobody else ends this process when that one is killed.
        while os.getppid() == parent:
            for key, _ in chosen.select(1):
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


class Regulars:
    """Clients that come back over the same connections: `busy` ones that ask again as soon as they have an answer, `idle`
    ones that asked once. Counted until it is left: `answered`, `lost` (asked and not answered, whatever may be tried
    again), `closed` (connections that the proxy closed, of either kind)."""

    def __init__(self, port, host, busy, idle):
        self.port, self.host = port, host
        self.request = f"GET /small HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self.answered = self.lost = self.closed = self.idle_closed = 0
        self.busy = open_all(port, busy, "busy", host)
        self.idle = open_all(port, idle, "idle", host)
        self.stop = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()
        return self

    def loop(self):
        # What open_all read may end within the body: these begin anew.
        close_all(self.busy)
        chosen = selectors.DefaultSelector()
        for _ in self.busy:
            self.ask(chosen, self.connect())
        while chosen.get_map():
            for key, _ in chosen.select(1):
                self.take(chosen, key.fileobj, key.data)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def ask(self, chosen, one):
        try:
            one.sendall(self.request)
        except OSError:
            pass
        chosen.register(one, selectors.EVENT_READ, bytearray())

    def take(self, chosen, one, got):
        try:
            part = one.recv(65536)
        except OSError:
            part = b""
        got += part
        whole = answer_in(got)
        if part and not whole:
            return
        chosen.unregister(one)
        if whole and whole == 200:
            self.answered += 1
        else:
            self.lost += 1
        if not part or b"\r\nconnection: close\r\n" in got.lower():
            self.closed += 1
            one.close()
            one = None if self.stop.is_set() else self.connect()
        if one and self.stop.is_set():
            one.close()
        elif one:
            self.ask(chosen, one)

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        for one in self.idle:
            one.setblocking(False)
            try:
                # The body of its only answer may still lie there.
                while one.recv(65536):
                    pass
                self.idle_closed += 1
            except BlockingIOError:
                pass
            except OSError:
                self.idle_closed += 1
        self.closed += self.idle_closed
        close_all(self.idle)


def answer_in(got):
    """Status of an answer with a length that has come whole; None before."""
    head, found, body = bytes(got).partition(b"\r\n\r\n")
    if not found:
        return None
    length = int((head.lower() + b"\r\n").split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
    return int(head[9:12]) if len(body) >= length else None
