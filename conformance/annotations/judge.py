"""Holds answers, records, metrics and reviews against what the annotation vectors expect.

`annotations_blackbox` asks, and waits where waiting is needed; here nothing is opened. A check raises `Unexpected` with
the reason; what the vectors may not say is an error, never passed over.
"""

import json
import re
import time
from collections import Counter

from annotations.backends import by_name
from routing_blackbox import expect, listed, usual_ports

MINUTE = 60
MANY = 1 << 30


def same(ports, found, wanted):
    """None when the values `found` are as `wanted`, a matcher of the vectors; else what is wrong."""
    shown = [usual_ports(value, ports) for value in found]
    if not isinstance(wanted, dict):
        right = shown == [str(one) for one in listed(wanted)]
    elif "not" in wanted:
        right = wanted["not"] not in shown
    elif "any" in wanted:
        right = True
    elif "literal" in wanted:
        right = found == [str(wanted["literal"])]
    else:
        right = bool(shown) and all(part(name, shown, text) for name, text in wanted.items())
    return None if right else "%r, expected %r" % (shown, wanted)


def part(name, values, text):
    if name == "contains":
        return any(text in value for value in values)
    if name == "not_contains":
        return not any(text in value for value in values)
    if name == "starts_with":
        return values[0].startswith(text)
    if name == "regex":
        return re.search(text, values[0]) is not None
    if name == "present":
        return True
    raise ValueError("a matcher %r is not known here" % name)


