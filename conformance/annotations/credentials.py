"""Certificates, revocation answers and password hashes for the annotation vectors, by the openssl command.

`scene` and `client` ask for them. The keys are worth nothing: all leaves share one.
"""

import base64
import hashlib
import itertools
import os
import subprocess
import urllib.parse

DAYS = "30"
# Neither openssl nor the standard library knows bcrypt; cost 4, for speed.
BCRYPT = {
    "bar": "$2b$04$pLtwzuivQeYyIglHlNtzq.tZgkvlGAGFwro05ATo9LdNZCUuqhlA2",
    "pwd": "$2b$04$SpwI1fNKNxTnUreS4TKCAei0V0KPY0gZlabrD38hFNQI131arp4IW",
}
OPENSSL_SCHEMES = {"apr1": "-apr1", "crypt-sha512": "-6"}
KEY_OPTIONS = {
    "ec": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
}


def openssl(*arguments, **options):
    finished = subprocess.run(["openssl", *arguments], check=True, capture_output=True, **options)
    return finished.stdout


def password_hash(password, scheme):
    if scheme == "bcrypt":
        return BCRYPT[password]
    if scheme == "sha1":
        return "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()
    return openssl("passwd", OPENSSL_SCHEMES[scheme], password).decode().strip()


def content(path):
    with open(path, "rb") as file:
        return file.read()


class Pair:
    """Where a certificate and its key are."""

    def __init__(self, base, key):
        self.certificate, self.key = base + ".crt", key


class Authorities:
    """Makes authorities and certificates, each once. Leaves share one key of each kind: only names matter here."""

    def __init__(self, folder):
        self.folder, self.made, self.keys, self.numbers = folder, {}, {}, itertools.count(1000)

    def base(self, number):
        return os.path.join(self.folder, "certificate%d" % number)

    def key(self, owner, kind):
        path = os.path.join(self.folder, "key%d" % len(self.keys))
        if owner not in self.keys:
            openssl("genpkey", *KEY_OPTIONS[kind], "-out", path)
            self.keys[owner] = path
        return self.keys[owner]

    def authority(self, name):
        if ("authority", name) not in self.made:
            pair = Pair(self.base(next(self.numbers)), self.key(("authority", name), "ec"))
            command = ["req", "-x509", "-new", "-key", pair.key, "-days", DAYS, "-subj", "/O=vectors/CN=%s-ca" % name]
            command += ["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
            openssl(*command, "-out", pair.certificate)
            self.made["authority", name] = pair
        return self.made["authority", name]

    def leaf(self, common_name, names=(), authority=None, kind="rsa", responder=None):
        """`responder` is the port of an OCSP responder that the certificate names."""
        asked = (common_name, tuple(names or ()), authority, kind, responder)
        if asked not in self.made:
            serial = next(self.numbers)
            base = self.base(serial)
            pair = Pair(base, self.key(kind, kind))
            extensions = ["extendedKeyUsage=serverAuth,clientAuth"]
            if names:
                extensions.append("subjectAltName=" + ",".join("DNS:" + name for name in names))
            if responder:
                extensions.append("authorityInfoAccess=OCSP;URI:http://127.0.0.1:%d" % responder)
            with open(base + ".ext", "w") as file:
                file.write("\n".join(extensions) + "\n")
            request = ["-key", pair.key, "-subj", "/O=vectors/CN=" + (common_name or "none"), "-out", base + ".csr"]
            openssl("req", "-new", *request)
            signer = ["-signkey", pair.key]
            if authority:
                signer = ["-CA", self.authority(authority).certificate, "-CAkey", self.authority(authority).key]
            command = ["x509", "-req", "-in", base + ".csr", "-days", DAYS, "-extfile", base + ".ext"]
            openssl(*command, "-set_serial", str(serial), *signer, "-out", pair.certificate)
            self.made[asked] = pair
        return self.made[asked]

    def revocation_answers(self, leaf, authority, folder):
        """Answers OCSP requests about `leaf` with `good`, as `responder` of an endpoint (RFC 6960 appendix A)."""
        signer = self.authority(authority)
        serial = openssl("x509", "-in", leaf.certificate, "-noout", "-serial").decode().strip().partition("=")[2]
        index, asked, said = (os.path.join(folder, "ocsp." + end) for end in ("index", "request", "response"))
        with open(index, "w") as file:
            file.write("V\t490101000000Z\t\t%s\tunknown\t/CN=leaf\n" % serial)
        command = ["ocsp", "-index", index, "-CA", signer.certificate, "-rsigner", signer.certificate]
        command += ["-rkey", signer.key, "-ndays", "1", "-reqin", asked, "-respout", said]

        async def respond(request, body):
            if request["method"] == "GET":
                body = base64.b64decode(urllib.parse.unquote(request["target"].lstrip("/")))
            with open(asked, "wb") as file:
                file.write(body)
            openssl(*command)
            return 200, [("Content-Type", "application/ocsp-response")], content(said)

        return respond
