"""What the controller follows: objects, changes, losses, and what it may not read."""

import http.server
import os
import signal
import subprocess
import tempfile
import threading
import time

from scene import (CLASS, LAB, UP, Controller, Load, account, api, apply, eventually, ingress, kubectl, meta, namespace, pair, rule, secret,
                   service, shown, slices, status, younger_than)


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
        kill_apiserver()
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


def scenario_snapshot(narthex):
    """A start while the API server is away serves what was kept on disk; the server's word counts once it is back."""
    folder = tempfile.mkdtemp(dir=LAB)
    kept = os.path.join(folder, "objects.json")
    apply(slices("10.244.0.1"))
    first = Controller(narthex, 20150, f"--snapshot-dir={folder}")
    try:
        eventually("the snapshot", lambda: os.path.exists(kept))
    finally:
        first.stop()
    with open(kept, encoding="utf-8") as file:
        assert "secrets" not in file.read(), "no key material"
    kill_apiserver()
    second = Controller(narthex, 20160, f"--snapshot-dir={folder}")
    try:
        served = lambda: second.get("a.test") == (200, "10.244.0.1")
        print(f"  served {eventually('the Ingress', served):.3f} s after a start without an API server")
        assert second.is_ready()
        subprocess.run([UP, "apiserver"], check=True)
        apply(slices("10.244.0.2"))
        eventually("the server being followed", lambda: second.get("a.test")[1] == "10.244.0.2")
        apply(slices("10.244.0.1"))
    finally:
        second.stop()


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


def scenario_secrets(narthex):
    """A renewed Secret is in use at once, also when it is deleted in between; nobody is cut off."""
    first_pair, second_pair, third_pair = pair("tls.test"), pair("tls.test"), pair("tls.test")
    tls = ingress("tls.test")
    tls["spec"]["tls"] = [{"hosts": ["tls.test"], "secretName": "tls"}]
    tls["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/ssl-redirect": "false"}
    apply(secret("tls", *first_pair), tls)
    first = Controller(narthex, 20090)
    load = None
    try:
        eventually("the Ingress", lambda: first.get("tls.test")[0] == 200)
        eventually("the certificate", lambda: shown(20091, "tls.test") == first_pair[0])
        load = Load(first, "tls.test")
        apply(secret("tls", *second_pair))
        print(f"  renewed {eventually('the new certificate', lambda: shown(20091, 'tls.test') == second_pair[0]):.3f} s after kubectl")
        apply({**secret("tls", second_pair[0], third_pair[1])})
        eventually("the finding", lambda: "InvalidCertificate" in first.log() or "tls" in first.log())
        assert shown(20091, "tls.test") == second_pair[0], "a pair that does not fit leaves the last good one"
        kubectl("-n", "team", "delete", "secret", "tls")
        assert shown(20091, "tls.test") == second_pair[0], "nor does a gap"
        apply(secret("tls", *third_pair))
        eventually("the third certificate", lambda: shown(20091, "tls.test") == third_pair[0])
        print(f"  {load.stop()} requests meanwhile, none lost")
    finally:
        if load:
            load.over.set()
        kubectl("-n", "team", "delete", "ingress", "tls.test", "--ignore-not-found")
        first.stop()


def scenario_churn(narthex):
    """Endpoints come and go under traffic, terminating ones last: no request is lost."""
    apply(slices("10.244.0.1"))
    first = Controller(narthex, 20100)
    load = None
    try:
        eventually("the Ingress", lambda: first.get("a.test")[0] == 200)
        load = Load(first, "a.test")
        for number in range(20):
            old, new = ("10.244.0.1", "10.244.0.2") if number % 2 == 0 else ("10.244.0.2", "10.244.0.1")
            both = slices(new)
            # As a rolling update does: the old one serves on while it ends.
            both["endpoints"].append({"addresses": [old], "conditions": {"ready": False, "serving": True, "terminating": True}})
            apply(both)
            eventually("the new endpoint", lambda: first.get("a.test")[1] == new)
            apply(slices(new))
        print(f"  {load.stop()} requests over 20 roll-outs, none lost")
    finally:
        if load:
            load.over.set()
        apply(slices("10.244.0.1"))
        first.stop()


