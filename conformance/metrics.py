#!/usr/bin/env python3
"""A real Prometheus scrapes `narthex standalone` under traffic, and is asked what people ask of ingress-nginx's metrics.

usage: metrics.py --bin BIN [--dashboards DIR] [-v]

Judged are: every panel of our dashboards, and of further ones in DIR (those that ingress-nginx publishes, for one); the
queries of tools that watch canaries; our alert rules and those of the chart of ingress-nginx; the form of the page by
promtool. The labels are as in a cluster: the target has a `namespace` of its own, so the Ingress' is `exported_namespace`.
A query must give a number. Those that cannot here stand below with the reason.
Exit status: 0 all do, 1 something does not, 77 there is no Prometheus.
"""

import argparse
import glob
import http.client
import http.server
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from ports import free_port

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = os.path.join(HERE, "..", "deploy", "chart", "files")
READY = 30  # seconds until a process answers
TRAFFIC = 14  # seconds of requests: the shortest window asked for needs two scrapes
PREFIX = "nginx_ingress_controller_"

# Expressions that give nothing here, by a part of them, with the reason.
NOT_HERE = {
    "narthex_apiserver_connected": "there is no API server in standalone mode",
    "narthex_snapshot_age_seconds": "there is no API server in standalone mode",
    "config_last_reload_successful{controller_pod=~\".*\",controller_namespace=~\".*\"} == 0": "nothing means success",
    "kubernetes_pod_name": "the label comes from the scrape of annotated Pods, which lays it over all series",
}

# What tools ask for, in our words. NAMESPACE and INGRESS are filled in.
TOOLS = {
    "Flagger, success of the canary": 'sum(rate(%srequests{exported_namespace="NAMESPACE",ingress="INGRESS",canary!="",'
    'status!~"5.*"}[30s])) / sum(rate(%srequests{exported_namespace="NAMESPACE",ingress="INGRESS",canary!=""}[30s])) * 100',
    "Flagger, time of the canary": 'sum(rate(%singress_upstream_latency_seconds_sum{exported_namespace="NAMESPACE",'
    'ingress="INGRESS",canary!=""}[30s])) / sum(rate(%singress_upstream_latency_seconds_count{exported_namespace='
    '"NAMESPACE",ingress="INGRESS",canary!=""}[30s])) * 1000',
    "Argo Rollouts, success of the canary": 'sum(rate(%srequests{ingress="INGRESS",canary!="",status!~"[4-5].*"}[30s]))'
    ' / sum(rate(%srequests{ingress="INGRESS",canary!=""}[30s]))',
    "KEDA, requests of a second": 'sum(rate(%srequests{ingress="INGRESS"}[30s]))',
    "objectives, share below a quarter of a second": 'sum(rate(%srequest_duration_seconds_bucket{ingress="INGRESS",'
    'le="0.25"}[30s])) / sum(rate(%srequest_duration_seconds_count{ingress="INGRESS"}[30s]))',
    "first byte, 95th percentile": "histogram_quantile(0.95, sum by (le) (rate(%sheader_duration_seconds_bucket[30s])))",
    "connecting, 95th percentile": "histogram_quantile(0.95, sum by (le) (rate(%sconnect_duration_seconds_bucket[30s])))",
}

# The alerts that the values of the old chart show, in our words: (expression, must it fire under this traffic).
ALERTS = {
    "a refused configuration": ("count(%sconfig_last_reload_successful == 0) > 0", False),
    "a certificate ends": ('(%sssl_expire_time_seconds{host!="_"} - time()) < 604800', False),
    "too many 500s": (
        '100 * (sum(rate(%srequests{status=~"5.+"}[30s])) / sum(rate(%srequests[30s]))) > 5',
        True,
    ),
    "too many 400s": (
        '100 * (sum(rate(%srequests{status=~"4.+"}[30s])) / sum(rate(%srequests[30s]))) > 5',
        True,
    ),
}

OBJECTS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, annotations: {nginx.ingress.kubernetes.io/ssl-redirect: "false"}}
spec:
  ingressClassName: nginx
  tls: [{hosts: [web.test], secretName: pair}]
  rules:
  - host: web.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web-canary
  namespace: shop
  annotations: {nginx.ingress.kubernetes.io/canary: "true", nginx.ingress.kubernetes.io/canary-weight: "50"}
spec:
  ingressClassName: nginx
  rules:
  - host: web.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: canary, port: {number: 80}}}}]}
