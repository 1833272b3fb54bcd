"""Cases for `differential.py`: annotations, what ingress-nginx renders from them, and requests.

A scene is one ConfigMap with what it renders at the level of `http`; a case is one host in it. `BACKEND` is the address of
the backend. Steps: a request (with `repeat`), `hold` (a request that the backend keeps), `release`, `wait` (seconds), `seen`
(a request, and what the backend saw of it).
"""


def limit_zone(name, allow=()):
    """The map and the key that ingress-nginx makes for the limits of an Ingress."""
    nets = " ".join("%s 1;" % net for net in allow)
    return [
        "geo $remote_addr $allowed_%s { default 0; %s }" % (name, nets),
        'map $allowed_%s $limit_%s { 0 $binary_remote_addr; 1 ""; }' % (name, name),
    ]


def limited(name, steps, rps=None, rpm=None, connections=None, multiplier=5, allow=(), more=None, nginx=()):
    http, lines, annotations = limit_zone(name, allow), list(nginx), dict(more or {})
    if connections:
        http.append("limit_conn_zone $limit_%s zone=%s_conn:5m" % (name, name))
        lines.append("limit_conn %s_conn %d" % (name, connections))
        annotations["limit-connections"] = str(connections)
    for count, unit in ((rps, "s"), (rpm, "m")):
        if count:
            http.append("limit_req_zone $limit_%s zone=%s_rp%s:5m rate=%dr/%s" % (name, name, unit, count, unit))
            burst = " burst=%d" % (count * multiplier) if multiplier else ""
            lines.append("limit_req zone=%s_rp%s%s nodelay" % (name, unit, burst))
            annotations["limit-rp" + unit] = str(count)
    if multiplier != 5:
        annotations["limit-burst-multiplier"] = str(multiplier)
    if allow:
        annotations["limit-allowlist"] = ",".join(allow)
    return {"name": name, "http": http, "nginx": lines, "annotations": annotations, "steps": steps}


GET = {"path": "/"}
# Two that are not under way at once: nginx counts a connection down a moment after the client has its answer, and its
# other process may be faster.
APART = [GET, {"wait": 0.2}, GET, {"wait": 0.2}]

LIMITS = [
    limited("rpm", [dict(GET, repeat=12)], rpm=1),
    limited("rpm2", [dict(GET, repeat=9), {"wait": 2.6}, dict(GET, repeat=3)], rpm=30, multiplier=0),
    limited("rps", [dict(GET, repeat=4), {"wait": 1.3}, dict(GET, repeat=3)], rps=1, multiplier=1),
    limited("both", [dict(GET, repeat=12)], rps=50, rpm=2, multiplier=2),
    limited("exempt", [dict(GET, repeat=10)], rpm=1, multiplier=0, allow=("127.0.0.0/8",)),
    limited("other", [dict(GET, repeat=3)], rpm=1, multiplier=0, allow=("10.0.0.0/8",)),
    limited(
        "conn",
        [{"hold": GET}, dict(GET, repeat=2), {"release": 1}, *APART, {"hold": GET}, GET, {"release": 1}],
        connections=1,
    ),
    # What is refused for one reason: does it count for the other?
    limited("connrate", [{"hold": GET}, dict(GET, repeat=5), {"release": 1}, *APART], connections=1, rpm=1, multiplier=3),
    # Limits are asked before addresses.
    limited("order", [dict(GET, repeat=3)], rpm=1, multiplier=0, more={"denylist-source-range": "127.0.0.0/8"}, nginx=["deny 127.0.0.0/8"]),
]

STATUSES = [
    limited("status", [dict(GET, repeat=3)], rpm=1, multiplier=0),
    limited("connstatus", [{"hold": GET}, GET, {"release": 1}], connections=1),
]


def send(*lines, **more):
    return dict({"path": "/x?y=z", "fields": [("X-Send", line) for line in lines] + more.pop("fields", [])}, **more)


def redirects(name, origin, target, *steps):
    line = "proxy_redirect %s" % origin if origin in ("off",) else "proxy_redirect %s %s" % (origin, target)
    return {
        "name": name,
        "annotations": {"proxy-redirect-from": origin, "proxy-redirect-to": target},
        "nginx": [line],
        "steps": list(steps),
    }


LOCATIONS = [
    send("Location: http://in.test/a?b"),
    send("Location: http://in.test/"),
    send("Location: http://in.test"),
    send("Location: HTTP://IN.test/a"),
    send("Location: /a"),
    send("Location: https://else.test/in.test/"),
    send("Refresh: 5; url=http://in.test/a"),
    send("Refresh: 5"),
    send("Location: http://in.test/a", fields=[("X-Status", "302")]),
    send("Location: http://in.test/a", fields=[("X-Status", "201")]),
]

