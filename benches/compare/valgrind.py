"""User instructions per request by `valgrind --tool=callgrind`: slow, but the same on a busy machine and without counters.

Each proxy runs twice in one process, with few and with more requests; the difference is what the requests cost.
"""

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import load
import machine
import peers

FEW, MORE = 400, 2400
# The master of nginx would hide its worker; -db keeps haproxy in one process already.
WITHOUT = {"envoy": "too large for valgrind to be of use"}
ALONE = {name: "master_process off;" for name in ("nginx", "nginx-tuned", "nginx-lua", "ingress-nginx")}
# Fewer for a request, and another process served it.
LEAST = 1000
COUNTED = {"S1": ("h1", "/small", FEW, MORE), "S1-log": ("h1", "/small", FEW, MORE), "S2": ("tls", "/small", FEW, MORE),
           "S3": ("h2", "/small", FEW, MORE), "S4": ("h1", "/large", 20, 120)}


def total(peer_facts, name, requests, keep=None):
    """Instructions of a whole run with that many requests; callgrind's own account of it is left in the file `keep`."""
    kind, path, _, _ = COUNTED[name]
    peer_name, template, command, extra = peer_facts
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        run = peers.Run(folder)
        counted = f"{folder}/callgrind.out"
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counted}"]
        words = tool + command
        if peer_name in ALONE:
            words += ["-g", ALONE[peer_name]]
        try:
            run.prepare(machine.bound())
            peer = peers.Peer(peer_name, template, words, load.SCENARIOS[name][3], extra)
            peer.start(run, machine.bound())
            time.sleep(1)
            load.exactly(peer, kind, path, requests)
            peer.stop(patience=60)
        finally:
            run.stop()
        text = Path(counted).read_text() if Path(counted).exists() else ""
        found = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
        if not found:
            raise RuntimeError(f"valgrind counted nothing of {peer_name}: " + Path(f"{folder}/{peer_name}.err").read_text()[-400:])
        if keep:
            shutil.copyfile(counted, keep)
        return int(found.group(1))


def for_each(few, more, requests):
    """Instructions of one of the requests by which two runs differ."""
    each = (more - few) / requests
    if each < LEAST:
        raise RuntimeError(f"{each:.0f} instructions for each request: another process than the one that valgrind watches served them")
    return each


def count(found, options):
    """{scenario: {peer: instructions per request}}."""
    if not shutil.which("valgrind"):
        raise SystemExit("valgrind is not installed")
    counted, missing = {}, []
    for name in [name for name in options.only or COUNTED if name in COUNTED]:
        few, more = COUNTED[name][2:]
        for facts in found:
            if facts[0] in WITHOUT and (not options.peer or facts[0] in options.peer):
                missing.append(f"{name}, {facts[0]}: {WITHOUT[facts[0]]}")
            if facts[0] in WITHOUT or facts[0] in load.SCENARIOS[name][4] or (options.peer and facts[0] not in options.peer):
                continue
            try:
                each = for_each(total(facts, name, few), total(facts, name, more), more - few)
            except (RuntimeError, load.Load) as error:
                print(f"NOT COUNTED: {name} {facts[0]}: {error}", file=sys.stderr, flush=True)
                missing.append(f"{name}, {facts[0]}: " + " ".join(str(error).split())[:200])
                continue
            counted.setdefault(name, {})[facts[0]] = round(each)
            print(f"{name} {facts[0]:12} {each:12.0f} user instructions per request", flush=True)
    return {"machine": machine.describe(), "counted": counted, "missing": missing}
