"""Tables of what scale.py measured; no measuring."""

import goals


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*titles):
    return ["", row(*titles), "|---" + "|--:" * (len(titles) - 1) + "|"]


def markdown(data):
    made = data.get("made", {})
    lines = ["<!-- Made by benches/compare/scale.py; do not edit. -->", "",
             f"Run of {data['date']} on {data['machine']}{', short form' if data['short'] else ''}{'; where another day or form is named below a part, that one' if made else ''}. One worker, the proxy on one processor, client and back-end on the other, where nothing else is said.",
             "Where a cell has two figures they are the least and the median of the rounds, which alternate between what is compared."]
    for part, write in WRITERS.items():
        if part in data:
            lines += write(data[part])
            if part in data.get("load", {}):
                lines += ["", f"Load average at the end of this part: {data['load'][part]}.{account(made.get(part), data)}"]
    return "\n".join(lines) + "\n"


def account(made, data):
    """When and how a part was made, where that differs from the page, and who was there besides."""
    if not made:
        return ""
    text = f" Others used {made['foreign']:.2f} of a processor during it." if "foreign" in made else ""
    if made["date"] != data["date"] or made["machine"] != data["machine"]:
        text += f" Made on {made['date']} on {made['machine']}."
    if made["short"] != data["short"]:
        text += " Short form." if made["short"] else " Full form."
    return text + (f" SHA-256 of the binary {made['binary']}…." if "binary" in made else "")


def number(value, digits):
    return "–" if value is None else f"{value:,.{digits}f}"


def both(pair, digits=2):
    """Least and median."""
    return "–" if pair is None else f"{pair['best']:.{digits}f} / {pair['median']:.{digits}f}"


def grow(data):
    lines = ["", "## Tables of hosts with five paths each", "",
             "`change`: from the new content of one host on disk to another table that is served (nginx: from the signal to reload to a new worker), with the CPU time and the most memory of it; the directory is watched and changes are held off for a moment, which is most of the time here.",
             "`compile` is the part of it between objects and table. `everything`: a setting changes every route; CPU time of the thread that reads and compiles, the most memory while both tables are there, and what stays."]
    lines += head("hosts", "proxy", "start s", "start CPU-s", "memory MiB", "CPU-s per 100,000 requests", "change s", "compile ms", "change CPU-s", "change memory MiB",
                  "everything CPU-s", "compile s", "memory MiB, most", "after")
    for hosts, proxies in data.items():
        for proxy, one in proxies.items():
            build = one.get("change_build")
            lines.append(row(f"{int(hosts):,}", proxy, number(one["start"], 2), number(one["start_cpu"], 2), number(one["pss_mib"], 1), number(one["cpu"], 2),
                             number(one["change"], 3), number(build and build * 1000, 2), number(one["change_cpu"], 3), number(one["change_pss_mib"], 1),
                             number(one.get("full_cpu"), 2), number(one.get("full_build"), 2), number(one.get("full_pss_mib"), 1), number(one.get("after_pss_mib"), 1)))
    first, last = min(data, key=int), max(data, key=int)
    memory = [data[at]["narthex"]["pss_mib"] for at in (first, last)]
    each = (memory[1] - memory[0]) * 1024 / ((int(last) - int(first)) * 5)
    return lines + ["", f"A route takes {each:.2f} KiB in all: its objects, its place in the table, what is kept to compile the next change.",
                    "nginx is left out above 10,000 hosts: its reload of those takes minutes and several GiB."]


def many(data):
    few, most = sorted(data["cpu"], key=int)
    return ["", f"## One host and {data['hosts']:,} at once", "", "Two processes on one processor, one with one host, the other with many, each asked for all of its own at the same time. The ratio is the median of the rounds' (least to most).",
            *head("hosts", "CPU-s per 100,000 requests, least"), row("1", number(data["cpu"][few], 2)), row(f"{int(most):,}", number(data["cpu"][most], 2)), "", f"Ratio: {goals.with_range(data['ratio'])}."]


def expressions(data):
    lines = ["", "## Expressions on one host", "", "Each request takes the last of them."]
    lines += head("expressions", "CPU-s per 100,000 requests", "memory MiB")
    return lines + [row(count, number(one["cpu"], 2), number(one.get("pss_mib"), 1)) for count, one in data.items()]


def connections(title):
    def write(data):
        lines = ["", f"## {title}"] + head("proxy", "connections", "KiB each")
        lines += [row(name, f"{one['count']:,}", number(one["kib"], 2)) for name, one in data.items()]
        descriptors = next((one["descriptors"] for one in data.values() if one.get("descriptors")), None)
        return lines + (["", f"As many as {descriptors:,} descriptors for each process allow here (`ulimit -Hn`); with more there are 10,000."] if descriptors else [])
    return write


QUANTILES = ("p50 ms", "p99 ms", "p99.9 ms", "failures")


def quantiles(one):
    return both(one["p50"]), both(one["p99"]), both(one["p999"]), one["failures"]


