#!/usr/bin/env python3
"""Sign-in, cookies and CORS as a browser lives them: headless Chromium before `narthex standalone`.

Behind the proxy stand an OpenID provider, and a relying party that speaks the contract of oauth2-proxy (202 or 401 at
`/oauth2/auth`, `rd=`, `X-Auth-Request-*`); both are made with Authlib, and the relying party verifies what it gets. An
application is guarded by `auth-url` and `auth-signin`, an API answers other origins by `enable-cors`, and a third host has
session cookies. The browser decides what a page may see: nothing here reads a header that it would not.
Exit status: 0 all as it should be, 1 something else, 77 a partner is missing (Chromium, Authlib, openssl).
"""

import argparse
import http.server
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import warnings

from ports import free_port

warnings.simplefilter("ignore")  # Of Authlib, about names that move.
try:
    import websocket
    from authlib.integrations.requests_client import OAuth2Session
    from authlib.jose import JsonWebKey, jwt
    from authlib.oidc.core import CodeIDToken
except ImportError as error:
    print("SKIPPED: %s; `make signin` installs it below target/" % error, file=sys.stderr)
    sys.exit(77)

PATIENCE = 30  # seconds for anything
APP, AUTH, OP, API, STICKY, EVIL = (name + ".signin.test" for name in ("app", "auth", "op", "api", "sticky", "evil"))
USER = {"sub": "u-42", "email": "ann@signin.test", "preferred_username": "ann"}
DEEP = "/deep/page?x=1&y=%20z&u=http%3A%2F%2Fa%2Fb"


class Site(http.server.BaseHTTPRequestHandler):
    """A server whose paths are methods of its class."""

    protocol_version = "HTTP/1.1"

    def answer(self, status=200, body="", fields=(), kind="text/html; charset=utf-8"):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def go(self, where, fields=()):
        self.answer(302, "", [("Location", where), *fields])

    def query(self):
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))

    def form(self):
        return dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("content-length", "0"))).decode()))

    def cookie(self, name):
        for pair in "; ".join(self.headers.get_all("cookie") or []).split("; "):
            key, _, value = pair.partition("=")
            if key == name:
                return value
        return None

    def do(self):
        path = urllib.parse.urlsplit(self.path).path
        known = getattr(self, "pages", {}).get(path)
        known(self) if known else self.other()

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = do

    def other(self):
        self.answer(404, "nothing here")

    def log_message(self, *_):
        pass

    @classmethod
    def start(cls):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), cls)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]


class Provider(Site):
    """The OpenID provider."""

    key = JsonWebKey.generate_key("RSA", 2048, {"kid": "one", "use": "sig"}, is_private=True)
    codes = {}

    def authorize(self):
        asked = self.query()
        fields = "".join('<input type=hidden name="%s" value="%s">' % (k, v.replace('"', "&quot;")) for k, v in asked.items())
        self.answer(body='<title>sign in</title><form method=post action="/consent">%s<button id=yes>Yes</button></form>' % fields)

    def consent(self):
        asked = self.form()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        back = urllib.parse.urlencode({"code": code, "state": asked["state"]})
        self.go(asked["redirect_uri"] + "?" + back)

    def token(self):
        asked = self.codes.pop(self.form().get("code", ""), None)
        if not asked:
            return self.answer(400, '{"error": "invalid_grant"}', kind="application/json")
        now = int(time.time())
        claims = dict(USER, iss="https://" + OP, aud=asked["client_id"], iat=now, exp=now + 300, nonce=asked.get("nonce"))
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key).decode()
        body = {"access_token": secrets.token_urlsafe(8), "token_type": "Bearer", "expires_in": 300, "id_token": token}
        return self.answer(body=json.dumps(body), kind="application/json")

    def keys(self):
        self.answer(body=json.dumps({"keys": [self.key.as_dict(is_private=False)]}), kind="application/json")

    pages = {"/authorize": authorize, "/consent": consent, "/token": token, "/keys": keys}


