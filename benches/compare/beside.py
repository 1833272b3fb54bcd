"""Latency of requests while the control plane works; parts of scale.py."""

import json
import os
import socket
import time
from pathlib import Path

import machine
import tables
from scene import Scene, fold, generation, over_hosts, threads, under

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


class Reader:
    """A client of the admin port that throws away what it gets, so that it costs the measuring side little."""

    def __init__(self, port):
        self.port, self.open, self.room = port, None, memoryview(bytearray(GULP))

    def get(self, target):
        try:
            self.open = self.open or socket.create_connection(("127.0.0.1", self.port), 30)
            self.open.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                part = self.open.recv(4096)
                if not part:
                    raise OSError("closed")
                head += part
            head, _, body = head.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            left = length - len(body)
            while left > 0:
                got = self.open.recv_into(self.room, min(left, GULP), socket.MSG_TRUNC)
                if not got:
                    raise OSError("closed")
                left -= got
            return length
        except OSError:
            self.open = None
            raise


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
            "scrape": (lambda turn: reader.get("/metrics"), 1),
            "explain": (lambda turn: reader.get(f"/api/v1/explain?method=GET&url=http://{tables.host(turn % hosts)}/static"), 100),
        }
        out["scrape_mib"] = reader.get("/metrics") / (1 << 20)
        for place in PLACES:
            if place == "apart" and not apart(peer):
                continue
            rounds = {name: [] for name in jobs}
            for _ in range(scene.rounds()):
                for name, (work, rate) in jobs.items():
                    rounds[name].append(under(scene, peer, 2 if options.short else 4, work, rate))
                    settle(peer)
            out[place] = {name: fold(each) for name, each in rounds.items()}
            for name, one in out[place].items():
                print(f"{place}, beside {name}: p50 {one['p50']} p99 {one['p99']} p99.9 {one['p999']} ms, worker waited"
                      f" {one['waited']} ms/s, {one['failures']} failures, {one.get('done', 0)} done", flush=True)
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
