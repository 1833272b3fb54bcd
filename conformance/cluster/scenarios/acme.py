"""Pebble, the small ACME server of Let's Encrypt, and as much of a client (RFC 8555) as cert-manager would be: one order, one HTTP-01
challenge, one certificate. Keys and signatures are openssl's."""

import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import tempfile
import time

PATIENCE = 60
DIRECTORY, DNS = 14000, 8053


def openssl(*args, stdin=None):
    return subprocess.run(["openssl", *args], input=stdin, capture_output=True, check=True).stdout


def packed(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Authority:
    """A running Pebble whose names all lead to this machine."""

    def __init__(self, tools, folder, http_port):
        os.makedirs(os.path.join(folder, "pebble"), exist_ok=True)
        self.folder = os.path.join(folder, "pebble")
        paths = [os.path.join(self.folder, name) for name in ("crt", "key")]
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=pebble", "-addext",
                "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1])
        config = {"pebble": {"listenAddress": f"127.0.0.1:{DIRECTORY}", "managementListenAddress": "127.0.0.1:15000", "certificate": paths[0],
                             "privateKey": paths[1], "httpPort": http_port, "tlsPort": http_port + 1, "ocspResponderURL": "",
                             "externalAccountBindingRequired": False}}
        settings = os.path.join(self.folder, "config.json")
        with open(settings, "w", encoding="utf-8") as file:
            json.dump(config, file)
        # It neither waits before it validates nor refuses nonces to test clients: this is no test of a client.
        quiet = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        commands = [["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", f":{DNS}", "-http01", "", "-https01", "",
                     "-tlsalpn01", "", "-doh", "", "-management", "127.0.0.1:8055"],
                    ["pebble", "-config", settings, "-dnsserver", f"127.0.0.1:{DNS}", "-strict=false"]]
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.processes = [subprocess.Popen([os.path.join(tools, command[0]), *command[1:]], stdout=log, stderr=log, env=quiet) for command in commands]
        began = time.monotonic()
        while True:
            try:
                socket.create_connection(("127.0.0.1", DIRECTORY), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() - began < PATIENCE, self.log()
                time.sleep(0.02)

    def log(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()[-3000:]

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


class Client:
    """An account, and its requests."""

    def __init__(self, authority):
        self.authority, self.account, self.nonce = authority, None, None
        self.key = os.path.join(tempfile.mkdtemp(), "account.key")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key)
        # The last 64 bytes of the public key are its two coordinates.
        public = openssl("ec", "-in", self.key, "-pubout", "-outform", "DER")[-64:]
        self.jwk = {"crv": "P-256", "kty": "EC", "x": packed(public[:32]), "y": packed(public[32:])}
        self.directory = json.loads(self.send("GET", "/dir")[1])
        self.nonce = self.send("HEAD", self.directory["newNonce"])[0]["replay-nonce"]
        self.account = self.post(self.directory["newAccount"], {"termsOfServiceAgreed": True})[0]["location"]

    def send(self, method, url, body=None):
        path = url.split(f":{DIRECTORY}", 1)[-1]
        connection = http.client.HTTPSConnection("127.0.0.1", DIRECTORY, timeout=10, context=ssl._create_unverified_context())
        connection.request(method, path, body, {"content-type": "application/jose+json", "user-agent": "narthex-conformance"})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status < 400, (url, answer.status, data, self.authority.log())
        return answer.headers, data

    def post(self, url, payload):
        """A signed request; `None` reads (RFC 8555 section 6.3)."""
        who = {"kid": self.account} if self.account else {"jwk": self.jwk}
        protected = packed(json.dumps({"alg": "ES256", "nonce": self.nonce, "url": url, **who}).encode())
        body = packed(json.dumps(payload).encode()) if payload is not None else ""
        signature = openssl("dgst", "-sha256", "-sign", self.key, stdin=f"{protected}.{body}".encode())
        headers, data = self.send("POST", url, json.dumps({"protected": protected, "payload": body, "signature": packed(plain(signature))}))
        self.nonce = headers["replay-nonce"]
        return headers, data

    def order(self, host):
        headers, data = self.post(self.directory["newOrder"], {"identifiers": [{"type": "dns", "value": host}]})
        return {**json.loads(data), "url": headers["location"]}

    def challenge(self, order):
        """Token and key authorisation (RFC 8555 section 8.1)."""
        authorization = json.loads(self.post(order["authorizations"][0], None)[1])
        order["challenge"] = next(one for one in authorization["challenges"] if one["type"] == "http-01")
        thumbprint = hashlib.sha256(json.dumps(self.jwk, sort_keys=True, separators=(",", ":")).encode()).digest()
        return order["challenge"]["token"], f"{order['challenge']['token']}.{packed(thumbprint)}"

    def awaited(self, url, state):
        began = time.monotonic()
        while True:
            got = json.loads(self.post(url, None)[1])
            if got["status"] == state:
                return got
            assert got["status"] not in ("invalid",) and time.monotonic() - began < PATIENCE, (got, self.authority.log())
            time.sleep(0.05)

    def finish(self, order, host):
        """Has the challenge validated; chain and key of the certificate."""
        self.post(order["challenge"]["url"], {})
        self.awaited(order["authorizations"][0], "valid")
        with tempfile.TemporaryDirectory() as folder:
            key, request = os.path.join(folder, "key"), os.path.join(folder, "csr")
            openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/", "-addext", f"subjectAltName=DNS:{host}", "-keyout", key,
                    "-outform", "DER", "-out", request)
            with open(request, "rb") as file:
                self.post(order["finalize"], {"csr": packed(file.read())})
            done = self.awaited(order["url"], "valid")
            with open(key, encoding="ascii") as file:
                return self.post(done["certificate"], None)[1].decode(), file.read()


def plain(signature):
    """Both numbers of an ECDSA signature as 32 bytes each (RFC 7518 section 3.4), from their DER."""
    at, numbers = 2, []
    for _ in range(2):
        length = signature[at + 1]
        numbers.append(signature[at + 2 : at + 2 + length].lstrip(b"\0").rjust(32, b"\0"))
        at += 2 + length
    return b"".join(numbers)
