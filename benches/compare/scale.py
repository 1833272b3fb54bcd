#!/usr/bin/env python3
"""How Narthex grows, and what its control plane costs its data plane: `make bench-scale`.

Tables of thousands of hosts beside nginx's reload of the same; expressions; idle connections and tunnels; latency while
Ingresses change, what is lost while tables are swapped, latency while all of 100,000 routes are compiled, scraped and explained; the tail at 40 % of the most a
proxy can do; what comes of 150 %; who waits behind large bodies. Each part can be run alone (`--only`) and takes at most
four minutes. Writes docs/performance/scale.md and scale.json, and the table of goals.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import beside
import edges
import goals
import growth
import machine
import peers
import report_scale

ROOT = Path(__file__).resolve().parents[2]
PARTS = {
    "tables": growth.grow, "many": growth.few_and_many, "regex": growth.expressions, "idle": growth.idle, "tunnels": growth.tunnels,
    "changes": beside.changes, "swaps": beside.swaps, "control": beside.control,
    "tail": edges.tail, "tail-at-once": edges.tail_at_once, "overload": edges.overload, "blocking": edges.blocking,
}
# Descriptors that ten thousand connections with two ends take.
DESCRIPTORS = 65_536


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the narthex binary to measure")
    parser.add_argument("--out", default=str(ROOT / "docs" / "performance"), help="folder for the table and data")
    parser.add_argument("--short", action="store_true", help="smaller tables, shorter runs")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part (may be repeated)")
    parser.add_argument("--congestion", default=machine.USUAL_CONGESTION, help="congestion control of all connections, or `machine` for what it has")
    return parser.parse_args()


def allow_descriptors():
    """As many as are wanted, or as many as may be had."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(DESCRIPTORS, hard), max(DESCRIPTORS, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main():
    options = arguments()
    machine.end_cleanly()
    machine.settle_congestion(options.congestion)
    peers.need("wrk", "h2load", "openssl", "nginx")
    allow_descriptors()
    machine.step_aside()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    stored = out / "scale.json"
    data = json.loads(stored.read_text()) if options.only and stored.exists() else {}
    # Parts may be made on different days, by different builds: each has its own account.
    data.setdefault("made", {name: {key: data[key] for key in ("date", "machine", "short")} for name in PARTS if name in data and "date" in data})
    build = peers.identity(options.bin)
    data.update({"date": time.strftime("%Y-%m-%d"), "machine": machine.describe(), "short": options.short})
    for name in options.only or PARTS:
        begin = time.monotonic()
        with machine.Foreign() as foreign:
            data[name] = json.loads(json.dumps(PARTS[name](options)))
        data.setdefault("load", {})[name] = round(os.getloadavg()[0], 1)
        data["made"][name] = {"date": data["date"], "machine": data["machine"], "short": options.short, "binary": build, "foreign": foreign.value}
        if foreign.value > goals.FOREIGN:
            print(f"{name}: others used {foreign.value:.2f} of a processor meanwhile: no verdict by the clock", file=sys.stderr, flush=True)
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
        stored.write_text(json.dumps(data, indent=1) + "\n")
    (out / "scale.md").write_text(report_scale.markdown(data))
    goals.write(out)


if __name__ == "__main__":
    main()
