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
# Processors that somebody else may use while something is judged by the clock. Above that there is no verdict.
FOREIGN = 0.25
# Share of requests that may fail in what is judged.
FAILURES = 0.001


def write(folder):
    """Puts the table into the page beside `folder`; where there is no such page, into goals.md in it."""
    folder = Path(folder)
    files = ("latest.json", "instructions.json", "scale.json")
    page = folder.parent / "performance.md"
    lines = table(*map(read, (folder / name for name in files)), profiles=read(folder / "profile.json"), place=f"{folder.name}/profile.md")
    if folder.name == "performance" and page.exists() and BEGIN in page.read_text():
        text = page.read_text()
        before, rest = text.split(BEGIN, 1)
        page.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END, 1)[1])
    else:
        (folder / "goals.md").write_text("\n".join(lines) + "\n")


def reached(figure, goal, digits=DIGITS):
    """Whether a figure that is shown with so many digits is at most its goal."""
    return round(figure, digits) <= goal


def foreign_load(rounds):
    """How many processors others used in the median of these rounds; 0 where nobody looked."""
    return statistics.median([one.get("foreign") or 0 for one in rounds] or [0])


def doubt(*proxies):
    """Why no verdict can be had from these rounds; None where one can."""
    rounds = [one for each in proxies for one in each]
    failures, requests = (sum(one.get(key, 0) for one in rounds) for key in ("failures", "requests"))
    if failures > FAILURES * max(requests, 1):
        return f"{failures:,} of {requests + failures:,} requests failed"
    return busy(foreign_load(rounds))


def busy(foreign):
    return f"others used {foreign:.2f} of a processor" if foreign > FOREIGN else None


def judge(met, doubt=None):
    return f"not judged: {doubt}" if doubt else "met" if met else "**missed**"


def part_busy(scale, part):
    """Why a part of scale.json that was taken by the clock can have no verdict."""
    return busy(scale.get("made", {}).get(part, {}).get("foreign") or 0)


def read(path):
    return json.loads(path.read_text()) if path.exists() else {}


# What part of the profile explains a goal, by words of it.
EXPLAINED = {"one host of them changed": "change", "no cost per request": "hosts", "`scrape`": "scrape", "`explain`": "explain", "`compile`": "change", "p99.9 at 40 %": "tail",
             "goodput": "overload", **{f"{name}{end}": name for name in RATIOS for end in (",", ":")}}


def explained(goal, verdict, profiles, place):
    """A missed goal names the profile that shows why, or that there is none."""
    if verdict != judge(False):
        return verdict
    subject = next((subject for words, subject in EXPLAINED.items() if words in goal), None)
    if subject not in profiles:
        return f"{verdict}, no profile"
    anchor = "".join(one for one in profiles[subject].get("title", subject).lower().replace(" ", "-") if one.isalnum() or one in "-_")
    return f"{verdict} ([profile]({place}#{anchor}))"


def table(latest, counted, scale, profiles=None, place=""):
    rows = [*ratios(latest, counted), *instructions(counted), *memory(latest, scale), *tables(scale), *beside(scale), *edges(scale)]
    lines = ["", "| goal | measured | |", "|---|--:|---|"]
    lines += [f"| {goal} | {measured} | {explained(goal, verdict, profiles, place) if profiles else verdict} |" for goal, measured, verdict in rows]
    dates = ", ".join(f"{name} of {when}" for name, when in (("proxies", days(latest)), ("growth", days(scale))) if when)
    return lines + ["", f"Runs: {dates}. Two figures are the least and the median of the rounds; the first one is judged, as it is shown."
                    f" Where others used more than {FOREIGN} of a processor meanwhile, nothing is judged by the clock."
                    " `at once`: both on one processor at the same time (`make bench-pair`), median and range of the rounds; told beside, not judged."]


def days(data):
    """First and last day on which parts of it were made."""
    made = sorted({one["date"] for one in data.get("made", {}).values()} or {data.get("date")} - {None})
    return " to ".join(dict.fromkeys((made[0], made[-1]))) if made else None


def ratios(latest, counted):
    for name, goal in RATIOS.items():
        peers = latest.get("scenarios", {}).get(name, {})
        own, base = peers.get("narthex"), peers.get("nginx")
        whom = "ingress-nginx" if "ingress-nginx" in peers else "nginx-lua"
        lua = peers.get(whom)
        failed = latest.get("failed", {}).get(name, {})
        for whose in ("narthex", "nginx"):
            if whose in failed:
                yield f"{name}, {load.SCENARIOS[name][0]}: CPU ≤ {goal:.2f} of nginx", "–", f"not judged: {whose}: {failed[whose]}"
        together = at_once(latest.get("together", {}).get(name, []))
        beside = f"; at once {statistics.median(together):.2f} ({min(together):.2f} to {max(together):.2f})" if together else ""
        if own and base:
            least, middle = ratio(own, base)
            yield f"{name}, {load.SCENARIOS[name][0]}: CPU ≤ {goal:.2f} of nginx", f"{least:.2f} / {middle:.2f}{beside}", judge(reached(least, goal), unjudged(counted, name, own, base))
        if own and lua and name == "S1":
            least, middle = ratio(own, lua)
            yield f"{name}: CPU ≤ {LUA:.2f} of nginx with Lua ({LUA_TITLES[whom]})", f"{least:.2f} / {middle:.2f}", judge(reached(least, LUA), unjudged(counted, name, own, lua, whom))


def unjudged(counted, name, own, base, whom="nginx"):
    """Why a ratio has no verdict, and the ratio that holds on a busy machine, too, where that is known."""
    why, each = doubt(own, base), counted.get("counted", {}).get(name, {})
    if why and each.get("narthex") and each.get(whom):
        why += f"; user instructions {each['narthex'] / each[whom]:.2f}"
    return why


