#!/usr/bin/env python3
"""One run of the official ingress-controller-conformance suite inside the lab, and its report; `ingress` starts it.

Usage: ingress_run.py NARTHEX CHECKOUT SUITE MODE COMMIT REPORT. Exit status 0: every scenario came out as expected; what is
expected to fail in which mode is listed in EXPECTED, with the reason.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

LAB = os.environ["LAB_DIR"]
KUBECTL = [os.environ["LAB_KUBEBOX"], "kubectl"]

# Scenarios that ask for what nginx does not do, by mode and a part of their names. In mode `kubernetes` there are none.
EXPECTED = {"kubernetes": {}, "nginx": {}}

CLASS = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "conformance"},
         "spec": {"controller": "k8s.io/ingress-nginx"}}


def sweep(stop):
    """The suite does not wait for its namespaces to be gone; their Ingresses would collide with the next scenario's."""
    while not stop.wait(0.5):
        listed = subprocess.run([*KUBECTL, "get", "namespaces", "-o", "json"], capture_output=True, text=True, check=False)
        if listed.returncode:
            continue
        for item in json.loads(listed.stdout)["items"]:
            if item["status"].get("phase") == "Terminating":
                subprocess.run([*KUBECTL, "-n", item["metadata"]["name"], "delete", "ingress", "--all"], capture_output=True, check=False)


def judge(folder):
    """(feature, scenario, failure or empty) of every scenario, from the suite's own JSON."""
    found = []
    for name in sorted(os.listdir(folder)):
        if not name.endswith("-report.json"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            for feature in json.load(file):
                for scenario in feature.get("elements", []):
                    bad = [step for step in scenario.get("steps", []) if step["result"]["status"] != "passed"]
                    why = f"{bad[0]['keyword'].strip()} {bad[0]['name']}: {bad[0]['result'].get('error_message', bad[0]['result']['status'])}" if bad else ""
                    found.append((feature["name"], scenario["name"], why))
    return found


def main():
    narthex, checkout, suite, mode, commit, report = sys.argv[1:]
    subprocess.run([*KUBECTL, "apply", "-f", "-"], input=json.dumps(CLASS), text=True, check=True, stdout=subprocess.DEVNULL)
    log_path = os.path.join(LAB, "narthex.log")
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            [narthex, "controller", f"--kubeconfig={LAB}/admin.kubeconfig", "--http-addr=0.0.0.0:80", "--https-addr=0.0.0.0:443",
             "--admin-addr=127.0.0.1:10254", "--ingress-class=conformance", f"--path-semantics={mode}", "--publish-status-address=127.0.0.1"],
            stdout=log, stderr=log, env={**os.environ, "POD_NAME": "conformance", "POD_NAMESPACE": "default"})
    stop = threading.Event()
    threading.Thread(target=sweep, args=(stop,), daemon=True).start()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tags = os.environ.get("NARTHEX_INGRESS_TAGS")
        command = [suite, "-test.v", "-test.timeout=60m", "-format=cucumber", f"-output-directory={folder}", "-no-colors",
                   "-ingress-class=conformance", "-wait-time-for-ingress-status=15s", *([f"-tags={tags}"] if tags else [])]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        found = judge(folder)
    stop.set()
    minutes = (time.monotonic() - began) / 60
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    expected = {name: next((why for part, why in EXPECTED[mode].items() if part in name), "") for _, name, _ in found}
    passed = sum(1 for _, _, why in found if not why)
    version = subprocess.run([narthex, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    lines = [f"# ingress-controller-conformance, `--path-semantics {mode}`", "",
             f"* Suite: kubernetes-sigs/ingress-controller-conformance at {commit}, unmodified.",
             f"* Subject: {version}, `narthex controller`, beside kube-apiserver 1.36.3 (see `conformance/README.md`).",
             f"* Result: {passed} of {len(found)} scenarios pass.", "",
             "| feature | scenario | result |", "|---|---|---|"]
    for feature, name, why in found:
        text = "passes" if not why else f"differs: {expected[name]}" if expected[name] else "FAILS: " + re.sub(r"\s+", " ", why).replace("|", "\\|")[:300]
        lines.append(f"| {feature} | {name} | {text} |")
    with open(report, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    unexpected = [(name, why) for _, name, why in found if bool(why) != bool(expected[name])]
    print(f"{mode}: {passed} of {len(found)} scenarios pass, in {minutes:.0f} minutes; report: {report}")
    for name, why in unexpected:
        print(f"  {name}: {why or 'passes, and was expected to fail'}")
    if unexpected or not found:
        print(done.stdout[-3000:], done.stderr[-3000:])
        with open(log_path, encoding="utf-8", errors="replace") as log:
            print(log.read()[-3000:])
        sys.exit(1)


main()
