"""What the controller writes: leases, status, Events; and what it says as a webhook."""

import json
import signal
import socket
import threading
import time

from scene import Controller, api, apply, eventually, holder, ingress, kubectl, meta, refused, slices, status


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


def scenario_coexist(narthex):
    """Beside another controller nothing is written; the status of the other stays."""
    apply(ingress("co.test"))
    kubectl("-n", "team", "patch", "ingress", "co.test", "--subresource=status", "--type=merge", "-p", '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.77"}]}}}')
    kubectl("-n", "team", "delete", "lease", "--all")
    kubectl("-n", "team", "delete", "events", "--all")
    first = Controller(narthex, 20120, "--coexist")
    try:
        eventually("the Ingress", lambda: first.get("co.test")[0] == 200)
        apply(ingress("co.test", name="co-late"))
        eventually("the finding in the log", lambda: "co-late" in first.log())
        # What is served was published: had it written at all, it would have begun before.
        apply(slices("10.244.0.2"))
        eventually("a later change", lambda: first.get("co.test")[1] == "10.244.0.2")
    finally:
        apply(slices("10.244.0.1"))
        first.stop()
    assert status("co.test")[0] == [{"ip": "192.0.2.77"}], status("co.test")
    assert not kubectl("-n", "team", "get", "lease", "-o", "name") and not kubectl("-n", "team", "get", "events", "-o", "name")
    kubectl("-n", "team", "delete", "ingress", "co.test", "co-late")


def scenario_sync(narthex):
    """A changed Ingress is told by the Event that users know; one that was there is not."""
    kubectl("-n", "team", "delete", "events", "--all")
    first = Controller(narthex, 20130, "--secret-namespaces=team")
    said = lambda: kubectl("-n", "team", "get", "events", "-o", "jsonpath={range .items[*]}{.involvedObject.name}:{.reason}:{.message} {end}")
    try:
        eventually("readiness", first.is_ready)
        eventually("a leader", lambda: "leads=true" in first.log())
        apply(ingress("news.test"))
        eventually("the Event", lambda: "news.test:Sync:Scheduled for sync" in said())
        assert "a.test:Sync" not in said(), said()
    finally:
        kubectl("-n", "team", "delete", "ingress", "news.test", "--ignore-not-found")
        first.stop()


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


class Witness:
    """Looks at the status of an Ingress without a pause: it must never be empty once it was not."""

    def __init__(self, name):
        self.seen, self.blank, self.over = set(), 0, threading.Event()
        self.thread = threading.Thread(target=self.run, args=(name,))
        self.thread.start()

    def run(self, name):
        path = f"/apis/networking.k8s.io/v1/namespaces/team/ingresses/{name}"
        while not self.over.is_set():
            code, got = api("GET", path)
            addresses = tuple(one.get("ip") or one.get("hostname") for one in got.get("status", {}).get("loadBalancer", {}).get("ingress") or ())
            if code == 200 and (addresses or self.seen):
                self.seen.add(addresses)

    def stop(self):
        self.over.set()
        self.thread.join()
        assert () not in self.seen, f"the status was empty for a while: {self.seen}"
        return self.seen


class Slow:
    """A road to the API server on which everything takes longer."""

    def __init__(self, delay):
        self.delay = delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", 16443))
            except OSError:
                near.close()
                continue
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, source, target):
        try:
            while data := source.recv(65536):
                # The latency is what this is for; nothing is awaited by it.
                time.sleep(self.delay)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self.listener.close()


