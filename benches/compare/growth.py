"""How memory and time grow with hosts, expressions and connections; parts of scale.py."""

import os
import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import crowd
import machine
import tables
from scene import Scene, builds, generation, over_hosts, ranged, spent, threads

# Above this a reload of nginx takes minutes and several GiB.
NGINX_MOST = 10_000


def grow(options):
    """{hosts: {proxy: facts}}."""
    out = {}
    for hosts in (1, 1000, 5000) if options.short else (1, 1000, 10_000, 100_000):
        out[hosts] = {}
        for name in ("narthex", "nginx"):
            if name == "nginx" and hosts > NGINX_MOST:
                continue
            with Scene(options) as scene:
                facts = filled(scene, scene.narthex() if name == "narthex" else scene.nginx(), hosts)
            out[hosts][name] = facts
            print(f"{hosts} hosts, {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in facts.items()), flush=True)
    return out


# Hosts of a large cluster.
MANY = 10_000


def few_and_many(options):
    """CPU per request of a process with one host and of one with many, both asked at the same time on one processor:
    {"hosts": many, "cpu": {hosts: CPU-s per 100,000 requests}, "ratio": of the rounds}."""
    with Scene(options) as scene:
        started = {hosts: scene.start(scene.narthex(), hosts) for hosts in (1, MANY)}
        rounds = []
        for number in range(2 * scene.rounds() + 1):
            with ThreadPoolExecutor(len(started)) as pool:
                told = list(pool.map(lambda one: over_hosts(one[1], one[0], 2, scene.client), started.items()))
            # The first one meets each host for the first time.
            if number:
                rounds.append([one["cpu"] for one in told])
    few, most = zip(*rounds)
    out = {"hosts": MANY, "cpu": {1: min(few), MANY: min(most)}, "ratio": ranged(own / base for base, own in rounds)}
    print(f"one host and {MANY:,} at once: {out['cpu']} CPU-s per 100,000 requests, ratio {out['ratio']}", flush=True)
    return out


def filled(scene, peer, hosts):
    """Start, memory, requests, one changed host and, for Narthex, everything compiled anew."""
    peer.fill(hosts)
    begin = time.monotonic()
    peer.start(scene.run, scene.proxy)
    tables.wait_until(peer, tables.host(hosts - 1), "/small", 200)
    facts = {"start": time.monotonic() - begin, "start_cpu": spent(peer)}
    facts["pss_mib"] = machine.proportional_kib(peer.pids()) / 1024
    over_hosts(peer, hosts, 1, scene.client)
    facts.update(min((over_hosts(peer, hosts, 2, scene.client) for _ in range(2)), key=lambda one: one["cpu"]))
    facts.update(changed(peer, hosts))
    if peer.name == "narthex":
        facts.update(everything(peer))
    return facts


class Watermark:
    """Most memory of a proxy while it lasts, MiB."""

    def __init__(self, peer):
        self.peer, self.most, self.stop = peer, 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.stop.is_set():
            self.most = max(self.most, machine.proportional_kib(self.peer.pids()) / 1024)
            self.stop.wait(0.05)

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def changed(peer, hosts):
    """One host gets another path: until it is served, CPU for it, most memory meanwhile."""
    if peer.name == "nginx":
        peer.fill(hosts, changed=hosts // 2, mark=1)
        first = builds_before = None
    else:
        # The first change after a start finds everything in no cache; what is told is the median of some.
        first, builds_before = 1, builds(peer)
    # The process that was started: with nginx the one that reads the file and lives on, while workers go and take
    # their figures with them.
    own = lambda: sum(machine.cpu_seconds([peer.process.pid]))
    with Watermark(peer) as watermark:
        cpu, begin = own(), time.monotonic()
        if peer.name == "nginx":
            before = set(peer.pids())
            os.kill(peer.process.pid, signal.SIGHUP)
            while not set(peer.pids()) - before:
                time.sleep(0.005)
            took = time.monotonic() - begin
        else:
            took = one_host(peer, hosts, first)
    facts = {"change": took, "change_cpu": own() - cpu, "change_pss_mib": watermark.most}
    if builds_before:
        times, ran = [took], threads(peer.process.pid)["control"][1]
        more = 5 if hosts <= NGINX_MOST else 2
        for mark in range(2, 2 + more):
            times.append(one_host(peer, hosts, mark))
        count, seconds = (after - before for after, before in zip(builds(peer), builds_before))
        facts["change"] = sorted(times)[len(times) // 2]
        facts["change_cpu"] = (threads(peer.process.pid)["control"][1] - ran) / more
        facts["change_build"] = seconds / max(count, 1)
    return facts


def one_host(peer, hosts, mark):
    """Seconds from the new content of a file to another table."""
    before = generation(peer)
    begin = time.monotonic()
    peer.change(hosts // 2, mark, hosts)
    while generation(peer) == before:
        time.sleep(0.002)
    return time.monotonic() - begin


def everything(peer):
    """Another setting makes every route another one: CPU-seconds of the thread that compiles, and the most memory."""
    before, ran, count = generation(peer), threads(peer.process.pid)["control"][1], builds(peer)
    with Watermark(peer) as watermark:
        peer.write("config", [peer.settings(61)])
        while generation(peer) == before or builds(peer)[0] == count[0]:
            time.sleep(0.005)
        # What is not needed any more is freed.
        time.sleep(0.5)
    after = builds(peer)
    return {"full_cpu": threads(peer.process.pid)["control"][1] - ran, "full_build": after[1] - count[1],
            "full_pss_mib": watermark.most, "after_pss_mib": machine.proportional_kib(peer.pids()) / 1024}


def expressions(options):
    """CPU per 100,000 requests with few and with 1,000 expressions on one host."""
    out = {}
    counts = (0, 100, 1000)
    with Scene(options) as scene:
        started = {}
        for count in counts:
            peer = started[count] = scene.narthex()
            peer.write("expressions", [tables.expressions(count)])
            peer.start(scene.run, scene.proxy)
            tables.wait_until(peer, tables.host(0), "/small", 200)
            over_hosts(peer, 1, 1, scene.client)
        rounds = {count: [] for count in counts}
        for number in range(scene.rounds()):
            for count in counts if number % 2 == 0 else reversed(counts):
                rounds[count].append(over_hosts(started[count], 1, 1 if options.short else 2, scene.client))
        for count in counts:
            out[count] = min(rounds[count], key=lambda one: one["cpu"])
            out[count]["pss_mib"] = machine.proportional_kib(started[count].pids()) / 1024
            print(f"{count} expressions: {out[count]['cpu']:.2f} CPU-s per 100,000, {out[count]['pss_mib']:.1f} MiB", flush=True)
    return out


def many(options, kind):
    """KiB for each of many connections that do nothing."""
    # A tunnel takes two descriptors of the proxy; client and back-end are processes of their own.
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = (descriptors - 1000) // (2 if kind == "tunnel" else 1)
    count = 2000 if options.short else min(10_000, room)
    out = {}
    for name in ("narthex", "nginx"):
        with Scene(options) as scene, crowd.Echo() as echo:
            scene.run.backend_port = echo.port
            # An endpoint takes a thousand connections, so there are many addresses of one back-end.
            peer = scene.narthex(addresses=[f"127.0.0.{last}" for last in range(1, 41)]) if name == "narthex" else scene.nginx()
            scene.start(peer, 1)
            held = crowd.open_all(peer.http, 50, kind, tables.host(0))
            time.sleep(1)
            before = machine.proportional_kib(peer.pids())
            held += crowd.open_all(peer.http, count, kind, tables.host(0))
            time.sleep(2)
            out[name] = {"count": count, "kib": (machine.proportional_kib(peer.pids()) - before) / count}
            if count == room:
                out[name]["descriptors"] = descriptors
            crowd.close_all(held)
            print(f"{count} connections, {kind}, {name}: {out[name]['kib']:.2f} KiB each", flush=True)
    return out


def idle(options):
    """Connections that were served once."""
    return many(options, "idle")


def tunnels(options):
    """WebSockets that say nothing, both sides."""
    return many(options, "tunnel")
