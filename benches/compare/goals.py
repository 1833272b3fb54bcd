"""All goals in one table, from what compare.py and scale.py wrote last; no measuring.

The table stands in docs/performance.md between two marks, so that the page never shows other figures than the data.
"""

import json
import statistics
from pathlib import Path

import load

# A figure is judged as it is shown: what reads 0.85 does not miss 0.85. report.py judges by this, too.
DIGITS = 2
BEGIN, END = "<!-- goals: made by benches/compare/goals.py -->", "<!-- end of goals -->"
# Ratios to nginx of CPU per request in the same run.
RATIOS = {"S1": 1.00, "S1-log": 1.00, "S2": 0.85, "S2b": 0.65, "S3": 0.55, "S4": 0.18, "S4-tls": 0.40, "S4b": 0.27}
LUA = 0.35
LUA_TITLES = {"ingress-nginx": "ingress-nginx, its own Lua", "nginx-lua": "the emulation"}
INSTRUCTIONS = 36_000
IDLE = {"HTTP/1.1": 4, "HTTP/1.1 over TLS": 20}
HOSTS = "10000"


def write(folder):
    """Puts the table into the page beside `folder`; where there is no such page, into goals.md in it."""
    folder = Path(folder)
    lines = table(*(read(folder / name) for name in ("latest.json", "instructions.json", "scale.json")))
    page = folder.parent / "performance.md"
    if folder.name == "performance" and page.exists() and BEGIN in page.read_text():
        text = page.read_text()
        before, rest = text.split(BEGIN, 1)
        page.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END, 1)[1])
    else:
        (folder / "goals.md").write_text("\n".join(lines) + "\n")


def reached(figure, goal, digits=DIGITS):
    """Whether a figure that is shown with so many digits is at most its goal."""
    return round(figure, digits) <= goal


def read(path):
    return json.loads(path.read_text()) if path.exists() else {}


def table(latest, counted, scale):
    rows = [*ratios(latest), *instructions(counted), *memory(latest, scale), *tables(scale), *beside(scale), *edges(scale)]
    lines = ["", "| goal | measured | |", "|---|--:|---|"]
    lines += [f"| {goal} | {measured} | {'met' if met else '**missed**'} |" for goal, measured, met in rows]
    dates = ", ".join(f"{name} of {one['date']}" for name, one in (("proxies", latest), ("growth", scale)) if "date" in one)
    return lines + ["", f"Runs: {dates}. Two figures are the least and the median of the rounds; the first one is judged, as it is shown."]


def ratios(latest):
    for name, goal in RATIOS.items():
        peers = latest.get("scenarios", {}).get(name, {})
        own, base = peers.get("narthex"), peers.get("nginx")
        whom = "ingress-nginx" if "ingress-nginx" in peers else "nginx-lua"
        lua = peers.get(whom)
        if own and base:
            least, middle = ratio(own, base)
            yield f"{name}, {load.SCENARIOS[name][0]}: CPU ≤ {goal:.2f} of nginx", f"{least:.2f} / {middle:.2f}", reached(least, goal)
        if own and lua and name == "S1":
            least, middle = ratio(own, lua)
            yield f"{name}: CPU ≤ {LUA:.2f} of nginx with Lua ({LUA_TITLES[whom]})", f"{least:.2f} / {middle:.2f}", reached(least, LUA)


def ratio(own, base):
    cpu = lambda rounds: [one["cpu"] for one in rounds]
    return min(cpu(own)) / min(cpu(base)), statistics.median(cpu(own)) / statistics.median(cpu(base))


def instructions(counted):
    each = counted.get("counted", {}).get("S1", {}).get("narthex")
    if each:
        yield f"S1: ≤ {INSTRUCTIONS:,} user instructions", f"{each:,}", each <= INSTRUCTIONS


def memory(latest, scale):
    for kind, goal in IDLE.items():
        each = latest.get("idle", {}).get(kind, {}).get("narthex")
        if each:
            yield f"idle connection, {kind}: ≤ {goal} KiB", f"{each:.2f} KiB", reached(each, goal)
    each = scale.get("idle", {}).get("narthex")
    if each:
        yield f"one of {each['count']:,} idle connections: ≤ {IDLE['HTTP/1.1']} KiB", f"{each['kib']:.2f} KiB", reached(each["kib"], IDLE["HTTP/1.1"])


def tables(scale):
    one = scale.get("tables", {}).get(HOSTS, {}).get("narthex")
    if one:
        # What a build takes by the clock and what the whole control thread takes of a processor are both no less.
        compiled = min(one["full_build"], one["full_cpu"])
        yield "10,000 hosts × 5 paths compiled: ≤ 0.5 CPU-s", f"≤ {compiled:.2f} s", reached(compiled, 0.5)
        yield "one host of them changed, compiled: ≤ 5 ms", f"{one['change_build'] * 1000:.2f} ms", reached(one["change_build"] * 1000, 5)
        yield "10,000 hosts × 5 paths, memory in all: ≤ 120 MiB", f"{one['pss_mib']:.1f} MiB", reached(one["pss_mib"], 120, 1)
    sizes = scale.get("tables", {})
    if "1" in sizes and HOSTS in sizes:
        few, many = (sizes[at]["narthex"]["cpu"] for at in ("1", HOSTS))
        yield "no cost per request of 10,000 hosts (≤ 1.10 of one host's CPU)", f"{many / few:.2f}", reached(many / few, 1.10)


def beside(scale):
    jobs = scale.get("changes", {})
    if jobs:
        lost = sum(one["failures"] for one in jobs.values())
        yield "no request lost while Ingresses change", f"{lost}", lost == 0
    places = scale.get("control", {})
    names = {"shared": "sharing the worker's processor", "apart": "on another processor"}
    for place, title in names.items():
        for job in ("compile", "scrape", "explain"):
            if place in places:
                base, one = places[place]["nothing"]["p99"], places[place][job]["p99"]
                least, middle = one["best"] / base["best"], one["median"] / base["median"]
                yield f"p99 beside `{job}`, {title}: ≤ 1.10 of p99 beside nothing", f"{least:.2f} / {middle:.2f}", reached(least, 1.10)


def edges(scale):
    if "tail" in scale:
        own, base = (scale["tail"][name]["p999"] for name in ("narthex", "nginx"))
        yield "p99.9 at 40 %: not above nginx's", f"{own['best']:.2f} / {own['median']:.2f} ms, nginx {base['best']:.2f} / {base['median']:.2f}", reached(own["best"], round(base["best"], DIGITS))
    for kind, proxies in scale.get("blocking", {}).items():
        if kind != "nothing":
            own, base = (proxies[name]["p99"] for name in ("narthex", "nginx"))
            yield (f"p99 of small requests beside large {kind}, two workers: not above nginx's",
                   f"{own['best']:.2f} / {own['median']:.2f} ms, nginx {base['best']:.2f} / {base['median']:.2f}", reached(own["best"], round(base["best"], DIGITS)))
    if "overload" in scale:
        share = scale["overload"]["narthex"]["share"]["worst"]
        yield "goodput at 150 %: > 0.80 of the most", f"{share:.2f}", round(share, DIGITS) > 0.8