def at_once(rounds, own="narthex", base="nginx"):
    """Of rounds in which several proxies ran at once on one processor (pair.py), the ratio of CPU per request in each."""
    return [one[own]["cpu"] / max(one[base]["cpu"], 1e-9) for one in rounds if own in one and base in one]


def ratio(own, base):
    cpu = lambda rounds: [one["cpu"] for one in rounds]
    return min(cpu(own)) / min(cpu(base)), statistics.median(cpu(own)) / statistics.median(cpu(base))


def instructions(counted):
    each = counted.get("counted", {}).get("S1", {}).get("narthex")
    if each:
        yield f"S1: ≤ {INSTRUCTIONS:,} user instructions", f"{each:,}", judge(each <= INSTRUCTIONS)


def memory(latest, scale):
    for kind, goal in IDLE.items():
        each = latest.get("idle", {}).get(kind, {}).get("narthex")
        if each:
            yield f"idle connection, {kind}: ≤ {goal} KiB", f"{each:.2f} KiB", judge(reached(each, goal))
    each = scale.get("idle", {}).get("narthex")
    if each:
        yield f"one of {each['count']:,} idle connections: ≤ {IDLE['HTTP/1.1']} KiB", f"{each['kib']:.2f} KiB", judge(reached(each["kib"], IDLE["HTTP/1.1"]))


def tables(scale):
    one = scale.get("tables", {}).get(HOSTS, {}).get("narthex")
    if one:
        # What a build takes by the clock and what the whole control thread takes of a processor are both no less.
        compiled = min(one["full_build"], one["full_cpu"])
        yield "10,000 hosts × 5 paths compiled: ≤ 0.5 CPU-s", f"≤ {compiled:.2f} s", judge(reached(compiled, 0.5))
        yield "one host of them changed, compiled: ≤ 5 ms", f"{one['change_build'] * 1000:.2f} ms", judge(reached(one["change_build"] * 1000, 5), part_busy(scale, "tables"))
        yield "10,000 hosts × 5 paths, memory in all: ≤ 120 MiB", f"{one['pss_mib']:.1f} MiB", judge(reached(one["pss_mib"], 120, 1))
    if "many" in scale:
        ratio = scale["many"]["ratio"]
        yield "no cost per request of 10,000 hosts (≤ 1.10 of one host's CPU at once)", with_range(ratio), judge(reached(ratio["median"], 1.10), part_busy(scale, "many"))


def beside(scale):
    jobs = scale.get("changes", {})
    if jobs:
        lost = sum(one["failures"] for one in jobs.values())
        yield "no request lost while Ingresses change", f"{lost}", judge(lost == 0)
    swaps = scale.get("swaps", {}).get("narthex")
    if swaps:
        lost, closed = swaps["lost"], swaps["closed"]
        yield f"{swaps['swaps']:,} swaps of the table under load: no request lost, no connection closed", f"{lost} and {closed}", judge(lost == closed == 0)
    for place, title in CONTROL.items():
        if place in scale.get("control", {}):
            yield from control(scale, place, title)


CONTROL = {"shared": ("sharing the worker's processor", "of the moment before"), "apart": ("on another processor", "of a twin's at once")}
# How far p99 may be above that without, and how much `nobody` may differ where anything can be said.
RISE = 1.10


def control(scale, place, titles):
    """p99 beside jobs of the control plane, to p99 without. What the client's side does for them, without the proxy, is a
    job as well (`nobody`): where that alone makes a difference, nothing can be said of the proxy."""
    jobs, (where, base) = scale["control"][place], titles
    for job in ("compile", "scrape", "explain"):
        ratio = jobs[job]["ratio"]
        yield (f"p99 beside `{job}`, {where}: ≤ {RISE:.2f} {base}", with_range(ratio),
               judge(reached(ratio["median"], RISE), part_busy(scale, "control") or differs(jobs["nobody"]["ratio"]["median"])))


def with_range(ratio):
    """Median, least and most."""
    return f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"


def differs(nobody):
    """Why nothing can be said where `nobody` made that much of a difference."""
    return None if 1 / RISE <= nobody <= RISE else f"{nobody:.2f} without the proxy's part in it"


def edges(scale):
    if "tail" in scale:
        own, base = (scale["tail"][name]["p999"] for name in ("narthex", "nginx"))
        at_once = f"; {scale['tail-at-once']['ratios']['p999']:.2f} of nginx's at once" if "tail-at-once" in scale else ""
        yield "p99.9 at 40 %: not above nginx's", f"{own['best']:.2f} / {own['median']:.2f} ms, nginx {base['best']:.2f} / {base['median']:.2f}{at_once}", judge(reached(own["best"], round(base["best"], DIGITS)), part_busy(scale, "tail"))
    for kind, proxies in scale.get("blocking", {}).items():
        if kind != "nothing":
            own, base = (proxies[name]["p99"] for name in ("narthex", "nginx"))
            yield (f"p99 of small requests beside large {kind}, two workers: not above nginx's",
                   f"{own['best']:.2f} / {own['median']:.2f} ms, nginx {base['best']:.2f} / {base['median']:.2f}", judge(reached(own["best"], round(base["best"], DIGITS)), part_busy(scale, "blocking")))
    if "overload" in scale:
        share = scale["overload"]["narthex"]["share"]["worst"]
        yield "goodput at 150 %: > 0.80 of the most", f"{share:.2f}", judge(round(share, DIGITS) > 0.8, part_busy(scale, "overload"))
