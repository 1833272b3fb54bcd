#!/usr/bin/env python3
"""Runs the proof of each promise of docs/security.md and writes what was measured into its table.

usage: promises.py [--long] [P1 P2 ...]

The table is the list: a row holds the promise, its proofs as commands in backticks, and the figure, which is replaced. Of a
`cargo test` it says how many tests passed and what they printed as `measured: ...`; of other commands, whose last line of
output is kept, it runs only those that need no minutes, or all with --long. A row none of whose proofs ran keeps what
it says. Fails when a proof does.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "security.md"
ROW = re.compile(r"^\| (?P<ids>P\d+(?:, P\d+)*) \| (?P<text>.*?) \| (?P<proof>.*) \| (?P<figure>[^|]*)\|$")
COMMAND = re.compile(r"`((?:cargo|make) [^`]*)`")
# These take minutes, a cluster, or machinery that is not everywhere.
LONG = ("make soak", "make cluster-test", "make malformed", "make fuzz-smoke", "make fuzz-proxy", "make attacks", "cargo bench")


def built(commands: list[str]) -> dict[str, str]:
    """The test programs of all commands, by target: built together, once."""
    targets = {target(command) for command in commands if command.startswith("cargo test")}
    flags = [flag for name in sorted(targets) for flag in (["--lib"] if name == "--lib" else ["--test", name])]
    if not flags:
        return {}
    cargo = os.environ.get("CARGO", "cargo")
    words = [cargo, "test", "--locked", "--no-run", "--message-format=json", *flags]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=DOCUMENT.parent.parent, check=True)
    programs = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["profile"]["test"]:
            about = message["target"]
            programs["--lib" if "lib" in about["kind"] else about["name"]] = message["executable"]
    return programs


def target(command: str) -> str:
    words = command.split()
    return "--lib" if words[2] == "--lib" else words[3]


def run(command: str, programs: dict[str, str]) -> tuple[bool, str]:
    """Whether it held, and what it said."""
    words = command.split()
    if is_test := words[:2] == ["cargo", "test"]:
        filters = words[3:] if words[2] == "--lib" else words[4:]
        words = [programs[target(command)], "--nocapture", *filters]
    elif words[0] == "make":
        words.insert(1, "--no-print-directory")
    begin = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, cwd=DOCUMENT.parent.parent, check=False)
    seconds = time.monotonic() - begin
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], file=sys.stderr)
    if not is_test:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        return done.returncode == 0, f"{lines[-1].strip() if lines else 'nothing'} ({seconds:.0f} s)"
    passed = sum(int(count) for count in re.findall(r"(\d+) passed", done.stdout))
    measured = re.findall(r"measured: (.*)", done.stdout)
    # A filter that finds nothing proves nothing.
    return done.returncode == 0 and passed > 0, "; ".join([*measured, f"{passed} tests"])


def main() -> int:
    long = "--long" in sys.argv
    wanted = {word for word in sys.argv[1:] if word != "--long"}
    lines, known, failed = DOCUMENT.read_text().splitlines(), {}, []
    rows = [(at, row) for at, line in enumerate(lines) if (row := ROW.match(line))]
    rows = [(at, row) for at, row in rows if not wanted or wanted & set(row["ids"].split(", "))]
    proofs = {
        at: [one for one in COMMAND.findall(row["proof"]) if long or not one.startswith(LONG)] for at, row in rows
    }
    programs = built([command for commands in proofs.values() for command in commands])
    for at, row in rows:
        figures = []
        for command in proofs[at]:
            if command not in known:
                print(f"{row['ids']}: {command}", flush=True)
                known[command] = run(command, programs)
            held, figure = known[command]
            figures.append(figure)
            if not held:
                failed.append(f"{row['ids']}: {command}: {figure}")
        if figures:
            kept = row["figure"].split("// ")[1:]
            figure = " // ".join(["; ".join(figures), *kept]).strip()
            lines[at] = f"| {row['ids']} | {row['text']} | {row['proof']} | {figure} |"
    DOCUMENT.write_text("\n".join(lines) + "\n")
    for failure in failed:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