def scenario_replicas(narthex):
    """Three replicas, one of them far from the API server: leaders are killed one after the other, and the status is never empty."""
    kubectl("-n", "team", "delete", "lease", "--all")
    flags = ["--election-id=three", "--update-status-on-shutdown=true"]
    slow = Slow(0.15)
    there = lambda: json.loads(kubectl("-n", "team", "get", "lease", "three", "-o", "json"))["spec"]["holderIdentity"]
    replicas = {f"pod-{number}": Controller(narthex, 20230 + 10 * number, *flags, *([f"--apiserver-host={slow.address}"] if number == 3 else []),
                                            pod=f"pod-{number}") for number in (1, 2, 3)}
    witness = None
    try:
        eventually("all", lambda: all(one.is_ready() for one in replicas.values()))
        eventually("a leader", lambda: there() in replicas)
        eventually("the status", lambda: status("a.test")[0] == [{"ip": "192.0.2.1"}])
        witness = Witness("a.test")
        for step in ("killed", "ended"):
            leader = there()
            apply(slices("10.244.0.2" if step == "killed" else "10.244.0.1"))
            replicas.pop(leader).stop(signal.SIGKILL if step == "killed" else signal.SIGTERM)
            took = eventually("another leader", lambda: there() in replicas)
            apply(ingress(f"{step}.test"))
            eventually("what is new having a status", lambda: status(f"{step}.test")[0] == [{"ip": "192.0.2.1"}])
            print(f"  the leader was {step}: another after {took:.2f} s (ttl 4 s)")
        eventually("one being told as leader", lambda: sum(leads(one) for one in replicas.values()) == 1)
        assert witness.stop() == {("192.0.2.1",)}
    finally:
        if witness:
            witness.over.set()
        slow.stop()
        for one in replicas.values():
            one.stop(signal.SIGKILL)
        kubectl("-n", "team", "delete", "ingress", "killed.test", "ended.test", "--ignore-not-found")


def leads(controller):
    lines = controller.get("localhost", "/metrics", controller.admin)[1].splitlines()
    return any(line.startswith("nginx_ingress_controller_leader_election_status{") and line.endswith(" 1") for line in lines)


def scenario_skew(narthex):
    """Clocks of other machines mean nothing: neither a Lease from the future nor one from long ago is taken before its time."""
    for name, renewed in (("past", "2001-01-01T00:00:00.000000Z"), ("future", "2099-01-01T00:00:00.000000Z")):
        spec = {"holderIdentity": "ghost", "leaseDurationSeconds": 4, "acquireTime": renewed, "renewTime": renewed, "leaseTransitions": 1}
        apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta(name), "spec": spec})
        first = Controller(narthex, 20270, f"--election-id={name}")
        try:
            eventually("the Lease being seen", lambda: "leads=false" in first.log() and name in first.log())
            took = eventually("the Lease being taken", lambda: json.loads(kubectl("-n", "team", "get", "lease", name, "-o", "json"))["spec"]["holderIdentity"] == "pod-1")
            # From when it was seen first; less a little for the time until that was known here.
            assert took > 3, f"the Lease of {name} was taken after {took:.2f} s"
            print(f"  a Lease renewed in the {name} was taken {took:.2f} s after it was seen (its duration is 4 s)")
        finally:
            first.stop()
            kubectl("-n", "team", "delete", "lease", name)


