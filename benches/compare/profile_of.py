#!/usr/bin/env python3
"""Where the time of a request, or of a job of the control plane, goes: `make bench-profile`.

Each subject stands for a goal. The proxy is loaded as the goal's run loads it, while `perf` takes samples by the clock (no
counters are needed) or, where there is no perf, callgrind counts instructions (user side only). Shares of samples times
the CPU time of a round without perf give microseconds by phase, side by side for the proxies that the goal names. Writes
docs/performance/profile.md and profile.json; a subject that is run alone replaces itself.
"""

import argparse
import collections
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import beside
import edges
import goals
import growth
import latency
import load
import machine
import peers
import tables
import valgrind
from scene import Scene, over_hosts

ROOT = Path(__file__).resolve().parents[2]
# Samples a second: not in step with the kernel's timer.
PACE = 4999
# Rows of single functions below a table of phases.
FUNCTIONS = 14
# Hosts of the tables, as in the goals.
HOSTS = 10_000
# System calls as the kernel's stack names them, by what a proxy does with them.
CALLS = (
    ("send", ("sys_sendto", "sys_sendmsg", "sys_write", "sys_writev", "do_writev", "ksys_write")),
    ("receive", ("sys_recvfrom", "sys_recvmsg", "sys_read", "sys_readv", "do_readv", "ksys_read")),
    ("splice", ("sys_splice", "sys_tee", "sys_sendfile")),
    ("wait for events", ("sys_epoll_wait", "sys_epoll_pwait", "sys_epoll_ctl", "do_epoll_wait", "do_epoll_ctl")),
    ("accept, connect, close", ("sys_accept", "sys_connect", "sys_socket", "sys_close", "sys_shutdown", "task_work_run")),
    ("memory", ("sys_mmap", "sys_munmap", "sys_madvise", "exc_page_fault", "asm_exc_page_fault")),
    ("files", ("sys_open", "sys_stat", "sys_getdents", "sys_newfstat", "sys_rename")),
    ("let others go first", ("sys_sched_yield",)),
)
CIPHERS = re.compile(r"aws_lc|^(aes|AES|gcm|GCM|sha\d|SHA\d|ecp|p256|x25519|EVP|bn_|BN_|ossl_|CRYPTO_|fe_|GFp|RAND|vpaes|ghash)|aesni|aes_gcm|gcm_|sha512|sha256|sha384|p256|nistz|curve25519|x25519|HMAC|hmac|poly1305|chacha|rsaz")
CRYPTO = "TLS, ciphers, random numbers"
LIBRARIES = (("libcrypto", CRYPTO), ("libssl", CRYPTO), ("luajit", "Lua"), ("perf-", "Lua"), ("lua_module", "Lua"), ("cjson", "Lua"), ("pcre", "expressions"), ("libc", "libc: memory and strings"),
             ("ld-linux", "libc: memory and strings"), ("vdso", "clock"))
# Programs without modules that their symbols would name.
PEERS = {"nginx", "haproxy", "envoy"}
# Of Rust: crates whose names say less than this does.
CRATES = {"rustls": CRYPTO, "tokio": "runtime (tokio, mio)", "mio": "runtime (tokio, mio)", "core": "core, alloc, std", "alloc": "core, alloc, std",
          "std": "core, alloc, std", "hashbrown": "hash maps", "regex_automata": "expressions", "memchr": "memchr", "aws_lc_rs": CRYPTO}


def area(frames):
    """What a sample belongs to: ("kernel" or "user", phase). `frames`: (symbol, file) from the innermost outwards."""
    symbol, file = frames[0]
    if "kernel" in file or file in ("[unknown]", "") and len(frames) > 1 and "kernel" in frames[1][1]:
        for name, words in CALLS:
            if any(word in one for one, where in frames if "kernel" in where for word in words):
                return "kernel", name
        return "kernel", "interrupts, scheduling and the rest"
    return "user", phase(symbol, os.path.basename(file))


def phase(symbol, file):
    """Part of the program that a function belongs to."""
    for name, text in LIBRARIES:
        if name in file:
            return text
    plain = re.sub(r"^<+(?:&?(?:mut )?|dyn )?", "", symbol)
    if re.match(r"_?mi_|.*mimalloc", plain):
        return "allocator"
    if CIPHERS.search(plain):
        return CRYPTO
    path = re.match(r"[A-Za-z_][\w]*(?:::[A-Za-z_]\w*)*", plain)
    parts = path.group(0).split("::") if path and "::" in path.group(0) else []
    if not parts:
        return file if file in PEERS or ".so" in file else "C and assembler within the program"
    return "::".join(parts[:2]) if parts[0] == "narthex" else CRATES.get(parts[0], parts[0])


