#!/usr/bin/env python3
"""Runs Narthex and its peers side by side and writes what the kernel counted: `make bench-compare`.

Each scenario starts every proxy fresh with one worker on one processor; client and back-end share another. After a
check that all of them answer the same and a warm-up, the proxies are loaded in turn, A B C … C B A, and for each round
the CPU time of the proxy's processes is divided by the requests that were answered. Ratios are within one run.
"""

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
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
# Seconds for connections to be made and caches to be filled. Handshakes of all connections may take one on a busy machine.
WARM_UP = 1
# What is measured beside the scenarios.
BESIDES = ("latency", "idle")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the narthex binary to measure")
    parser.add_argument("--out", help="folder for the table, plot and data (docs/performance; where only a part is measured, target/compare: it must not replace a whole run)")
    parser.add_argument("--short", action="store_true", help="a few minutes: two rounds of a second, fewer idle connections")
    parser.add_argument("--rounds", type=int, default=4, help="measured rounds for each proxy and scenario")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round")
    parser.add_argument("--only", action="append", choices=[*load.SCENARIOS, *BESIDES], help="this scenario, latency or idle (may be repeated)")
    parser.add_argument("--add", action="store_true", help="keep what the folder has of other scenarios: a run in pieces, each with its own account")
    parser.add_argument("--peer", action="append", help="this proxy (may be repeated)")
    parser.add_argument("--patience", type=float, default=2, help="seconds that a proxy gets to end before it is killed")
    parser.add_argument("--lock", help="file to hold locked during each measured round, so that builds can wait")
    parser.add_argument("--instructions", action="store_true", help="count user instructions with valgrind as well")
    parser.add_argument("--only-idle", action="store_true", help="measure idle connections and nothing else")
    parser.add_argument("--only-instructions", action="store_true", help="count user instructions and nothing else")
    parser.add_argument("--congestion", default=machine.USUAL_CONGESTION, help="congestion control of all connections, or `machine` for what it has")
    options = parser.parse_args()
    peers.PATIENCE = options.patience
    if not options.out:
        options.out = str(ROOT / "target" / "compare" if (options.only or options.peer) and not options.add else ROOT / "docs" / "performance")
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


def get(peer, path, tls=False, host=peers.HOST, body=None):
    """(status, fields, body) of one request, over TLS with what was agreed on; raises load.Load where that differs."""
    with contextlib.closing(peer.client(tls)) as client:
        client.request("POST" if body else "GET", path, body, {"Host": host})
        if tls and (client.sock.version(), client.sock.cipher()[0]) != ("TLSv1.3", load.SUITE):
            raise load.Load(f"{peer.name} speaks {client.sock.version()} with {client.sock.cipher()[0]}")
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read()


def seen(peer, tls):
    """What the back-end sees of a request through `peer`, less what differs by design."""
    status, fields, _ = get(peer, "/head", tls)
    host, request_id, *rest = fields.get("X-Seen", "").split("|") + [""] * 8
    port = rest.pop(3)
    # ingress-nginx, and so Narthex, calls its own port of TLS 443: that is the one that clients see.
    return [status, host, len(request_id) >= 32, port in ((str(peer.https), "443") if tls else (str(peer.http),)), *rest[:5]]


def check(peer, kind):
    """A proxy answers what all answer and tells the back-end what all tell it; raises load.Load where it does not."""
    tls = kind in ("tls", "close", "h2")
    scheme = "https" if tls else "http"
    expect, told = [204, peers.HOST, True, True, "127.0.0.1", "127.0.0.1", peers.HOST, scheme, scheme], seen(peer, tls)
    if told != expect:
        raise load.Load(f"tells the back-end {told}, not {expect}")
    for path, length in (("/small", 200), ("/large", 1 << 20)):
        status, _, body = get(peer, path, tls)
        if (status, len(body)) != (200, length):
            raise load.Load(f"answers {path} with {status} and {len(body)} bytes")
    # Routes by host and path; the naive proxy and Narthex's absent Service have answers of their own for the latter.
    for host, path in (("other.example.test", "/small"), (peers.HOST, "/api/small")):
        status, _, _ = get(peer, path, tls, host)
        if status < 400:
            raise load.Load(f"answers {path} of {host} with {status}")
    if kind == "up":
        status, _, body = get(peer, "/up", tls, body=b"x" * (1 << 20))
        if (status, body) != (200, b"ok"):
            raise load.Load(f"answers an upload with {status} and {body[:80]!r}")