---
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %(name)s, namespace: shop}
spec: {ports: [{port: 80, targetPort: %(port)d}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %(name)s-1, namespace: shop, labels: {kubernetes.io/service-name: %(name)s}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
ports: [{port: %(port)d, protocol: TCP}]
---
"""


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0"))) + b"x" * 200
        match = re.match(r"/status/(\d+)", self.path)
        self.send_response(int(match[1]) if match else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def fetch(port, target, method="GET", body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, target, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait(what, child, condition):
    end = time.monotonic() + READY
    while time.monotonic() < end:
        if child.poll() is not None:
            raise SystemExit("%s ended with %s" % (what, child.returncode))
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("%s did not become ready" % what)


def pair(folder):
    key, certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90",
         "-subj", "/CN=web.test/O=Shop", "-addext", "subjectAltName=DNS:web.test", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    data = {"tls.crt": open(certificate).read(), "tls.key": open(key).read()}
    meta = {"name": "pair", "namespace": "shop"}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": meta, "stringData": data})


def narthex(binary, folder, ports):
    manifests = os.path.join(folder, "manifests")
    os.mkdir(manifests)
    text = OBJECTS + "".join(SERVICE % {"name": name, "port": port} for name, port in ports["backends"].items())
    with open(os.path.join(manifests, "all.yaml"), "w") as file:
        file.write(text + pair(folder) + "\n")
    command = [binary, "standalone", "--manifests", manifests]
    command += ["--%s-addr=127.0.0.1:%d" % (name, ports[name]) for name in ("http", "https", "admin")]
    log = open(os.path.join(folder, "narthex.log"), "wb")
    return subprocess.Popen(command, stdout=log, stderr=log)


def rule_files(folder):
    """Our rules as the chart wraps them, and those of the old chart."""
    text = open(os.path.join(FILES, "rules.yaml")).read()
    ours = os.path.join(folder, "ours.yaml")
    with open(ours, "w") as file:
        file.write("groups:\n- name: narthex\n  rules:\n" + "".join("  " + line for line in text.splitlines(True)))
    old = os.path.join(folder, "old.yaml")
    rules = [{"alert": "Old%d" % number, "expr": filled(one[0])} for number, one in enumerate(ALERTS.values())]
    with open(old, "w") as file:
        json.dump({"groups": [{"name": "old", "rules": rules}]}, file)
    return [ours, old]


def prometheus(folder, ports, rules):
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": rules,
        "scrape_configs": [
            {
                "job_name": "ingress-nginx",
                "static_configs": [
                    {"targets": ["127.0.0.1:%d" % ports["admin"]], "labels": {"namespace": "ingress-nginx", "pod": "one"}}
                ],
            }
        ],
    }
    path = os.path.join(folder, "prometheus.yaml")
    with open(path, "w") as file:
        json.dump(config, file)
    subprocess.run(["promtool", "check", "config", path], check=True, capture_output=True)
    log = open(os.path.join(folder, "prometheus.log"), "wb")
    command = ["prometheus", "--config.file=" + path, "--storage.tsdb.path=" + os.path.join(folder, "data")]
    return subprocess.Popen(command + ["--web.listen-address=127.0.0.1:%d" % ports["prometheus"]], stdout=log, stderr=log)


def traffic(port, stop):
    plan = [("GET", "/"), ("POST", "/cart"), ("GET", "/status/500"), ("GET", "/status/404"), ("PUT", "/no")]
    number = 0
    while not stop.is_set():
        method, target = plan[number % len(plan)]
        number += 1
        try:
            fetch(port, target, method, b"y" * 50 if method != "GET" else None, {"Host": "web.test"})
        except (OSError, http.client.HTTPException):
            pass
        stop.wait(0.02)


def change(folder, seconds):
    """Waits while objects change: how long that takes to show is asked for too."""
    path = os.path.join(folder, "manifests", "extra.yaml")
    for number in range(seconds):
        with open(path + ".new", "w") as file:
            spec = {"ingressClassName": "nginx", "rules": [{"host": "extra%d.test" % number}]}
            meta = {"name": "extra", "namespace": "shop"}
            json.dump({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}, file)
        os.replace(path + ".new", path)
        time.sleep(1)


def filled(expression):
    text = expression.replace("%s", PREFIX)
    return text.replace("NAMESPACE", "shop").replace("INGRESS", "web")


def panels(folder):
    """(dashboard, panel, expression) of every target of every panel."""

    def walk(found, title):
        for panel in found:
            for target in panel.get("targets") or []:
                if target.get("expr"):
                    yield title, panel.get("title", ""), target["expr"]
            yield from walk(panel.get("panels") or [], title)

    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        with open(path) as file:
            board = json.load(file)
        rows = [panel for row in board.get("rows") or [] for panel in row.get("panels") or []]
        yield from walk((board.get("panels") or []) + rows, board.get("title", path))


def resolved(expression):
    """As Grafana fills it in with everything chosen, and windows as long as our traffic."""
    text = re.sub(r"\$__(rate_interval|interval|range)", "30s", expression)
    text = re.sub(r"\$\{?(DS_PROMETHEUS|datasource)\}?", "", text)
    return re.sub(r"\$\{?\w+\}?", ".*", text)


def numbers(port, expression):
    query = urllib.parse.urlencode({"query": expression})
    status, body = fetch(port, "/api/v1/query?" + query)
    answer = json.loads(body)
    if status != 200:
        raise ValueError(answer.get("error", status))
    values = [float(sample["value"][1]) for sample in answer["data"]["result"]]
    return [value for value in values if not math.isnan(value)]


def judge(port, what, expression, verbose):
    reason = next((why for part, why in NOT_HERE.items() if part in expression), None)
    try:
        found = numbers(port, expression)
    except ValueError as error:
        print("FAILED   %s: %s\n         %s" % (what, error, " ".join(expression.split())))
        return False
    if found and verbose:
        print("ok       %s: %s" % (what, found[:4]))
    elif not found and reason:
        print("not here %s: %s" % (what, reason))
    elif not found:
        print("FAILED   %s: no number\n         %s" % (what, " ".join(expression.split())))
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--dashboards", action="append", default=[], help="a folder of further dashboards")
    parser.add_argument("-v", action="store_true", dest="verbose")
    arguments = parser.parse_args()
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        print("SKIPPED: there is no prometheus and promtool (Debian: prometheus)", file=sys.stderr)
        return 77
    servers = {name: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) for name in ("web", "canary")}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = {name: free_port() for name in ("http", "https", "admin", "prometheus")}
    ports["backends"] = {name: server.server_address[1] for name, server in servers.items()}
    children, good = [], []
    with tempfile.TemporaryDirectory() as folder:
        try:
            children.append(narthex(arguments.bin, folder, ports))
            wait("narthex", children[0], lambda: fetch(ports["admin"], "/readyz")[0] == 200)
            rules = rule_files(folder)
            children.append(prometheus(folder, ports, rules))
            wait("prometheus", children[1], lambda: fetch(ports["prometheus"], "/-/ready")[0] == 200)
            stop = threading.Event()
            sender = threading.Thread(target=traffic, args=(ports["http"], stop))
            sender.start()
            change(folder, TRAFFIC)
            port = ports["prometheus"]
            for folder_of_boards in [os.path.join(FILES, "dashboards")] + arguments.dashboards:
                for board, panel, expression in panels(folder_of_boards):
                    good.append(judge(port, "%s / %s" % (board, panel), resolved(expression), arguments.verbose))
            for tool, expression in TOOLS.items():
                good.append(judge(port, tool, filled(expression), arguments.verbose))
            for alert, (expression, fires) in ALERTS.items():
                same = bool(numbers(port, filled(expression))) == fires
                good.append(same)
                if not same:
                    print("FAILED   alert on %s: it should%s fire" % (alert, "" if fires else " not"))
            health = json.loads(fetch(port, "/api/v1/rules")[1])["data"]["groups"]
            for rule in (rule for group in health for rule in group["rules"]):
                good.append(rule["health"] == "ok")
                if rule["health"] != "ok":
                    print("FAILED   rule %s: %s" % (rule["name"], rule.get("lastError", rule["health"])))
            stop.set()
            sender.join()
            page = fetch(ports["admin"], "/metrics")[1]
            lint = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
            # Names are ingress-nginx's: what promtool would have named otherwise is theirs to say.
            ours = [line for line in lint.stderr.decode().splitlines() if not line.startswith(PREFIX)]
            good.append(not ours)
            for line in ours:
                print("FAILED   promtool: " + line)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(timeout=READY)
    print("%d asked, %d failed" % (len(good), good.count(False)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
