"""Tables and a plot from the raw data; no measuring."""

import statistics

import load
from goals import DIGITS, IDLE as IDLE_GOALS, LUA, RATIOS as GOALS, reached

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
        *against_goals(data),
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
    if data.get("idle"):
        kinds = list(data["idle"])
        lines += ["", "Memory of an idle connection, KiB (proportional set size of a fresh process, after one request on each):", "",
                  "| proxy | " + " | ".join(kinds) + " |", "|---|" + "--:|" * len(kinds)]
        for peer in data["idle"][kinds[0]]:
            lines.append(f"| {peer} | " + " | ".join(f"{data['idle'][kind].get(peer, 0):.2f}" for kind in kinds) + " |")
    if data.get("latency"):
        rate = next(iter(data["latency"].values()))["asked"]
        lines += ["", f"Latency of small HTTP/1.1 requests at {rate:,} a second that come whether the last one was answered or not, ms (the better of two runs):", "",
                  "| proxy | p50 | p99 | p99.9 | failures |", "|---|--:|--:|--:|--:|"]
        for peer, one in data["latency"].items():
            lines.append(f"| {peer} | {one['p50']} | {one['p99']} | {one['p999']} | {one['failures']} |")
    lines += ["", "Versions:", ""] + [f"* {name}: {text}" for name, text in data["versions"].items()]
    for name, why in data["missing"]:
        lines.append(f"* {name}: not measured, {why}")
    counted = {name: peers["ingress-nginx"][0]["beside"] for name, peers in data["scenarios"].items()
               if peers.get("ingress-nginx") and "beside" in peers["ingress-nginx"][0]}
    if counted:
        lines += ["", "CPU-s per 100,000 requests that the controller of ingress-nginx takes besides to count metrics, in no row above: "
                  + ", ".join(f"{name} {each:.2f}" for name, each in counted.items()) + "."]
    loads = [one["load"] for peers in data["scenarios"].values() for rounds in peers.values() for one in rounds]
    if loads:
        lines += ["", f"Load average during the run: {min(loads):.1f} to {max(loads):.1f}."
                  " Client, back-end and proxy account for about 2; what is above is foreign and makes single figures noisy."]
    return "\n".join(lines) + "\n"


def against_goals(data):
    """What the run says against the goals; empty where Narthex or nginx was not measured."""
    verdict = lambda figure, goal: "met" if reached(figure, goal) else "missed"
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
                    f" {shown(to_emulated)} | {f'≤ {goal:.2f}' if goal else '–'} | {verdict(ratio, goal) if goal else ''} |")
        judged = to_replaced or to_emulated
        if name == "S1" and judged:
            whom = "ingress-nginx, its own Lua" if to_replaced else "the emulation, ingress-nginx is not here"
            rows.append(f"| S1 against nginx with Lua ({whom}) | | {shown(to_replaced)} | {shown(counted)} | {shown(to_emulated)} |"
                        f" ≤ {LUA:.2f} | {verdict(judged, LUA)} |")
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
    return "\n".join(lines) + "\n"


def plot(data):
    """Bars: lowest CPU per request as a ratio to nginx."""
    bars = []
    for name, peers in data["scenarios"].items():
        base = peers.get("nginx")
        if base:
            bars.append((name, [(peer, lowest(rounds) / lowest(base)) for peer, rounds in peers.items() if rounds]))
    height = 60 + sum(18 * len(rows) + 26 for _, rows in bars)
    scale, left, top = 130, 230, 46
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<text x="16" y="24" font-size="15">CPU time per request, nginx = 1 (less is better)</text>',
    ]
    y = top
    for name, rows in bars:
        out.append(f'<text x="16" y="{y + 12}" font-weight="bold">{name}</text>')
        for peer, ratio in rows:
            width = min(ratio, 3.2) * scale
            out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{peer}</text>')
            out.append(f'<rect x="{left}" y="{y + 2}" width="{width:.1f}" height="13" fill="{COLOURS.get(peer, "#999999")}"/>')
            out.append(f'<text x="{left + width + 6:.1f}" y="{y + 12}">{ratio:.2f}</text>')
            y += 18
        y += 26
    out.append(f'<line x1="{left + scale}" y1="{top - 6}" x2="{left + scale}" y2="{y - 20}" stroke="#444444" stroke-dasharray="3 3"/>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
