#!/usr/bin/env python3
"""Runs Narthex and its peers side by side and writes what the kernel counted: `make bench-compare`.

Each scenario starts every proxy fresh with one worker on one processor; client and back-end share another. After a
check that all of them answer the same and a warm-up, the proxies are loaded in turn, A B C … C B A, and for each round
the CPU time of the proxy's processes is divided by the requests that were answered. Ratios are within one run.
"""

import argparse
import contextlib
import fcntl
import json
import os
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import goals
import idle
import latency
import load
import machine
import peers
import report
import valgrind

ROOT = Path(__file__).resolve().parents[2]
# Requests a second at which latency is told: far below what any of the proxies can take.
RATE = 3000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the narthex binary to measure")
    parser.add_argument("--out", default=str(ROOT / "docs" / "performance"), help="folder for the table, plot and data")
    parser.add_argument("--short", action="store_true", help="a few minutes: two rounds of a second, fewer idle connections")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds for each proxy and scenario")
    parser.add_argument("--seconds", type=int, default=2, help="length of a round")
    parser.add_argument("--only", action="append", choices=list(load.SCENARIOS), help="this scenario (may be repeated)")
    parser.add_argument("--peer", action="append", help="this proxy (may be repeated)")
    parser.add_argument("--patience", type=float, default=2, help="seconds that a proxy gets to end before it is killed")
    parser.add_argument("--lock", help="file to hold locked during each measured round, so that builds can wait")
    parser.add_argument("--instructions", action="store_true", help="count user instructions with valgrind as well")
    parser.add_argument("--only-idle", action="store_true", help="measure idle connections and nothing else")
    parser.add_argument("--only-instructions", action="store_true", help="count user instructions and nothing else")
    parser.add_argument("--congestion", default=machine.USUAL_CONGESTION, help="congestion control of all connections, or `machine` for what it has")
    options = parser.parse_args()
    peers.PATIENCE = options.patience
    if options.short:
        options.rounds, options.seconds = 2, 1
    return options


@contextlib.contextmanager
def held(path):
    """Holds `path` locked; without a path does nothing."""
    if not path:
        yield
        return
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def seen(peer):
    """What the back-end sees of a request through `peer`, less what differs by design."""
    request = urllib.request.Request(f"http://127.0.0.1:{peer.http}/head", headers={"Host": peers.HOST})
    with urllib.request.urlopen(request, timeout=5) as answer:
        host, request_id, *rest = answer.headers["X-Seen"].split("|")
        port = rest.pop(3)
        return [host, len(request_id) >= 32, port == str(peer.http), *rest]


def check(started):
    """Every proxy answers the same and tells the back-end the same."""
    expect = [peers.HOST, True, True, "127.0.0.1", "127.0.0.1", peers.HOST, "http", "http"]
    for peer in started:
        if seen(peer) != expect:
            raise SystemExit(f"{peer.name} tells the back-end {seen(peer)}, not {expect}")
        for path, length in (("/small", 200), ("/large", 1 << 20)):
            request = urllib.request.Request(f"http://127.0.0.1:{peer.http}{path}", headers={"Host": peers.HOST})
            with urllib.request.urlopen(request, timeout=5) as answer:
                if len(answer.read()) != length:
                    raise SystemExit(f"{peer.name} answers {path} with another length")


def measure(peer, kind, path, options, prefix):
    """One round."""
    with held(options.lock):
        pids = peer.pids()
        with machine.Instructions(pids) as counter:
            user, system = machine.cpu_seconds(pids)
            requests, rate, failures = load.drive(peer, kind, path, options.seconds, prefix)
            after = machine.cpu_seconds(pids)
    scale = 100_000 / max(requests, 1)
    return {
        "requests": requests, "rate": rate, "failures": failures,
        "user": (after[0] - user) * scale, "system": (after[1] - system) * scale,
        "cpu": (after[0] - user + after[1] - system) * scale,
        "instructions": counter.value and counter.value / max(requests, 1),
        "pss_kib": machine.proportional_kib(pids), "load": os.getloadavg()[0],
    }


def count_beside(started, rounds, answered):
    """Adds what other processes took to count metrics, over all that was asked; `answered` are the requests before."""
    counted = [peer for peer in started if peer.beside() is not None]
    if counted:
        # Nginx sends them once a second.
        time.sleep(2)
    for peer in counted:
        requests = answered[peer.name] + sum(one["requests"] for one in rounds[peer.name])
        for one in rounds[peer.name]:
            one["beside"] = peer.beside() * 100_000 / max(requests, 1)


