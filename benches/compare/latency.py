"""Latency at a rate that the client keeps, however slow the proxy is: quantiles from one line per request.

The clients of one run start one after the other, so that their requests do not come in bursts. A client that waits for
an answer sends its next request late; `rate` beside `asked` says how much of the rate was lost to that.
"""

import re
import tempfile
from pathlib import Path

from load import CONNECTIONS, Load, run
from peers import HOST

# Between the starts of two clients, or of two groups of them where there are more than GROUPS, ms.
STAGGER = 4
GROUPS = 64


def at_rate(peer, rate, seconds, prefix, path="/small", connections=CONNECTIONS, tls=False, host=HOST):
    """Quantiles in ms of requests sent at `rate` a second: {"p50", "p99", "p999", "max", "rate", "failures"}."""
    each = max(rate / connections, 1)
    count = int(each * connections * seconds)
    port, scheme = (peer.https, "https") if tls else (peer.http, "http")
    with tempfile.TemporaryDirectory(prefix="latency-") as folder:
        log = f"{folder}/requests"
        command = ["h2load", "-t1", "--h1", f"-c{connections}", f"-r{max(connections // GROUPS, 1)}", f"--rate-period={STAGGER}ms", f"--rps={each:.3f}",
                   f"-n{count}", f"--log-file={log}", f"--connect-to=127.0.0.1:{port}", f"{scheme}://{host}{path}"]
        out = run(prefix + command, seconds)
        done = re.search(r"status codes: (\d+) 2xx", out)
        took = re.search(r"finished in ([\d.]+)(ms|s)", out)
        if not done or not took or not Path(log).exists():
            raise Load(out[-400:])
        rows = [line.split("\t") for line in Path(log).read_text().splitlines()]
    answered = sorted(int(row[2]) / 1000 for row in rows if row[1] == "200")
    return {
        **quantiles(answered), "failures": count - int(done.group(1)), "asked": rate,
        "rate": goodput([int(row[0]) + int(row[2]) for row in rows if row[1] == "200"], seconds),
    }


def goodput(ends, seconds):
    """Answers a second while all clients were there: not at the beginning, when they come, nor at the end."""
    if not ends:
        return 0
    begin = min(ends) + GROUPS * STAGGER * 1000
    end = max(min(max(ends), min(ends) + seconds * 1_000_000), begin + 1)
    return sum(begin <= one < end for one in ends) / ((end - begin) / 1e6)


def quantiles(values):
    """Of sorted values: median, 99 %, 99.9 %, most."""
    if not values:
        return {"p50": None, "p99": None, "p999": None, "max": None}
    at = lambda part: round(values[min(int(len(values) * part), len(values) - 1)], 3)
    return {"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": round(values[-1], 3)}
