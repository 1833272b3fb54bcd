"""Tables of what scale.py measured; no measuring."""


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*titles):
    return ["", row(*titles), "|---" + "|--:" * (len(titles) - 1) + "|"]


def markdown(data):
    lines = ["<!-- Made by benches/compare/scale.py; do not edit. -->", "",
             f"Run of {data['date']} on {data['machine']}{', short form' if data['short'] else ''}. One worker, the proxy on one processor, client and back-end on the other."]
    for part, write in (("grow", grow), ("expressions", expressions), ("connections", connections),
                        ("churn", churn), ("fairness", fairness), ("tail", tail)):
        if part in data:
            lines += write(data[part])
    return "\n".join(lines) + "\n"


def grow(data):
    lines = ["", "## Tables of hosts with five paths each", "",
             "`change`: from the new content of one host on disk (nginx: from the signal to reload) to its being served, and the CPU time and the most memory of it. The directory is watched and changes are held off for a moment, which is most of the time here."]
    lines += head("hosts", "proxy", "start s", "start CPU-s", "memory MiB", "CPU-s per 100,000 requests", "change s", "change CPU-s", "change memory MiB")
    for hosts, proxies in data.items():
        for proxy, one in proxies.items():
            lines.append(row(f"{int(hosts):,}", proxy, f"{one['start']:.2f}", f"{one['start_cpu']:.2f}", f"{one['pss_mib']:.1f}", f"{one['cpu']:.2f}",
                             f"{one['change']:.2f}", f"{one['change_cpu']:.2f}", f"{one['change_pss_mib']:.1f}"))
    first, last = min(data, key=int), max((hosts for hosts in data), key=int)
    both = [data[at]["narthex"]["pss_mib"] for at in (first, last)]
    each = (both[1] - both[0]) * 1024 / ((int(last) - int(first)) * 5)
    return lines + ["", f"A route takes {each:.2f} KiB in all: its objects, its place in the table, what is kept to compile the next change."]


def expressions(data):
    lines = ["", "## Expressions on one host", "", "Each request takes the last of them."]
    lines += head("expressions", "CPU-s per 100,000 requests")
    return lines + [row(count, f"{one['cpu']:.2f}") for count, one in data.items()]


def connections(data):
    lines = ["", "## Connections that do nothing"]
    lines += head("connections", "count", "KiB each")
    names = {"idle": "idle, served once", "tunnel": "tunnel (WebSocket), both sides"}
    return lines + [row(names[kind], f"{one['count']:,}", f"{one['kib']:.2f}") for kind, one in data.items()]


QUANTILES = ("p50 ms", "p99 ms", "p99.9 ms", "failures")


def quantiles(one):
    return one["p50"], one["p99"], one["p999"], one["failures"]


def churn(data):
    lines = ["", "## While Ingresses change", "", "1,000 hosts; each change is one Ingress; 3,000 requests a second."]
    lines += head("changes a second, asked for", *QUANTILES, "changes made", "tables published")
    return lines + [row(name, *quantiles(one), one.get("done", "–"), one.get("tables", "–")) for name, one in data.items()]


def fairness(data):
    lines = ["", "## Beside the control plane", "",
             f"{data['routes']:,} routes; 3,000 requests a second; the control plane shares the one processor of the worker. `compile`: every route is compiled anew each second. `scrape`: all series each second. `explain`: 100 a second."]
    lines += head("beside", *QUANTILES, "done")
    return lines + [row(name, *quantiles(one), one.get("done", "–")) for name, one in data.items() if name != "routes"]


def tail(data):
    lines = ["", "## Tail and overload", "", "`at most`: what 64 connections get through as fast as they can. Overload comes over 256 connections."]
    lines += head("proxy", "at most, requests/s", "p99 at 40 %, ms", "p99.9 at 40 %, ms", "goodput at 150 %, of the most", "p99 at 150 %, ms", "failures")
    for proxy, one in data.items():
        calm, over = one["at40"], one["at150"]
        lines.append(row(proxy, f"{one['most']:.0f}", calm["p99"], calm["p999"], f"{over['rate'] / one['most']:.2f}", over["p99"], calm["failures"] + over["failures"]))
    return lines
