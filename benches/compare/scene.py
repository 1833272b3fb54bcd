"""What the parts of scale.py share: a folder with a back-end, proxies beside it, work that goes on meanwhile, and what
the kernel says of single threads."""

import json
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import latency
import load
import machine
import peers
import tables

HERE = Path(__file__).resolve().parent
# Requests a second while something else goes on: far below what any of the proxies can take.
RATE = 3000


class Scene:
    """A folder with a back-end, and what it takes to start proxies beside it. `urgent`: for latencies; foreign load is
    kept off as far as that is allowed (machine.urgent, machine.shield)."""

    def __init__(self, options, urgent=False):
        self.options = options
        self.binary = os.path.abspath(options.bin)
        self.proxy, self.client = machine.placement()
        self.urgent = urgent
        if urgent:
            self.client = machine.urgent(self.client)

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="scale-")
        self.run = peers.Run(self.folder.name)
        self.run.prepare(self.client)
        return self

    def __exit__(self, *_):
        self.run.stop()
        self.folder.cleanup()

    def narthex(self, **rest):
        return tables.Narthex(self.binary, self.run, **rest)

    def nginx(self):
        return tables.Nginx(self.run)

    def start(self, peer, hosts, **rest):
        """Starts `peer` over `hosts` hosts and waits until it serves the last of them."""
        peer.fill(hosts)
        peer.start(self.run, rest.pop("prefix", self.proxy), **rest)
        tables.wait_until(peer, tables.host(hosts - 1), "/small", 200)
        if self.urgent:
            machine.shield(peer.process.pid)
        return peer

    def both(self, hosts, **rest):
        """Narthex and nginx with the same hosts."""
        return [self.start(peer, hosts, **rest) for peer in (self.narthex(), self.nginx())]

    def seconds(self):
        return 2 if self.options.short else 5

    def rounds(self):
        return 2 if self.options.short else 3


def spent(peer):
    """CPU-seconds of all its processes."""
    return sum(machine.cpu_seconds(peer.pids()))


def over_hosts(peer, hosts, seconds, prefix):
    """CPU-seconds per 100,000 requests that go to all hosts in turn."""
    command = ["env", f"HOSTS={hosts}", "wrk", "-t1", f"-c{load.CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "conf" / "hosts.lua")]
    before = spent(peer)
    requests, _, failures = load.wrk(prefix + command + [f"http://127.0.0.1:{peer.http}/small"])
    return {"cpu": (spent(peer) - before) * 100_000 / max(requests, 1), "failures": failures}


def fetch(peer, target):
    """Text of its admin port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{peer.admin}{target}", timeout=60) as answer:
        return answer.read()


def generation(peer):
    """Number of the table that is served."""
    return json.loads(fetch(peer, "/api/v1/generation"))["generation"]


def builds(peer):
    """(tables compiled so far, seconds that took)."""
    told = dict(line.rsplit(b" ", 1) for line in fetch(peer, "/metrics").splitlines() if line.startswith(b"narthex_table_build_seconds_"))
    return int(told[b"narthex_table_build_seconds_count"]), float(told[b"narthex_table_build_seconds_sum"])


def threads(pid):
    """{name: (id, seconds on a processor, seconds of waiting for one)} of the threads of a process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            ran, waited, _ = (task / "schedstat").read_text().split()
        except (OSError, ValueError):
            continue
        found[name] = (int(task.name), int(ran) / 1e9, int(waited) / 1e9)
    return found


class Busy:
    """Calls `work` at most `rate` times a second on a thread until it is left; `done` counts, `errors` too."""

    def __init__(self, work, rate=None):
        self.work, self.rate, self.done, self.errors = work, rate, 0, 0
        self.stop, self.fault = threading.Event(), None

    def __enter__(self):
        self.begin = time.monotonic()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        try:
            self.loop()
        except Exception as fault:
            self.fault = fault

    def loop(self):
        while not self.stop.is_set():
            due = self.begin + self.done / self.rate if self.rate else 0
            pause = due - time.monotonic()
            if pause > 0:
                self.stop.wait(pause)
                continue
            try:
                self.work(self.done)
            except OSError:
                self.errors += 1
            self.done += 1

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        if self.fault:
            raise RuntimeError(f"what was to go on meanwhile stopped: {self.fault!r}")


def under(scene, peer, seconds, work=None, rate=None, requests=RATE):
    """Latency at the fixed rate while `work` goes on; how long the worker waited for a processor meanwhile, in ms a second."""
    before, begin = threads(peer.process.pid), time.monotonic()
    if work is None:
        told = latency.at_rate(peer, requests, seconds, scene.client, host=tables.host(1))
    else:
        with Busy(work, rate) as busy:
            time.sleep(0.3)
            told = latency.at_rate(peer, requests, seconds, scene.client, host=tables.host(1))
        told = {**told, "done": busy.done, "errors": busy.errors}
    took, after = time.monotonic() - begin, threads(peer.process.pid)
    name = next((name for name in before if name.startswith("worker")), None)
    if name:
        told["waited"] = round((after[name][2] - before[name][2]) * 1000 / took, 2)
    return told


def fold(rounds):
    """Of several rounds of the same: of each figure the least and the median; counts are added up. `rounds` has them all."""
    out = {"rounds": rounds}
    for key in rounds[0]:
        values = [one[key] for one in rounds if one.get(key) is not None]
        if not values:
            out[key] = None
        elif key in ("failures", "done", "errors", "tables"):
            out[key] = sum(values)
        elif key in ("asked",):
            out[key] = values[0]
        else:
            # Of a rate the most is the least disturbed one.
            best = max(values) if key == "rate" else min(values)
            out[key] = {"best": round(best, 3), "median": round(statistics.median(values), 3)}
    return out


def ranged(ratios):
    """Median, least and most of the rounds' ratios."""
    ratios = list(ratios)
    return {"median": round(statistics.median(ratios), 3), "least": round(min(ratios), 3), "most": round(max(ratios), 3)}
