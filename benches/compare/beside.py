"""Latency of requests while the control plane works; parts of scale.py."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import crowd
import machine
import tables
from scene import Scene, builds, fold, generation, over_hosts, threads, under

CHANGING = 1000
# Bytes that are thrown away at once of an answer that nobody reads.
GULP = 1 << 20


def changes(options):
    """Latency and failures while Ingresses change: {changes a second: facts}."""
    rates = {"0": None, "100": 100, "1000": 1000}
    rounds = {name: [] for name in rates}
    with Scene(options, urgent=True) as scene:
        peer = scene.start(scene.narthex(), CHANGING)
        # Each change is a file of one Ingress, for a host that no request asks for.
        mark = [0]

        def work(turn):
            mark[0] += 1
            peer.write(f"changing{turn % 200}", [tables.ingress(CHANGING + turn % 200, mark[0])])

        under(scene, peer, 1)
        for _ in range(scene.rounds() - 1):
            for name, rate in rates.items():
                first = generation(peer)
                told = under(scene, peer, scene.seconds(), rate and work, rate)
                rounds[name].append({**told, "tables": generation(peer) - first})
                time.sleep(0.5)
    out = {name: fold(each) for name, each in rounds.items()}
    for name, one in out.items():
        print(f"changes a second {name}: p99 {one['p99']} ms, p99.9 {one['p999']}, {one['failures']} failures", flush=True)
    return out


# Connections of the clients that come back, and tables that are swapped beneath them.
BUSY, IDLE, SWAPS, RELOADS = 16, 100, 1000, 10


def swaps(options):
    """Requests lost and connections closed while the table is swapped, each time for the host that is asked for; nginx
    beside it by reloading: {proxy: facts}."""
    out = {}
    for name, times in (("narthex", SWAPS // 10 if options.short else SWAPS), ("nginx", RELOADS)):
        with Scene(options) as scene:
            peer = scene.start(scene.narthex() if name == "narthex" else scene.nginx(), 10)
            first = generation(peer) if name == "narthex" else 0
            with crowd.Regulars(peer.http, tables.host(0), BUSY, IDLE) as regulars:
                time.sleep(0.5)
                for mark in range(1, times + 1):
                    swap(peer, mark)
                # What was let go of is closed late.
                time.sleep(1)
            swapped = generation(peer) - first if name == "narthex" else times
        out[name] = {"swaps": swapped, "answered": regulars.answered, "lost": regulars.lost, "closed": regulars.closed,
                     "idle_closed": regulars.idle_closed}
        print(f"{name}: {swapped} swaps, {regulars.answered} requests answered, {regulars.lost} lost, {regulars.closed} connections closed,"
              f" of these {regulars.idle_closed} idle", flush=True)
    return out


def swap(peer, mark):
    """Another path for the first of ten hosts, and waits until it is served."""
    if peer.name == "narthex":
        before = generation(peer)
        peer.change(0, mark, 10)
        while generation(peer) == before:
            time.sleep(0.002)
        return
    before = set(peer.pids())
    peer.fill(10, changed=0, mark=mark)
    os.kill(peer.process.pid, signal.SIGHUP)
    while not set(peer.pids()) - before:
        time.sleep(0.005)
    time.sleep(0.3)


class Reader:
    """A client of the admin port that throws away what it gets, so that it costs the measuring side little."""

    def __init__(self, port):
        self.port, self.open, self.room = port, None, memoryview(bytearray(GULP))

    def get(self, target):
        """Reads an answer whose length is told; the connection stays for the next one."""
        try:
            head, came = self.ask(target, "keep-alive")
            left = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]) - came
            while left > 0:
                left -= self.drop(min(left, GULP)) or self.fail()
        except OSError:
            self.open = None
            raise

    def all(self, target):
        """Bytes of a body that may come in chunks: to the end of the connection, because who throws away what comes does
        not see where chunks end."""
        # A connection that idled since the last job may have been closed meanwhile.
        self.open = None
        try:
            _, length = self.ask(target, "close")
            while got := self.drop(GULP):
                length += got
            return length
        finally:
            self.open = None

    def ask(self, target, connection):
        """(head, bytes of the body that came with it)."""
        self.open = self.open or socket.create_connection(("127.0.0.1", self.port), 30)
        self.open.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.open.recv(4096) or self.fail()
        head, _, body = head.partition(b"\r\n\r\n")
        return head, len(body)

    def drop(self, most):
        return self.open.recv_into(self.room, most, socket.MSG_TRUNC)

    def fail(self):
        raise OSError("closed")


# Where the threads of the control plane are: on the worker's processor, or on that of client and back-end.
PLACES = ("shared", "apart")


def control(options):
    """Latency while the control plane has much to do: {place: {job: facts}}."""
    hosts = 2000 if options.short else 20_000
    out = {"routes": hosts * 5}
    with Scene(options, urgent=True) as scene:
        peer = scene.start(scene.narthex(), hosts)
        # Every series is there to be scraped.
        over_hosts(peer, hosts, 4, scene.client)
        reader, aside, outside = Reader(peer.admin), Reader(scene.run.backend_port), Path(scene.run.folder) / "outside"
        turns = [0]

        def compile_all(_):
            turns[0] += 1
            peer.write("config", [peer.settings(61 + turns[0])])

        def nobody(turn):
            """What this process does besides when it asks the proxy, with the back-end answering."""
            outside.write_text(json.dumps(peer.settings(turn)))
            aside.get("/small")

        jobs = {
            "nothing": (None, None),
            "nobody": (nobody, 100),
            "compile": (compile_all, 1),
            "scrape": (lambda turn: reader.all("/metrics"), 1),
            "explain": (lambda turn: reader.get(f"/api/v1/explain?method=GET&url=http://{tables.host(turn % hosts)}/static"), 100),
        }
        out["scrape_mib"] = reader.all("/metrics") / (1 << 20)
        for place in PLACES:
            if place == "apart" and not apart(peer):
                continue
            rounds = {name: [] for name in jobs}
            for _ in range(scene.rounds()):
                for name, (work, rate) in jobs.items():
                    before = builds(peer)[0]
                    told = under(scene, peer, 2 if options.short else 4, work, rate)
                    settle(peer)
                    # What was compiled, and not only asked for.
                    rounds[name].append({**told, "tables": builds(peer)[0] - before})
            out[place] = {name: fold(each) for name, each in rounds.items()}
            for name, one in out[place].items():
                print(f"{place}, beside {name}: p50 {one['p50']} p99 {one['p99']} p99.9 {one['p999']} ms, worker waited"
                      f" {one['waited']} ms/s, {one['failures']} failures, {one.get('done', 0)} done, {one.get('errors', 0)} of them failed,"
                      f" {one['tables']} tables compiled", flush=True)
    return out


def settle(peer, quiet=0.25, limit=10):
    """Waits until the control plane has done what it was given: no job is to run into the next one."""
    ran = lambda: sum(seconds for name, (_, seconds, _) in threads(peer.process.pid).items() if not name.startswith("worker"))
    end = time.monotonic() + limit
    before = ran()
    while time.monotonic() < end:
        time.sleep(quiet)
        now = ran()
        if now - before < 0.02 * quiet:
            return
        before = now


def apart(peer):
    """Leaves the worker its processor alone; False where there is no other."""
    cpus = sorted(machine.processors())
    if len(cpus) < 2:
        return False
    for name, (thread, _, _) in threads(peer.process.pid).items():
        os.sched_setaffinity(thread, {cpus[0] if name.startswith("worker") else cpus[-1]})
    return True