def fits_status(found, wanted):
    if isinstance(wanted, str):
        return found is not None and "%dxx" % (found // 100) == wanted
    return found in listed(wanted)


def within(count, bounds):
    if isinstance(bounds, int):
        return count == bounds
    if "exactly" in bounds:
        return count == bounds["exactly"]
    return bounds.get("min", 0) <= count <= bounds.get("max", MANY)


class Judge:
    """`facts` tells of an answer's certificate, `remembered` what endpoints answered earlier."""

    def __init__(self, request, expected, ports, remembered, facts):
        self.request, self.expected, self.ports, self.remembered, self.facts = (
            request,
            expected,
            ports,
            remembered,
            facts,
        )

    def judge(self, answers):
        for key in self.expected:
            expect(hasattr(self, "on_" + key) or key in TOGETHER, "an expectation %r is not known here", key)
        for answer in answers if "counts" not in self.expected else []:
            self.one(answer)
        for key, check in TOGETHER.items():
            if key in self.expected:
                check(answers, self.expected[key])

    def one(self, answer):
        expect(answer.trouble is None, "%s", answer.trouble)
        for key, wanted in self.expected.items():
            if key not in TOGETHER:
                getattr(self, "on_" + key)(answer, wanted)
        if answer.status == 200 and "port" not in self.request:
            expect(answer.field("x-echo-ident"), "200 that comes from no backend")

    def equal(self, what, found, wanted):
        expect(found == wanted, "%s %r, expected %r", what, found, wanted)

    def all_same(self, what, found, wanted):
        for name, matcher in wanted.items():
            why = same(self.ports, found.get(name.lower(), []), matcher)
            expect(why is None, "%s %s: %s", what, name, why)

    # --- of the answer ---

    def on_status(self, answer, wanted):
        expect(fits_status(answer.status, wanted), "status %s, expected %s", answer.status, wanted)

    def on_redirect(self, answer, wanted):
        self.all_same("answer's", answer.fields, {"Location": wanted})

    def on_response_headers(self, answer, wanted):
        self.all_same("answer's", answer.fields, wanted)

    def on_body_contains(self, answer, wanted):
        for text in listed(wanted):
            expect(text in answer.body, "body lacks %r: %r", text, answer.body[:120])

    def on_duration(self, answer, wanted):
        expect(within(answer.seconds, wanted), "took %.2f s, expected %s", answer.seconds, wanted)

    def on_certificate(self, answer, wanted):
        for name, value in wanted.items():
            self.equal("certificate's " + name, self.facts[name], value)

    def on_tls(self, answer, wanted):
        for name, value in wanted.items():
            self.equal("TLS " + name, answer.tls[name], value)

    def on_ocsp(self, answer, wanted):
        self.equal("stapled OCSP answer", self.facts["ocsp"], wanted)

    # --- of the backend ---

    def backend_view(self, answer):
        expect(answer.seen.get("ident"), "no backend reached (status %s)", answer.status)
        return answer.seen

    def on_backend(self, answer, wanted):
        self.equal("backend", answer.field("x-echo-ident"), wanted)

    def on_upstream_headers(self, answer, wanted):
        self.all_same("backend's", by_name(self.backend_view(answer)["headers"]), wanted)

    def on_upstream_path(self, answer, wanted):
        self.equal("target", self.backend_view(answer)["target"], wanted)

    def on_upstream_version(self, answer, wanted):
        self.equal("version to the backend", self.backend_view(answer)["version"], wanted)

    def on_upstream_body(self, answer, wanted):
        self.equal("body to the backend", self.backend_view(answer)["body"], wanted)

    def on_upstream_tls(self, answer, wanted):
        seen = self.backend_view(answer)["tls"]
        self.equal("TLS to the backend", seen is not None, wanted["on"])
        for name in set(wanted) - {"on"}:
            self.equal("TLS to the backend: " + name, seen[name], wanted[name])

    def on_fastcgi_params(self, answer, wanted):
        greeting, _, told = answer.body.partition("\n")
        self.equal("first line", greeting, "Hello world!")
        self.all_same("parameter", {name.lower(): [value] for name, value in json.loads(told).items()}, wanted)

    def on_grpc(self, answer, wanted):
        self.equal("grpc-status", answer.field("grpc-status"), str(wanted["status"]))
        self.all_same("metadata", by_name(self.backend_view(answer)["headers"]), wanted.get("metadata") or {})

    # --- of endpoints ---

    def on_endpoint(self, answer, wanted):
        expect(answer.field("x-echo-label"), "no endpoint answered")
        self.all_same("answer's", answer.fields, {"X-Echo-Label": wanted})

    def on_same_endpoint(self, answer, label):
        self.equal("endpoint", answer.field("x-echo-addr"), self.remembered[label])

    def on_other_endpoint(self, answer, label):
        found = answer.field("x-echo-addr")
        expect(found not in (None, self.remembered[label]), "endpoint %s again, or none", found)

    # --- cookies ---

    def on_set_cookie(self, answer, wanted):
        cookies = dict(cookie(line) for line in answer.fields.get("set-cookie", []))
        for name, attributes in wanted.items():
            if attributes is None:
                expect(name not in cookies, "the cookie %s is set", name)
                continue
            expect(name in cookies, "the cookie %s is not set", name)
            for attribute, value in attributes.items():
                self.attribute(name, cookies[name], attribute, value, attributes)

    def attribute(self, name, found, attribute, wanted, attributes):
        what = "cookie %s: %s" % (name, attribute)
        if attribute in ("secure", "httponly"):
            self.equal(what, attribute in found, wanted)
        elif attribute in ("value", "path", "domain", "max_age", "samesite"):
            self.equal(what, found.get(attribute.replace("_", "-")), wanted)
        elif attribute == "expires_in":
            moments = [time.gmtime(time.time() + wanted + drift) for drift in (-MINUTE, 0, MINUTE)]
            starts = tuple(time.strftime(attributes["expires_format"], moment) for moment in moments)
            expect(
                found.get("expires", "").startswith(starts),
                "%s: %r, expected %r",
                what,
                found.get("expires"),
                starts[1],
            )
        elif attribute != "expires_format":
            raise ValueError("%s is not known here" % what)


def cookie(line):
    """Name and attributes of a Set-Cookie line; the value is an attribute too."""
    (name, value), *rest = [part.strip().partition("=")[::2] for part in line.split(";")]
    return name, {"value": value, **{key.lower(): said for key, said in rest}}


# --- of all answers together ------------------------------------------------------------------------------------------


def counts(answers, wanted):
    found = Counter(answer.status for answer in answers)
    for one in wanted:
        number = sum(count for status, count in found.items() if fits_status(status, one["status"]))
        expect(within(number, one), "%d answers of %s, expected %s", number, dict(found), one)


def distinct_endpoints(answers, wanted):
    found = {answer.field("x-echo-addr") for answer in answers}
    expect(len(found) == wanted and None not in found, "%d endpoints, expected %d", len(found), wanted)


def endpoint_counts(answers, wanted):
    found = sorted(Counter(answer.field("x-echo-addr") for answer in answers).values())
    expect(found == [wanted["each"]] * wanted["endpoints"], "endpoints answered %s, expected %s", found, wanted)


def later(answers, wanted):
    """Judged by the one who drives the case, which may have to wait."""


TOGETHER = {
    "counts": counts,
    "distinct_endpoints": distinct_endpoints,
    "endpoint_counts": endpoint_counts,
    "seen": later,
}


# --- of other services, logs and metrics ------------------------------------------------------------------------------


def seen(record, ports, wanted):
    """What a Service was asked since the start."""
    if "count" in wanted:
        expect(within(len(record), wanted["count"]), "asked %d times, expected %s", len(record), wanted["count"])
    last = record[-1] if record else {"method": None, "target": None, "body": None, "headers": []}
    for name in set(wanted) - {"count", "headers"}:
        expect(last[name] == wanted[name], "asked with %s %r, expected %r", name, last[name], wanted[name])
    fields = by_name(last["headers"])
    for name, matcher in (wanted.get("headers") or {}).items():
        why = same(ports, fields.get(name.lower(), []), matcher)
        expect(why is None, "asked with %s: %s", name, why)


def metric(text, wanted):
    lines = [
        line for line in text.split("\n") if re.match(re.escape(wanted["name"]) + "(_bucket|_sum|_count)?[{ ]", line)
    ]
    labels = ['%s="%s"' % label for label in (wanted.get("labels") or {}).items()]
    labelled = [line for line in lines if all(label in line for label in labels)]
    expect(bool(labelled) == wanted["present"], "metric %s: %d series", wanted["name"], len(labelled))
    expect(len(lines) == wanted.get("series", len(lines)), "metric %s: %d series", wanted["name"], len(lines))


def verdict(answer, wanted):
    """The answer of the admission webhook."""
    if "http_status" in wanted:
        expect(answer.status == wanted["http_status"], "webhook: status %s", answer.status)
        return
    expect(answer.trouble is None and answer.status == 200, "webhook: %s %s", answer.status, answer.trouble)
    response = json.loads(answer.body)["response"]
    said = (response.get("status") or {}).get("message", "")
    expect(
        response["allowed"] == (wanted["verdict"] == "allow"), "webhook: allowed=%s %r", response["allowed"], said[:120]
    )
    expect(wanted.get("message_contains", "") in said, "webhook said %r", said[:200])
