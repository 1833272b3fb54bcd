"""What an API server does on bad days: it refuses, is overloaded, hangs, cuts, lists nothing, and does not know a token any
more. A road in front of the real one does that; what it lets through is the real one's answer."""

import base64
import http.client
import http.server
import json
import os
import ssl
import subprocess
import threading
import time

from scene import LAB, UP, Controller, Load, account, api, apply, eventually, ingress, kubectl, meta, pair, rule, secret, shown, slices
from following import SERVING, kill_apiserver, write_slices


class Road:
    """An HTTP server that hands everything to the API server, unless `mode` says otherwise: `401`, `429`, `500`, `hang`, or a path
    of which it says that there is nothing (`empty`). `cut` ends every answer that goes on."""

    def __init__(self):
        self.mode, self.empty, self.streams, self.refused = "", None, set(), 0
        road = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if road.mode == "hang":
                    # Until the mode is another, or the client has gone.
                    while road.mode == "hang":
                        time.sleep(0.05)
                    self.close_connection = True
                elif road.mode:
                    road.refused += 1
                    self.say(int(road.mode), {"retry-after": "1"})
                elif road.empty and self.path.split("?")[0] == road.empty and self.command == "GET":
                    self.nothing()
                else:
                    self.forward(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def say(self, code, more=(), body=None):
                body = json.dumps(body or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "not now"}).encode()
                self.send_response(code)
                for name, value in dict(more).items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def nothing(self):
                """There is not a single object, says this server."""
                version = api("GET", f"{road.empty}?limit=1")[1]["metadata"]["resourceVersion"]
                if "watch=true" not in self.path:
                    return self.say(200, body={"metadata": {"resourceVersion": version}, "items": []})
                if "sendInitialEvents" not in self.path:
                    return self.say(410)
                mark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}}}
                self.begin()
                self.chunk(json.dumps(mark).encode() + b"\n")
                road.streams.add(self)
                while self in road.streams:
                    time.sleep(0.05)
                self.close_connection = True

            def begin(self):
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()

            def chunk(self, data):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

            def forward(self, body):
                far = http.client.HTTPSConnection("127.0.0.1", 16443, timeout=70, context=ssl._create_unverified_context())
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection", "accept-encoding", "content-length")}
                    far.request(self.command, self.path, body or None, headers)
                    got = far.getresponse()
                    if "watch=true" not in self.path or got.status != 200:
                        return self.say(got.status, body=json.loads(got.read()))
                    self.begin()
                    road.streams.add(self)
                    while self in road.streams and (data := got.read1(65536)):
                        self.chunk(data)
                    if self in road.streams:
                        self.chunk(b"")
                    self.close_connection = True
                except (OSError, http.client.HTTPException):
                    self.close_connection = True
                finally:
                    road.streams.discard(self)
                    far.close()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def cut(self):
        """Ends what goes on, in the middle."""
        for handler in list(self.streams):
            self.streams.discard(handler)
            try:
                handler.connection.shutdown(2)
            except OSError:
                pass

    def stop(self):
        self.mode = ""
        self.cut()
        self.server.shutdown()


def scenario_bad_days(narthex):
    """Refusals (401, 429), faults (500), silence and cut watches: a start waits and ends by itself, what runs serves on and is ready, and follows again."""
    apply(slices("10.244.0.1"))
    road = Road()
    road.mode = "429"
    first = Controller(narthex, 20400, f"--apiserver-host={road.address}")
    load = None
    try:
        eventually("the refusals", lambda: road.refused > 8)
        assert first.process.poll() is None and not first.is_ready(), "nothing is known yet"
        road.mode = ""
        eventually("the Ingress", lambda: first.get("a.test") == (200, "10.244.0.1"))
        load = Load(first, "a.test")
        addresses = ["10.244.0.2", "10.244.0.1"] * 3
        for mode, address in zip(("429", "401", "500", "hang", "cut"), addresses):
            before = road.refused
            road.mode = "" if mode == "cut" else mode
            road.cut()
            if mode == "hang":
                eventually("the loss being noticed", lambda: first.metric("narthex_apiserver_connected") == 0)
            elif mode != "cut":
                eventually("the refusals", lambda: road.refused > before + 8)
            assert write_slices(address)
            assert first.is_ready() and first.get("a.test")[0] == 200
            road.mode = ""
            took = eventually(f"the endpoint after {mode}", lambda: first.get("a.test")[1] == address)
            print(f"  {mode}: followed again {took:.2f} s after it was over")
        print(f"  {load.stop()} requests meanwhile, none lost")
    finally:
        road.stop()
        if load:
            load.over.set()
        apply(slices("10.244.0.1"))
        first.stop()