def scenario_classes(narthex):
    """A changed class takes an Ingress in and out; a class that is deleted takes its Ingresses along."""
    other = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "other"}, "spec": {"controller": "example.com/other"}}
    apply(other)
    moving = ingress("moving.test")
    moving["spec"]["ingressClassName"] = "other"
    apply(moving)
    first = Controller(narthex, 20110)
    try:
        eventually("another Ingress", lambda: first.get("a.test")[0] == 200)
        assert first.get("moving.test")[0] == 404
        apply(ingress("moving.test"))
        eventually("the Ingress coming in", lambda: first.get("moving.test")[0] == 200)
        eventually("its status", lambda: status("moving.test")[0] == [{"ip": "192.0.2.1"}])
        apply(moving)
        eventually("the Ingress going out", lambda: first.get("moving.test")[0] == 404)
        kubectl("delete", "ingressclass", "nginx")
        eventually("the class being gone", lambda: first.get("a.test")[0] == 404)
        apply(CLASS)
        eventually("the class being back", lambda: first.get("a.test")[0] == 200)
    finally:
        apply(CLASS)
        kubectl("-n", "team", "delete", "ingress", "moving.test", "--ignore-not-found")
        first.stop()


# What a controller needs to serve; what it may not do besides is up to each scenario.
SERVING = [rule("list watch", "ingresses", "ingressclasses", "services", "endpointslices", "configmaps")]


def scenario_by_reference(narthex):
    """Secrets are read and watched by name: without the right to list any, and one that may not be read hurts only who names it."""
    first_pair, second_pair = pair("ref.test"), pair("ref.test")
    tls = ingress("ref.test")
    tls["spec"]["tls"] = [{"hosts": ["ref.test"], "secretName": "ref-tls"}]
    tls["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/ssl-redirect": "false"}
    guarded = ingress("guarded.test")
    guarded["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/auth-type": "basic", "nginx.ingress.kubernetes.io/auth-secret": "ref-users"}
    hidden = ingress("hidden.test")
    hidden["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/auth-type": "basic", "nginx.ingress.kubernetes.io/auth-secret": "ref-hidden"}
    users = {"apiVersion": "v1", "kind": "Secret", "stringData": {"auth": "me:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"}}
    apply(secret("ref-tls", *first_pair), {**users, "metadata": meta("ref-hidden")}, tls, hidden)
    user = account("by-reference", SERVING, team=[rule("get watch", "secrets", names=["ref-tls", "ref-users", "ref-late"])])
    first = Controller(narthex, 20170, "--secrets-by-reference", user=user)
    try:
        eventually("readiness", first.is_ready)
        assert shown(20171, "ref.test") == first_pair[0], "the first table waits for the Secrets that are named"
        assert "not allowed to list" not in first.log(), first.log()
        assert first.get("hidden.test")[0] == 503, "what cannot be read guards nothing, so nothing is served"
        assert "not allowed to get and watch what is referred to" in first.log()
        apply(secret("ref-tls", *second_pair))
        print(f"  renewed {eventually('the new certificate', lambda: shown(20171, 'ref.test') == second_pair[0]):.3f} s after kubectl")
        apply(guarded)
        eventually("the guard without its Secret", lambda: first.get("guarded.test")[0] == 503)
        apply({**users, "metadata": meta("ref-users")})
        print(f"  a Secret that comes later is in use {eventually('the guard', lambda: first.get('guarded.test')[0] == 401):.3f} s after kubectl")
        tls["spec"]["tls"][0]["secretName"] = "ref-late"
        third_pair = pair("ref.test")
        apply(secret("ref-late", *third_pair), tls)
        eventually("another Secret being named", lambda: shown(20171, "ref.test") == third_pair[0])
        kubectl("-n", "team", "delete", "secret", "ref-users")
        eventually("the guard losing its Secret", lambda: first.get("guarded.test")[0] == 503)
        kill_apiserver()
        eventually("the loss being noticed", lambda: "the API server does not answer" in first.log())
        subprocess.run([UP, "apiserver"], check=True)
        apply({**users, "metadata": meta("ref-users")})
        eventually("Secrets being followed again", lambda: first.get("guarded.test")[0] == 401)
    finally:
        kubectl("-n", "team", "delete", "ingress", "ref.test", "guarded.test", "hidden.test", "--ignore-not-found")
        first.stop()