def measure(peer, kind, path, options, prefix):
    """One round."""
    with held(options.lock):
        pids = peer.pids()
        wrong = machine.sole_listener(peer.port(kind), pids)
        if wrong:
            raise load.Load(wrong)
        with machine.Instructions(pids) as counter, machine.Foreign() as foreign:
            user, system = machine.cpu_seconds(pids)
            requests, rate, failures = load.drive(peer, kind, path, options.seconds, prefix)
            after = machine.cpu_seconds(pids)
    if peer.process.poll() is not None or peer.pids() != pids:
        raise load.Load("its processes ended or became others during a round")
    if not requests:
        raise load.Load(f"no request was answered, {failures} failed")
    scale = 100_000 / requests
    return {
        "requests": requests, "rate": rate, "failures": failures,
        "user": (after[0] - user) * scale, "system": (after[1] - system) * scale,
        "cpu": (after[0] - user + after[1] - system) * scale,
        "counted": {event: value / requests for event, value in counter.values.items()},
        "pss_kib": machine.proportional_kib(pids), "load": os.getloadavg()[0], "foreign": foreign.value,
    }


def logged(peer, run, requests):
    """None when there is a line for each request; else what is wrong. What is not written costs nothing."""
    files = (Path(run.folder) / f"{peer.name}.access", Path(run.folder) / f"{peer.name}.out")
    text = next((one for one in files if one.exists() and one.stat().st_size), None)
    lines = sum(part.count(b"\n") for part in iter(lambda file=open(text, "rb"): file.read(1 << 20), b"")) if text else 0
    return None if lines >= requests else f"wrote {lines:,} lines to its log for {requests:,} requests"


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


class Left:
    """Proxies that take part, and why others do not: what goes wrong with one of them is told and spares the others."""

    def __init__(self, started, failed):
        self.started, self.failed = started, failed

    def each(self, work, backwards=False):
        """Calls `work` for each that is left."""
        for peer in list(reversed(self.started) if backwards else self.started):
            try:
                work(peer)
            except (load.Load, RuntimeError, OSError, http.client.HTTPException) as error:
                self.failed[peer.name] = " ".join(str(error).split()) or type(error).__name__
                print(f"NOT MEASURED: {peer.name}: {self.failed[peer.name]}", file=sys.stderr, flush=True)
                self.started.remove(peer)
                peer.stop()


def scenario(name, found, options, folder):
    """All rounds of one scenario and what went wrong: ({peer: [round]}, {peer: why it has none}); each round of a proxy
    whose metrics are counted by another process has the CPU time of that in `beside`, the mean of them all: it comes a
    second later."""
    title, kind, path, log, without = load.SCENARIOS[name]
    if kind == "up" and not peers.lua_module():
        # The back-end reads them with it; that it is missing is said with what else is.
        return {}, {}
    proxy, client = machine.placement()
    run = peers.Run(folder)
    chosen = [one for one in found if one[0] not in without and (not options.peer or one[0] in options.peer)]
    rounds, answered, failed = {one[0]: [] for one in chosen}, {}, {}
    try:
        run.prepare(client)
        buffering = {"BUFFERING": "on" if name.endswith("-buf") else "off"}
        left = Left([peers.Peer(peer, template, command, log, {**buffering, **extra}) for peer, template, command, extra in chosen], failed)
        left.each(lambda peer: peer.start(run, proxy))
        time.sleep(0.3)
        left.each(lambda peer: check(peer, kind))
        left.each(lambda peer: answered.update({peer.name: load.drive(peer, kind, path, WARM_UP, client)[0]}))
        for number in range(options.rounds):
            left.each(lambda peer: rounds[peer.name].append(measure(peer, kind, path, options, client)), backwards=number % 2 == 1)
        count_beside(left.started, rounds, answered)
        if log:
            left.each(lambda peer: complete(peer, run, answered[peer.name] + sum(one["requests"] for one in rounds[peer.name])))
    finally:
        run.stop()
    rounds = {peer: each for peer, each in rounds.items() if peer not in failed}
    print(f"{name}: {title}")
    for peer, measured in rounds.items():
        cpu = [one["cpu"] for one in measured]
        print(f"  {peer:12} min {min(cpu):8.2f}  median {statistics.median(cpu):8.2f} CPU-s per 100,000 requests,"
              f" {max(one['rate'] for one in measured):9.0f} requests/s, {sum(one['failures'] for one in measured)} failures"
              + (f", {measured[0]['beside']:.2f} more to count its metrics" if "beside" in measured[0] else ""), flush=True)
    foreign = goals.foreign_load(each for measured in rounds.values() for each in measured)
    if foreign > goals.FOREIGN:
        print(f"  others used {foreign:.2f} of a processor meanwhile: no verdict", file=sys.stderr, flush=True)
    return rounds, failed


