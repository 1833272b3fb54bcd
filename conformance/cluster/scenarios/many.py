"""A cluster with thousands of Ingresses. The last of all: they stay."""

from scene import Controller, apply, eventually, ingress, kubectl, refused, slices
from writing import webhook_configuration


def scenario_many(narthex):
    """A cold start with many Ingresses, changes and verdicts among them."""
    for begin in range(0, 5000, 1000):
        apply(*[ingress(f"h{number}.test") for number in range(begin, begin + 1000)])
    first = Controller(narthex, 20060, "--update-status=false", "--validating-webhook=127.0.0.1:20063", "--validating-webhook-configuration=admission",
                       "--validating-webhook-secret=team/admission")
    try:
        print(f"  ready {eventually('readiness', first.is_ready):.3f} s after the start, with 5000 Ingresses")
        assert first.get("h4999.test")[0] == 200
        apply(slices("10.244.0.2"))
        print(f"  endpoints effective {eventually('the endpoint', lambda: first.get('h0.test')[1] == '10.244.0.2'):.3f} s after kubectl")
        apply(webhook_configuration(20063))
        # Until it has its certificate, a webhook that cannot be called refuses as well.
        verdict = lambda: refused(ingress("h4999.test", name="late")) or ""
        eventually("a verdict", lambda: "is already defined in ingress team/h4999.test" in verdict())
        apply(ingress("h5000.test"))
        print(f"  Ingress effective {eventually('the host', lambda: first.get('h5000.test')[0] == 200):.3f} s after kubectl")
    finally:
        kubectl("delete", "validatingwebhookconfiguration", "admission", "--ignore-not-found")
        apply(slices("10.244.0.1"))
        first.stop()
