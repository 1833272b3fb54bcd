"""Tables and a plot from the raw data; no measuring."""

import statistics
from xml.sax.saxutils import escape

import load
from goals import DIGITS, IDLE as IDLE_GOALS, LUA, RATIOS as GOALS, at_once, doubt, foreign_load, judge, reached

EVENTS = ("instructions:u", "instructions:k", "cycles")
COLOURS = {"nginx": "#8a8a8a", "nginx-tuned": "#b9b9b9", "nginx-lua": "#d99694", "ingress-nginx": "#c0504d", "haproxy": "#4f81bd", "envoy": "#8064a2", "naive": "#d9a441", "narthex": "#3c8d40"}


def lowest(rounds):
    return min(one["cpu"] for one in rounds)


def middle(rounds):
    return statistics.median(one["cpu"] for one in rounds)


def markdown(data):
    lines = [
        "<!-- Made by benches/compare; do not edit. -->", "",
        f"Run of {data['date']} on {data['machine']}.",
        f"{data['rounds']} rounds of {data['seconds']} s for each proxy and scenario, interleaved; one worker each.",
        "CPU is user and system time of the proxy per 100,000 requests, minimum and median of the rounds; the ratios are to nginx in the same run.",
        *made(data), *against_goals(data),
        "", "| scenario | proxy | CPU-s min | CPU-s median | ratio min | ratio median | user | system | requests/s | PSS MiB | failures |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, peers in data["scenarios"].items():
        base = peers.get("nginx")
        for peer, rounds in peers.items():
            if not rounds:
                continue
            best = min(rounds, key=lambda one: one["cpu"])
            low = f"{lowest(rounds) / lowest(base):.2f}" if base else "–"
            mid = f"{middle(rounds) / middle(base):.2f}" if base else "–"
            lines.append(
                f"| {name}: {load.SCENARIOS[name][0]} | {peer} | {lowest(rounds):.2f} | {middle(rounds):.2f} | {low} | {mid} |"
                f" {best['user']:.2f} | {best['system']:.2f} | {max(one['rate'] for one in rounds):.0f} |"
                f" {rounds[-1]['pss_kib'] / 1024:.1f} | {sum(one['failures'] for one in rounds)} |")
    if data.get("together"):
        lines += ["", "At once on one processor (pair.py), CPU per request as a ratio to nginx in the same round, median and range of the rounds:", "",
                  "| scenario | proxy | ratio | | rounds |", "|---|---|--:|--:|--:|"]
        for name, rounds in data["together"].items():
            for peer in rounds[0]:
                each = at_once(rounds, peer, "nginx")
                if each and peer != "nginx":
                    lines.append(f"| {name}: {load.SCENARIOS[name][0]} | {peer} | {statistics.median(each):.2f} | {min(each):.2f} to {max(each):.2f} | {len(each)} |")
    lines += counters(data)
    if data.get("idle"):
        kinds = list(data["idle"])
        lines += ["", "Memory of an idle connection, KiB (proportional set size of a fresh process, after one request on each):", "",
                  "| proxy | " + " | ".join(kinds) + " |", "|---|" + "--:|" * len(kinds)]
        for peer in dict.fromkeys(peer for kind in kinds for peer in data["idle"][kind]):
            lines.append(f"| {peer} | " + " | ".join((f"{data['idle'][kind][peer]:.2f}" if peer in data["idle"][kind] else "–") for kind in kinds) + " |")
    if data.get("latency"):
        rate = next(iter(data["latency"].values()))["asked"]
        lines += ["", f"Latency of small HTTP/1.1 requests at {rate:,} a second over {load.CONNECTIONS} connections, ms (the better of two runs). A connection sends when it is time, whatever the others wait for; only behind an answer of its own that takes longer than {load.CONNECTIONS * 1000 / rate:.0f} ms does a request start late:", "",
                  "| proxy | p50 | p99 | p99.9 | answered a second | failures |", "|---|--:|--:|--:|--:|--:|"]
        for peer, one in data["latency"].items():
            lines.append(f"| {peer} | {one['p50']} | {one['p99']} | {one['p999']} | {one['rate']:,.0f} | {one['failures']} |")
    lines += ["", "Versions:", ""] + [f"* {name}: {text}" for name, text in data["versions"].items()]
    lines += ["", "What each is configured with stands in the raw data (`configurations`), ports and folders left open."] if "configurations" in data else []
    lines += ["", "Not measured:", ""] + [f"* {text}" for text in absent(data)] if absent(data) else []
    counted = {name: peers["ingress-nginx"][0]["beside"] for name, peers in data["scenarios"].items()
               if peers.get("ingress-nginx") and "beside" in peers["ingress-nginx"][0]}
    if counted:
        lines += ["", "CPU-s per 100,000 requests that the controller of ingress-nginx takes besides to count metrics, in no row above: "
                  + ", ".join(f"{name} {each:.2f}" for name, each in counted.items()) + "."]
    loads = [one["load"] for peers in data["scenarios"].values() for rounds in peers.values() for one in rounds]
    if loads:
        lines += ["", f"Load average during the run: {min(loads):.1f} to {max(loads):.1f}."
                  " Client, back-end and proxy account for about 2; what is above is foreign and makes single figures noisy."]
    seen = {name: foreign_load(one for rounds in peers.values() for one in rounds) for name, peers in data["scenarios"].items() if peers}
    if any("foreign" in one for peers in data["scenarios"].values() for rounds in peers.values() for one in rounds):
        lines += ["", "Processors that others used meanwhile (median of the rounds; `foreign` in the raw data): "
                  + ", ".join(f"{name} {each:.2f}" for name, each in seen.items()) + "."]
    return "\n".join(lines) + "\n"


def made(data):
    """Of a run in pieces: how each of them was made, where they differ."""
    accounts = {}
    for name, one in data.get("made", {}).items():
        text = f"{one['date']}, {one['rounds']} rounds of {one['seconds']} s"
        text += f", binary {one['binary']}…" if "binary" in one else ""
        text += f", {one['machine']}" if one["machine"] != data["machine"] else ""
        accounts.setdefault(text, []).append(name)
    return ["", "In pieces:", "", *(f"* {', '.join(names)}: {text}" for text, names in accounts.items())] if len(accounts) > 1 else []


def absent(data):
    """Who was not measured, and why: not there at all, or not in one scenario."""
    lines = [f"{name}: {why}" for name, why in data["missing"]]
    lines += [f"{scenario}, {name}: {why}" for scenario, failed in data.get("failed", {}).items() for name, why in failed.items()]
    left = {}
    for name in data["scenarios"]:
        for peer in sorted(load.SCENARIOS[name][4]):
            left.setdefault(peer, []).append(name)
    here = [peer for peer in left if peer in data["versions"]]
    return lines + [f"{peer}: left out of {', '.join(left[peer])} ([why](../../benches/compare/README.md))" for peer in here]


def counters(data):
    """What `perf stat` counted, where the kernel has counters."""
    rows = []
    for name, peers in data["scenarios"].items():
        for peer, rounds in peers.items():
            each = [one["counted"] for one in rounds if one.get("counted")]
            if each:
                cells = (min(one[event] for one in each if event in one) if any(event in one for one in each) else None for event in EVENTS)
                rows.append(f"| {name} | {peer} | " + " | ".join("–" if cell is None else f"{cell:,.0f}" for cell in cells) + " |")
    if not rows:
        return ["", "This kernel gave no counters (`perf stat`); user instructions are counted with valgrind, in a table of their own."]
    return ["", "By `perf stat`, for each request, the least of the rounds:", "", "| scenario | proxy | " + " | ".join(EVENTS) + " |", "|---|---|" + "--:|" * len(EVENTS), *rows]


def against_goals(data):
    """What the run says against the goals; empty where Narthex or nginx was not measured."""
    verdict = lambda figure, goal, *rounds: judge(reached(figure, goal), doubt(*rounds))
    ratio_to = lambda own, other: lowest(own) / lowest(other) if other else None
    shown = lambda ratio: f"{ratio:.2f}" if ratio else "–"
    rows = []
    for name, peers in data["scenarios"].items():
        base, own, replaced, emulated = (peers.get(peer) for peer in ("nginx", "narthex", "ingress-nginx", "nginx-lua"))
        if not base or not own:
            continue
        ratio, to_replaced, to_emulated = (ratio_to(own, other) for other in (base, replaced, emulated))
        counted = lowest(own) / (lowest(replaced) + replaced[0]["beside"]) if replaced and "beside" in replaced[0] else None
        goal = GOALS.get(name)
        rows.append(f"| {name}: {load.SCENARIOS[name][0]} | {ratio:.2f} ({middle(own) / middle(base):.2f}) | {shown(to_replaced)} | {shown(counted)} |"
                    f" {shown(to_emulated)} | {f'≤ {goal:.2f}' if goal else '–'} | {verdict(ratio, goal, own, base) if goal else ''} |")
        judged = to_replaced or to_emulated
        if name == "S1" and judged:
            whom = "ingress-nginx, its own Lua" if to_replaced else "the emulation, ingress-nginx is not here"
            rows.append(f"| S1 against nginx with Lua ({whom}) | | {shown(to_replaced)} | {shown(counted)} | {shown(to_emulated)} |"
                        f" ≤ {LUA:.2f} | {verdict(judged, LUA, own, replaced or emulated)} |")
    for kind, peers in data.get("idle", {}).items():
        if "narthex" in peers:
            rows.append(f"| idle connection, {kind} | {peers['narthex']:.{DIGITS}f} KiB | | | | ≤ {IDLE_GOALS[kind]} KiB | {verdict(peers['narthex'], IDLE_GOALS[kind])} |")
    if not rows:
        return []
    return ["", f"Against the goals, as ratios to nginx in the same run; a figure is judged as it is shown, with {DIGITS} digits.",
            "`ingress-nginx` is the nginx.conf that its controller renders for the same objects, with its own Lua code; in the column after it, what"
            " the controller takes to count the metrics that nginx sends it is added. The emulation is a file written by hand.", "",
            "| scenario | ratio to nginx, min (median) | ratio to ingress-nginx (its own Lua) | with its counting of metrics | ratio to the emulation | goal | |",
            "|---|--:|--:|--:|--:|--:|---|", *rows]


def instructions(data):
    lines = ["<!-- Made by benches/compare; do not edit. -->", "",
             "| scenario | proxy | user instructions per request | ratio to nginx |", "|---|---|--:|--:|"]
    for name, peers in data["counted"].items():
        base = peers.get("nginx")
        for peer, each in peers.items():
            lines.append(f"| {name}: {load.SCENARIOS[name][0]} | {peer} | {each:,} | {f'{each / base:.2f}' if base else '–'} |")
    if data.get("missing"):
        lines += ["", "Not counted:", ""] + [f"* {text}" for text in data["missing"]]
    return "\n".join(lines) + "\n"


def lengths(data):
    """How long was measured, also where pieces differ."""
    pairs = sorted({(one["rounds"], one["seconds"]) for name, one in data.get("made", {}).items() if name in data["scenarios"]} or {(data["rounds"], data["seconds"])})
    return "Least of " + " or ".join(f"{rounds} rounds of {seconds} s" for rounds, seconds in pairs)


# Where a bar is cut off, with its figure beside it.
WIDEST = 3.2


def plot(data):
    """Bars: lowest CPU per request as a ratio to nginx; a tick at the ratio of the medians."""
    bars = []
    for name, peers in data["scenarios"].items():
        base = peers.get("nginx")
        if base:
            bars.append((name, [(peer, lowest(rounds) / lowest(base), middle(rounds) / middle(base)) for peer, rounds in peers.items() if rounds]))
    height = 88 + sum(18 * len(rows) + 40 for _, rows in bars)
    scale, left, top = 130, 120, 62
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 {height}" width="620" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<text x="16" y="24" font-size="15">CPU time per request, nginx = 1 (less is better)</text>',
        f'<text x="16" y="42" fill="#555555">{lengths(data)}, run of {data["date"]}; the tick is the median. {escape(data["machine"].split(",")[0])}.</text>',
    ]
    y, texts = top, []
    for name, rows in bars:
        out.append(f'<text x="16" y="{y + 12}" font-weight="bold">{name}: {escape(load.SCENARIOS[name][0])}</text>')
        y += 18
        for peer, ratio, median in rows:
            width, tick = min(ratio, WIDEST) * scale, left + min(median, WIDEST) * scale
            texts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{peer}</text>')
            out.append(f'<rect x="{left}" y="{y + 2}" width="{width:.1f}" height="13" fill="{COLOURS.get(peer, "#999999")}"/>')
            if ratio > WIDEST:
                at = left + width - 14
                out.append(f'<path d="M{at:.1f} {y + 16} l6 -15 M{at + 5:.1f} {y + 16} l6 -15" stroke="#ffffff" stroke-width="2"/>')
            elif median <= WIDEST:
                out.append(f'<line x1="{tick:.1f}" y1="{y + 4}" x2="{tick:.1f}" y2="{y + 13}" stroke="#222222"/>')
            # Behind the figure what is drawn fades, so that it can be read on the line of nginx.
            texts.append(f'<text x="{max(left + width, tick) + 6:.1f}" y="{y + 12}" stroke="#ffffff" stroke-width="3" paint-order="stroke">{ratio:.2f}</text>')
            y += 18
        y += 22
    out.append(f'<line x1="{left + scale}" y1="{top + 16}" x2="{left + scale}" y2="{y - 18}" stroke="#444444" stroke-dasharray="3 3"/>')
    return "\n".join([*out, *texts, "</svg>"]) + "\n"
