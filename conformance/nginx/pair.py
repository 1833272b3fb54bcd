"""Two proxies beside each other: a real nginx and `narthex standalone`, before the same backends. What the differential
programs of this folder share: ports, objects, starting and stopping. What is asked and compared is theirs.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from ports import free_port  # noqa: E402

PATIENCE = 20  # seconds for one answer
READY = 30  # seconds until a proxy is ready
PREFIX = "nginx.ingress.kubernetes.io/"

# What every nginx.conf of this folder begins with, and what its http block does: it runs in the foreground, as whoever
# started it, and writes into its own folder only. `%(folder)s` and `%(user)s` are the caller's to fill.
MAIN = """daemon off;
pid %(folder)s/nginx.pid;
%(user)s
events { worker_connections 512; }
"""
OWN_FOLDER = """client_body_temp_path %(folder)s/body;
  proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi;
  scgi_temp_path %(folder)s/scgi;
"""


class Listener:
    """Accepts connections and answers on each, with `answer` of a subclass, until that is false."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        reader = stream.makefile("rb")
        try:
            while self.answer(reader, stream):
                pass
        except (OSError, ValueError):
            pass
        finally:
            stream.close()


def read_head(reader):
    """The first line of a request or an answer, and its fields in their order: small letters, value."""
    line = reader.readline().decode("latin-1").rstrip("\r\n")
    fields = []
    while line and (text := reader.readline().decode("latin-1").rstrip("\r\n")):
        name, _, value = text.partition(":")
        fields.append((name.lower(), value.strip()))
    return line, fields


def user():
    """The line that keeps nginx from giving rights away, where there are some."""
    return "user root;" if os.geteuid() == 0 else ""


def objects(hosts, backends, data):
    """Manifests: the ConfigMap `config` of `data`, a Service `name` for each of `backends` (name to ports), and an Ingress
    for each of `hosts` (name to annotations), whose host is `<name>.test` and whose Service the annotation `service`
    names, else `backend`."""
    meta = {"namespace": "default"}
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "nginx"},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    }
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": dict(meta, name="config"), "data": data}
    for name, ports in backends.items():
        spec = {"ports": [{"port": 80, "targetPort": ports[0]}]}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": dict(meta, name=name), "spec": spec}
        for port in ports:
            yield {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": dict(meta, name="%s-%d" % (name, port), labels={"kubernetes.io/service-name": name}),
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
                "ports": [{"port": port, "protocol": "TCP"}],
            }
    for name, annotations in hosts.items():
        own = dict(annotations)
        service = {"service": {"name": own.pop("service", "backend"), "port": {"number": 80}}}
        rule = {"host": name + ".test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]}}
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": dict(meta, name=name, annotations={PREFIX + key: text for key, text in own.items()}),
            "spec": {"ingressClassName": "nginx", "rules": [rule]},
        }


def declared(hosts, secure=()):
    """The Ingresses of each host, from what chance made of them; those named in `secure` have a section for TLS, whose Secret
    is not there."""
    for host, ingresses in hosts.items():
        for one in ingresses:
            paths = [
                {"path": rule["path"], "pathType": rule["pathType"], "backend": {"service": {"name": rule["service"], "port": {"number": 80}}}}
                for rule in one["paths"]
            ]
            yield {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {
                    "namespace": "default",
                    "name": one["name"],
                    "creationTimestamp": "2024-01-01T00:00:0%dZ" % one["created"],
                    "annotations": {PREFIX + key: text for key, text in one["annotations"].items()},
                },
                "spec": {
                    "ingressClassName": "nginx",
                    "rules": [{"host": host, "http": {"paths": paths}}],
                    **({"tls": [{"hosts": [host], "secretName": "absent"}]} if one["name"] in secure else {}),
                },
            }


def narthex(binary, manifests, port, folder, *flags):
    """Starts ours over these manifests."""
    directory = os.path.join(folder, "manifests")
    os.mkdir(directory)
    with open(os.path.join(directory, "all.yaml"), "w") as file:
        file.write("\n---\n".join(json.dumps(one) for one in manifests) + "\n")
    command = [binary, "standalone", "--manifests", directory, "--configmap=default/config", *flags]
    command += ["--http-addr=127.0.0.1:%d" % port, "--https-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"]
    log = open(os.path.join(folder, "narthex.log"), "wb")
    return subprocess.Popen(command, stdout=log, stderr=log)


def nginx(text, folder):
    """Starts the other one with this configuration."""
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w") as file:
        file.write(text)
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    log = open(os.path.join(folder, "nginx.log"), "wb")
    return subprocess.Popen([binary, "-p", folder, "-c", path, "-e", folder + "/error.log"], stdout=log, stderr=log)


def missing():
    """Says that there is no nginx; true where that is so."""
    if shutil.which("nginx") or os.path.exists("/usr/sbin/nginx"):
        return False
    print("SKIPPED: there is no nginx", file=sys.stderr)
    return True


def is_ready(child, port):
    end = time.monotonic() + READY
    while time.monotonic() < end and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


@contextlib.contextmanager
def side_by_side(start):
    """Runs what `start(folder, ports)` starts, by name, and gives folder and ports. Ends with 2 where one does not start."""
    ports = {"nginx": free_port(), "narthex": free_port()}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        children = start(folder, ports)
        try:
            for name, child in children.items():
                if not is_ready(child, ports[name]):
                    logs = [os.path.join(folder, log) for log in (name + ".log", "error.log")]
                    said = "".join(open(log, errors="replace").read()[-2000:] for log in logs if os.path.exists(log))
                    print("%s did not start:\n%s" % (name, said), file=sys.stderr)
                    sys.exit(2)
            yield folder, ports
        finally:
            for child in children.values():
                child.terminate()
            for child in children.values():
                try:
                    child.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    child.kill()
