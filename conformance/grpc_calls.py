#!/usr/bin/env python3
"""Calls of the gRPC library of Google through `narthex standalone`: over TLS and in clear text, to backends of both kinds.

Each call is made as a client of that library makes it: the four kinds of methods, deadlines, cancelling, metadata, errors
that are only trailers, and answers of the proxy's own. Messages are bytes, so that no schema is needed. Exit status: 0 all
as expected, 1 something else, 2 the proxy did not start, 77 the library is missing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "nginx"))
from pair import free_port, is_ready, objects  # noqa: E402

try:
    import grpc
except ImportError:
    print("SKIPPED: grpcio is missing (conformance/grpc makes an environment with it)", file=sys.stderr)
    sys.exit(77)

PATIENCE = 20
# A call that is cut must be heard of at the backend within this.
HEARD = 10
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 64 * 1024)]


class Service:
    """What backends do."""

    def __init__(self):
        self.cancelled = threading.Semaphore(0)

    def unary(self, message, context):
        context.send_initial_metadata((("x-first", "1"),))
        seen = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-last", seen.get("x-mine", "")), ("x-blob-bin", bytes(range(256)))))
        return message

    def large(self, message, context):
        seen = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-length", str(len(seen.get("x-long", "")))),))
        return b"x" * int(message)

    def download(self, message, context):
        for number in range(int(message)):
            yield b"%d" % number

    def upload(self, messages, context):
        return b"%d" % sum(len(message) for message in messages)

    def talk(self, messages, context):
        for message in messages:
            yield message.upper()

    def fail(self, message, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no, because: \u00e4 100%")

    def midway(self, message, context):
        yield b"one"
        context.abort(grpc.StatusCode.DATA_LOSS, "after one")

    def stuck(self, message, context):
        gone = threading.Event()
        context.add_callback(gone.set)
        if gone.wait(PATIENCE):
            self.cancelled.release()
        return b""

    def handler(self):
        unary = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            "test.Echo",
            {
                "Unary": unary(self.unary),
                "Large": unary(self.large),
                "Fail": unary(self.fail),
                "Stuck": unary(self.stuck),
                "Download": grpc.unary_stream_rpc_method_handler(self.download),
                "Midway": grpc.unary_stream_rpc_method_handler(self.midway),
                "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
                "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            },
        )


def backend(service, credentials):
    server = grpc.server(futures.ThreadPoolExecutor(16), options=LIMITS)
    server.add_generic_rpc_handlers((service.handler(),))
    if credentials:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def certificate(folder):
    """Key and certificate for all hosts here."""
    key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    names = "subjectAltName=" + "".join("DNS:%s.test," % host for host in HOSTS) + "DNS:localhost,IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=grpc.test"]
    subprocess.run(command + ["-addext", names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return open(key, "rb").read(), open(cert, "rb").read()


HOSTS = {
    "plain": {"backend-protocol": "GRPC"},
    "tls": {"backend-protocol": "GRPCS", "service": "secure"},
    "down": {"backend-protocol": "GRPC", "service": "dead"},
    "nobody": {"backend-protocol": "GRPC", "service": "missing"},
    "denied": {"backend-protocol": "GRPC", "denylist-source-range": "127.0.0.0/8"},
    "secret": {"backend-protocol": "GRPC", "auth-type": "basic", "auth-secret": "default/users"},
    "quick": {"backend-protocol": "GRPC", "proxy-read-timeout": "1"},
    "small": {"backend-protocol": "GRPC", "proxy-body-size": "1k"},
}


def start(binary, folder, ports, key, cert, backends):
    manifests = list(objects(HOSTS, backends, {"ssl-redirect": "false", "disable-access-log": "true"}))
    for one in manifests:
        if one["kind"] == "Ingress":
            one["spec"]["tls"] = [{"hosts": [one["spec"]["rules"][0]["host"]], "secretName": "pair"}]
    secret = {"apiVersion": "v1", "kind": "Secret"}
    pair = {"tls.crt": cert.decode(), "tls.key": key.decode()}
    meta = {"name": "pair", "namespace": "default"}
    manifests.append(dict(secret, metadata=meta, type="kubernetes.io/tls", stringData=pair))
    users = {"name": "users", "namespace": "default"}
    manifests.append(dict(secret, metadata=users, type="Opaque", stringData={"auth": "ann:{PLAIN}secret"}))
    directory = os.path.join(folder, "manifests")
    os.mkdir(directory)
    with open(os.path.join(directory, "all.yaml"), "w") as file:
        file.write("\n---\n".join(json.dumps(one) for one in manifests) + "\n")
    command = [binary, "standalone", "--manifests", directory, "--configmap=default/config", "--workers=1"]
    command += ["--allow-upstream-cidr=127.0.0.0/8", "--http-addr=127.0.0.1:%d" % ports[0]]
    command += ["--https-addr=127.0.0.1:%d" % ports[1], "--admin-addr=127.0.0.1:0"]
    log = open(os.path.join(folder, "narthex.log"), "wb")
    return subprocess.Popen(command, stdout=log, stderr=log)


class Client:
    """A channel to one host, by TLS or in clear text."""

    def __init__(self, host, ports, cert, tls):
        options = LIMITS + [("grpc.enable_retries", 0)]
        if tls:
            options.append(("grpc.ssl_target_name_override", host))
            credentials = grpc.ssl_channel_credentials(cert)
            self.channel = grpc.secure_channel("127.0.0.1:%d" % ports[1], credentials, options)
        else:
            options.append(("grpc.default_authority", host))
            self.channel = grpc.insecure_channel("127.0.0.1:%d" % ports[0], options)

    def unary(self, method, message=b"", **more):
        call = self.channel.unary_unary("/test.Echo/" + method)
        return call.with_call(message, timeout=more.pop("timeout", PATIENCE), **more)

    def code(self, method="Unary", message=b"", **more):
        """The status that a client sees."""
        try:
            self.unary(method, message, **more)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def kinds(client, expect):
    """The four kinds of methods, metadata and errors."""
    answer, call = client.unary("Unary", b"hello", metadata=(("x-mine", "m"),))
    expect("unary", answer, b"hello")
    expect("first metadata", dict(call.initial_metadata()).get("x-first"), "1")
    last = dict(call.trailing_metadata())
    expect("last metadata", (last.get("x-last"), last.get("x-blob-bin")), ("m", bytes(range(256))))
    answer, call = client.unary("Large", b"3000000", metadata=(("x-long", "l" * 6000),))
    expect("large answer", len(answer), 3000000)
    expect("large metadata", dict(call.trailing_metadata()).get("x-length"), "6000")
    down = client.channel.unary_stream("/test.Echo/Download")(b"500", timeout=PATIENCE)
    expect("download", [int(one) for one in down], list(range(500)))
    up = client.channel.stream_unary("/test.Echo/Upload")(iter([b"x" * 1000] * 700), timeout=PATIENCE)
    expect("upload", up, b"700000")
    turns, inbox = [], []
    ready = threading.Semaphore(1)

    def questions():
        for number in range(20):
            # The next question waits for the answer to the last: both ways are open at once.
            if not ready.acquire(timeout=PATIENCE):
                return
            turns.append(number)
            yield b"q%d" % number

    for answer in client.channel.stream_stream("/test.Echo/Talk")(questions(), timeout=PATIENCE):
        inbox.append(answer)
        ready.release()
    expect("talk", inbox, [b"Q%d" % number for number in range(20)])
    try:
        client.unary("Fail")
        expect("error", "OK", "FAILED_PRECONDITION")
    except grpc.RpcError as error:
        expect("error", (error.code().name, error.details()), ("FAILED_PRECONDITION", "no, because: \u00e4 100%"))
    got = []
    try:
        for one in client.channel.unary_stream("/test.Echo/Midway")(b"", timeout=PATIENCE):
            got.append(one)
    except grpc.RpcError as error:
        got.append(error.code().name)
    expect("error after messages", got, [b"one", "DATA_LOSS"])
    expect("unknown method", client.code("Nothing"), "UNIMPLEMENTED")


def cuts(client, service, expect):
    """Deadlines and cancelling reach the backend."""
    expect("deadline", client.code("Stuck", timeout=0.5), "DEADLINE_EXCEEDED")
    expect("the backend hears of the deadline", service.cancelled.acquire(timeout=HEARD), True)
    call = client.channel.unary_unary("/test.Echo/Stuck").future(b"", timeout=PATIENCE)
    time.sleep(0.3)
    call.cancel()
    expect("cancelled", call.cancelled(), True)
    expect("the backend hears of the end", service.cancelled.acquire(timeout=HEARD), True)
    expect("the channel goes on", client.code("Unary"), "OK")


def answers(client_of, expect):
    """Answers of the proxy's own are what the library makes of their HTTP status, as with nginx."""
    for host, code, more in [
        ("down", "UNAVAILABLE", {}),
        ("nobody", "UNAVAILABLE", {}),
        ("denied", "PERMISSION_DENIED", {}),
        ("secret", "UNAUTHENTICATED", {}),
        ("secret", "OK", {"metadata": (("authorization", "Basic YW5uOnNlY3JldA=="),)}),
    ]:
        expect("%s %s" % (host, code), client_of(host).code("Unary", **more), code)
    expect("read timeout", client_of("quick").code("Stuck"), "UNAVAILABLE")
    # 413, which the library takes for this.
    expect("body too large", client_of("small").code("Unary", b"x" * 5000), "RESOURCE_EXHAUSTED")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the binary")
    arguments = parser.parse_args()
    wrong = []
    count = [0]
    with tempfile.TemporaryDirectory() as folder:
        key, cert = certificate(folder)
        service = Service()
        plain, plain_port = backend(service, None)
        secure, secure_port = backend(service, grpc.ssl_server_credentials([(key, cert)]))
        ports = [free_port(), free_port()]
        backends = {"backend": [plain_port], "secure": [secure_port], "dead": [free_port()]}
        child = start(arguments.bin, folder, ports, key, cert, backends)
        try:
            if not (is_ready(child, ports[0]) and is_ready(child, ports[1])):
                print(open(os.path.join(folder, "narthex.log")).read(), file=sys.stderr)
                return 2
            for tls in (True, False):
                way = "TLS" if tls else "clear text"

                def expect(what, got, wanted):
                    count[0] += 1
                    if got != wanted:
                        wrong.append(what)
                        print("WRONG %s, %s: %r instead of %r" % (way, what, got, wanted))

                def client_of(host):
                    return Client(host + ".test", ports, cert, tls)

                for host in ("plain", "tls"):
                    kinds(client_of(host), expect)
                    cuts(client_of(host), service, expect)
                answers(client_of, expect)
                if not tls:
                    # Over TLS the certificate of nobody's host is not trusted in the first place.
                    expect("unknown host", client_of("unknown").code(), "UNIMPLEMENTED")
        finally:
            child.terminate()
            child.wait(PATIENCE)
            plain.stop(None)
            secure.stop(None)
    print("%d expectations, %d wrong" % (count[0], len(wrong)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