def scenario_streams(narthex):
    """Services of TCP services in other namespaces are followed although one namespace is watched."""
    apply(namespace("db"), service("db"), slices("10.244.0.1", "db"))
    tcp = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("tcp"), "data": {"20185": "db/web:80"}}
    apply(tcp)
    rights = [rule("list watch", "ingresses", "services", "endpointslices", "configmaps", "secrets")]
    elsewhere = [rule("get watch", "services"), rule("list watch", "endpointslices")]
    user = account("streams", [rule("list watch", "ingressclasses")], team=rights, db=elsewhere)
    first = Controller(narthex, 20180, "--watch-namespace=team", "--tcp-services-configmap=team/tcp", user=user)
    try:
        eventually("readiness", first.is_ready)
        reached = lambda address: first.get("any", port=20185) == (200, address)
        eventually("the service", lambda: reached("10.244.0.1"))
        apply(slices("10.244.0.2", "db"))
        eventually("its other endpoint", lambda: reached("10.244.0.2"))
        assert "referred to" not in first.log(), first.log()
        apply({**tcp, "data": {"20186": "nowhere/web:80"}})
        eventually("what may not be read being said", lambda: "not allowed to get and watch what is referred to" in first.log())
        assert first.get("a.test")[0] == 200 and first.process.poll() is None
    finally:
        kubectl("-n", "team", "delete", "configmap", "tcp")
        kubectl("delete", "namespace", "db", "--wait=false")
        first.stop()


def kill_apiserver():
    with open(os.path.join(LAB, "apiserver.pid"), encoding="ascii") as file:
        os.kill(int(file.read()), signal.SIGKILL)


def scenario_restarts(narthex):
    """The API server is killed and restarted again and again under load: nothing is lost, and it is followed at once."""
    apply(slices("10.244.0.1"))
    first = Controller(narthex, 20190)
    load = None
    times = []
    try:
        eventually("the Ingress", lambda: first.get("a.test")[0] == 200)
        load = Load(first, "a.test")
        for number in range(4):
            kill_apiserver()
            eventually("the loss being noticed", lambda: first.metric("narthex_apiserver_connected") == 0)
            subprocess.run([UP, "apiserver"], check=True)
            address = ("10.244.0.2", "10.244.0.1")[number % 2]
            # Written at once; `kubectl` alone would give the controller half a second.
            eventually("the server taking it", lambda: write_slices(address))
            times.append(eventually("the endpoint", lambda: first.get("a.test")[1] == address))
        print(f"  {load.stop()} requests over 4 restarts, none lost; followed {', '.join(f'{one:.2f}' for one in times)} s after the server was ready")
        assert max(times) < 8, times
    finally:
        if load:
            load.over.set()
        apply(slices("10.244.0.1"))
        first.stop()


def write_slices(address, name="web-1"):
    path = f"/apis/discovery.k8s.io/v1/namespaces/team/endpointslices/{name}"
    return api("PATCH", path, {"endpoints": [{"addresses": [address]}]}, "application/merge-patch+json")[0] == 200


def scenario_order(narthex):
    """Of Ingresses that want the same path the oldest has it, whatever the namespaces are called; the others are told who."""
    apply(namespace("aaa"), service("aaa"), slices("10.244.0.1", "aaa"), namespace("zzz"), service("zzz"), slices("10.244.0.2", "zzz"))
    apply(ingress("age.test", "zzz"))
    younger_than("zzz", "age.test")
    apply(ingress("age.test", "aaa"))
    first = Controller(narthex, 20200)
    try:
        eventually("the older one", lambda: first.get("age.test") == (200, "10.244.0.2"))
        said = lambda: kubectl("-n", "aaa", "get", "events", "-o", "jsonpath={range .items[*]}{.reason}:{.message}{end}")
        # Namespaces are told nothing of each other's objects; within one the winner is named.
        eventually("the Event about the other namespace", lambda: "PathConflict" in said() and "an Ingress of another namespace goes before" in said())
        apply(ingress("age.test", "aaa", name="younger"), ingress("named.test", "aaa"), ingress("named.test", "aaa", name="named-late"))
        eventually("the Event that names the winner", lambda: "aaa/named.test" in said())
        kubectl("-n", "zzz", "annotate", "ingress", "age.test", "touched=yes")
        apply(ingress("later.test", "aaa"))
        eventually("a later change", lambda: first.get("later.test")[0] == 200)
        assert first.get("age.test")[1] == "10.244.0.2", "a change makes nobody younger"
        kubectl("-n", "zzz", "delete", "ingress", "age.test")
        eventually("the younger one taking over", lambda: first.get("age.test")[1] == "10.244.0.1")
        apply(ingress("age.test", "zzz"))
        apply(ingress("last.test", "aaa"))
        eventually("a change after that", lambda: first.get("last.test")[0] == 200)
        assert first.get("age.test")[1] == "10.244.0.1", "who comes back is the youngest"
    finally:
        kubectl("delete", "namespace", "aaa", "zzz", "--wait=false")
        first.stop()


