"""Objects as cert-manager, Argo Rollouts and Flagger create them, by sequence."""

import functools
import http.server
import os
import threading

import acme
from scene import (LAB, Controller, apply, eventually, ingress, kubectl, meta, pair, refused, secret, service, shown, slices,
                   younger_than)
from writing import webhook_configuration

PREFIX = "nginx.ingress.kubernetes.io/"
CHALLENGES = "/.well-known/acme-challenge/"
# What the solver answers with, by token; others are told their host.
ANSWERS = {}


def solver_name(token):
    return "solver-" + "".join(letter if letter.isalnum() else "-" for letter in token.lower())


def solver(token, host, **more):
    """What cert-manager's HTTP-01 solver creates."""
    path = {"path": f"{CHALLENGES}{token}", "pathType": more.pop("kind", "Exact"),
            "backend": {"service": {"name": solver_name(token), "port": {"number": 8089}}}}
    rule = {"http": {"paths": [path]}, **({"host": host} if host else {})}
    solving = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
               "metadata": meta(f"cm-acme-http-{solver_name(token)}", labels={f"acme.cert-manager.io/http-{what}": str(abs(hash(value))) for what, value in (("domain", host), ("token", token))} |
                                {"acme.cert-manager.io/http01-solver": "true"},
                                annotations={PREFIX + "whitelist-source-range": "0.0.0.0/0,::/0"}),
               "spec": {"rules": [rule]}}
    # By the annotation or by the field, never by both.
    if more.pop("by_annotation", False):
        solving["metadata"]["annotations"]["kubernetes.io/ingress.class"] = "nginx"
    else:
        solving["spec"]["ingressClassName"] = "nginx"
    name = solver_name(token)
    answering = [{"apiVersion": "v1", "kind": "Service", "metadata": meta(name), "spec": {"ports": [{"port": 8089, "targetPort": 8089}]}},
                 {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                  "metadata": meta(f"{name}-1", labels={"kubernetes.io/service-name": name}),
                  "ports": [{"port": 8089}], "endpoints": [{"addresses": ["10.244.0.8"]}]}]
    return path, solving, answering


@functools.cache
def solver_pods():
    """The Pods of all solvers: they compare nothing here, but tell which Host they were asked for."""

    class Solver(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            token = self.path.rsplit("/", 1)[-1]
            body = ANSWERS.get(token, f"{token} for {self.headers['host']}").encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    threading.Thread(target=http.server.ThreadingHTTPServer(("10.244.0.8", 8089), Solver).serve_forever, daemon=True).start()


# Everything that guards, moves or changes requests of a host; the solver's path goes before all of it, also in place.
GUARDS = {
    "auth": {"auth-type": "basic", "auth-secret": "none"},
    "external": {"auth-url": "http://web.team.svc/"},
    "https": {"force-ssl-redirect": "true"},
    "list": {"allowlist-source-range": "198.51.100.0/24"},
    "deny": {"denylist-source-range": "0.0.0.0/0"},
    "moved": {"permanent-redirect": "https://elsewhere.test/"},
    "found": {"temporal-redirect": "https://elsewhere.test/"},
    "approot": {"app-root": "/app"},
    "www": {"from-to-www-redirect": "true"},
    "rewrite": {"rewrite-target": "/x"},
    "regex": {"use-regex": "true", "rewrite-target": "/$1"},
    "vhost": {"upstream-vhost": "elsewhere.test"},
    "mirror": {"mirror-target": "http://192.0.2.9/", "mirror-request-body": "off"},
    "rate": {"limit-rpm": "1", "limit-burst-multiplier": "1", "limit-connections": "1"},
    "fallback": {"default-backend": "web", "custom-http-errors": "404,503"},
    "clients": {"auth-tls-secret": "team/none"},
    "snippet": {"configuration-snippet": "return 403;"},
    "server": {"server-snippet": "location = /x { return 403; }"},
}


def guarded_by(host, annotations):
    guarded = ingress(host)
    guarded["metadata"]["annotations"] = {PREFIX + key: value for key, value in annotations.items()}
    guarded["spec"]["tls"] = [{"hosts": [host], "secretName": "not-there-yet"}]
    return guarded


def answered(controller, host, token):
    """The challenge is answered, and with the Host that was asked for."""
    expect = (200, f"{token} for {host}")
    ask = lambda: controller.get(host, CHALLENGES + token)
    try:
        took = eventually(f"the challenge of {host}", lambda: ask() == expect)
    except AssertionError as error:
        raise AssertionError(f"{error}: {ask()}") from error
    # Again and again, as a validation from several places asks: no limit of the host counts.
    for _ in range(3):
        assert ask() == expect, (host, ask())
    return took


def settings(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name), "data": data}


