#!/usr/bin/env python3
"""One run of the official Gateway API conformance suite inside the lab, and its report; `gateway` starts it.

Usage: gateway_run.py NARTHEX SUITE DEFINITIONS REPORT [TEST]... Exit status: 0 as GATEWAY_EXPECTS says, 1 otherwise.
"""

import json
import os
import re
import signal
import subprocess
import sys

LAB = os.environ["LAB_DIR"]
KUBECTL = [os.environ["LAB_KUBEBOX"], "kubectl"]
# The name by which a GatewayClass is ours.
CONTROLLER = "narthex.dev/gateway-controller"
CLASS = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "narthex"}, "spec": {"controllerName": CONTROLLER}}
# "nothing": the kinds of the Gateway API are not followed, so the class is never accepted, and that is all that is asserted.
# "core": every core test of the profile passes. To be changed with the first commit that follows these kinds.
GATEWAY_EXPECTS = "nothing"
# What there is beyond the core of the profile; the suite is asked for these too.
EXTENDED = []


def kubectl(*args, stdin=None):
    return subprocess.run([*KUBECTL, *args], input=stdin, capture_output=True, text=True, check=True).stdout


def version(narthex):
    return subprocess.run([narthex, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]


def suite(binary, report, narthex, tests):
    # Without an implementation there is nothing to wait a minute for.
    patience = ["-timeout-config-overrides=GatewayClassMustBeAccepted=5s;GWCMustBeAccepted=5s"] if GATEWAY_EXPECTS == "nothing" else []
    features = [f"-supported-features={','.join(['Gateway', 'ReferenceGrant', 'HTTPRoute', *EXTENDED])}"]
    command = [binary, "-test.v", "-test.timeout=60m", "-gateway-class=narthex", "-conformance-profiles=GATEWAY-HTTP", *features, "-organization=narthex",
               "-project=narthex", f"-version={version(narthex)}", "-contact=none", "-url=none", f"-report-output={report}",
               *(f"-run-test={test}" for test in tests)]
    done = subprocess.run([*command, *patience], capture_output=True, text=True, check=False)
    if patience and "timeout-config-overrides" in done.stdout + done.stderr and not re.search(r"^=== RUN", done.stdout, re.M):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done


def main():
    narthex, binary, definitions, report, *tests = sys.argv[1:]
    kubectl("apply", "--server-side", "-f", definitions)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    kubectl("apply", "-f", "-", stdin=json.dumps(CLASS))
    with open(os.path.join(LAB, "narthex.log"), "wb") as log:
        process = subprocess.Popen(
            [narthex, "controller", f"--kubeconfig={LAB}/admin.kubeconfig", "--http-addr=0.0.0.0:80", "--https-addr=0.0.0.0:443",
             "--admin-addr=127.0.0.1:10254", "--publish-status-address=127.0.0.1"],
            stdout=log, stderr=log, env={**os.environ, "POD_NAME": "conformance", "POD_NAMESPACE": "default"})
    try:
        done = suite(binary, report, narthex, tests)
        alive = process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    said = done.stdout + done.stderr
    passed = sorted(set(re.findall(r"^\s*--- PASS: TestConformance/(\w+) ", said, re.M)))
    failed = sorted(set(re.findall(r"^\s*--- FAIL: TestConformance/(\w+) ", said, re.M)))
    print(f"Gateway API: {len(passed)} tests pass, {len(failed)} fail; expected: {GATEWAY_EXPECTS}")
    if GATEWAY_EXPECTS == "nothing":
        accepted = json.loads(kubectl("get", "gatewayclass", "narthex", "-o", "json"))["status"]["conditions"]
        accepted = [one for one in accepted if one["type"] == "Accepted" and one["status"] == "True"]
        as_expected = alive and not accepted and not passed and done.returncode != 0
    else:
        as_expected = alive and passed and not failed and done.returncode == 0
    if not as_expected:
        print(said[-4000:])
    sys.exit(0 if as_expected else 1)


main()