REDIRECTS = [
    redirects("redirect", "http://in.test/", "https://out.test/", *LOCATIONS),
    redirects("redirecthost", "http://in.test/", "https://$host/v/", *LOCATIONS),
    redirects("redirectpath", "http://in.test/", "/", *LOCATIONS),
    redirects("redirectoff", "off", "https://out.test/", *LOCATIONS),
    redirects("redirectregex", "~^http://in.test/(.*)", "https://out.test/$1", *LOCATIONS),
    redirects("redirectcase", "~*^HTTP://IN.TEST", "https://out.test", *LOCATIONS),
]

COOKIES = [
    send("Set-Cookie: a=1; Domain=in.test; Path=/one/two"),
    send("Set-Cookie: a=1;domain=.IN.test;path=/one/;Secure; HttpOnly"),
    send("Set-Cookie: a=1; Domain=x.in.test; Path=/one"),
    send("Set-Cookie: a=1; Path=/ONE/two; Max-Age=5"),
    send("Set-Cookie: a=1", "Set-Cookie: b=2; Path=/one/", "Set-Cookie: c=3; Path=/two/"),
    send("Set-Cookie: domain=in.test; path=/one/"),
    send("Set-Cookie: a=x=y==; Domain = in.test ; Path"),
    send("Set-Cookie: a=\"q; Path=/one/x"),
    send("Set-Cookie: ; Path=/one/"),
    send("Set-Cookie: a; Path=/one/;"),
    send("Set-Cookie: a=1; Path=/one/x;"),
    send("Set-Cookie: a=1;; Path=/one/x; ;"),
    send("Set-Cookie: =1; Path=/one/x"),
    send("Set-Cookie: a=1; Path="),
    send("Set-Cookie: a=1; Domain=; Path=/one/"),
    send("Set-Cookie: a=1; Domain=.; Path=/one/"),
    send("Set-Cookie: a=1; Path=/one/x; Path=/one/y"),
]


def cookies(name, directive, value):
    annotation = directive.replace("_", "-")
    return {"name": name, "annotations": {annotation: value}, "nginx": ["%s %s" % (directive, value)], "steps": COOKIES}


COOKIE_CASES = [
    cookies("domain", "proxy_cookie_domain", "in.test out.test"),
    cookies("domaindot", "proxy_cookie_domain", ".in.test .out.test"),
    cookies("domainregex", "proxy_cookie_domain", "~([a-z.]*)in\\.test$ $1out.test"),
    cookies("domainhost", "proxy_cookie_domain", "in.test $host"),
    cookies("cookiepath", "proxy_cookie_path", "/one/ /"),
    cookies("cookiepathregex", "proxy_cookie_path", "~*^/one(.*) /1$1"),
    cookies("cookiepathcase", "proxy_cookie_path", "~^/one(.*) /1$1"),
]

MIB = 1 << 20

BODIES = [
    {
        "name": "body",
        "steps": [
            {"seen": {"method": "POST", "size": 10}},
            {"seen": {"method": "POST", "size": 0}},
            {"seen": {"method": "POST", "size": 300000}},
            {"seen": {"method": "POST", "size": 300000, "chunked": True}},
            {"seen": {"method": "POST", "size": MIB}},
            {"seen": {"method": "POST", "size": MIB, "chunked": True}},
            {"seen": {"method": "POST", "size": MIB + 1}},
            {"seen": {"method": "PUT", "size": MIB + 20000, "chunked": True}},
        ],
    },
    {
        "name": "bodysmall",
        "annotations": {"proxy-body-size": "1k", "client-body-buffer-size": "2k"},
        "nginx": ["client_max_body_size 1k", "client_body_buffer_size 2k"],
        "steps": [{"seen": {"method": "POST", "size": size}} for size in (1023, 1024, 1025)],
    },
    {
        "name": "bodyfree",
        "annotations": {"proxy-body-size": "0"},
        "nginx": ["client_max_body_size 0"],
        "steps": [{"seen": {"method": "POST", "size": 3 * MIB}}],
    },
    {
        "name": "bodystream",
        "annotations": {"proxy-request-buffering": "off", "proxy-body-size": "1m"},
        "nginx": ["proxy_request_buffering off", "client_max_body_size 1m"],
        "steps": [
            {"seen": {"method": "POST", "size": 500000}},
            {"seen": {"method": "POST", "size": 500000, "chunked": True}},
            {"seen": {"method": "POST", "size": MIB + 1}},
        ],
    },
]