def scenario_acme(narthex):
    """cert-manager's challenges are answered by every replica under everything that guards or redirects a host."""
    solver_pods()
    apply(settings("acme", **{"allow-snippet-annotations": "true", "annotations-risk-level": "Critical", "strict-validate-path-type": "true"}))
    apply(webhook_configuration(20143))
    flags = ["--configmap=team/acme"]
    first = Controller(narthex, 20140, "--validating-webhook=127.0.0.1:20143", "--validating-webhook-configuration=admission",
                       "--validating-webhook-secret=team/admission", *flags)
    second = Controller(narthex, 20145, *flags, pod="pod-2")
    made = []
    try:
        eventually("both", lambda: first.is_ready() and second.is_ready())
        eventually("the webhook", lambda: refused(ingress("probe.acme.test"), flags=["--dry-run=server"]) is None)
        slowest = 0
        for number, (name, annotations) in enumerate(GUARDS.items()):
            # `strict-validate-path-type` is on: the path is Exact and has a dot, which the check has to take.
            host, token = f"{name}.acme.test", f"T{number}-a_b"
            _, solving, answering = solver(token, host, by_annotation=number % 2 == 0, kind=("Exact", "ImplementationSpecific")[number // 2 % 2])
            apply(guarded_by(host, annotations), solving, *answering)
            made += [host, solving["metadata"]["name"]]
            slowest = max(slowest, *(answered(controller, host, token) for controller in (first, second)))
            # Edit in place: the path stands in the guarded Ingress itself.
            host, token = f"in-{name}.acme.test", f"I{number}"
            path, _, answering = solver(token, host)
            guarded = guarded_by(host, annotations)
            guarded["metadata"]["annotations"]["acme.cert-manager.io/http01-edit-in-place"] = "true"
            guarded["spec"]["rules"][0]["http"]["paths"].insert(0, path)
            apply(guarded, *answering)
            made.append(host)
            slowest = max(slowest, *(answered(controller, host, token) for controller in (first, second)))
        print(f"  {2 * len(GUARDS)} challenges, each known to both replicas within {slowest:.2f} s of kubectl's end")
        assert first.get("in-auth.acme.test")[0] != 200 and first.get("list.acme.test")[0] != 200, "the rest is guarded"
        # Beside a canary that takes everything.
        path, solving, answering = solver("beside", "canary.acme.test")
        canary = ingress("canary.acme.test", name="canary.acme.test-canary")
        canary["metadata"]["annotations"] = {PREFIX + "canary": "true", PREFIX + "canary-weight": "100"}
        apply(ingress("canary.acme.test"), canary, solving, *answering)
        made += ["canary.acme.test", "canary.acme.test-canary", solving["metadata"]["name"]]
        answered(first, "canary.acme.test", "beside")
        # A certificate for an IP address: no host. Not merged into hosts that are known.
        _, solving, answering = solver("bare", "")
        apply(solving, *answering)
        made.append(solving["metadata"]["name"])
        answered(first, "192.0.2.1", "bare")
        assert first.get("canary.acme.test", CHALLENGES + "bare")[1] != "bare for canary.acme.test"
    finally:
        kubectl("delete", "validatingwebhookconfiguration", "admission", "--ignore-not-found")
        if made:
            kubectl("-n", "team", "delete", "ingress", "--ignore-not-found", *made)
        first.stop()
        second.stop()


def scenario_passthrough(narthex):
    """A host whose TLS is passed through has its challenges answered on the plain port all the same."""
    solver_pods()
    _, solving, answering = solver("through", "through.acme.test")
    apply(guarded_by("through.acme.test", {"ssl-passthrough": "true", "backend-protocol": "HTTPS"}), solving, *answering)
    first = Controller(narthex, 20320, "--enable-ssl-passthrough")
    try:
        eventually("readiness", first.is_ready)
        answered(first, "through.acme.test", "through")
    finally:
        kubectl("-n", "team", "delete", "ingress", "through.acme.test", solving["metadata"]["name"])
        first.stop()


def scenario_pebble(narthex):
    """A real ACME server validates a challenge through us; the certificate that it issues is served."""
    if not os.environ.get("LAB_PEBBLE"):
        print("  SKIPPED: Pebble could not be built", flush=True)
        return
    solver_pods()
    host = "pebble.test"
    first = Controller(narthex, 20330)
    authority = acme.Authority(os.environ["LAB_PEBBLE"], LAB, http_port=20330)
    load = []
    try:
        # As the Certificate's owner has it: guarded, https only, and with a Secret that is still to come.
        guarded = guarded_by(host, GUARDS["auth"] | GUARDS["https"] | GUARDS["list"])
        guarded["spec"]["tls"][0]["secretName"] = "pebble-tls"
        temporary = pair(host)
        apply(guarded, secret("pebble-tls", *temporary))
        eventually("the temporary certificate", lambda: shown(20331, host) == temporary[0])
        client = acme.Client(authority)
        order = client.order(host)
        token, answer = client.challenge(order)
        ANSWERS[token] = answer
        _, solving, answering = solver(token, host)
        apply(solving, *answering)
        # cert-manager looks for itself before it says that it is ready.
        eventually("the self check", lambda: first.get(host, CHALLENGES + token) == (200, answer))
        chain, key = client.finish(order, host)
        load.append(first.log())
        kubectl("-n", "team", "delete", "ingress", solving["metadata"]["name"])
        apply(secret("pebble-tls", chain, key))
        leaf = chain[: chain.index("-----END CERTIFICATE-----") + 26]
        print(f"  issued, and served {eventually('the certificate', lambda: shown(20331, host).strip() == leaf.strip()):.3f} s after kubectl")
        eventually("the path being guarded again", lambda: first.get(host, CHALLENGES + token)[1] != answer)
    finally:
        authority.stop()
        kubectl("-n", "team", "delete", "ingress", host, "--ignore-not-found")
        first.stop()


def named(host, name, backend, **annotations):
    made = ingress(host, name=name)
    made["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = backend
    made["metadata"]["annotations"] = {PREFIX + key.replace("_", "-"): value for key, value in annotations.items()}
    return made


def serves(name, address):
    """A Service with one endpoint."""
    ends, serving = slices(address), service()
    ends["metadata"].update(name=f"{name}-1", labels={"kubernetes.io/service-name": name})
    serving["metadata"]["name"] = name
    return [serving, ends]


def share(controller, host, count=60, **headers):
    """How many of so many requests the second backend answers."""
    return sum(controller.get(host, headers=headers)[1] == "10.244.0.2" for _ in range(count))


def scenario_rollouts(narthex):
    """Argo Rollouts: a generated canary Ingress whose weight and header change step by step, with all paths of the stable one."""
    host = "rollout.test"
    stable = named(host, "shop", "shop-stable")
    # A path of another service: the canary copies it as it is, which must mean nothing (argo-rollouts #3541).
    other = {"path": "/api", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}
    stable["spec"]["rules"][0]["http"]["paths"].append(other)
    apply(*serves("shop-stable", "10.244.0.1"), *serves("shop-canary", "10.244.0.2"), stable)
    first = Controller(narthex, 20340)

    def step(**annotations):
        canary = named(host, "shop-shop-canary", "shop-canary", canary="true", **annotations)
        canary["spec"]["rules"][0]["http"]["paths"].append(other)
        apply(canary)

    try:
        eventually("the stable one", lambda: first.get(host) == (200, "10.244.0.1"))
        step(canary_weight="0")
        apply(ingress("after.rollout.test"))
        eventually("what came after", lambda: first.get("after.rollout.test")[0] == 200)
        assert share(first, host) == 0
        step(canary_weight="50")
        eventually("some of it", lambda: 0 < share(first, host, 20) < 20)
        assert {first.get(host, "/api")[1] for _ in range(30)} == {"10.244.0.1"}, "the same service is no canary of itself"
        assert "/api" not in "".join(line for line in first.log().splitlines() if "ERROR" in line)
        # setHeaderRoute, beside a weight of nothing; then a value.
        step(canary_weight="0", canary_by_header="X-Canary")
        eventually("the header", lambda: share(first, host, 10, **{"x-canary": "always"}) == 10)
        assert share(first, host, 20) == 0 and share(first, host, 10, **{"x-canary": "never"}) == 0
        step(canary_weight="0", canary_by_header="X-Canary", canary_by_header_value="iwantsit")
        eventually("the value", lambda: share(first, host, 10, **{"x-canary": "iwantsit"}) == 10)
        assert share(first, host, 10, **{"x-canary": "always"}) == 0
        step(canary_weight="100")
        eventually("all of it", lambda: share(first, host, 20) == 20)
        # Promotion: the stable Service points to the new Pods, then the weight goes back and the Ingress goes.
        apply(*serves("shop-stable", "10.244.0.2"))
        step(canary_weight="0")
        eventually("the promotion", lambda: share(first, host, 20) == 20)
        kubectl("-n", "team", "delete", "ingress", "shop-shop-canary")
        apply(ingress("end.rollout.test"))
        eventually("what came after the end", lambda: first.get("end.rollout.test")[0] == 200)
        assert share(first, host, 20) == 20
    finally:
        kubectl("-n", "team", "delete", "ingress", "shop", "shop-shop-canary", "after.rollout.test", "end.rollout.test", "--ignore-not-found")
        first.stop()


def scenario_flagger(narthex):
    """Flagger: its canary Ingress begins and ends with `canary: "false"`, knows empty annotations, and passes the webhook."""
    host = "flagger.test"
    apply(*serves("podinfo", "10.244.0.1"), *serves("podinfo-canary", "10.244.0.2"), named(host, "podinfo", "podinfo"))
    apply(webhook_configuration(20353))
    first = Controller(narthex, 20350, "--validating-webhook=127.0.0.1:20353", "--validating-webhook-configuration=admission",
                       "--validating-webhook-secret=team/admission")
    step = lambda **annotations: refused(named(host, "podinfo-canary", "podinfo-canary", **annotations))
    try:
        eventually("the apex", lambda: first.get(host) == (200, "10.244.0.1"))
        eventually("the webhook", lambda: refused(ingress("probe.flagger.test"), flags=["--dry-run=server"]) is None)
        assert refused(named(host, "intruder", "podinfo-canary"), flags=["--dry-run=server"]), "others are refused"
        # Until it is a canary it wants the very path of the other one.
        younger_than("team", "podinfo")
        said = step(canary="false", canary_weight="0")
        assert said is None, said
        apply(ingress("after.flagger.test"))
        eventually("what came after", lambda: first.get("after.flagger.test")[0] == 200)
        assert share(first, host, 20) == 0, "who was there first stays"
        for weight in ("10", "30", "50"):
            assert step(canary="true", canary_weight=weight) is None
        eventually("some of it", lambda: 0 < share(first, host, 40) < 40)
        # A/B testing: header and cookie, each of which may be empty.
        assert step(canary="true", canary_by_header="x-canary", canary_by_header_value="insider", canary_by_cookie="canary") is None
        eventually("the header", lambda: share(first, host, 10, **{"x-canary": "insider"}) == 10)
        assert share(first, host, 10, cookie="canary=always") == 10 and share(first, host, 10) == 0
        said = step(canary="true", canary_by_header="", canary_by_header_value="", canary_by_cookie="canary")
        assert said is None, said
        eventually("the cookie alone", lambda: share(first, host, 10, **{"x-canary": "insider"}) == 0 and share(first, host, 10, cookie="canary=always") == 10)
        assert step(canary="true", canary_weight="100") is None
        eventually("all of it", lambda: share(first, host, 10) == 10)
        assert step(canary="false", canary_weight="0") is None
        eventually("none of it", lambda: share(first, host, 10) == 0)
    finally:
        kubectl("delete", "validatingwebhookconfiguration", "admission", "--ignore-not-found")
        kubectl("-n", "team", "delete", "ingress", "podinfo", "podinfo-canary", "after.flagger.test", "--ignore-not-found")
        first.stop()