class Party(Site):
    """The relying party, by the contract of oauth2-proxy."""

    provider = 0  # port of the provider
    sessions, pending = {}, {}
    asked = []  # what the proxy asked about

    def client(self, **more):
        return OAuth2Session("client", "secret", scope="openid email", redirect_uri="https://%s/oauth2/callback" % AUTH, **more)

    def auth(self):
        self.asked.append({name.lower(): value for name, value in self.headers.items()})
        user = self.sessions.get(self.cookie("_oauth2_proxy"))
        if not user:
            return self.answer(401, "Unauthorized")
        fields = [("X-Auth-Request-User", user["preferred_username"]), ("X-Auth-Request-Email", user["email"])]
        return self.answer(202, "", fields + [("Set-Cookie", "_oauth2_refreshed=1; Path=/; Secure; HttpOnly")])

    def begin(self):
        nonce = secrets.token_urlsafe(8)
        url, state = self.client().create_authorization_url("https://%s/authorize" % OP, nonce=nonce)
        self.pending[state] = (nonce, self.query().get("rd", "/"))
        self.go(url, [("Set-Cookie", "_oauth2_csrf=%s; Path=/; Secure; HttpOnly; SameSite=Lax" % state)])

    def callback(self):
        state = self.query().get("state")
        if state not in self.pending or self.cookie("_oauth2_csrf") != state:
            return self.answer(403, "a callback that nobody began")
        nonce, back = self.pending.pop(state)
        inner = "http://127.0.0.1:%d" % self.provider
        whole = "https://%s%s" % (AUTH, self.path)
        token = self.client(state=state).fetch_token(inner + "/token", authorization_response=whole)
        keys = json.load(urllib.request.urlopen(inner + "/keys"))
        must = {"iss": {"essential": True, "value": "https://" + OP}, "aud": {"essential": True, "value": "client"}}
        claims = jwt.decode(
            token["id_token"], JsonWebKey.import_key_set(keys), claims_cls=CodeIDToken, claims_options=must,
            claims_params={"nonce": nonce, "client_id": "client"},
        )
        claims.validate()
        name = secrets.token_urlsafe(16)
        self.sessions[name] = claims
        cookie = "_oauth2_proxy=%s; Path=/; Domain=signin.test; Secure; HttpOnly; SameSite=Lax" % name
        return self.go(back, [("Set-Cookie", cookie), ("Set-Cookie", "_oauth2_csrf=; Path=/; Max-Age=0")])

    def out(self):
        self.sessions.pop(self.cookie("_oauth2_proxy"), None)
        self.go("https://%s/bye" % EVIL, [("Set-Cookie", "_oauth2_proxy=; Path=/; Domain=signin.test; Max-Age=0")])

    pages = {"/oauth2/auth": auth, "/oauth2/start": begin, "/oauth2/callback": callback, "/oauth2/sign_out": out}


class Echo(Site):
    """Tells what it saw."""

    count = 0

    def other(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        seen = {"method": self.command, "target": self.path, "body": body, "port": self.server.server_address[1]}
        seen["fields"] = {name.lower(): value for name, value in self.headers.items()}
        text = "<title>echo</title><pre id=seen>%s</pre>" % json.dumps(seen).replace("<", "&lt;")
        fields = [("X-Shown", "yes"), ("X-Hidden", "yes")]
        kind = "text/html" if "text/html" in self.headers.get("accept", "") else "application/json"
        self.answer(body=text if kind == "text/html" else json.dumps(seen), fields=fields, kind=kind)


# --- the proxy ------------------------------------------------------------------------------------------------------


def objects(ports, folder):
    key, certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9",
         "-subj", "/CN=signin.test", "-addext", "subjectAltName=DNS:*.signin.test", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    meta = {"namespace": "default"}
    yield {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}
    data = {"tls.crt": open(certificate).read(), "tls.key": open(key).read()}
    yield {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": dict(meta, name="pair"), "stringData": data}
    for name, all_ports in ports.items():
        yield {"apiVersion": "v1", "kind": "Service", "metadata": dict(meta, name=name), "spec": {"ports": [{"port": 80, "targetPort": all_ports[0]}]}}
        for port in all_ports:
            yield {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": dict(meta, name="%s-%d" % (name, port), labels={"kubernetes.io/service-name": name}),
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}], "ports": [{"port": port}],
            }
    party = ports["party"][0]
    hosts = {
        APP: ("echo", {
            "auth-url": "http://127.0.0.1:%d/oauth2/auth" % party,
            "auth-signin": "https://%s/oauth2/start?rd=$scheme://$host$escaped_request_uri" % AUTH,
            "auth-response-headers": "X-Auth-Request-User, X-Auth-Request-Email",
        }),
        AUTH: ("party", {}),
        OP: ("provider", {}),
        API: ("echo", {
            "enable-cors": "true", "cors-allow-origin": "https://%s, https://*.other.test" % APP, "cors-expose-headers": "X-Shown",
            "cors-allow-methods": "GET, PUT, OPTIONS", "cors-allow-headers": "Content-Type, X-Own", "cors-max-age": "60",
        }),
        STICKY: ("many", {
            "affinity": "cookie", "session-cookie-name": "route", "session-cookie-samesite": "Lax",
            "session-cookie-max-age": "3600", "session-cookie-expires": "3600", "session-cookie-path": "/",
        }),
        EVIL: ("echo", {}),
    }
    for host, (service, annotations) in hosts.items():
        backend = {"service": {"name": service, "port": {"number": 80}}}
        rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
        full = {"nginx.ingress.kubernetes.io/" + name: value for name, value in annotations.items()}
        yield {
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": dict(meta, name=host.split(".")[0], annotations=full),
            "spec": {"ingressClassName": "nginx", "tls": [{"hosts": [host], "secretName": "pair"}], "rules": [rule]},
        }


