"""The tail at a calm load, what comes of overload, and who waits behind large bodies; parts of scale.py."""

import re
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import latency
import load
import machine
import tables
from scene import Scene, fold, spent

# Connections of a client that sends more than can be answered.
CROWD = 512


def most_of(scene, peer, connections=load.CONNECTIONS, seconds=2):
    """Requests a second that many connections get through as fast as they can."""
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {tables.host(1)}", f"http://127.0.0.1:{peer.http}/small"]
    return load.wrk(scene.client + wrk)[1]


def tail(options):
    """Latency at 40 % of what the slower one can: {proxy: facts}."""
    with Scene(options, urgent=True) as scene:
        started = scene.both(2)
        for peer in started:
            machine.urgent_workers(peer.pids())
        most = {peer.name: max(most_of(scene, peer) for _ in range(2)) for peer in started}
        rate, rounds = 0.4 * min(most.values()), {peer.name: [] for peer in started}
        # Many rounds: what else the machine does makes more of a tail than any proxy, and falls on some of them only.
        for number in range(4 * scene.rounds()):
            for peer in started if number % 2 == 0 else reversed(started):
                rounds[peer.name].append(latency.at_rate(peer, rate, min(scene.seconds(), 3), scene.client, host=tables.host(1)))
    out = {name: {**fold(each), "most": most[name]} for name, each in rounds.items()}
    for name, one in out.items():
        print(f"{name}: at most {most[name]:.0f}/s; at {rate:.0f}/s: p50 {one['p50']} p99 {one['p99']} p99.9 {one['p999']} ms, {one['failures']} failures", flush=True)
    return out


def tail_at_once(options):
    """The tail of both at the same time on one processor, at 20 % of what the slower one can each: what else the machine
    does hits both, so that the ratio of a round says something of the proxies: {"proxies": {proxy: facts}, "ratios":
    {quantile: Narthex' to nginx', median of the rounds}}."""
    with Scene(options, urgent=True) as scene:
        started = scene.both(2)
        for peer in started:
            machine.urgent_workers(peer.pids())
        most = min(most_of(scene, peer) for peer in started)
        rounds = {peer.name: [] for peer in started}
        asked = lambda peer: latency.at_rate(peer, 0.2 * most, min(scene.seconds(), 3), scene.client, host=tables.host(1))
        for number in range(4 * scene.rounds()):
            with ThreadPoolExecutor(len(started)) as pool:
                told = [(peer, pool.submit(asked, peer)) for peer in (started if number % 2 == 0 else reversed(started))]
                for peer, one in told:
                    rounds[peer.name].append(one.result())
    pairs = list(zip(rounds["narthex"], rounds["nginx"]))
    ratio = lambda key: round(statistics.median(own[key] / base[key] for own, base in pairs), 3)
    out = {"proxies": {name: fold(each) for name, each in rounds.items()}, "ratios": {key: ratio(key) for key in ("p50", "p99", "p999")}}
    for name, one in out["proxies"].items():
        print(f"{name}, both at once: p50 {one['p50']} p99 {one['p99']} p99.9 {one['p999']} ms, {one['failures']} failures", flush=True)
    print(f"Narthex to nginx, median of the rounds: {out['ratios']}", flush=True)
    return out


@contextmanager
def rival(prefix):
    """Somebody who takes half of the proxy's processor, so that the client can offer more than is answered."""
    busy = subprocess.Popen(prefix + ["sh", "-c", "while :; do :; done"], start_new_session=True)
    machine.shield(busy.pid)
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


class Shares:
    """How much of a processor the proxy used, and how busy the processor of client and back-end was."""

    def __init__(self, peer):
        self.peer = peer

    def __enter__(self):
        self.begin, self.proxy, self.client = time.monotonic(), spent(self.peer), machine.busy(max(machine.processors()))
        return self

    def __exit__(self, *_):
        took = time.monotonic() - self.begin
        self.proxy = (spent(self.peer) - self.proxy) / took
        self.client = (machine.busy(max(machine.processors())) - self.client) / took