def scenario_degraded(narthex):
    """Each right that is missing is said by name; what can be done without it is done, and nothing ends."""
    serving = [rule("list watch", "ingresses", "services", "endpointslices", "configmaps", "secrets")]
    annotated = ingress("annotated.test")
    del annotated["spec"]["ingressClassName"]
    annotated["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "nginx"}
    apply(annotated)
    # The API server takes annotation and field together in an update, and what a class means is not known here.
    kubectl("-n", "team", "patch", "ingress", "annotated.test", "--type=merge", "-p", '{"spec":{"ingressClassName":"other"}}')
    user = account("degraded", serving)
    first = Controller(narthex, 20210, user=user)
    bare = Controller(narthex, 20220, "--watch-ingress-without-class", "--election-id=bare", user=user)
    try:
        eventually("readiness without classes", lambda: first.is_ready() and bare.is_ready())
        assert [first.get(host)[0] for host in ("annotated.test", "a.test")] == [200, 404]
        assert [bare.get(host)[0] for host in ("annotated.test", "a.test")] == [200, 200]
        account("degraded", [*serving, rule("list watch", "ingressclasses")])
        eventually("classes that may be read after all", lambda: first.get("a.test")[0] == 200 and first.get("annotated.test")[0] == 404)
        assert "going on without IngressClasses" in first.log()
        eventually("the missing Lease being said", lambda: "not allowed to use the Lease" in first.log())
        assert first.process.poll() is None
    finally:
        first.stop()
        bare.stop()
    assert first.process.returncode == 0
    apply(ingress("unwritten.test"))
    user = account("unwriting", [*serving, rule("list watch", "ingressclasses"), rule("get create update", "leases")])
    second = Controller(narthex, 20210, user=user)
    try:
        eventually("readiness", second.is_ready)
        eventually("the missing status being said", lambda: "the status cannot be written" in second.log())
        apply(ingress("a.test", name="unwritten"))
        eventually("the missing Events being said", lambda: "an Event cannot be written" in second.log())
        assert second.get("a.test")[0] == 200 and second.process.poll() is None
    finally:
        second.stop()
        kubectl("-n", "team", "delete", "ingress", "annotated.test", "unwritten", "unwritten.test", "--ignore-not-found")


class Pod:
    """A backend of a rolling update: it answers slowly, and stops taking connections a while after it was told to end."""

    def __init__(self, address):
        pod = self
        self.address, self.open = address, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                time.sleep(0.02)
                self.send_response(200)
                self.send_header("content-length", str(len(pod.address)))
                self.end_headers()
                self.wfile.write(pod.address.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, 8080), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        """The listening socket goes; connections that idle are cut as a process that ends cuts them."""
        self.server.shutdown()
        self.server.server_close()


def scenario_rolling(narthex):
    """A rolling update: Pods end while they serve, are slow to stop, and refuse connections at last. No request is lost."""
    # Of both generations, one after the other.
    addresses = [f"10.244.1.{number}" for number in range(1, 9)]
    pods = {address: Pod(address) for address in addresses[:2]}
    rolled = slices(addresses[0])
    rolled["metadata"].update(name="rolled-1", labels={"kubernetes.io/service-name": "rolled"})
    site, backends = ingress("rolled.test"), service()
    backends["metadata"]["name"] = site["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "rolled"

    def publish(**states):
        endpoints = [{"addresses": [pod.address], "conditions": {"ready": not pod.address in states.get("ending", ()), "serving": True,
                                                                 "terminating": pod.address in states.get("ending", ())}} for pod in pods.values()]
        apply({**rolled, "endpoints": endpoints})

    publish()
    apply(backends, site)
    first = Controller(narthex, 20220)
    loads = []
    try:
        eventually("the Ingress", lambda: first.get("rolled.test")[0] == 200)
        loads = [Load(first, "rolled.test") for _ in range(4)]
        for old, new in zip(addresses, addresses[2:]):
            pods[new] = Pod(new)
            publish(ending=[old])
            seen = set()
            eventually("the new Pod being used", lambda: seen.add(first.get("rolled.test")[1]) or new in seen)
            # The kubelet stops the process whether or not everybody has heard of it.
            pods[old].stop()
            publish(ending=[old])
            del pods[old]
            publish()
        print(f"  {sum(load.stop() for load in loads)} requests over {len(addresses) - 2} Pods, none lost")
    finally:
        for load in loads:
            load.over.set()
        kubectl("-n", "team", "delete", "ingress", "rolled.test", "--ignore-not-found")
        first.stop()
        for pod in pods.values():
            pod.stop()
