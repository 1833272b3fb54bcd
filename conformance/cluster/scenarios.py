#!/usr/bin/env python3
"""`narthex controller` against a real API server, inside the lab (see `lab`). State is awaited, never slept for.

Usage: scenarios.py NARTHEX [NAME...]. Exit status: 0 all as expected, 1 something failed.
"""

import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

LAB = os.environ["LAB_DIR"]
KUBECTL = [os.environ["LAB_KUBEBOX"], "kubectl"]
UP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "up")
PATIENCE = 60  # seconds; only a failing scenario waits so long


def kubectl(*args, stdin=None):
    done = subprocess.run([*KUBECTL, *args], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"kubectl {args}: {done.stderr.strip()}")
    return done.stdout


def apply(*objects):
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def eventually(what, condition):
    """Seconds until the condition held."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        try:
            if condition():
                return time.monotonic() - began
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come true")


def backend(address):
    """An HTTP server on a Pod's address that answers with it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", str(len(address)))
            self.end_headers()
            self.wfile.write(address.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((address, 8080), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def meta(name, namespace="team", **more):
    return {"name": name, "namespace": namespace, **more}


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def ingress(host, namespace="team", path="/", name=None):
    service = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": service}]
    spec = {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": paths}}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta(name or host, namespace), "spec": spec}


def service(namespace="team"):
    spec = {"ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta("web", namespace), "spec": spec}


def slices(address, namespace="team"):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": meta("web-1", namespace, labels={"kubernetes.io/service-name": "web"}),
            "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}]}


CLASS = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"},
         "spec": {"controller": "k8s.io/ingress-nginx"}}


class Controller:
    """A running `narthex controller`."""

    def __init__(self, narthex, port, *flags, user="admin", pod="pod-1"):
        self.port, self.admin = port, port + 2
        self.log_path = os.path.join(LAB, f"narthex-{port}.log")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [narthex, "controller", f"--kubeconfig={LAB}/{user}.kubeconfig", f"--http-addr=127.0.0.1:{port}",
                 f"--https-addr=127.0.0.1:{port + 1}", f"--admin-addr=127.0.0.1:{self.admin}",
                 "--publish-status-address=192.0.2.1", "--election-ttl=4s", "--enable-metrics", *flags],
                stdout=log, stderr=log, env={**os.environ, "POD_NAME": pod, "POD_NAMESPACE": "team"})

    def get(self, host, path="/", port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=5)
        connection.request("GET", path, headers={"host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def is_ready(self):
        return self.get("localhost", "/readyz", self.admin)[0] == 200

    def metric(self, name):
        """The value of a metric without labels."""
        lines = self.get("localhost", "/metrics", self.admin)[1].splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait(PATIENCE)


def status(name):
    got = json.loads(kubectl("-n", "team", "get", "ingress", name, "-o", "json", "--show-managed-fields"))
    managers = [one["manager"] for one in got["metadata"]["managedFields"] if one.get("subresource") == "status"]
    return got["status"].get("loadBalancer", {}).get("ingress"), managers


def holder():
    return json.loads(kubectl("-n", "team", "get", "lease", "ingress-controller-leader", "-o", "json"))["spec"]["holderIdentity"]


def scenario_follows(narthex):
    """Objects are served, changes are effective, namespaces vanish, status and Events are written."""
    first = Controller(narthex, 20000)
    try:
        ready = eventually("readiness", first.is_ready)
        served = eventually("the Ingress", lambda: first.get("a.test") == (200, "10.244.0.1"))
        print(f"  ready after {ready:.3f} s, served after {served:.3f} s more")
        apply(slices("10.244.0.2"))
        print(f"  endpoints effective {eventually('the endpoint', lambda: first.get('a.test')[1] == '10.244.0.2'):.3f} s after kubectl")
        apply(ingress("b.test"))
        print(f"  Ingress effective {eventually('the host', lambda: first.get('b.test')[0] == 200):.3f} s after kubectl")
        eventually("the status", lambda: status("a.test") == ([{"ip": "192.0.2.1"}], ["narthex"]))
        apply(ingress("a.test", name="late"))
        events = lambda: kubectl("-n", "team", "get", "events", "-o", "jsonpath={.items[*].involvedObject.name}")
        eventually("the Event of the conflict", lambda: "late" in events())
        apply(namespace("gone"), service("gone"), slices("10.244.0.1", "gone"), ingress("gone.test", "gone"))
        eventually("the other namespace", lambda: first.get("gone.test")[0] == 200)
        kubectl("delete", "namespace", "gone")
        eventually("the end of the namespace", lambda: first.get("gone.test")[0] == 404)
        kubectl("-n", "team", "delete", "ingress", "late", "b.test")
    finally:
        first.stop()
    assert status("a.test")[0] == [{"ip": "192.0.2.1"}], "nothing is cleared at the end of what is in no Pod"


def scenario_outage(narthex):
    """The API server dies and returns: served throughout, followed afterwards; a start meanwhile waits and ends."""
    apply(slices("10.244.0.1"))
    first = Controller(narthex, 20010)
    second = None
    try:
        eventually("the Ingress", lambda: first.get("a.test") == (200, "10.244.0.1"))
        with open(os.path.join(LAB, "apiserver.pid"), encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGKILL)
        eventually("the loss being noticed", lambda: "the API server does not answer" in first.log())
        assert first.get("a.test") == (200, "10.244.0.1") and first.is_ready()
        assert first.metric("narthex_apiserver_connected") == 0
        age = first.metric("narthex_snapshot_age_seconds")
        eventually("the age of what is known growing", lambda: first.metric("narthex_snapshot_age_seconds") > age)
        second = Controller(narthex, 20020, pod="pod-2")
        eventually("the other process", lambda: second.get("localhost", "/livez", second.admin)[0] == 200)
        assert not second.is_ready(), "nothing is known yet"
        try:
            second.get("a.test")
            raise AssertionError("no traffic is taken before anything is known")
        except ConnectionRefusedError:
            pass
        second.stop()
        assert second.process.returncode == 0, second.process.returncode
        subprocess.run([UP, "apiserver"], check=True)
        apply(slices("10.244.0.2"))
        print(f"  followed again {eventually('the endpoint', lambda: first.get('a.test')[1] == '10.244.0.2'):.3f} s after kubectl")
        eventually("the metrics", lambda: first.metric("narthex_apiserver_connected") == 1)
    finally:
        first.stop()
        if second and second.process.poll() is None:
            second.stop(signal.SIGKILL)


def scenario_leader(narthex):
    """Two replicas: one leads; a leader that ends hands over, one that is killed is replaced."""
    one, two = Controller(narthex, 20030), Controller(narthex, 20040, pod="pod-2")
    try:
        eventually("both", lambda: one.is_ready() and two.is_ready())
        eventually("a leader", lambda: holder() in ("pod-1", "pod-2"))
        leader, other, name = (one, two, "pod-2") if holder() == "pod-1" else (two, one, "pod-1")
        leader.stop()
        print(f"  handed over after {eventually('the hand-over', lambda: holder() == name):.3f} s (ttl 4 s)")
        third = Controller(narthex, leader.port, pod="pod-3")
        eventually("the third", third.is_ready)
        other.stop(signal.SIGKILL)
        print(f"  replaced after {eventually('the replacement', lambda: holder() == 'pod-3'):.3f} s")
        assert status("a.test")[0] == [{"ip": "192.0.2.1"}]
        third.stop()
    finally:
        for each in (one, two):
            if each.process.poll() is None:
                each.stop(signal.SIGKILL)


def scenario_rights(narthex):
    """Without rights: not ready, said, alive; with them: ready without a restart."""
    first = Controller(narthex, 20050, user="controller")
    try:
        eventually("the complaint", lambda: "not allowed to list and watch" in first.log())
        assert first.process.poll() is None and not first.is_ready()
        rule = {"apiGroups": ["*"], "resources": ["ingresses", "ingressclasses", "services", "endpointslices", "secrets", "configmaps"], "verbs": ["list", "watch"]}
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "controller"}}
        apply({**rbac, "kind": "ClusterRole", "rules": [rule]},
              {**rbac, "kind": "ClusterRoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "controller"},
               "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "controller"}]})
        eventually("readiness", first.is_ready)
    finally:
        first.stop()


def refused(*objects, flags=()):
    """What the API server says when it refuses these objects; None when it takes them."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    done = subprocess.run([*KUBECTL, "apply", *flags, "-f", "-"], input=text, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else None


def webhook_configuration(port):
    """As the chart makes it, by URL instead of by Service."""
    rule = {"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["ingresses"]}
    return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "admission"},
            "webhooks": [{"name": "validate.nginx.ingress.kubernetes.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                          "failurePolicy": "Fail", "matchPolicy": "Equivalent", "rules": [rule],
                          "clientConfig": {"url": f"https://127.0.0.1:{port}/networking/v1/ingresses"}}]}


def scenario_webhook(narthex):
    """Verdicts of the admission webhook, with a certificate that the controller makes; two replicas share it."""
    apply(webhook_configuration(20073))
    flags = ["--validating-webhook-configuration=admission", "--validating-webhook-secret=team/admission"]
    first = Controller(narthex, 20070, "--validating-webhook=127.0.0.1:20073", *flags)
    second = Controller(narthex, 20080, "--validating-webhook=127.0.0.1:20083", *flags, pod="pod-2")
    bundle = lambda: kubectl("get", "validatingwebhookconfiguration", "admission", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
    try:
        eventually("both", lambda: first.is_ready() and second.is_ready())
        eventually("the authority", bundle)
        eventually("a verdict", lambda: refused(ingress("hook.test")) is None)
        eventually("the Ingress", lambda: first.get("hook.test")[0] == 200)
        said = refused(ingress("hook.test", name="late"))
        assert said and 'host "hook.test" and path "/" is already defined in ingress team/hook.test' in said, said
        said = refused(ingress("evil.test", path="/etc/nginx"))
        assert said and "denied the request" in said, said
        assert refused(ingress("dry.test"), flags=["--dry-run=server"]) is None
        assert refused(ingress("dry.test"), flags=["--dry-run=server"]) is None, "a dry run leaves no trace"
        assert refused(ingress("hook.test", name="late"), flags=["--dry-run=server"]), "and is judged like any other"
        foreign = ingress("hook.test", name="foreign", path="/etc/nginx")
        foreign["spec"]["ingressClassName"] = "other"
        assert refused(foreign) is None, "others' Ingresses are theirs"
        # A second certificate: the authority of the first stays beside that of the new one, and nobody is refused meanwhile.
        before = bundle()
        kubectl("-n", "team", "delete", "secret", "admission")
        first.stop()
        first = Controller(narthex, 20070, "--validating-webhook=127.0.0.1:20073", *flags)
        eventually("a new authority", lambda: bundle() != before)
        eventually("a verdict", lambda: refused(ingress("hook.test", name="late")) and "already defined" in refused(ingress("hook.test", name="late")))
    finally:
        kubectl("delete", "validatingwebhookconfiguration", "admission")
        kubectl("-n", "team", "delete", "ingress", "hook.test", "foreign", "--ignore-not-found")
        for each in (first, second):
            if each.process.poll() is None:
                each.stop()


def scenario_many(narthex):
    """A cold start with many Ingresses."""
    apply(*[ingress(f"h{number}.test") for number in range(1000)])
    first = Controller(narthex, 20060, "--update-status=false")
    try:
        print(f"  ready {eventually('readiness', first.is_ready):.3f} s after the start, with 1000 Ingresses")
        assert first.get("h999.test")[0] == 200
    finally:
        first.stop()


def main():
    narthex, names = sys.argv[1], sys.argv[2:]
    backend("10.244.0.1")
    backend("10.244.0.2")
    apply(namespace("team"), CLASS)
    apply(service(), slices("10.244.0.1"), ingress("a.test"))
    failed = 0
    for name, run in [(name[9:], run) for name, run in globals().items() if name.startswith("scenario_")]:
        if names and name not in names:
            continue
        print(name, flush=True)
        try:
            run(narthex)
        except Exception as error:  # each scenario is judged, whatever became of the one before
            failed += 1
            print(f"  FAILED: {error!r}")
            for log in sorted(os.listdir(LAB)):
                if log.startswith("narthex-"):
                    with open(os.path.join(LAB, log), encoding="utf-8", errors="replace") as file:
                        print(f"  --- {log}\n{file.read()[-3000:]}")
    sys.exit(1 if failed else 0)


main()