def complete(peer, run, requests):
    """Waits until the log of a proxy is whole, for as long as the one that gathers lines longest may (Envoy: ten seconds)."""
    for _ in range(24):
        wrong = logged(peer, run, requests)
        if not wrong:
            return
        time.sleep(0.5)
    raise load.Load(wrong)


def latencies(found, options, folder):
    """Quantiles of small requests at a fixed rate, one proxy after the other: {peer: quantiles, with all rounds}, {peer: why not}."""
    proxy, client = machine.placement()
    run, out, failed = peers.Run(folder), {}, {}
    chosen = [one for one in found if one[0] != "nginx-tuned" and (not options.peer or one[0] in options.peer)]

    def timed(peer):
        peer.start(run, proxy)
        latency.at_rate(peer, RATE, 1, client)
        with held(options.lock):
            rounds = [latency.at_rate(peer, RATE, 2 * options.seconds, client) for _ in range(2)]
        out[peer.name] = {**min(rounds, key=lambda one: one["p99"] or 1e9), "rounds": rounds}
        one = out[peer.name]
        print(f"latency at {RATE}/s: {peer.name:12} p50 {one['p50']} p99 {one['p99']} p99.9 {one['p999']} ms,"
              f" {one['rate']:.0f}/s answered, {one['failures']} failures", flush=True)
        peer.stop()

    try:
        run.prepare(client)
        Left([peers.Peer(name, template, command, False, extra) for name, template, command, extra in chosen], failed).each(timed)
    finally:
        run.stop()
    return out, failed


def begun(options, found, versions, missing):
    """The raw data before anything is measured; with `--add` what was measured before."""
    stored = Path(options.out) / "latest.json"
    data = json.loads(stored.read_text()) if options.add and stored.exists() else {}
    account = {"date": time.strftime("%Y-%m-%d"), "machine": machine.describe(), "rounds": options.rounds, "seconds": options.seconds}
    if data and "made" not in data:
        data["made"] = {name: {key: data[key] for key in account} for name in (*data["scenarios"], *(one for one in BESIDES if one in data))}
    return {
        "scenarios": {}, "made": {}, "failed": {}, **data, **account, "versions": {**data.get("versions", {}), **versions},
        "missing": missing, "configurations": {**data.get("configurations", {}), **peers.configurations(found)},
    }


def part(data, name, found, options):
    """Measures one scenario, or what stands beside them, into `data`."""
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        if name == "latency":
            data[name], failed = latencies(found, options, folder)
        elif name == "idle":
            data[name], failed = idle.all_of(found, options)
        else:
            data["scenarios"][name], failed = scenario(name, found, options, folder)
    data["failed"][name] = failed
    data["made"][name] = {**{key: data[key] for key in ("date", "machine", "rounds", "seconds")}, "binary": peers.identity(options.bin)}
    data["scenarios"] = {one: data["scenarios"][one] for one in load.SCENARIOS if one in data["scenarios"]}


def write(data, out):
    (out / "latest.json").write_text(json.dumps(data, indent=1) + "\n")
    (out / "latest.md").write_text(report.markdown(data))
    (out / "latest.svg").write_text(report.plot(data))


def main():
    options = arguments()
    machine.end_cleanly()
    machine.settle_congestion(options.congestion)
    if not os.access(options.bin, os.X_OK):
        raise SystemExit(f"{options.bin} is no program: build it first (make bench-compare does)")
    peers.need("wrk", "h2load", "openssl")
    found, versions, missing = peers.available(os.path.abspath(options.bin))
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, why in missing:
        print(f"missing: {name}: {why}", file=sys.stderr)
    if options.only_idle:
        _, failed = idle.all_of(found, options)
        return 1 if failed else 0
    unknown = set(options.peer or []) - {one[0] for one in found}
    if unknown:
        raise SystemExit(f"{', '.join(sorted(unknown))}: not here; there are {', '.join(one[0] for one in found)}")
    failed = {}
    if not options.only_instructions:
        data = begun(options, found, versions, missing)
        failed = data["failed"]
        for name in options.only or [*load.SCENARIOS, *BESIDES]:
            part(data, name, found, options)
            # What was measured stays when the next one is interrupted.
            if options.add:
                write(data, out)
        write(data, out)
    if options.instructions or options.only_instructions:
        counted = valgrind.count(found, options)
        (out / "instructions.json").write_text(json.dumps(counted, indent=1) + "\n")
        (out / "instructions.md").write_text(report.instructions(counted))
        failed["instructions"] = counted["missing"] if any("narthex" in text for text in counted["missing"]) else []
    goals.write(out)
    print(f"written to {out}")
    # Whoever is not installed was named; who is, and failed, makes the run one that is not whole.
    return 1 if any(failed.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
