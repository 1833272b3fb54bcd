#!/usr/bin/env python3
"""How Narthex grows, and what its control plane costs its data plane: `make bench-scale`.

Tables of thousands of hosts beside nginx's reload of the same; expressions; idle connections and tunnels; latency while
Ingresses change, while all of 100,000 routes are compiled, scraped and explained; the tail at 40 % of the most a proxy
can do, and what comes of 150 %. Writes docs/performance/scale.md and scale.json.
"""

import argparse
import json
import os
import resource
import signal
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import crowd
import latency
import load
import machine
import peers
import report_scale
import tables

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Requests a second while something else goes on.
RATE = 3000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the narthex binary to measure")
    parser.add_argument("--out", default=str(ROOT / "docs" / "performance"), help="folder for the table and data")
    parser.add_argument("--short", action="store_true", help="smaller tables, shorter runs")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part (may be repeated)")
    return parser.parse_args()


class Scene:
    """A folder with a back-end, and what it takes to start proxies beside it."""

    def __init__(self, options):
        self.options = options
        self.binary = os.path.abspath(options.bin)
        self.proxy, self.client = machine.placement()

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

    def seconds(self):
        return 3 if self.options.short else 8


def spent(peer):
    return sum(machine.cpu_seconds(peer.pids()))


def over_hosts(peer, hosts, seconds, prefix):
    """CPU-seconds per 100,000 requests that go to all hosts in turn."""
    command = ["env", f"HOSTS={hosts}", "wrk", "-t1", f"-c{load.CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "conf" / "hosts.lua")]
    before = spent(peer)
    requests, _, failures = load.wrk(prefix + command + [f"http://127.0.0.1:{peer.http}/small"])
    return {"cpu": (spent(peer) - before) * 100_000 / max(requests, 1), "failures": failures}


def grow(options):
    """{hosts: {proxy: facts}}."""
    out = {}
    for hosts in (1, 1000, 5000) if options.short else (1, 1000, 10_000, 100_000):
        out[hosts] = {}
        for make in (Scene.narthex, lambda scene: tables.Nginx(scene.run)):
            with Scene(options) as scene:
                peer = make(scene)
                if peer.name == "nginx" and hosts > 10_000:
                    continue
                peer.fill(hosts)
                begin = time.monotonic()
                peer.start(scene.run, scene.proxy)
                tables.wait_until(peer, tables.host(hosts - 1), "/small", 200)
                facts = {"start": time.monotonic() - begin, "start_cpu": spent(peer)}
                facts["pss_mib"] = machine.proportional_kib(peer.pids()) / 1024
                over_hosts(peer, hosts, 1, scene.client)
                facts.update(over_hosts(peer, hosts, 2, scene.client))
                facts.update(changed(peer, hosts))
                out[hosts][peer.name] = facts
                print(f"{hosts} hosts, {peer.name}: " + ", ".join(f"{key} {value:.3g}" for key, value in facts.items()), flush=True)
    return out


def changed(peer, hosts):
    """One host gets another path: until it is served, CPU for it, most memory meanwhile."""
    if peer.name == "nginx":
        peer.fill(hosts, changed=hosts // 2, mark=1)
    most, stop = [0], threading.Event()

    def watch():
        while not stop.is_set():
            most[0] = max(most[0], machine.proportional_kib(peer.pids()))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    # The process that was started: with nginx the one that reads the file and lives on, while workers go and take
    # their figures with them.
    own = lambda: sum(machine.cpu_seconds([peer.process.pid]))
    cpu, begin = own(), time.monotonic()
    try:
        if peer.name == "nginx":
            before = set(peer.pids())
            os.kill(peer.process.pid, signal.SIGHUP)
            while not set(peer.pids()) - before:
                time.sleep(0.005)
        else:
            before = generation(peer)
            peer.change(hosts // 2, 1, hosts)
            while generation(peer) == before:
                time.sleep(0.002)
    finally:
        stop.set()
        watcher.join()
    return {"change": time.monotonic() - begin, "change_cpu": own() - cpu, "change_pss_mib": most[0] / 1024}


def generation(peer):
    """Number of the table that is served."""
    with urllib.request.urlopen(f"http://127.0.0.1:{peer.admin}/api/v1/generation", timeout=10) as answer:
        return json.load(answer)["generation"]


def expressions(options):
    """CPU per 100,000 requests with few and with 1,000 expressions on one host."""
    out = {}
    for count in (0, 100, 1000):
        with Scene(options) as scene:
            peer = scene.narthex()
            peer.write("expressions", [tables.expressions(count)])
            peer.start(scene.run, scene.proxy)
            tables.wait_until(peer, tables.host(0), "/small", 200)
            over_hosts(peer, 1, 1, scene.client)
            out[count] = min((over_hosts(peer, 1, 2, scene.client) for _ in range(2)), key=lambda one: one["cpu"])
            print(f"{count} expressions: {out[count]['cpu']:.2f} CPU-s per 100,000", flush=True)
    return out


def connections(options):
    """KiB for each of many idle connections and tunnels."""
    # A tunnel has two ends here, and its client and back-end are one process.
    room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 2000) // 2
    count = 2000 if options.short else min(10_000, room)
    out = {}
    for kind in ("idle", "tunnel"):
        with Scene(options) as scene, crowd.Echo() as echo:
            scene.run.backend_port = echo.port
            # An endpoint takes a thousand connections, so there are many addresses of one back-end.
            peer = scene.narthex(addresses=[f"127.0.0.{last}" for last in range(1, 41)])
            peer.write("host", [tables.ingress(0, 0)])
            peer.start(scene.run, scene.proxy)
            tables.wait_until(peer, tables.host(0), "/small", 200)
            held = crowd.open_all(peer.http, 50, kind, tables.host(0))
            time.sleep(1)
            before = machine.proportional_kib(peer.pids())
            held += crowd.open_all(peer.http, count, kind, tables.host(0))
            time.sleep(2)
            out[kind] = {"count": count, "kib": (machine.proportional_kib(peer.pids()) - before) / count}
            crowd.close_all(held)
            print(f"{count} connections, {kind}: {out[kind]['kib']:.2f} KiB each", flush=True)
    return out


class Busy:
    """Calls `work` at most `rate` times a second on a thread until it is left; `done` counts, `errors` too."""

    def __init__(self, work, rate=None):
        self.work, self.rate, self.done, self.errors = work, rate, 0, 0
        self.stop = threading.Event()

    def __enter__(self):
        self.begin = time.monotonic()
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()
        return self

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


def under(scene, peer, seconds, work=None, rate=None):
    """Latency at the fixed rate while `work` goes on."""
    if work is None:
        return latency.at_rate(peer, RATE, seconds, scene.client, host=tables.host(1))
    with Busy(work, rate) as busy:
        time.sleep(0.3)
        told = latency.at_rate(peer, RATE, seconds, scene.client, host=tables.host(1))
    return {**told, "done": busy.done, "errors": busy.errors}


def churn(options):
    """Latency while Ingresses change."""
    hosts = 1000
    with Scene(options) as scene:
        peer = scene.narthex()
        peer.fill(hosts)
        peer.start(scene.run, scene.proxy)
        tables.wait_until(peer, tables.host(hosts - 1), "/small", 200)
        under(scene, peer, 1)
        # Each change is a file of one Ingress, for a host that no request asks for.
        work = lambda turn: peer.write(f"changing{turn % 200}", [tables.ingress(hosts + turn % 200, turn)])
        out = {"0": under(scene, peer, scene.seconds())}
        for rate in (100, 1000):
            first = generation(peer)
            out[str(rate)] = {**under(scene, peer, scene.seconds(), work, rate), "tables": generation(peer) - first}
        out["0 again"] = under(scene, peer, scene.seconds())
    for name, one in out.items():
        print(f"changes a second {name}: p99 {one['p99']} ms, p99.9 {one['p999']}, {one['failures']} failures", flush=True)
    return out


def fairness(options):
    """Latency while the control plane has much to do."""
    hosts = 2000 if options.short else 20_000
    with Scene(options) as scene:
        peer = scene.narthex()
        peer.fill(hosts)
        peer.start(scene.run, scene.proxy)
        tables.wait_until(peer, tables.host(hosts - 1), "/small", 200)
        over_hosts(peer, hosts, 3, scene.client)
        admin = f"http://127.0.0.1:{peer.admin}"
        fetch = lambda target: urllib.request.urlopen(admin + target, timeout=30).read()
        jobs = {
            "compile": (lambda turn: peer.write("config", [peer.settings(61 + turn)]), 1),
            "scrape": (lambda turn: fetch("/metrics"), 1),
            "explain": (lambda turn: fetch(f"/api/v1/explain?method=GET&url=http://{tables.host(turn % hosts)}/static"), 100),
        }
        out = {"routes": hosts * 5, "nothing": under(scene, peer, scene.seconds())}
        for name, (work, rate) in jobs.items():
            out[name] = under(scene, peer, scene.seconds(), work, rate)
            time.sleep(1)
        out["nothing again"] = under(scene, peer, scene.seconds())
    for name, one in out.items():
        if name != "routes":
            print(f"beside {name}: p50 {one['p50']} p99 {one['p99']} ms, p99.9 {one['p999']}, {one['failures']} failures", flush=True)
    return out


def tail(options):
    """Latency at 40 % of the most, and goodput at 150 % of it: {proxy: facts}."""
    out = {}
    for make in (Scene.narthex, lambda scene: tables.Nginx(scene.run)):
        with Scene(options) as scene:
            peer = make(scene)
            if peer.name == "nginx":
                peer.fill(2)
            else:
                peer.write("hosts", [tables.ingress(0, 0), tables.ingress(1, 0)])
            peer.start(scene.run, scene.proxy)
            tables.wait_until(peer, tables.host(1), "/small", 200)
            name = tables.host(1)
            wrk = ["wrk", "-t1", f"-c{load.CONNECTIONS}", "-d2s", "-H", f"Host: {name}", f"http://127.0.0.1:{peer.http}/small"]
            most = max(load.wrk(scene.client + wrk)[1] for _ in range(3))
            calm = [latency.at_rate(peer, most * 0.4, scene.seconds(), scene.client, host=name) for _ in range(2)]
            over = latency.at_rate(peer, most * 1.5, scene.seconds(), scene.client, host=name, connections=256)
            out[peer.name] = {"most": most, "at40": min(calm, key=lambda one: one["p999"]), "at150": over}
            print(f"{peer.name}: at most {most:.0f}/s; at 40 %: p99 {out[peer.name]['at40']['p99']} p99.9 {out[peer.name]['at40']['p999']} ms;"
                  f" at 150 %: {over['rate'] / most:.2f} of the most, {over['failures']} failures", flush=True)
    return out


PARTS = {"grow": grow, "expressions": expressions, "connections": connections, "churn": churn, "fairness": fairness, "tail": tail}


def main():
    options = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    stored = out / "scale.json"
    data = json.loads(stored.read_text()) if options.only and stored.exists() else {}
    data.update({"date": time.strftime("%Y-%m-%d"), "machine": machine.describe(), "short": options.short})
    for name in options.only or PARTS:
        data[name] = json.loads(json.dumps(PARTS[name](options)))
        stored.write_text(json.dumps(data, indent=1) + "\n")
    (out / "scale.md").write_text(report_scale.markdown(data))


if __name__ == "__main__":
    main()