def proxy(binary, folder, ports, https):
    manifests = os.path.join(folder, "manifests")
    os.mkdir(manifests)
    with open(os.path.join(manifests, "all.yaml"), "w") as file:
        file.write("\n---\n".join(json.dumps(one) for one in objects(ports, folder)))
    command = [binary, "standalone", "--manifests", manifests, "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"]
    log = open(os.path.join(folder, "narthex.log"), "wb")
    return subprocess.Popen(command + ["--https-addr=127.0.0.1:%d" % https], stdout=log, stderr=log)


# --- the browser ----------------------------------------------------------------------------------------------------


class Browser:
    """A tab of headless Chromium over its debugging protocol."""

    def __init__(self, program, folder, https):
        self.home = os.path.join(folder, "browser")
        log = open(os.path.join(folder, "chromium.log"), "wb")
        self.child = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--ignore-certificate-errors", "--remote-debugging-port=0", "--user-data-dir=" + self.home,
             "--host-resolver-rules=MAP *.signin.test:443 127.0.0.1:%d, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1" % https,
             "about:blank"],
            stdout=log, stderr=log,
        )
        note = os.path.join(self.home, "DevToolsActivePort")
        wait("Chromium", lambda: os.path.exists(note) and open(note).read().count("\n") >= 1)
        port = int(open(note).read().split()[0])
        wait("Chromium", lambda: self.pages(port))
        address = self.pages(port)[0]["webSocketDebuggerUrl"]
        self.socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self.number = 0
        for domain in ("Page", "Runtime", "Network"):
            self.call(domain + ".enable")

    @staticmethod
    def pages(port):
        try:
            answer = urllib.request.urlopen("http://127.0.0.1:%d/json" % port, timeout=5)
        except OSError:
            return []
        return [page for page in json.load(answer) if page["type"] == "page"]

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            heard = json.loads(self.socket.recv())
            if heard.get("id") == self.number:
                if "error" in heard:
                    raise ValueError("%s: %s" % (method, heard["error"]["message"]))
                return heard["result"]

    def run(self, script):
        """The value of an expression of the page; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise ValueError(result["exceptionDetails"].get("exception", {}).get("description", "failed"))
        return result["result"].get("value")

    def title(self, wanted):
        def there():
            try:
                return self.run("document.readyState == 'complete' && document.title") == wanted
            except ValueError:
                return False  # The page is being exchanged.

        wait("the page %r (at %s)" % (wanted, self.run("location.href")), there)

    def open(self, url, wanted):
        self.call("Page.navigate", url=url)
        self.title(wanted)
        return self.run("location.href")

    def seen(self):
        return json.loads(self.run("document.getElementById('seen').textContent"))

    def cookies(self):
        return {one["name"]: one for one in self.call("Network.getAllCookies")["cookies"]}

    def close(self):
        self.socket.close()
        self.child.terminate()
        self.child.wait(timeout=PATIENCE)


def wait(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("in vain for " + what)


# --- what must be so ------------------------------------------------------------------------------------------------


def same(what, found, expected):
    if found != expected:
        raise AssertionError("%s: %r instead of %r" % (what, found, expected))


def fetch(url, options):
    """A script that asks, and tells what the browser lets it see."""
    return """fetch(%s, %s).then(async a => ({status: a.status, shown: a.headers.get('x-shown'),
        hidden: a.headers.get('x-hidden'), seen: await a.json()}), e => ({error: e.name}))""" % (json.dumps(url), json.dumps(options))


def signs_in(browser):
    """Who is not signed in is sent to the provider, and comes back to the very page with an identity."""
    browser.open("https://%s%s" % (APP, DEEP), "sign in")
    same("host of the provider", browser.run("location.host"), OP)
    browser.run("document.getElementById('yes').click()")
    browser.title("echo")
    same("page after signing in", browser.run("location.href"), "https://%s%s" % (APP, DEEP))
    seen = browser.seen()
    same("target at the application", seen["target"], DEEP)
    same("user", seen["fields"].get("x-auth-request-user"), "ann")
    same("mail", seen["fields"].get("x-auth-request-email"), "ann@signin.test")
    # Beside the page the browser asks for its icon.
    told = [asked.get("x-original-url") for asked in Party.asked]
    same("what the service was told", told.count("https://%s%s" % (APP, DEEP)), 2)
    cookie = browser.cookies()["_oauth2_proxy"]
    same("cookie of the session", (cookie["secure"], cookie["httpOnly"], cookie["sameSite"], cookie["domain"]), (True, True, "Lax", ".signin.test"))
    same("cookie that came with the identity", "_oauth2_refreshed" in browser.cookies(), True)


def identity_is_not_forged(browser):
    """What a page claims about its identity does not arrive."""
    answer = browser.run(fetch("/api", {"headers": {"X-Auth-Request-User": "root", "X-Own": "1"}}))
    same("status", answer["status"], 200)
    same("user", answer["seen"]["fields"].get("x-auth-request-user"), "ann")
    same("its own field", answer["seen"]["fields"].get("x-own"), "1")


def posts_pass(browser):
    answer = browser.run(fetch("/form", {"method": "POST", "body": "a=1"}))
    same("what was posted", (answer["seen"]["method"], answer["seen"]["body"]), ("POST", "a=1"))


def origins(browser):
    """The browser lets the listed origin see the answer and the exposed field only, and no other origin anything."""
    url = "https://%s/data" % API
    with_credentials = {"credentials": "include", "method": "PUT", "headers": {"Content-Type": "application/json", "X-Own": "1"}, "body": "{}"}
    browser.open("https://%s/from" % APP, "echo")
    answer = browser.run(fetch(url, with_credentials))
    same("answer for the listed origin", (answer.get("status"), answer.get("shown"), answer.get("hidden")), (200, "yes", None))
    same("what arrived", (answer["seen"]["method"], answer["seen"]["fields"].get("x-own")), ("PUT", "1"))
    same("a plain question", browser.run(fetch(url, {}))["status"], 200)
    same("a field that is not allowed", browser.run(fetch(url, {"headers": {"X-Strange": "1"}})), {"error": "TypeError"})
    same("a method that is not allowed", browser.run(fetch(url, {"method": "DELETE"})), {"error": "TypeError"})
    browser.open("https://%s/from" % EVIL, "echo")
    same("another origin", browser.run(fetch(url, {})), {"error": "TypeError"})
    same("another origin with credentials", browser.run(fetch(url, with_credentials)), {"error": "TypeError"})


def sticks(browser):
    """The session cookie has its attributes, and keeps the browser at one endpoint."""
    browser.open("https://%s/" % STICKY, "echo")
    first = browser.seen()["port"]
    cookie = browser.cookies()["route"]
    same("attributes", (cookie["secure"], cookie["httpOnly"], cookie["sameSite"], cookie["path"], cookie["domain"]), (True, True, "Lax", "/", STICKY))
    same("it outlives the browser", cookie["session"], False)
    ports = {browser.run(fetch("/again", {}))["seen"]["port"] for _ in range(12)}
    same("endpoints of one browser", ports, {first})


def signs_out(browser):
    browser.open("https://%s/oauth2/sign_out" % AUTH, "echo")
    same("cookie after signing out", "_oauth2_proxy" in browser.cookies(), False)
    browser.open("https://%s/again" % APP, "sign in")
    # A script hears 401 as a redirect to another origin, which it may not follow.
    browser.open("https://%s/from" % EVIL, "echo")
    same("a script of another origin", browser.run(fetch("https://%s/x" % APP, {"credentials": "include"})), {"error": "TypeError"})


STORY = [signs_in, identity_is_not_forged, posts_pass, origins, sticks, signs_out]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True)
    arguments = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program or not shutil.which("openssl"):
        print("SKIPPED: Chromium and openssl are needed", file=sys.stderr)
        return 77
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # The back channel is on loopback.
    ports = {"provider": [Provider.start()], "party": [Party.start()], "echo": [Echo.start()], "many": [Echo.start() for _ in range(3)]}
    Party.provider = ports["provider"][0]
    failed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        https = free_port()
        child = proxy(arguments.bin, folder, ports, https)
        browser = None
        try:
            wait("the proxy", lambda: socket.socket().connect_ex(("127.0.0.1", https)) == 0)
            browser = Browser(program, folder, https)
            for chapter in STORY:
                try:
                    chapter(browser)
                    print("ok     %s" % chapter.__name__)
                except (AssertionError, ValueError, KeyError) as error:
                    failed += 1
                    print("FAILED %s: %s" % (chapter.__name__, error))
        finally:
            if browser:
                browser.close()
            child.terminate()
            child.wait(timeout=PATIENCE)
    print("%d of %d hold" % (len(STORY) - failed, len(STORY)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
