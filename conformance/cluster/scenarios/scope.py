"""Which objects a controller takes: namespaces by their labels, classes by name, Ingresses without a class, catch-all."""

from scene import Controller, apply, eventually, ingress, kubectl, meta, service, slices


def labelled(name, **labels):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def scenario_scope(narthex):
    """--watch-namespace-selector follows the labels of namespaces; --ingress-class-by-name, --watch-ingress-without-class and --disable-catch-all as upstream."""
    named = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "by-name"}, "spec": {"controller": "example.com/somebody-else"}}
    of_class = ingress("named.test", "chosen")
    of_class["spec"]["ingressClassName"] = "by-name"
    bare = ingress("bare.test", "chosen")
    del bare["spec"]["ingressClassName"]
    everything = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("everything", "chosen"), "spec": {
        "ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}
    apply(labelled("chosen", edge="yes"), labelled("unchosen"), named)
    for place in ("chosen", "unchosen"):
        apply(service(place), slices("10.244.0.1", place), ingress(f"{place}.test", place))
    apply(of_class, bare, everything)
    first = Controller(narthex, 20450, "--watch-namespace-selector=edge=yes", "--disable-catch-all")
    second = Controller(narthex, 20460, "--ingress-class=by-name", "--ingress-class-by-name", "--controller-class=example.com/none", "--election-id=second")
    third = Controller(narthex, 20470, "--watch-ingress-without-class", "--election-id=third")
    has = lambda one, *hosts: [one.get(host)[0] for host in hosts]
    try:
        eventually("all", lambda: all(one.is_ready() for one in (first, second, third)))
        assert has(first, "chosen.test", "unchosen.test", "a.test", "named.test", "bare.test", "unknown.test") == [200, 404, 404, 404, 404, 404]
        assert has(second, "named.test", "chosen.test", "bare.test", "unknown.test") == [200, 404, 404, 404]
        assert has(third, "chosen.test", "unchosen.test", "bare.test", "unknown.test") == [200] * 4, "the last is the catch-all"
        apply(labelled("unchosen", edge="yes"))
        eventually("a namespace being chosen", lambda: has(first, "chosen.test", "unchosen.test") == [200, 200])
        kubectl("label", "namespace", "chosen", "edge-")
        eventually("a namespace being chosen no more", lambda: has(first, "chosen.test", "unchosen.test") == [404, 200])
        kubectl("delete", "ingressclass", "by-name")
        assert has(third, "bare.test") == [200]
    finally:
        for one in (first, second, third):
            one.stop()
        kubectl("delete", "namespace", "chosen", "unchosen", "--wait=false")
        kubectl("delete", "ingressclass", "by-name", "--ignore-not-found")