def mirror(name, target, location, steps):
    return {
        "name": name,
        "annotations": {"mirror-target": target},
        "server": ["location = /_mirror { internal; proxy_set_header Host BACKEND; %s }" % location],
        "nginx": ["mirror /_mirror", "mirror_request_body on"],
        "steps": steps,
    }


MIRRORS = [
    mirror(
        "mirror",
        "http://BACKEND/copy$request_uri",
        "proxy_pass http://BACKEND/copy$request_uri;",
        [
            {"seen": {"path": "/a?b=c"}, "settle": 0.3},
            {"seen": {"method": "POST", "path": "/a", "size": 100}, "settle": 0.3},
            {"seen": {"method": "POST", "path": "/a", "size": 400000}, "settle": 0.5},
        ],
    ),
    mirror(
        "mirrorpath",
        "http://BACKEND/copy",
        "proxy_pass http://BACKEND/copy;",
        [{"seen": {"path": "/a?b=c"}, "settle": 0.3}, {"seen": {"path": "/a"}, "settle": 0.3}],
    ),
]

TYPES = (
    "application/atom+xml application/javascript application/x-javascript application/json application/rss+xml "
    "application/vnd.ms-fontobject application/x-font-ttf application/x-web-app-manifest+json application/xhtml+xml "
    "application/xml font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component"
)

GZIP = [
    "gzip on",
    "gzip_comp_level 1",
    "gzip_http_version 1.1",
    "gzip_min_length 256",
    "gzip_types " + TYPES,
    "gzip_proxied any",
    "gzip_vary on",
]


def page(accept="gzip", size=1000, kind="text/html", status="200", lines=(), chunked=False, method="GET", more=()):
    fields = [("X-Size", str(size)), ("X-Type", kind), ("X-Status", status)] + [("X-Send", line) for line in lines]
    if accept is not None:
        fields.append(("Accept-Encoding", accept))
    if chunked:
        fields.append(("X-Chunked", "1"))
    return {"method": method, "path": "/", "fields": fields + list(more)}


COMPRESSED = [page(accept) for accept in (
    None, "", "gzip", "GZIP", "deflate, gzip", "gzip;q=0", "gzip;q=0.0", "gzip; q=0.5", "gzip ;q=1", "gzip;q=0.001", "*",
    "identity", "x-gzip", "gzipx", "br, gzip;q=0.1", "gzip;q=junk", "gzip,deflate", "identity;q=1, gzip;q=1.000",
)]
COMPRESSED += [page(size=size) for size in (0, 1, 255, 256, 257, 100000)]
COMPRESSED += [page(size=10, chunked=True), page(size=50000, chunked=True), page(size=50000, chunked=True, accept=None)]
COMPRESSED += [page(status=status) for status in ("201", "206", "301", "400", "403", "404", "500", "503")]
COMPRESSED += [page(kind=kind) for kind in TYPES.split() + [
    "text/HTML; charset=utf-8", "image/png", "application/octet-stream", "text/event-stream", "text/plain;charset=x",
]]
COMPRESSED += [
    page(method="HEAD"),
    page(lines=['ETag: "strong"', "Accept-Ranges: bytes"]),
    page(lines=['ETag: W/"weak"']),
    page(lines=["ETag: bare"]),
    page(lines=["Content-Encoding: br"]),
    page(lines=["Content-Encoding: identity"]),
    page(lines=["Vary: Origin"]),
    page(lines=["Vary: Accept-Encoding"]),
    page(lines=["Cache-Control: no-transform"]),
    page(more=[("User-Agent", "Mozilla/4.0 (compatible; MSIE 6.0; Windows 98)")]),
    page(more=[("User-Agent", "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)")]),
    page(more=[("User-Agent", "Mozilla/4.0 (compatible; MSIE 5.5)")]),
    page(more=[("Via", "1.1 other")]),
]

SCENES = [
    {"cases": LIMITS + REDIRECTS + COOKIE_CASES + BODIES + MIRRORS},
    {
        "configmap": {"limit-req-status-code": "429", "limit-conn-status-code": "420"},
        "http": ["limit_req_status 429", "limit_conn_status 420"],
        "cases": STATUSES,
    },
    {"configmap": {"use-gzip": "true"}, "http": GZIP, "cases": [{"name": "gzip", "steps": COMPRESSED}]},
    {
        "configmap": {"use-gzip": "true", "gzip-disable": "msie6", "gzip-min-length": "20", "gzip-types": "*"},
        "http": [line for line in GZIP if not line.startswith(("gzip_min", "gzip_types"))]
        + ["gzip_disable msie6", "gzip_min_length 20", "gzip_types *"],
        "cases": [{"name": "gzipall", "steps": COMPRESSED}],
    },
]