def scenario_addresses(narthex):
    """The status mirrors the Service, names and addresses, and follows it; without an address nothing is blanked. Or nodes."""
    lb = {"apiVersion": "v1", "kind": "Service", "metadata": meta("lb"), "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}
    apply(lb, ingress("addr.test"))
    give = lambda *entries: api("PATCH", "/api/v1/namespaces/team/services/lb/status", {"status": {"loadBalancer": {"ingress": list(entries)}}},
                                "application/merge-patch+json")
    give({"hostname": "lb.example"}, {"ip": "192.0.2.50", "ipMode": "Proxy"})
    first = Controller(narthex, 20280, "--publish-status-address=", "--publish-service=team/lb")
    witness = None
    try:
        both = [{"ip": "192.0.2.50"}, {"hostname": "lb.example"}]
        eventually("the status", lambda: status("addr.test") == (both, ["narthex"]))
        witness = Witness("addr.test")
        give()
        apply(slices("10.244.0.2"))
        eventually("a change after that", lambda: first.get("a.test")[1] == "10.244.0.2")
        apply(slices("10.244.0.1"))
        give({"ip": "192.0.2.51"})
        print(f"  another address of the Service {eventually('the status', lambda: status('addr.test')[0] == [{'ip': '192.0.2.51'}]):.2f} s after it was there")
        # Somebody else's hand is corrected.
        api("PATCH", "/apis/networking.k8s.io/v1/namespaces/team/ingresses/addr.test/status", {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.99"}]}}},
            "application/merge-patch+json")
        eventually("the status being put right", lambda: status("addr.test")[0] == [{"ip": "192.0.2.51"}])
        witness.stop()
    finally:
        if witness:
            witness.over.set()
        first.stop()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta("pod-1", labels={"app": "narthex"}),
           "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "x"}]}}
    apply(node, pod)
    patch = lambda path, body: api("PATCH", path, {"status": body}, "application/merge-patch+json")
    patch("/api/v1/nodes/node-1/status", {"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "ExternalIP", "address": "192.0.2.60"}]})
    patch("/api/v1/namespaces/team/pods/pod-1/status", {"conditions": [{"type": "Ready", "status": "True"}]})
    for flag, expect in ((), "192.0.2.60"), (("--report-node-internal-ip-address",), "10.0.0.9"):
        second = Controller(narthex, 20290, "--publish-status-address=", *flag)
        try:
            eventually(f"the address of the node {flag}", lambda: status("addr.test")[0] == [{"ip": expect}])
        finally:
            second.stop(signal.SIGKILL)
            kubectl("-n", "team", "delete", "lease", "ingress-controller-leader", "--ignore-not-found")
    for kind, name in (("pod", "pod-1"), ("service", "lb"), ("ingress", "addr.test")):
        # Nobody stops a Pod here.
        kubectl("-n", "team", "delete", kind, name, "--wait=false", *(["--force", "--grace-period=0"] if kind == "pod" else []))
    kubectl("delete", "node", "node-1")


def scenario_events(narthex):
    """Each finding is one Event, also after a restart and by another leader; many of them do not come as a flood."""
    kubectl("-n", "team", "delete", "events", "--all")
    apply(ingress("told.test"), ingress("told.test", name="told-late"))
    events = lambda: json.loads(kubectl("-n", "team", "get", "events", "-o", "json"))["items"]
    about = lambda name: [one for one in events() if one["involvedObject"]["name"] == name and one["type"] == "Warning"]
    try:
        for pod in ("pod-1", "pod-1", "pod-2"):
            first = Controller(narthex, 20300, pod=pod)
            try:
                eventually("a leader", lambda: "leads=true" in first.log())
                eventually("the Event", lambda: about("told-late"))
                apply(ingress("told.test", name=f"marker-{pod}"))
                eventually("a later Event", lambda: about(f"marker-{pod}"))
                kubectl("-n", "team", "delete", "ingress", f"marker-{pod}")
                kubectl("-n", "team", "delete", "events", "--field-selector", f"involvedObject.name=marker-{pod}")
            finally:
                first.stop()
        told = about("told-late")
        assert len(told) == 1, told
        assert "team/told.test" in told[0]["message"] and told[0]["source"]["component"] == "nginx-ingress-controller", told
        # Made anew, an object has none of the Events of the one before; what is wrong with the ConfigMap stands there.
        kubectl("-n", "team", "delete", "ingress", "told-late")
        apply(ingress("told.test", name="told-late"), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("told"), "data": {"proxy-read-timeout": "soon"}})
        first = Controller(narthex, 20300, "--configmap=team/told")
        try:
            uid = lambda kind, name: json.loads(kubectl("-n", "team", "get", kind, name, "-o", "json"))["metadata"]["uid"]
            for kind, name in (("ingress", "told-late"), ("configmap", "told")):
                eventually(f"the Event of {name}", lambda: [one for one in about(name) if one["involvedObject"]["uid"] == uid(kind, name)])
        finally:
            first.stop()
        # A flood: findings wait for their turn, changes do not wait for findings.
        apply(*[ingress("told.test", name=f"flood-{number}") for number in range(30)])
        first = Controller(narthex, 20300)
        try:
            eventually("some Events", lambda: len(events()) > 5)
            apply(ingress("beside.test"))
            eventually("traffic beside the flood", lambda: first.get("beside.test")[0] == 200)
            assert len([one for one in events() if one["involvedObject"]["name"].startswith("flood-")]) < 30, "one in 200 ms"
        finally:
            first.stop()
    finally:
        kubectl("-n", "team", "delete", "configmap", "told", "--ignore-not-found")
        kubectl("-n", "team", "delete", "ingress", "told.test", "told-late", "beside.test", *[f"flood-{number}" for number in range(30)], "--ignore-not-found")
