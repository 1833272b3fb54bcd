#!/usr/bin/env python3
"""Several proxies, or several binaries of Narthex, at once on one processor: `make bench-pair`.

What a virtual machine does to one proxy it then does to all of them in the same moment, so that ratios repeat within 2 %
where separate runs differ by 10 %. Each contestant has a client of its own; all share one back-end. The CPU time of each,
user and system, is divided by the requests it answered. What they take from each other, such as room in caches, falls on
all of them alike, so figures are higher than in runs of one proxy alone: the ratio is what counts.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import compare
import goals
import load
import machine
import peers
import report

# Where a goal is nearer than what separate runs can tell.
NEAR = ["S2", "S3"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="make bench-pair ARGS='narthex narthex' compares the binary with itself")
    parser.add_argument("--bin", required=True, help="the narthex binary that `narthex` stands for")
    parser.add_argument("--only", action="append", choices=list(load.SCENARIOS), help=f"this scenario (may be repeated; {', '.join(NEAR)} unless said)")
    parser.add_argument("--rounds", type=int, default=6, help="measured rounds for each scenario")
    parser.add_argument("--seconds", type=int, default=4, help="length of a round")
    parser.add_argument("--short", action="store_true", help="three rounds of two seconds")
    parser.add_argument("--lock", help="file to hold locked during each measured round, so that builds can wait")
    parser.add_argument("--json", help="write all rounds to this file")
    parser.add_argument("--keep", action="store_true", help="put the rounds into the folder's data of compare.py, and so into the table of goals")
    parser.add_argument("--out", default=str(compare.ROOT / "docs" / "performance"), help="that folder")
    parser.add_argument("--congestion", default=machine.USUAL_CONGESTION, help="congestion control of all connections, or `machine` for what it has")
    parser.add_argument("contestant", nargs="*", default=["nginx", "narthex"],
                        help="a proxy's name, or LABEL=BINARY of Narthex with [,VARIABLE=VALUE]... for its environment; all are told as ratios to the first (nginx narthex unless said)")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.seconds = 3, 2
    return options


def contestants(options):
    """[(peer as `available` tells it under a name of its own, its environment)], for the words of the command line."""
    listed, known, taken = [], {}, set()
    for word in options.contestant:
        label, _, rest = word.partition("=")
        binary, *variables = rest.split(",") if rest else [options.bin]
        kind = "narthex" if rest else label
        binary = os.path.abspath(binary)
        if not os.access(binary, os.X_OK):
            raise SystemExit(f"{binary} is no program")
        if binary not in known:
            known[binary] = {one[0]: one for one in peers.available(binary)[0]}
        if kind not in known[binary]:
            raise SystemExit(f"{kind} is not known or not installed; here are {', '.join(known[binary])}")
        if any("=" not in one for one in variables):
            raise SystemExit(f"{word}: after a comma comes VARIABLE=VALUE")
        number = 2
        name = label
        while name in taken:
            name, number = f"{label}-{number}", number + 1
        taken.add(name)
        listed.append(((name, *known[binary][kind][1:]), dict(one.split("=", 1) for one in variables)))
    return listed


@contextlib.contextmanager
def environment(variables):
    """What is started within has these variables too."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def together(started, kind, path, seconds, prefix):
    """One round: {name: {"requests", "user", "system", "cpu", "failures"}}, times for 100,000 requests."""
    told, failed = {}, []

    def one(peer):
        try:
            told[peer.name] = load.drive(peer, kind, path, seconds, prefix)
        except Exception as error:  # told by the thread that waits
            failed.append(error)

    for peer in started:
        wrong = machine.sole_listener(peer.port(kind), peer.pids())
        if wrong:
            raise load.Load(f"{peer.name}: {wrong}")
    before = {peer.name: machine.cpu_seconds(peer.pids()) for peer in started}
    drivers = [threading.Thread(target=one, args=(peer,)) for peer in started]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    if failed:
        raise failed[0]
    out = {}
    for peer in started:
        if peer.process.poll() is not None or not told[peer.name][0]:
            raise load.Load(f"{peer.name} ended or answered nothing, {told[peer.name][2]} failures")
        user, system = (now - then for now, then in zip(machine.cpu_seconds(peer.pids()), before[peer.name]))
        requests, _, failures = told[peer.name]
        scale = 100_000 / requests
        out[peer.name] = {"requests": requests, "failures": failures, "user": user * scale, "system": system * scale, "cpu": (user + system) * scale}
    return out


def scenario(name, options):
    """All rounds of one scenario: [{contestant: figures}]."""
    title, kind, path, log, _ = load.SCENARIOS[name]
    proxy, client = machine.placement()
    rounds = []
    with tempfile.TemporaryDirectory(prefix="pair-") as folder:
        run = peers.Run(folder)
        try:
            run.prepare(client)
            buffering = {"BUFFERING": "on" if name.endswith("-buf") else "off"}
            started = []
            for (label, template, command, extra), variables in contestants(options):
                peer = peers.Peer(label, template, command, log, {**buffering, **extra})
                peer.upload = f"{folder}/www/large"
                with environment(variables):
                    peer.start(run, proxy)
                started.append(peer)
            time.sleep(0.3)
            for peer in started:
                compare.check(peer, kind)
                wrong = machine.sole_listener(peer.port(kind), peer.pids())
                if wrong:
                    raise load.Load(wrong)
            together(started, kind, path, compare.WARM_UP, client)
            for number in range(options.rounds):
                # Who starts first has the processors for itself for a moment.
                first = number % len(started)
                with compare.held(options.lock):
                    rounds.append(together(started[first:] + started[:first], kind, path, options.seconds, client))
        finally:
            run.stop()
    print(f"{name}: {title}")
    tell(rounds, [peer.name for peer in started])
    return rounds


def tell(rounds, names):
    """Of each contestant the sums over all rounds, and the ratio to the first one with its range over the rounds."""
    for name in names:
        requests = sum(one[name]["requests"] for one in rounds)
        mean = lambda key: sum(one[name][key] * one[name]["requests"] for one in rounds) / max(requests, 1)
        ratios = goals.at_once(rounds, name, names[0])
        print(f"  {name:14} user {mean('user'):6.2f}  system {mean('system'):6.2f}  both {mean('cpu'):6.2f} CPU-s per 100,000 requests;"
              f" to {names[0]}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}),"
              f" {requests} requests, {sum(one[name]['failures'] for one in rounds)} failures", flush=True)


def main():
    options = arguments()
    machine.end_cleanly()
    peers.need("wrk", "h2load", "openssl")
    machine.settle_congestion(options.congestion)
    machine.step_aside()
    data = {"date": time.strftime("%Y-%m-%d"), "machine": machine.describe(), "seconds": options.seconds, "scenarios": {}}
    for name in options.only or NEAR:
        data["scenarios"][name] = scenario(name, options)
    if options.json:
        Path(options.json).write_text(json.dumps(data, indent=1) + "\n")
    if options.keep:
        keep(Path(options.out), data)


def keep(out, data):
    """Beside the figures of separate runs, and into the tables."""
    stored = out / "latest.json"
    latest = json.loads(stored.read_text())
    latest.setdefault("together", {}).update(data["scenarios"])
    stored.write_text(json.dumps(latest, indent=1) + "\n")
    (out / "latest.md").write_text(report.markdown(latest))
    goals.write(out)


if __name__ == "__main__":
    main()