def changes(data):
    lines = ["", "## While Ingresses change", "", "1,000 hosts; each change is one Ingress; 3,000 requests a second."]
    lines += head("changes a second, asked for", *QUANTILES, "changes made", "of these failed", "tables published")
    return lines + [row(name, *quantiles(one), one.get("done", "–"), one.get("errors", "–"), one.get("tables") or "–") for name, one in data.items()]


def swaps(data):
    lines = ["", "## While tables are swapped", "",
             "16 connections that ask again as soon as they have an answer, 100 that asked once and idle. Each swap changes the host that is asked for. A request is lost when its connection ends without an answer, whether it may be tried again or not."]
    lines += head("proxy", "swaps (nginx: reloads)", "requests answered", "requests lost", "connections closed", "of these idle")
    return lines + [row(name, f"{one['swaps']:,}", f"{one['answered']:,}", one["lost"], one["closed"], one["idle_closed"]) for name, one in data.items()]


def control(data):
    lines = ["", "## Beside the control plane", "",
             f"{data['routes']:,} routes; 3,000 requests a second. `compile`: every route is compiled anew each second. `scrape`: all series each second ({data['scrape_mib']:.1f} MiB). `explain`: 100 a second. `nobody`: what the client's side does for these, without the proxy: 100 times a second a file is written and the back-end asked.",
             "`waited`: how long the worker's thread was ready and had no processor, by the kernel's account: this is of the proxy alone. The other figures hold what client, back-end and machine add."]
    lines += ["", "In rounds of two seconds; the ratio is the median of the rounds' (least to most). `nothing` and `nobody` show what it is worth: without the proxy's doing it is 1."]
    for place, (title, base) in PLACES.items():
        if place in data:
            lines += ["", f"{title}:"] + head("beside", *QUANTILES, base, "ratio of p99", *DONE)
            lines += [row(name, *quantiles(one), both(one["base"]["p99"]), goals.with_range(one["ratio"]), *done(one)) for name, one in data[place].items()]
    return lines


PLACES = {
    "shared": ("The control plane on the one processor of the worker; each round after one without", "p99 before, ms"),
    "apart": ("Two processes, their workers on one processor, all else on the other; the control plane of one works, its twin's does not, and both are asked at once, each at half of the rate", "the twin's p99, ms"),
}
DONE = ("waited, ms a second", "done", "of these failed", "tables compiled")


def done(one):
    return both(one.get("waited")), one.get("done", "–"), one.get("errors", "–"), one.get("tables", "–")


def tail(data):
    one = next(iter(data.values()))
    lines = ["", "## Tail at 40 % of the most", "", f"{one['asked']:.0f} requests a second over 64 connections, 40 % of what the slower of both gets through. Workers, like clients, are in real-time scheduling where that is allowed: what else the machine does is most of a tail otherwise."]
    lines += head("proxy", "at most, requests/s", *QUANTILES)
    return lines + [row(name, number(one["most"], 0), *quantiles(one)) for name, one in data.items()]


def tail_at_once(data):
    one = next(iter(data["proxies"].values()))
    lines = ["", "## Tail of both at once", "", f"{one['asked']:.0f} requests a second to each at the same time, on one processor, 20 % of what the slower of both gets through alone; else as above. What the machine does hits both: the ratio is the median of the rounds' ratios."]
    lines += head("proxy", *QUANTILES)
    lines += [row(name, *quantiles(told)) for name, told in data["proxies"].items()]
    lines += ["", "Narthex to nginx: " + ", ".join(f"{title} {data['ratios'][key]:.2f}" for title, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))) + "."]
    return lines


def overload(data):
    lines = ["", "## 150 % of the most", "",
             "A rival takes half of the proxy's processor, so that client and back-end can do more than the proxy; the most is measured beside it too. Requests come over 512 connections; the second figure is what these get through when each waits for its answers."]
    lines += head("proxy", "at most, requests/s", "over 512 connections", "goodput at 150 %, of the most: worst", "best", "p99 ms", "failures", "of its processor", "client and back-end busy, most")
    return lines + [row(name, number(one["most"]["median"], 0), number(one["crowd"]["median"], 0) if "crowd" in one else "–", number(one["share"]["worst"], 2), number(one["share"]["best"], 2), both(one["p99"]), one["failures"],
                        number(one["used"]["median"], 2) if "used" in one else "–", number(one["client"]["best"], 2) if "client" in one else "–")
                    for name, one in data.items()]


def blocking(data):
    lines = ["", "## Small requests beside large bodies", "",
             "Two workers each, on both processors, which client and back-end share; 1,500 small requests a second, and 200 bodies of 1 MiB a second over eight connections."]
    lines += head("beside", "proxy", *QUANTILES)
    return lines + [row(kind, name, *quantiles(one)) for kind, proxies in data.items() for name, one in proxies.items()]


WRITERS = {
    "tables": grow, "many": many, "regex": expressions, "idle": connections("Idle connections, each served once"),
    "tunnels": connections("Tunnels (WebSocket) that say nothing, both sides"), "changes": changes, "swaps": swaps, "control": control,
    "tail": tail, "tail-at-once": tail_at_once, "overload": overload, "blocking": blocking,
}