def samples(text):
    """[(thread, frames)] of what `perf script -F comm,ip,sym,dso` printed."""
    out = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.strip()]
        frames = [(found.group(1), found.group(2)) for found in (re.match(r"\s+[0-9a-f]+ (.*) \((.*)\)\s*$", line) for line in lines[1:]) if found]
        if frames:
            out.append((lines[0].strip(), frames))
    return out


def told(taken, by_thread=False):
    """Shares of all samples: {"phases": {"kernel: send": 0.2}, "functions": [[share, name]]}."""
    phases, functions = collections.Counter(), collections.Counter()
    for thread, frames in taken:
        who, what = area(frames)
        prefix = f"{re.sub(r'[-:/]?[0-9]+$', '', thread)}, " if by_thread else ""
        phases[f"{prefix}{who}: {what}"] += 1
        functions[shortened(frames[0][0])] += 1
    total = max(len(taken), 1)
    return {"samples": len(taken), "phases": {name: count / total for name, count in phases.items()},
            "functions": [[count / total, name] for name, count in functions.most_common(FUNCTIONS)]}


def shortened(symbol):
    """A name without what generics add."""
    text = re.sub(r"::h[0-9a-f]{16}$", "", symbol)
    while (less := re.sub(r"<[^<>]*>", "", text)) != text:
        text = less
    return text.replace("{{closure}}", "{}").strip(":") or symbol[:80]


class Sampled:
    """Samples of processes while it lasts; afterwards `shares` says where they were."""

    def __init__(self, pids, by_thread=False):
        self.pids, self.by_thread, self.shares = pids, by_thread, None

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="profile-")
        self.data = f"{self.folder.name}/samples"
        command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(PACE), "-g", "-o", self.data, "-p", ",".join(map(str, self.pids))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(0.3)
        return self

    def __exit__(self, fault, *_):
        with self.folder:
            self.process.terminate()
            _, said = self.process.communicate()
            if fault:
                return
            # What is inlined stays with who holds it: looking it up takes minutes.
            out = subprocess.run(["perf", "script", "-i", self.data, "--no-inline", "-F", "comm,ip,sym,dso"], capture_output=True, text=True)
            self.shares = told(samples(out.stdout), self.by_thread)
            if not self.shares["samples"]:
                raise load.Load("perf took no samples: " + (said.decode() + out.stderr)[-300:])


def usable():
    """Whether perf may take samples here."""
    if not shutil.which("perf"):
        return False
    with tempfile.NamedTemporaryFile() as file:
        return subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-o", file.name, "true"], capture_output=True).returncode == 0


# --- what is profiled ------------------------------------------------------------------------------------------------

def requests(options, found, name, whom):
    """A scenario of compare.py: {proxy: {"each": µs per request, shares}}."""
    title, kind, path, log, _ = load.SCENARIOS[name]
    proxy, client = machine.placement()
    out = {}
    for facts in (one for one in found if one[0] in whom):
        with tempfile.TemporaryDirectory(prefix="profile-") as folder, contextlib.closing(peers.Run(folder)) as run:
            run.prepare(client)
            peer = peers.Peer(facts[0], facts[1], facts[2], log, {"BUFFERING": "off", **facts[3]})
            peer.start(run, proxy)
            load.drive(peer, kind, path, 1, client)
            out[peer.name] = both(peer, lambda: load.drive(peer, kind, path, options.seconds, client)[0])
    return out


def both(peer, work, by_thread=False, pids=None):
    """µs of processor time of each of what `work` did, from two rounds without samples, and shares from one with them."""
    pids = pids or peer.pids()
    each = []
    for _ in range(2):
        before = sum(machine.cpu_seconds(pids))
        done = work()
        each.append((sum(machine.cpu_seconds(pids)) - before) * 1e6 / max(done, 1))
    with Sampled(pids, by_thread) as sampled:
        work()
    return {"each": min(each), **sampled.shares}


