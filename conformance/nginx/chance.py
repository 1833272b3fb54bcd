"""What chance makes for `rendered.py`: Ingresses with annotations, keys of the ConfigMap, fields of requests. All of it is
valid, and within what docs/differences.md does not name.
"""

import base64

from routes import SERVICES, locations, some_ingress

# user:secret, by `openssl passwd -apr1 -salt narthex0 secret`.
PASSWORDS = "user:$apr1$narthex0$8TM5a7kICSJiT/904whVL1\n"
SIGNED_IN = "Basic " + base64.b64encode(b"user:secret").decode()
ORIGINS = ["https://a.test", "http://b.test:8080", "https://x.a.test"]


def one_of(name, *values):
    return lambda chance: {name: chance.choice(values)}


def cors(chance):
    out = {"enable-cors": "true"}
    for name, values in {
        "cors-allow-origin": ["*", "https://a.test", "https://a.test, http://b.test:8080", "https://*.a.test"],
        "cors-allow-methods": ["GET, PUT", "GET"],
        "cors-allow-headers": ["X-One, X-Two", "Authorization"],
        "cors-allow-credentials": ["true", "false"],
        "cors-expose-headers": ["X-One", "*"],
        "cors-max-age": ["600", "0"],
    }.items():
        if chance.random() < 0.4:
            out[name] = chance.choice(values)
    return out


def password(chance):
    out = {"auth-type": "basic", "auth-secret": "passwords"}
    if chance.random() < 0.5:
        out["auth-realm"] = chance.choice(["here", "two words"])
    if chance.random() < 0.3:
        out.update(satisfy=chance.choice(["any", "all"]), **{"whitelist-source-range": chance.choice(["10.0.0.0/8", "127.0.0.0/8"])})
    return out


def redirect(chance):
    kind = chance.choice(["permanent", "temporal"])
    # A temporal one to a mere path is an error there, and takes `from-to-www-redirect` with it.
    out = {kind + "-redirect": chance.choice(["https://other.test/x", "https://other.test/?a=b"] + ["/there"] * (kind == "permanent"))}
    if chance.random() < 0.5:
        out[kind + "-redirect-code"] = chance.choice(["301", "308", "307", "302", "303", "200"])
    if chance.random() < 0.3:
        out["relative-redirects"] = "true"
    return out


def rewritten(chance):
    out = {}
    if chance.random() < 0.6:
        out["proxy-cookie-domain"] = chance.choice(["backend.test front.test", "off"])
    if chance.random() < 0.6:
        out["proxy-cookie-path"] = chance.choice(["/one/ /two/", "/ /base", "off"])
    if chance.random() < 0.6:
        out["proxy-redirect-from"] = chance.choice(["http://backend.test/", "off"])
        out["proxy-redirect-to"] = chance.choice(["/front/", "https://front.test/"])
    return out


def errors(chance):
    out = {"custom-http-errors": chance.choice(["404", "404,503", "418,500"])}
    if chance.random() < 0.7:
        out["default-backend"] = chance.choice(SERVICES)
    if chance.random() < 0.2:
        out["disable-proxy-intercept-errors"] = "true"
    return out


FEATURES = [
    cors, password, redirect, rewritten, errors,
    one_of("app-root", "/app", "/a/b"),
    one_of("force-ssl-redirect", "true", "false"),
    one_of("ssl-redirect", "true", "false"),
    one_of("preserve-trailing-slash", "true"),
    one_of("upstream-vhost", "inner.test", "inner.test:81"),
    one_of("proxy-body-size", "1k", "10", "0", "1m"),
    one_of("client-body-buffer-size", "1k", "64k"),
    one_of("whitelist-source-range", "10.0.0.0/8", "127.0.0.0/8, 10.0.0.0/8", "0.0.0.0/0"),
    one_of("denylist-source-range", "10.0.0.0/8", "127.0.0.1/32"),
    one_of("x-forwarded-prefix", "/prefix", "/a/b"),
    one_of("connection-proxy-header", "keep-alive", "close"),
    one_of("proxy-http-version", "1.0", "1.1"),
    one_of("default-backend", *SERVICES),
    one_of("proxy-buffering", "on", "off"),
    one_of("proxy-request-buffering", "on", "off"),
    one_of("proxy-next-upstream", "off", "error http_502", "http_500"),
    one_of("service-upstream", "false"),
    one_of("enable-access-log", "false"),
    one_of("custom-headers", "default/fields"),
    one_of("from-to-www-redirect", "true"),
    one_of("server-alias", "alias-%d.test"),
]


