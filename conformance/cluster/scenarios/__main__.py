"""`narthex controller` against a real API server, inside the lab (see `../lab`).

Usage: scenarios NARTHEX [NAME...]. Exit status: 0 all as expected, 1 something failed.
"""

import os
import sys
import time

import chaos
import following
import image
import many
import neighbours
import writing
from scene import CLASS, LAB, apply, backend, ingress, namespace, service, slices


def scenarios():
    for module in (following, writing, neighbours, chaos, image, many):
        yield from ((name[9:], run) for name, run in vars(module).items() if name.startswith("scenario_") and run.__module__ == module.__name__)


def show_logs():
    for log in sorted(os.listdir(LAB)):
        if log.startswith("narthex-"):
            with open(os.path.join(LAB, log), encoding="utf-8", errors="replace") as file:
                print(f"  --- {log}\n{file.read()[-3000:]}")


def main():
    narthex, names = sys.argv[1], sys.argv[2:]
    backend("10.244.0.1")
    backend("10.244.0.2")
    apply(namespace("team"), CLASS)
    apply(service(), slices("10.244.0.1"), ingress("a.test"))
    known = dict(scenarios())
    if unknown := set(names) - set(known):
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    failed = []
    for name, run in known.items():
        if names and name not in names:
            continue
        print(name, flush=True)
        began = time.monotonic()
        try:
            run(narthex)
            print(f"  passed in {time.monotonic() - began:.1f} s", flush=True)
        except Exception as error:  # each scenario is judged, whatever became of the one before
            failed.append(name)
            print(f"  FAILED: {error!r}")
            show_logs()
    print(f"{len(names or known) - len(failed)} scenarios passed{', FAILED: ' + ', '.join(failed) if failed else ''}")
    sys.exit(1 if failed else 0)


main()