def scenario_held_with_secrets(narthex):
    """A server that says that there are no Ingresses at all: hosts stay until it says so twice, and so do the Secrets that only they name."""
    names = [f"held-{number}.test" for number in range(30)]
    chain, key = pair("held-0.test")
    objects = [ingress(name) for name in names]
    objects[0]["spec"]["tls"] = [{"hosts": ["held-0.test"], "secretName": "held-tls"}]
    objects[0]["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/ssl-redirect": "false"}
    objects[1]["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/auth-type": "basic", "nginx.ingress.kubernetes.io/auth-secret": "held-users"}
    users = {"apiVersion": "v1", "kind": "Secret", "metadata": meta("held-users"), "stringData": {"auth": "me:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"}}
    apply(secret("held-tls", chain, key), users, *objects)
    user = account("held", SERVING, team=[rule("get watch", "secrets", names=["held-tls", "held-users"])])
    road = Road()
    first = Controller(narthex, 20410, "--secrets-by-reference", f"--apiserver-host={road.address}", user=user)
    try:
        served = lambda: (first.get("held-0.test")[0], shown(20411, "held-0.test") == chain, first.get("held-1.test")[0])
        eventually("everything", lambda: first.is_ready() and served() == (200, True, 401))
        road.empty = "/apis/networking.k8s.io/v1/ingresses"
        road.cut()
        eventually("the list being held", lambda: first.metric("narthex_removals_held_total") >= 1)
        # Secrets that are named no more are let go at once: a moment to do the wrong thing.
        for _ in range(20):
            assert served() == (200, True, 401), served()
            time.sleep(0.05)
        road.empty = None
        road.cut()
        assert served() == (200, True, 401), served()
        eventually("the doubt being over", lambda: first.metric("narthex_apiserver_connected") == 1)
        apply(ingress("held-late.test"))
        eventually("what is new", lambda: first.get("held-late.test")[0] == 200)
        assert served() == (200, True, 401), served()
        road.empty = "/apis/networking.k8s.io/v1/ingresses"
        road.cut()
        eventually("a second list agreeing", lambda: first.get("held-0.test")[0] == 404 and shown(20411, "held-0.test") != chain)
    finally:
        road.stop()
        kubectl("-n", "team", "delete", "ingress", *names, "held-late.test", "--ignore-not-found", "--wait=false")
        first.stop()


def scenario_tokens(narthex):
    """The token on disk is another and the one before is known no more: the new one is used, and nothing is lost on the way."""
    apply(slices("10.244.0.1"))
    account("tokens", [*SERVING, rule("list watch", "secrets")])
    holders = [{"apiVersion": "v1", "kind": "Secret", "metadata": meta(f"token-holder-{number}")} for number in (1, 2)]
    apply(*holders)
    # A token ends with the object that it is bound to.
    mint = lambda number: kubectl("-n", "team", "create", "token", "tokens", "--bound-object-kind=Secret", f"--bound-object-name=token-holder-{number}").strip()
    path = os.path.join(LAB, "rotated.token")

    def write(token):
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(token)
        os.replace(path + ".new", path)

    write(mint(1))
    with open(f"{LAB}/ca.crt", "rb") as file:
        authority = base64.b64encode(file.read()).decode()
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
              "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:16443", "certificate-authority-data": authority}}],
              "users": [{"name": "x", "user": {"tokenFile": path}}]}
    with open(f"{LAB}/rotated.kubeconfig", "w", encoding="ascii") as file:
        json.dump(config, file)
    first = Controller(narthex, 20420, user="rotated")
    load = None
    try:
        eventually("the Ingress", lambda: first.get("a.test") == (200, "10.244.0.1"))
        load = Load(first, "a.test")
        write(mint(2))
        kubectl("-n", "team", "delete", "secret", "token-holder-1")
        # A watch goes on until it ends; the next one shows the token, which is read from the file once a minute.
        kill_apiserver()
        subprocess.run([UP, "apiserver"], check=True)
        eventually("a refusal", lambda: "Unauthorized" in first.log())
        assert first.is_ready() and first.process.poll() is None
        assert write_slices("10.244.0.2")
        took = eventually("the endpoint", lambda: first.get("a.test")[1] == "10.244.0.2" and first.metric("narthex_apiserver_connected") == 1, patience=120)
        print(f"  followed with the new token {took:.1f} s after a refusal; {load.stop()} requests, none lost")
    finally:
        if load:
            load.over.set()
        apply(slices("10.244.0.1"))
        first.stop()


def scenario_zones(narthex):
    """With --enable-topology-aware-routing endpoints of the own zone are asked, and others when the node says that it lies elsewhere."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-z", "labels": {"topology.kubernetes.io/zone": "west"}}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta("pod-z", labels={"app": "narthex"}), "spec": {"nodeName": "node-z", "containers": [{"name": "c", "image": "x"}]}}
    labels = {"kubernetes.io/service-name": "zoned"}
    endpoint = lambda address, zone: {"addresses": [address], "zone": zone, "hints": {"forZones": [{"name": zone}]}}
    some = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": meta("zoned-1", labels=labels), "ports": [{"port": 8080}],
            "endpoints": [endpoint("10.244.0.1", "west"), endpoint("10.244.0.2", "east")]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta("zoned"), "spec": {"trafficDistribution": "PreferClose", "ports": [{"port": 80, "targetPort": 8080}]}}
    route = ingress("zoned.test")
    route["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "zoned"
    apply(node, pod, service, some, route)
    first = Controller(narthex, 20430, "--enable-topology-aware-routing", pod="pod-z")
    answers = lambda: {first.get("zoned.test")[1] for _ in range(12)}
    try:
        eventually("the own zone", lambda: answers() == {"10.244.0.1"})
        apply({**node, "metadata": {"name": "node-z", "labels": {"topology.kubernetes.io/zone": "east"}}})
        eventually("the other zone", lambda: answers() == {"10.244.0.2"})
        apply({**node, "metadata": {"name": "node-z", "labels": {"topology.kubernetes.io/zone": "north"}}})
        eventually("all, where none is meant", lambda: answers() == {"10.244.0.1", "10.244.0.2"})
        apply({**service, "spec": {**service["spec"], "trafficDistribution": None}})
        apply({**node, "metadata": {"name": "node-z", "labels": {"topology.kubernetes.io/zone": "west"}}})
        eventually("all, where it is not asked for", lambda: answers() == {"10.244.0.1", "10.244.0.2"})
    finally:
        first.stop()
        for kind, name in (("pod", "pod-z"), ("service", "zoned"), ("ingress", "zoned.test"), ("endpointslice", "zoned-1")):
            kubectl("-n", "team", "delete", kind, name, "--wait=false", *(["--force", "--grace-period=0"] if kind == "pod" else []))
        kubectl("delete", "node", "node-z")
