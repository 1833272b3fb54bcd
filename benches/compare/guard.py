#!/usr/bin/env python3
"""Fails when a request costs clearly more than what is stored in guard.json: `make bench-guard`.

What is compared does not depend on the speed of the machine or on what else it does: user instructions as a ratio to
those of nginx in the same run (valgrind), and system calls per request (strace). `--store` writes new figures down.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import load
import machine
import peers
import valgrind

STORED = Path(__file__).resolve().parent / "guard.json"
SCENARIOS = ("S1", "S3")
# How much more is still no regression. How many frames one call brings differs a little from run to run; one call more
# for each request of HTTP/1.1 would be a quarter.
# The ratio of S1 repeats within a hundredth. How many streams of HTTP/2 share a turn depends on who is faster: its ratio
# was 0.50 to 0.54 on one tree.
SLACK = {"S1": {"ratio": 1.03, "calls": 1.10}, "S3": {"ratio": 1.10, "calls": 1.10}}
# System calls that are a request's. How often a worker waits for events, or wakes another thread, depends on how fast
# client and back-end are beside it, and so on the machine.
CALLS = {"read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg", "epoll_ctl", "mmap", "munmap", "madvise"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the narthex binary to judge")
    parser.add_argument("--store", action="store_true", help="write the figures down instead of judging them")
    parser.add_argument("--stored", type=Path, default=STORED, help="the figures to judge by, or to write")
    return parser.parse_args()


def system_calls(facts, name, requests=4000):
    """System calls per request of one worker."""
    kind, path, _, _ = valgrind.COUNTED[name]
    peer_name, template, command, extra = facts
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        run = peers.Run(folder)
        try:
            run.prepare(machine.bound())
            peer = peers.Peer(peer_name, template, command, False, extra)
            peer.start(run, machine.bound())
            load.exactly(peer, kind, path, 64)
            table = f"{folder}/calls"
            tracer = subprocess.Popen(["strace", "-c", "-f", "-o", table, "-p", str(peer.process.pid)], stderr=subprocess.DEVNULL)
            time.sleep(1)
            load.exactly(peer, kind, path, requests)
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
            total = 0
            for line in Path(table).read_text().splitlines():
                found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
                if found and found.group(2) in CALLS:
                    total += int(found.group(1))
            return total / requests
        finally:
            run.stop()


def measured(binary):
    found, versions, _ = peers.available(os.path.abspath(binary))
    by_name = {facts[0]: facts for facts in found}
    out = {}
    for name in SCENARIOS:
        few, more = valgrind.COUNTED[name][2:]
        each = {peer: valgrind.for_each(valgrind.total(by_name[peer], name, few), valgrind.total(by_name[peer], name, more), more - few)
                for peer in ("nginx", "narthex")}
        out[name] = {"instructions": round(each["narthex"]), "ratio": round(each["narthex"] / each["nginx"], 3),
                     "calls": round(system_calls(by_name["narthex"], name), 2)}
        print(f"{name}: {out[name]['instructions']:,} user instructions per request, {out[name]['ratio']} of nginx's,"
              f" {out[name]['calls']} system calls", flush=True)
    return out, versions["nginx"]


def worse(now, stored):
    """A line for each figure that is clearly more than what is stored."""
    lines = []
    for name, figures in now.items():
        for what in ("ratio", "calls"):
            limit = stored[name][what] * SLACK[name][what]
            if not figures[what] <= limit:
                lines.append(f"{name}: {what} is {figures[what]}, stored is {stored[name][what]}, {limit:.3f} would do")
    return lines


def main():
    options = arguments()
    machine.end_cleanly()
    for tool in ("valgrind", "strace", "nginx", "h2load", "openssl"):
        if not shutil.which(tool):
            print(f"SKIPPED: {tool} is not installed", file=sys.stderr)
            return 0
    now, nginx = measured(options.bin)
    if options.store:
        options.stored.write_text(json.dumps({"machine": machine.describe(), "nginx": nginx, **now}, indent=1) + "\n")
        return 0
    stored = json.loads(options.stored.read_text())
    if stored.get("nginx", nginx) != nginx:
        print(f"nginx is {nginx}, the stored ratios are to {stored['nginx']}: --store writes new ones", file=sys.stderr)
    for line in worse(now, stored):
        print(line, file=sys.stderr)
    return 1 if worse(now, stored) else 0


if __name__ == "__main__":
    sys.exit(main())