def scenario(name, found, options, folder):
    """All rounds of one scenario: {peer: [round]}; each round of a proxy whose metrics are counted by another process has
    the CPU time of that in `beside`, the mean of them all: it comes a second later."""
    title, kind, path, log, without = load.SCENARIOS[name]
    if kind == "up" and not peers.lua_module():
        return {}
    proxy, client = machine.placement()
    run = peers.Run(folder)
    chosen = [one for one in found if one[0] not in without and (not options.peer or one[0] in options.peer)]
    rounds = {one[0]: [] for one in chosen}
    try:
        run.prepare(client)
        buffering = {"BUFFERING": "on" if name.endswith("-buf") else "off"}
        started = [peers.Peer(peer, template, command, log, {**buffering, **extra}) for peer, template, command, extra in chosen]
        for peer in started:
            peer.start(run, proxy)
        time.sleep(0.3)
        check(started)
        answered = {peer.name: load.drive(peer, kind, path, 1, client)[0] for peer in started}
        for number in range(options.rounds):
            for peer in started if number % 2 == 0 else reversed(started):
                rounds[peer.name].append(measure(peer, kind, path, options, client))
        count_beside(started, rounds, answered)
    finally:
        run.stop()
    print(f"{name}: {title}")
    for peer, measured in rounds.items():
        if measured:
            cpu = [one["cpu"] for one in measured]
            print(f"  {peer:12} min {min(cpu):8.2f}  median {statistics.median(cpu):8.2f} CPU-s per 100,000 requests,"
                  f" {max(one['rate'] for one in measured):9.0f} requests/s, {sum(one['failures'] for one in measured)} failures"
                  + (f", {measured[0]['beside']:.2f} more to count its metrics" if "beside" in measured[0] else ""), flush=True)
    return rounds


def latencies(found, options, folder):
    """Quantiles of small requests at a fixed rate, one proxy after the other: {peer: quantiles}."""
    proxy, client = machine.placement()
    run, out = peers.Run(folder), {}
    try:
        run.prepare(client)
        for name, template, command, extra in found:
            if name == "nginx-tuned" or (options.peer and name not in options.peer):
                continue
            peer = peers.Peer(name, template, command, False, extra)
            peer.start(run, proxy)
            latency.at_rate(peer, RATE, 1, client)
            with held(options.lock):
                rounds = [latency.at_rate(peer, RATE, 2 * options.seconds, client) for _ in range(2)]
            out[name] = min(rounds, key=lambda one: one["p99"] or 1e9)
            print(f"latency at {RATE}/s: {name:12} p50 {out[name]['p50']} p99 {out[name]['p99']} p99.9 {out[name]['p999']} ms,"
                  f" {out[name]['failures']} failures", flush=True)
            peer.stop()
    finally:
        run.stop()
    return out


def main():
    options = arguments()
    # What was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine.settle_congestion(options.congestion)
    if not os.access(options.bin, os.X_OK):
        raise SystemExit(f"{options.bin} is no program: build it first (make bench-compare does)")
    found, versions, missing = peers.available(os.path.abspath(options.bin))
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, why in missing:
        print(f"missing: {name}: {why}", file=sys.stderr)
    if options.only_idle:
        print(idle.all_of(found, options))
        return
    if not options.only_instructions:
        data = {
            "date": time.strftime("%Y-%m-%d"), "machine": machine.describe(), "rounds": options.rounds,
            "seconds": options.seconds, "versions": versions, "missing": missing, "scenarios": {},
        }
        for name in options.only or load.SCENARIOS:
            with tempfile.TemporaryDirectory(prefix="compare-") as folder:
                data["scenarios"][name] = scenario(name, found, options, folder)
        if not options.only:
            with tempfile.TemporaryDirectory(prefix="compare-") as folder:
                data["latency"] = latencies(found, options, folder)
            data["idle"] = idle.all_of(found, options)
        (out / "latest.json").write_text(json.dumps(data, indent=1) + "\n")
        (out / "latest.md").write_text(report.markdown(data))
        (out / "latest.svg").write_text(report.plot(data))
    if options.instructions or options.only_instructions:
        counted = valgrind.count(found, options)
        (out / "instructions.json").write_text(json.dumps(counted, indent=1) + "\n")
        (out / "instructions.md").write_text(report.instructions(counted))
    goals.write(out)


if __name__ == "__main__":
    main()
