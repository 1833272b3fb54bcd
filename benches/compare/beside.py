"""Latency of requests while the control plane works; parts of scale.py."""

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import crowd
import machine
import tables
from scene import RATE, Busy, Scene, builds, fold, generation, over_hosts, ranged, threads, under

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


def control(options):
    """Latency while the control plane has much to do, to latency without: of the moment before, where it shares the
    worker's processor (`shared`), and of a twin at the same time, where it does not (`apart`): {place: {job: facts}}."""
    hosts = 2000 if options.short else 20_000
    out = {"routes": hosts * 5}
    with Scene(options, urgent=True) as scene:
        peer, twin = (scene.start(scene.narthex(), hosts) for _ in range(2))
        # Every series is there to be scraped.
        for one in (peer, twin):
            over_hosts(one, hosts, 4, scene.client)
        jobs, out["scrape_mib"] = jobs_of(scene, peer, hosts)
        times = 2 * scene.rounds()
        out["shared"] = compare(peer, jobs, times, lambda *job: after_nothing(scene, peer, *job))
        if all(apart(one) for one in (peer, twin)):
            out["apart"] = compare(peer, jobs, times, lambda *job: beside_twin(scene, peer, twin, *job))
    for place in ("shared", "apart"):
        for name, one in out.get(place, {}).items():
            print(f"{place}, beside {name}: p50 {one['p50']} p99 {one['p99']} p99.9 {one['p999']} ms, p99 to that without {one['ratio']},"
                  f" worker waited {one['waited']} ms/s, {one['failures']} failures, {one.get('done', 0)} done, {one.get('errors', 0)} of them"
                  f" failed, {one['tables']} tables compiled", flush=True)
    return out


def jobs_of(scene, peer, hosts):
    """({job: (what is done, times a second)}, MiB of a scrape)."""
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
    return jobs, reader.all("/metrics") / (1 << 20)


# Length of a round, seconds: short, because what the machine does lasts longer than that and is to hit both sides.
ROUND = 2


def compare(peer, jobs, times, ask):
    """{job: facts} of so many rounds, in turn. `ask` tells of one round, with the latency to compare with as `base`."""
    rounds = {name: [] for name in jobs}
    for _ in range(times):
        for name, job in jobs.items():
            before = builds(peer)[0]
            told = ask(*job)
            settle(peer)
            # What was compiled, and not only asked for.
            rounds[name].append({**told, "tables": builds(peer)[0] - before})
    return {name: compared(each) for name, each in rounds.items()}


def after_nothing(scene, peer, work, rate):
    """Latency while there is work for the control plane, and of the moment before."""
    base = under(scene, peer, ROUND)
    return with_base(under(scene, peer, ROUND, work, rate), base)


def beside_twin(scene, peer, twin, work, rate):
    """Latency of `peer`, for whose control plane there is work, and of `twin` at the same time, each at half of the
    rate: what happens to the machine, to clients and to the back-end happens to both."""
    with Busy(work, rate) if work else nullcontext() as busy:
        time.sleep(0.3)
        with ThreadPoolExecutor(2) as pool:
            own, base = pool.map(lambda one: under(scene, one, ROUND, requests=RATE / 2), (peer, twin))
    return with_base({**own, **({"done": busy.done, "errors": busy.errors} if busy else {})}, base)


def with_base(own, base):
    return {**own, "failures": own["failures"] + base["failures"], "base": base}


def compared(rounds):
    """Folded; `ratio` is of p99 to the base's."""
    own = fold([{key: value for key, value in one.items() if key != "base"} for one in rounds])
    return {**own, "base": fold([one["base"] for one in rounds]), "ratio": ranged(one["p99"] / one["base"]["p99"] for one in rounds)}


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
