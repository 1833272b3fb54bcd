#!/usr/bin/env python3
"""Annotation, ConfigMap and flag vectors against `narthex standalone`, by clients that share no code with it.

For each case: a directory of manifests, a fresh process, the backends of the case on loopback; then requests, changes
of live objects with further requests, the admission webhook, metrics and the log. A case that is not met stands with
its reason in annotation-pinned.yaml, and must fail. Exit status: 0 all as expected, 1 something else.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

from annotations import client, judge
from annotations.backends import Names
from annotations.credentials import Authorities
from annotations.scene import Scene
from routing_blackbox import DATA, READY, Unexpected, expect, load

SETTLED = 10  # seconds until a change of the objects must show
TOLD = 5  # seconds until logs, metrics and copies must show
MOMENT = 1  # seconds that what must not come has to come in
TWICE = 0.05  # seconds between two looks
STAPLED = 8  # seconds until an OCSP answer must be there
PASSED, FAILED, PINNED = "passed", "failed", "pinned"
# What the vectors may say; anything else fails its case, so that nothing is passed over. `judge` knows expectations.
KNOWN = {
    "case": "name description class area upstream_ref note needs configmap flags ingressClasses ingresses namespaces"
    " objects secrets services requests steps admission log metrics",
    "request": "method scheme host path sni headers body body_size chunked basic_auth cookies keep_cookies client_cert"
    " repeat concurrent timeout proxy_protocol_line port wait save_endpoint stop",
    "step": "update requests",
    "update": "ingresses objects secrets services namespaces configmap delete stop",
    "service": "exists kind replicas endpoints fresh externalName cluster_ip ports port_name cert",
    "secret": "commonName dnsNames ca key chain ocsp htpasswd auth_map scheme data",
    "stop": "signal exit_within",
    "log": "contains not_contains file",
    "metrics": "name present labels series",
    "admission": "object verdict message_contains http_status",
    "seen": "count method target body headers",
}
KINDS = {"echo", "errors", "httpbun", "https", "fastcgi", "grpc", "grpcs", "closed"}


def unknown(case):
    """What the case says that nothing here would judge."""

    def strangers(kind, value):
        return ["%s %s" % (kind, key) for key in set(value) - set(KNOWN[kind].split())]

    found = strangers("case", case)
    requests = list(case["requests"])
    for step in case.get("steps") or []:
        found += strangers("step", step) + strangers("update", step["update"])
        requests += step["requests"]
    for vector in requests:
        found += strangers("request", vector["request"]) + strangers("stop", vector["request"].get("stop") or {})
        for wanted in (vector["expect"].get("seen") or {}).values():
            found += strangers("seen", wanted)
    for part in [case] + [step["update"] for step in case.get("steps") or []]:
        for service in (part.get("services") or {}).values():
            kind = service.get("kind", "echo")
            found += strangers("service", service) + ([] if kind in KINDS else ["kind %s" % kind])
        for secret in (part.get("secrets") or {}).values():
            found += strangers("secret", secret)
    for one in case.get("metrics") or []:
        found += strangers("metrics", one)
    for one in case.get("admission") or []:
        found += strangers("admission", one)
    return found + strangers("log", case.get("log") or {})


async def until(seconds, check, *values):
    """Looks until `check` holds; its last complaint goes on when the time is over."""
    end = time.monotonic() + seconds
    while True:
        try:
            return check(*values)
        except Unexpected:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(TWICE)


def read(path):
    if not os.path.exists(path):
        return ""
    with open(path, errors="replace") as file:
        return file.read()


class Run:
    """One case from its first object to the end of its process."""

    def __init__(self, case, ours, binary, resolver, authorities, folder):
        self.case, self.ours, self.binary, self.resolver, self.authorities = case, ours, binary, resolver, authorities
        self.scene, self.log, self.child = Scene(case, authorities, folder), os.path.join(folder, "log"), None
        self.jar, self.remembered, self.complaints, self.judged = {}, {}, [], False
        self.ports = (self.scene.ports["http"], self.scene.ports["https"])

    async def complaints_of(self):
        """What was not as expected, each with its place; `judged` then tells whether the case came to its end."""
        try:
            await self.scene.build()
            await self.start()
            for index, vector in enumerate(self.case["requests"]):
                expected = self.ours.get((self.case["name"], index)) or vector["expect"]
                await self.note("[%d]" % index, self.ask(vector["request"], expected))
            for number, step in enumerate(self.case.get("steps") or [], 1):
                await self.scene.change(step["update"])
                for index, vector in enumerate(step["requests"]):
                    patience = 0 if index else SETTLED
                    asking = self.ask_patiently(vector["request"], vector["expect"], patience)
                    await self.note("[step %d.%d]" % (number, index), asking)
            await self.note(" admission", self.admission())
            await self.note(" metrics", self.metrics())
            await self.note(" log", self.logged())
            self.judged = True
        except (Unexpected, OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
            self.complaints.append(" %s" % (str(error) if isinstance(error, Unexpected) else repr(error)))
        finally:
            self.end()
        return self.complaints

    async def note(self, where, work):
        try:
            await work
        except Unexpected as complaint:
            self.complaints.append("%s %s" % (where, complaint))

    # --- the process ---

    async def start(self):
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(self.scene.command(self.binary, self.resolver), stdout=log, stderr=log)
        end, probe = time.monotonic() + READY, {"method": "GET", "host": "localhost", "path": "/readyz", "timeout": 1}
        while (await self.send(self.scene.ports["admin"], probe)).status != 200:
            running = self.child.poll() is None and time.monotonic() < end
            expect(running, "not ready (%s): %s", self.child.poll(), read(self.log)[-300:])
            await asyncio.sleep(TWICE)

    async def gone(self, seconds):
        end = time.monotonic() + seconds
        while self.child.poll() is None and time.monotonic() < end:
            await asyncio.sleep(TWICE)
        return self.child.poll() is not None

    def end(self):
        if self.child:
            self.child.kill()
            self.child.wait()
        self.scene.close()

    # --- requests ---

    def send(self, port, request):
        return client.ask(port, request, self.authorities, self.jar)

    async def ask_patiently(self, request, expected, patience):
        end, jar = time.monotonic() + patience, dict(self.jar)
        while True:
            try:
                return await self.ask(request, expected)
            except Unexpected:
                if time.monotonic() > end or self.child.poll() is not None:
                    raise
            self.jar = dict(jar)
            await asyncio.sleep(TWICE)

    async def ask(self, request, expected):
        request, expected = self.scene.filled(request), self.scene.filled(expected)
        await asyncio.sleep(request.get("wait", 0))
        if "stop" in request:
            return await self.tell_to_stop(request["stop"])
        port = int(request.get("port", self.ports[request.get("scheme") == "https"]))
        if "concurrent" in request:
            answers = await asyncio.gather(*(self.send(port, request) for _ in range(request["concurrent"])))
        else:
            answers = [await self.send(port, request) for _ in range(request.get("repeat", 1))]
        facts = {}
        if "certificate" in expected and answers[0].certificate:
            facts = await client.certificate_facts(answers[0], port, request)
        if "ocsp" in expected:
            facts["ocsp"] = await self.stapled(port, request["host"], expected["ocsp"])
        judge.Judge(request, expected, self.ports, self.remembered, facts).judge(answers)
        for key, wanted in (expected.get("seen") or {}).items():
            await until(TOLD, judge.seen, self.scene.services[key].record, self.ports, wanted)
        if "save_endpoint" in request:
            self.remembered[request["save_endpoint"]] = answers[0].field("x-echo-addr")

    async def tell_to_stop(self, stop):
        self.child.send_signal(getattr(signal, "SIG" + stop["signal"]))
        if "exit_within" in stop:
            gone = await self.gone(stop["exit_within"])
            expect(gone, "still there %s s after SIG%s", stop["exit_within"], stop["signal"])

    async def stapled(self, port, name, wanted):
        """The stapled answer; the first handshake may only start its fetch."""
        end = time.monotonic() + STAPLED
        while True:
            said = await client.shake_hands(port, name, "-status")
            if "Cert Status: " + wanted in said:
                return wanted
            if time.monotonic() > end:
                return None
            await asyncio.sleep(TWICE)

    # --- beside requests ---

    async def admission(self):
        fields = [["Content-Type", "application/json"]]
        for number, wanted in enumerate(self.case.get("admission") or []):
            one = self.scene.filled(wanted["object"])
            asked = {"uid": "review-%d" % number, "operation": "CREATE", "object": one, "name": one["metadata"]["name"]}
            asked["kind"] = {"group": "networking.k8s.io", "version": "v1", "kind": one["kind"]}
            asked["resource"] = {"group": "networking.k8s.io", "version": "v1", "resource": "ingresses"}
            asked["namespace"] = one["metadata"].get("namespace", "default")
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
            request = {"method": "POST", "scheme": "https", "host": "localhost", "path": "/networking/v1/ingresses"}
            request.update(headers=fields, body=json.dumps(review))
            judge.verdict(await self.send(self.scene.ports["webhook"], request), wanted)

    async def metrics(self):
        request = {"method": "GET", "host": "localhost", "path": "/metrics"}
        for wanted in self.case.get("metrics") or []:
            end = time.monotonic() + TOLD
            if not wanted["present"]:
                await asyncio.sleep(MOMENT)
            while True:
                answer = await self.send(self.scene.ports["admin"], request)
                expect(answer.status == 200, "/metrics: status %s", answer.status)
                try:
                    judge.metric(answer.body, wanted)
                    break
                except Unexpected:
                    if not wanted["present"] or time.monotonic() > end:
                        raise
                await asyncio.sleep(TWICE)

    async def logged(self):
        wanted = self.case.get("log") or {}
        path = self.scene.filled(wanted["file"]) if "file" in wanted else self.log
        for text in wanted.get("contains") or []:
            await until(TOLD, lambda: expect(text in read(path), "lacks %r", text))
        if "not_contains" in wanted:
            # A process that has ended has written all it had.
            self.child.send_signal(signal.SIGTERM)
            expect(await self.gone(SETTLED), "the process does not end")
        for text in wanted.get("not_contains") or []:
            expect(text not in read(path), "has %r", text)


def chosen(cases, arguments):
    wanted = [case for case in cases if not arguments.only or case["name"] in arguments.only]
    wanted = [case for case in wanted if not arguments.area or case["area"] in arguments.area]
    return [case for case in wanted if not arguments.klass or case["class"] in arguments.klass]


def ruling(complaints, judged, reason):
    """What becomes of a case, and the line about it. A pin excuses an answer, not a case that did not run."""
    if reason and not complaints:
        return FAILED, " passes, but is pinned: " + reason
    if reason and judged:
        return PINNED, None
    return (FAILED, ";".join(complaints)) if complaints else (PASSED, None)


def command_line():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="the binary")
    parser.add_argument("--vectors", default=os.path.join(DATA, "annotation-vectors.yaml"))
    parser.add_argument("--pinned", default=os.path.join(DATA, "annotation-pinned.yaml"), help="cases that are not met")
    parser.add_argument("--decided", default=os.path.join(DATA, "decided.yaml"), help="deliberate differences")
    parser.add_argument("--only", action="append", metavar="CASE", help="these cases only")
    parser.add_argument("--area", action="append", help="cases of these areas only")
    parser.add_argument("--class", action="append", dest="klass", metavar="CLASS", help="cases of these classes only")
    parser.add_argument("--jobs", type=int, default=4, help="processes at a time")
    parser.add_argument("-v", action="store_true", dest="verbose", help="tell what is wrong with pinned cases too")
    return parser.parse_args()


async def main():
    arguments = command_line()
    every, pinned = load(arguments.vectors)["cases"], load(arguments.pinned) or {}
    decided = load(arguments.decided)["decided"]
    ours = {(one["case"], one["request"]): one["ours"] for one in decided if one["vectors"] == "annotations"}
    names = [case["name"] for case in every]
    for name in sorted(set(pinned) - set(names)) + [name for name, count in Counter(names).items() if count > 1]:
        sys.exit("%s: pinned without a case, or there twice" % name)
    cases, slots = chosen(every, arguments), asyncio.Semaphore(arguments.jobs)
    folder, resolver = tempfile.mkdtemp(), await Names().start()
    authorities = Authorities(folder)

    async def slot(case):
        async with slots:
            strange = unknown(case)
            if strange:
                return case, [" is not understood: " + ", ".join(strange)], False
            run = Run(case, ours, arguments.bin, resolver, authorities, tempfile.mkdtemp(dir=folder))
            return case, await run.complaints_of(), run.judged

    totals = {}
    try:
        for finished in asyncio.as_completed([slot(case) for case in cases]):
            case, complaints, judged = await finished
            verdict, line = ruling(complaints, judged, pinned.get(case["name"]))
            totals.setdefault(case["class"], Counter())[verdict] += 1
            if line:
                print("FAIL %s%s" % (case["name"], line), flush=True)
            elif complaints and arguments.verbose:
                print("pinned %s%s" % (case["name"], ";".join(complaints)), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return summary(totals, len(cases))


def summary(totals, cases):
    for name, found in sorted(totals.items()):
        print("class %-10s %s" % (name, ", ".join("%d %s" % (found[one], one) for one in (PASSED, FAILED, PINNED))))
    total = sum(totals.values(), Counter())
    print("%d cases: %s" % (cases, ", ".join("%d %s" % (total[one], one) for one in (PASSED, FAILED, PINNED))))
    judged = total[PASSED] + total[PINNED]
    return 0 if judged == cases and cases else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
