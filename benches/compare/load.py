"""The scenarios and the clients that drive them."""

import re
import subprocess
from pathlib import Path

from peers import HOST

CONNECTIONS = 64
# New connections a second; an open loop, so a faster proxy idles and does not get more of them.
HANDSHAKES = 800
SUITE = "TLS_AES_256_GCM_SHA384"
HERE = Path(__file__).resolve().parent

# key: (title, kind, path, access log, peers that are left out)
SCENARIOS = {
    "S1": ("HTTP/1.1 keep-alive, 200 B", "h1", "/small", False, {"nginx-tuned"}),
    "S1-log": ("HTTP/1.1 keep-alive, 200 B, access log", "h1", "/small", True, {"nginx-tuned", "naive"}),
    "S2": ("TLS 1.3 keep-alive, 200 B", "tls", "/small", False, {"nginx-tuned"}),
    "S2b": ("TLS handshake per request", "close", "/small", False, {"nginx-tuned"}),
    "S3": ("HTTP/2, 10 × 32 streams, 200 B", "h2", "/small", False, {"nginx-tuned"}),
    "S4": ("1 MiB responses", "h1", "/large", False, set()),
    "S4-tls": ("1 MiB responses over TLS", "tls", "/large", False, set()),
    "S4b": ("1 MiB uploads", "up", "/up", False, set()),
    # Read whole before the back-end is asked, as ingress-nginx does by default.
    "S4b-buf": ("1 MiB uploads, buffered", "up", "/up", False, {"haproxy", "nginx-tuned", "envoy", "naive"}),
}


class Load(Exception):
    """The client's output was not understood, or not what was asked for."""


def run(command, seconds):
    """Output of a client that is to take `seconds`; one that never ends is ended."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds * 10 + 60).stdout
    except subprocess.TimeoutExpired:
        raise Load(f"{Path(command[-1]).name}: the client did not end") from None


def drive(peer, kind, path, seconds, prefix):
    """Loads `peer`; (requests answered with 2xx, requests a second, failures)."""
    if kind in ("h2", "close"):
        return h2load(peer, kind, path, seconds, prefix)
    tls = kind == "tls"
    url = f"https://127.0.0.1:{peer.https}{path}" if tls else f"http://127.0.0.1:{peer.http}{path}"
    connections = 16 if path != "/small" else CONNECTIONS
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-H", f"Host: {HOST}"]
    if kind == "up":
        command += ["-s", str(HERE / "conf" / "upload.lua")]
    return wrk(prefix + command + [url], seconds)


def wrk(command, seconds=10):
    """Runs wrk; (requests answered with 2xx, 2xx a second, failures)."""
    return told_by_wrk(run(command, seconds))


def told_by_wrk(out):
    """wrk counts every answer as a request and tells apart how many had another status."""
    count, rate = re.search(r"(\d+) requests in", out), re.search(r"Requests/sec:\s+([\d.]+)", out)
    if not count or not rate:
        raise Load(out[-400:] or "wrk said nothing")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    bad = int(bad.group(1)) if bad else 0
    answered, total = int(count.group(1)) - bad, int(count.group(1))
    return answered, float(rate.group(1)) * answered / max(total, 1), bad + (sum(map(int, errors.groups())) if errors else 0)


def h2load(peer, kind, path, seconds, prefix):
    count = None
    if kind == "close":
        # One request on each connection, so many connections a second. h2load resumes no session: wrk does, and
        # would measure that with the proxies that offer it.
        count = HANDSHAKES * seconds
        command = ["h2load", "-t1", "--h1", f"-c{count}", f"-n{count}", f"-r{HANDSHAKES}"]
    else:
        command = ["h2load", "-t1", "-c10", "-m32", "-D", str(seconds), "--warm-up-time=0"]
    # The suite that ingress-nginx chooses of what browsers offer, and that wrk names first; else each proxy would take
    # another one.
    command += [f"--tls13-ciphers={SUITE}"]
    command += [f"--connect-to=127.0.0.1:{peer.https}", f"https://{HOST}{path}"]
    return told_by_h2load(run(prefix + command, seconds), "h2" if kind == "h2" else "http/1.1", count)


def told_by_h2load(out, protocol, count):
    """`count`: how many were asked for, where that is known; those that were never sent have failed, too."""
    done = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", out)
    rate, failed = re.search(r"finished in [\d.a-z]+, ([\d.]+) req/s", out), re.search(r"(\d+) failed", out)
    if not done or not rate:
        raise Load(out[-400:] or "h2load said nothing")
    for what, wanted in (("TLS Protocol", "TLSv1.3"), ("Cipher", SUITE), ("Application protocol", protocol)):
        if f"{what}: {wanted}\n" not in out:
            raise Load(f"{what} is not {wanted}: " + "; ".join(re.findall(f"{what}: .*", out)[:1]))
    answered = int(done.group(1))
    failures = int(failed.group(1)) + int(done.group(3)) + int(done.group(4))
    return answered, float(rate.group(1)), max(failures, (count or 0) - answered)


def exactly(peer, kind, path, requests):
    """Exactly `requests` requests, for counting instructions; raises when one fails."""
    tls = kind in ("tls", "h2")
    port = peer.https if tls else peer.http
    command = ["h2load", "-t1", "-n", str(requests), f"--connect-to=127.0.0.1:{port}"]
    command += ["-c2", "-m16"] if kind == "h2" else ["-c8", "--h1"]
    if kind == "up":
        command += ["-d", f"{peer.upload}"]
    out = subprocess.run(command + [f"{'https' if tls else 'http'}://{HOST}{path}"], capture_output=True, text=True).stdout
    done = re.search(r"status codes: (\d+) 2xx", out)
    if not done or int(done.group(1)) != requests:
        raise Load(out[-600:])