def crowded(options, found):
    """Small requests over many connections, beside the usual number of them."""
    out = {}
    with Scene(options) as scene:
        for peer in scene.both(2):
            for connections in (load.CONNECTIONS, edges.CROWD):
                wrk = scene.client + ["wrk", "-t1", f"-c{connections}", f"-d{options.seconds}s", "-H", f"Host: {tables.host(1)}", f"http://127.0.0.1:{peer.http}/small"]
                load.wrk(wrk, options.seconds)
                out[f"{peer.name}, {connections} connections"] = both(peer, lambda: load.wrk(wrk, options.seconds)[0])
    return out


def many_hosts(options, found):
    """Small requests to many hosts, beside those to one."""
    out = {}
    for hosts in (1, HOSTS):
        with Scene(options) as scene:
            peer = scene.start(scene.narthex(), hosts)
            over_hosts(peer, hosts, 1, scene.client)
            command = scene.client + ["env", f"HOSTS={hosts}", "wrk", "-t1", f"-c{load.CONNECTIONS}", f"-d{options.seconds}s", "-s",
                                      str(Path(__file__).parent / "conf" / "hosts.lua"), f"http://127.0.0.1:{peer.http}/small"]
            out[f"{hosts:,} host" + "s" * (hosts > 1)] = both(peer, lambda: load.wrk(command, options.seconds)[0])
    return out


def one_change(options, found):
    """One host of many changed, again and again, from file to served table; all threads of the process."""
    with Scene(options) as scene:
        peer, mark = scene.start(scene.narthex(), HOSTS), [0]

        def work():
            for _ in range(15):
                mark[0] += 1
                growth.one_host(peer, HOSTS, mark[0])
            return 15

        work()
        return {f"one of {HOSTS:,} hosts": both(peer, work, by_thread=True)}


def asked(options, target, times, read=beside.Reader.get):
    """The admin port asked for something beside no other work, with a table of many hosts and all their series there."""
    with Scene(options) as scene:
        peer = scene.start(scene.narthex(), HOSTS)
        over_hosts(peer, HOSTS, 4, scene.client)
        reader = beside.Reader(peer.admin)

        def work():
            for turn in range(times):
                read(reader, target(turn))
            return times

        work()
        return {f"{HOSTS:,} hosts": both(peer, work, by_thread=True)}


def scrapes(options, found):
    return asked(options, lambda turn: "/metrics", 20, beside.Reader.all)


def explanations(options, found):
    return asked(options, lambda turn: f"/api/v1/explain?method=GET&url=http://{tables.host(turn % HOSTS)}/static", 1000)


def calm(options, found):
    """Small requests at two fifths of the most: what a tail is made of."""
    out = {}
    with Scene(options, urgent=True) as scene:
        started = scene.both(2)
        rate = 0.4 * min(load.wrk(scene.client + ["wrk", "-t1", f"-c{load.CONNECTIONS}", "-d1s", "-H", f"Host: {tables.host(1)}",
                                                  f"http://127.0.0.1:{peer.http}/small"])[1] for peer in started)
        for peer in started:
            def work(peer=peer):
                latency.at_rate(peer, rate, options.seconds, scene.client, host=tables.host(1))
                return int(rate * options.seconds)
            out[peer.name] = both(peer, work)
    return out


# subject: (what it is, the unit of a row, who does it)
SUBJECTS = {
    name: (f"{name}: {load.SCENARIOS[name][0]}", "request", lambda options, found, name=name, whom=whom: requests(options, found, name, whom))
    for name, whom in {
        "S1": ("nginx", "nginx-lua", "ingress-nginx", "haproxy", "narthex"), "S1-log": ("nginx", "narthex"), "S2": ("nginx", "haproxy", "narthex"), "S2b": ("nginx", "narthex"),
        "S3": ("nginx", "haproxy", "narthex"), "S4": ("nginx", "narthex"), "S4-tls": ("nginx", "narthex"), "S4b": ("nginx", "narthex"),
    }.items()
} | {
    "hosts": (f"Small requests to {HOSTS:,} hosts", "request", many_hosts),
    "change": (f"One host of {HOSTS:,} changed", "change", one_change),
    "scrape": ("A scrape", "scrape", scrapes),
    "explain": ("A call of explain", "call", explanations),
    "tail": ("Small requests at 40 % of the most", "request", calm),
    "overload": ("Small requests over hundreds of connections", "request", crowded),
}


def report(data):
    lines = ["<!-- Made by benches/compare/profile_of.py; do not edit. -->", "", "# Where the time goes", "",
             "Microseconds of processor time, by phase: shares of samples times the CPU time of a round without samples.",
             "What the compiler put into a function counts as that function's, and a phase of user space is the module or library that the innermost function belongs to."]
    for name, one in data.items():
        lines += subject(*SUBJECTS[name][:2], one)
    return "\n".join(lines) + "\n"