def some_host(chance, number):
    """The Ingresses of a host, or None where nginx would refuse its locations."""
    expressions = chance.random() < 0.35
    ingresses = [some_ingress(chance, expressions) for _ in range(chance.randint(1, 3))]
    for place, one in enumerate(ingresses):
        # Names in no order, and each of its own: they decide between Ingresses of one second.
        one["name"] += "%d-%d" % (number, place)
        # A name that no expression of the file may have.
        if one["annotations"].get("rewrite-target") == "/$rest":
            one["annotations"]["rewrite-target"] = "/$1"
    if not locations(ingresses):
        return None
    for one in ingresses:
        for feature in chance.sample(FEATURES, chance.choice([0, 1, 1, 2, 2, 3])):
            one["annotations"].update(feature(chance))
        if "server-alias" in one["annotations"]:
            one["annotations"]["server-alias"] = "alias-%d.test" % number
        # Of several the longest path's counts there, the oldest Ingress's here.
        if sum("app-root" in other["annotations"] for other in ingresses) > 1:
            one["annotations"].pop("app-root", None)
    main = ingresses[0]
    if not expressions and len(ingresses) == 1 and chance.random() < 0.3:
        # To ingress-nginx a canary is one of a Service, wherever that is used: these are used here only.
        for rule in main["paths"]:
            rule["service"] = "%s-%d" % (rule["service"], number)
        # And the error backend would be a copy of that Service, canary included.
        main["annotations"].pop("custom-http-errors", None)
        ingresses.append(canary(chance, main, number))
    return ingresses


def canary(chance, main, number):
    """One that takes requests of `main` by a field or a cookie: nothing by weight."""
    annotations = {"canary": "true"}
    if chance.random() < 0.7:
        annotations["canary-by-header"] = "X-Canary"
        if chance.random() < 0.5:
            annotations[chance.choice(["canary-by-header-value", "canary-by-header-pattern"])] = "yes"
    if chance.random() < 0.5 or len(annotations) == 1:
        annotations["canary-by-cookie"] = "canary"
    service = "canary-%d" % number
    paths = [dict(rule, service=service) for rule in main["paths"]]
    return {"annotations": annotations, "paths": paths, "created": main["created"], "name": "canary-" + main["name"]}


def some_fields(chance, canaries):
    """Fields of a request, by chance: what annotations look at, and `canaries` where there is one."""
    fields = []
    for share, choices in (
        (0.4, ["Origin: " + origin for origin in ORIGINS]),
        (0.3, ["Authorization: " + SIGNED_IN, "Authorization: Basic eDp5"]),
        (0.25, ["X-Status: 404", "X-Status: 503", "X-Status: 500", "X-Status: 418"]),
        (0.2, ["X-Send: Location: http://backend.test/one/x", "X-Send: Location: /one/", "X-Send: Set-Cookie: a=b; Domain=backend.test; Path=/one/x", "X-Send: Server: own"]),
        (0.3 if canaries else 0, ["X-Canary: always", "X-Canary: never", "X-Canary: yes"]),
        # One line: we join several, nginx passes them on.
        (0.1, ["Cookie: a=1; b=2"]) if not canaries else (0.3, ["Cookie: canary=always", "Cookie: canary=never", "Cookie: a=1; canary=always"]),
        (0.2, ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test", "X-Real-IP: 1.2.3.4"]),
        (0.1, ["X_Under_Score: 1", "X.Dot: 1", "Proxy: x", "Accept: application/json", "X-Original-Forwarded-For: 4.3.2.1"]),
        (0.1, ["X-One: 1\r\nX-One: 2", "Te: trailers"]),
    ):
        if chance.random() < share:
            fields.append(chance.choice(choices))
    return fields


# Keys of the ConfigMap that every request can feel, and what they may say.
KEYS = {
    "add-headers": ["default/fields"],
    "proxy-set-headers": ["default/fields"],
    "allow-backend-server-header": ["true"],
    "compute-full-forwarded-for": ["true"],
    "enable-underscores-in-headers": ["true"],
    "forwarded-for-header": ["X-Real-IP"],
    "generate-request-id": ["false"],
    "hide-headers": ["X-Backend,Location"],
    "custom-http-errors": ["404", "418,503"],
    "ignore-invalid-headers": ["false"],
    "http-redirect-code": ["301", "307"],
    "no-tls-redirect-locations": ["/v1,/a"],
    "no-auth-locations": ["/v1"],
    "proxy-add-original-uri-header": ["true"],
    "proxy-body-size": ["1k", "0"],
    "proxy-cookie-domain": ["backend.test front.test"],
    "proxy-cookie-path": ["/one/ /two/"],
    "relative-redirects": ["true"],
    "retry-non-idempotent": ["true"],
    "server-tokens": ["true"],
    "ssl-redirect": ["false"],
    "upstream-keepalive-connections": ["0"],
    "use-forwarded-headers": ["true"],
    "whitelist-source-range": ["127.0.0.0/8", "127.0.0.1,10.0.0.0/8"],
    "denylist-source-range": ["10.0.0.0/8"],
}


def some_config(chance):
    """The ConfigMap: as it is by default for one seed in three, else with a few keys."""
    keys = chance.sample(sorted(KEYS), chance.choice([0, 3, 5]))
    return {key: chance.choice(KEYS[key]) for key in keys}