def overload(options):
    """Goodput at 150 % of the most, on half of a processor: {proxy: facts}."""
    with Scene(options, urgent=True) as scene, rival(scene.proxy):
        started = scene.both(2)
        rounds = {peer.name: [] for peer in started}
        for number in range(scene.rounds()):
            for peer in started if number % 2 == 0 else reversed(started):
                most = most_of(scene, peer)
                # What as many connections get through that wait for each answer: nobody sends too much there.
                crowd = most_of(scene, peer, connections=CROWD)
                with Shares(peer) as shares:
                    told = latency.at_rate(peer, most * 1.5, scene.seconds(), scene.client, host=tables.host(1), connections=CROWD)
                rounds[peer.name].append({**told, "most": most, "share": told["rate"] / most, "crowd": crowd, "used": shares.proxy, "client": shares.client})
    ends = lambda each, key: {"best": max(one[key] for one in each), "worst": min(one[key] for one in each)}
    out = {name: {**fold(each), "share": ends(each, "share"), "client": ends(each, "client")} for name, each in rounds.items()}
    for name, one in out.items():
        print(f"{name}: at most {one['most']['median']:.0f}/s; at 150 %: {one['share']['worst']:.2f} to {one['share']['best']:.2f} of the most,"
              f" p99 {one['p99']} ms, {one['failures']} failures; {CROWD} connections that wait get {one['crowd']['median']:.0f}/s; of its processor {one['used']['median']:.2f} used,"
              f" client and back-end busy {one['client']['best']:.2f}", flush=True)
    return out


# Bodies of 1 MiB a second that go through while small requests are timed, and small requests a second.
LARGE, SMALL = 200, 1500


@contextmanager
def bodies(scene, peer, kind, seconds):
    """Large answers or uploads at a fixed rate, over eight connections."""
    if kind == "nothing":
        yield
        return
    command = ["h2load", "-t1", "--h1", "-c8", f"--rps={LARGE / 8}", f"-n{int(LARGE * (seconds + 1))}", f"--connect-to=127.0.0.1:{peer.http}"]
    command += ["-d", f"{scene.run.folder}/www/large", f"http://{tables.host(0)}/up"] if kind == "uploads" else [f"http://{tables.host(0)}/large"]
    with tempfile.TemporaryFile("w+") as out:
        running = subprocess.Popen(scene.client + command, stdout=out, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        try:
            yield
            running.wait(seconds * 10 + 30)
        finally:
            running.kill()
            running.wait()
        out.seek(0)
        done = re.search(r"status codes: (\d+) 2xx", out.read())
    if not done or int(done.group(1)) < LARGE * seconds * 0.9:
        raise load.Load(f"{peer.name}: {kind} did not go through")


def blocking(options):
    """Small requests beside large bodies, two workers each, all on the same processors: {kind: {proxy: facts}}."""
    with Scene(options, urgent=True) as scene:
        everywhere = machine.everywhere()
        started = scene.both(2, prefix=everywhere, workers=2)
        kinds = ["nothing", "answers"] + (["uploads"] if (Path(scene.run.folder) / "backend" / "backend.conf").read_text().find("/up") > 0 else [])
        rounds = {kind: {peer.name: [] for peer in started} for kind in kinds}
        for number in range(scene.rounds()):
            for kind in kinds:
                for peer in started if number % 2 == 0 else reversed(started):
                    seconds = max(scene.seconds() - 1, 2)
                    with bodies(scene, peer, kind, seconds):
                        told = latency.at_rate(peer, SMALL, seconds, scene.client, host=tables.host(1))
                    rounds[kind][peer.name].append(told)
    out = {kind: {name: fold(each) for name, each in peers.items()} for kind, peers in rounds.items()}
    for kind, proxies in out.items():
        for name, one in proxies.items():
            print(f"beside {kind}, {name}: p50 {one['p50']} p99 {one['p99']} p99.9 {one['p999']} ms, {one['failures']} failures", flush=True)
    return out