def subject(title, unit, one):
    columns, about = one["columns"], one["about"]
    lines = ["", f"## {title}", "", f"{about['date']}, {about['machine']}; others used {about['foreign']:.2f} of a processor. SHA-256 of the binary {about['binary']}…."]
    lines += ["", f"| µs for each {unit} | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    lines.append("| **all** | " + " | ".join(f"**{each['each']:.1f}**" for each in columns.values()) + " |")
    cost = lambda each, phase: each["each"] * each["phases"].get(phase, 0)
    phases = sorted({phase for each in columns.values() for phase in each["phases"]}, key=lambda phase: -max(cost(each, phase) for each in columns.values()))
    most = max(each["each"] for each in columns.values())
    for phase in phases:
        if max(cost(each, phase) for each in columns.values()) >= 0.01 * most:
            lines.append(f"| {phase} | " + " | ".join(f"{cost(each, phase):.2f}" if cost(each, phase) else "" for each in columns.values()) + " |")
    own = [name for name in columns if not name.startswith(("nginx", "haproxy"))][-1]
    lines += ["", f"Single functions, {own} ({columns[own]['samples']:,} samples):", "", "| share | function |", "|--:|---|"]
    return lines + [f"| {share:.1%} | `{name}` |" for share, name in columns[own]["functions"]]


# --- without perf ----------------------------------------------------------------------------------------------------

def counted(options, found, name):
    """Instructions of user space by function, from callgrind; for the scenarios that valgrind.py counts."""
    if name not in valgrind.COUNTED or not shutil.which("callgrind_annotate"):
        return None
    facts = next(one for one in found if one[0] == "narthex")
    with tempfile.NamedTemporaryFile() as kept:
        valgrind.total(facts, name, valgrind.COUNTED[name][3], keep=kept.name)
        out = subprocess.run(["callgrind_annotate", "--auto=no", "--inclusive=no", kept.name], capture_output=True, text=True)
    return by_function(out.stdout)[:FUNCTIONS]


def by_function(text):
    """[(percent, function)] of what callgrind_annotate printed."""
    found = re.findall(r"^\s*[\d,]+ \(\s*([\d.]+)%\)\s+\S*?:(.+?)(?: \[.*\])?$", text, re.M)
    return [(float(share), shortened(name)) for share, name in found]


# --- driving ---------------------------------------------------------------------------------------------------------

def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the narthex binary to look into")
    parser.add_argument("--only", action="append", choices=list(SUBJECTS), help="this subject (may be repeated)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round")
    parser.add_argument("--out", default=str(ROOT / "docs" / "performance"), help="folder for the tables")
    parser.add_argument("--congestion", default=machine.USUAL_CONGESTION, help="congestion control of all connections, or `machine` for what it has")
    options = parser.parse_args()
    options.short = False
    return options


def main():
    options = arguments()
    machine.end_cleanly()
    machine.settle_congestion(options.congestion)
    peers.need("wrk", "h2load", "openssl")
    found, _, missing = peers.available(os.path.abspath(options.bin))
    for name, why in missing:
        print(f"missing: {name}: {why}", file=sys.stderr)
    if not usable():
        print("perf takes no samples here: instructions of user space by callgrind, nothing of the kernel", file=sys.stderr)
        for name in options.only or SUBJECTS:
            rows = counted(options, found, name)
            print(f"{name}: " + ("not to be had without perf" if rows is None else ""))
            for share, function in rows or []:
                print(f"  {share:5.1f} %  {function}")
        return 0
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    stored = out / "profile.json"
    data = json.loads(stored.read_text()) if options.only and stored.exists() else {}
    for name in options.only or SUBJECTS:
        with machine.Foreign() as foreign:
            columns = SUBJECTS[name][2](options, found)
        about = {"date": time.strftime("%Y-%m-%d"), "machine": machine.describe(), "foreign": foreign.value, "binary": peers.identity(options.bin)}
        data[name] = {"about": about, "columns": columns}
        print("\n".join(subject(*SUBJECTS[name][:2], data[name])), flush=True)
        # What is there stays when the next one is interrupted.
        data = {one: {**data[one], "title": SUBJECTS[one][0]} for one in SUBJECTS if one in data}
        stored.write_text(json.dumps(data, indent=1) + "\n")
        (out / "profile.md").write_text(report(data))
    goals.write(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
