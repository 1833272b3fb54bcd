"""How fast changes of a real API server are in effect: `bench.py NARTHEX [SECONDS]`, inside the lab; `../bench` starts it.

A change is in effect when a request is answered by it. Time counts from the answer of the API server to whoever wrote, so it
holds the watch, the compiler, the publication and the request that shows it.
"""

import concurrent.futures
import http.client
import json
import os
import signal
import ssl
import sys
import threading
import time

from scene import CLASS, Controller, apply, backend, eventually, ingress, kubectl, namespace, service, slices
from writing import webhook_configuration

CROWD = 16  # connections that write at a time
RATE = 100  # endpoint changes a second


class Api(threading.local):
    """One connection of each thread to the API server."""

    connection = None

    def __call__(self, method, path, body=None, kind="application/json"):
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("127.0.0.1", 16443, timeout=60, context=ssl._create_unverified_context())
        self.connection.request(method, path, json.dumps(body) if body is not None else None,
                                {"authorization": "Bearer admin-token", "content-type": kind})
        answer = self.connection.getresponse()
        data = answer.read()
        assert answer.status < 300, (method, path, answer.status, data[:300])
        return data


API = Api()
SLICES = "/apis/discovery.k8s.io/v1/namespaces/team/endpointslices"
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/team/ingresses"


def spread(times):
    """Median, 99th percentile and maximum, in milliseconds."""
    times = sorted(times)
    pick = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return f"p50 {pick(0.5) * 1000:.0f} ms, p99 {pick(0.99) * 1000:.0f} ms, max {times[-1] * 1000:.0f} ms, of {len(times)}"


def write(objects, path):
    with concurrent.futures.ThreadPoolExecutor(CROWD) as crowd:
        for done in [crowd.submit(API, "POST", path, one) for one in objects]:
            done.result()


class Probe:
    """Asks the same connection again and again."""

    def __init__(self, controller):
        self.connection = http.client.HTTPConnection("127.0.0.1", controller.port, timeout=10)

    def until(self, host, wanted):
        """Seconds until a host is answered so."""
        began = time.monotonic()
        while True:
            self.connection.request("GET", "/", headers={"host": host})
            answer = self.connection.getresponse()
            got = (answer.status, answer.read().decode())
            if wanted(got):
                return time.monotonic() - began
            assert time.monotonic() - began < 60, (host, got)


def new_ingresses(controller, count):
    """One after the other, each new to the table."""
    probe, times = Probe(controller), []
    for number in range(count):
        API("POST", INGRESSES, ingress(f"fresh{number}.test"))
        times.append(probe.until(f"fresh{number}.test", lambda got: got[0] == 200))
    return times


def churn(stop, services):
    """RATE changes a second of the endpoints of many Services."""
    count = [0]

    def change(number):
        # Another address each time: nothing that can be skipped.
        address = f"10.244.{2 + number % 250}.{1 + number // 250 % 250}"
        API("PATCH", f"{SLICES}/many-{number % services}", {"endpoints": [{"addresses": [address]}]}, "application/merge-patch+json")
        count[0] += 1

    with concurrent.futures.ThreadPoolExecutor(CROWD) as crowd:
        began = time.monotonic()
        for number in range(10**9):
            if stop.is_set():
                break
            # A pace, not a wait for something: what is measured is what happens at this rate.
            time.sleep(max(0, began + number / RATE - time.monotonic()))
            crowd.submit(change, number)
        elapsed = time.monotonic() - began
    return count[0] / elapsed


def endpoint_changes(controller, seconds):
    probe, times = Probe(controller), []
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        address = f"10.244.0.{2 - number % 2}"
        API("PATCH", f"{SLICES}/web-1", {"endpoints": [{"addresses": [address]}]}, "application/merge-patch+json")
        times.append(probe.until("a.test", lambda got: got[1] == address))
        number += 1
    return times


def verdicts(port, count):
    """Reviews asked of the webhook's own port: half of new Ingresses, half of changed ones."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=ssl._create_unverified_context())
    times = []
    for number in range(count):
        host = f"n{number * 7 % 9000}.test" if number % 2 else f"never{number}.test"
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": str(number), "operation": "UPDATE" if number % 2 else "CREATE", "object": ingress(host), "namespace": "team", "name": host,
            "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"}}}
        body = json.dumps(review)
        began = time.monotonic()
        connection.request("POST", "/networking/v1/ingresses", body, {"content-type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        times.append(time.monotonic() - began)
        assert answer["response"]["allowed"], answer
    return times


def fill(begin, end):
    write([ingress(f"n{number}.test") for number in range(begin, end)], INGRESSES)


def main():
    narthex, seconds = sys.argv[1], float((sys.argv[2:] or ["20"])[0])
    for address in ("10.244.0.1", "10.244.0.2"):
        backend(address)
    apply(namespace("team"), CLASS, service(), slices("10.244.0.1"), ingress("a.test"))
    fill(0, 1000)
    apply(webhook_configuration(20003))
    controller = Controller(narthex, 20000, "--update-status=false", "--disable-sync-events", "--validating-webhook=127.0.0.1:20003",
                            "--validating-webhook-configuration=admission", "--validating-webhook-secret=team/admission")
    kubectl("delete", "validatingwebhookconfiguration", "admission", "--wait=false")
    kubectl("apply", "-f", "-", stdin=json.dumps({**webhook_configuration(20003), "webhooks": [
        {**webhook_configuration(20003)["webhooks"][0], "namespaceSelector": {"matchLabels": {"nobody": "here"}}}]}))
    try:
        eventually("readiness", controller.is_ready)
        print(f"1,000 Ingresses, a new one:        {spread(new_ingresses(controller, 200))}; goal p99 < 200 ms", flush=True)
        fill(1000, 10_000)
        services = 500
        many = [{**slices(f"10.244.1.{1 + number % 250}"), "metadata": {"name": f"many-{number}", "namespace": "team",
                                                                        "labels": {"kubernetes.io/service-name": f"many-{number}"}}} for number in range(services)]
        write([{**service(), "metadata": {"name": f"many-{number}", "namespace": "team"}} for number in range(services)], "/api/v1/namespaces/team/services")
        write(many, SLICES)
        used = [ingress(f"m{number}.test") for number in range(services)]
        for number, one in enumerate(used):
            one["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = f"many-{number}"
        write(used, INGRESSES)
        eventually("the last host", lambda: controller.get("n9999.test")[0] == 200)
        stop, rate = threading.Event(), []
        churning = threading.Thread(target=lambda: rate.append(churn(stop, services)))
        churning.start()
        times = endpoint_changes(controller, seconds)
        stop.set()
        churning.join()
        print(f"10,500 hosts, an endpoint change among {rate[0]:.0f} a second: {spread(times)}; goal p99 < 1 s", flush=True)
        eventually("the webhook", lambda: "made a certificate for the webhook" in controller.log())
        verdicts(20003, 20)
        print(f"10,500 hosts, a verdict:           {spread(verdicts(20003, 1000))}; goal p99 < 50 ms", flush=True)
        with open(f"/proc/{controller.process.pid}/status", encoding="ascii") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        print(f"resident memory of the controller: {resident / 1024:.0f} MiB; build of {os.path.getsize(narthex) / 1e6:.0f} MB")
    except AssertionError:
        print("\n".join(line for line in controller.log().splitlines() if '"GET / ' not in line)[-3000:])
        raise
    finally:
        controller.stop(signal.SIGKILL)


main()
