"""What scenarios work with: objects, a running controller, a backend, load. State is awaited, never slept for."""

import http.client
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

LAB = os.environ["LAB_DIR"]


KUBECTL = [os.environ["LAB_KUBEBOX"], "kubectl"]


UP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "up")


PATIENCE = int(os.environ.get("LAB_PATIENCE", "60"))  # seconds; only a failing scenario waits so long


def kubectl(*args, stdin=None):
    done = subprocess.run([*KUBECTL, *args], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"kubectl {args}: {done.stderr.strip()}")
    return done.stdout


def apply(*objects):
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def api(method, path, body=None, kind="application/json"):
    """One request to the API server, as the administrator, without the start of a kubectl: status and JSON."""
    connection = http.client.HTTPSConnection("127.0.0.1", 16443, timeout=30, context=ssl._create_unverified_context())
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, {"authorization": "Bearer admin-token", "content-type": kind})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def account(name, rules, **roles):
    """A service account with these rules for the cluster and, by namespace, others there; its name as a user of Controller."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    subject = [{"kind": "ServiceAccount", "name": name, "namespace": "team"}]
    reference = lambda kind: {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    objects = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name)},
               {**rbac, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
               {**rbac, "kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": reference("ClusterRole"), "subjects": subject}]
    for place, some in roles.items():
        objects += [{**rbac, "kind": "Role", "metadata": meta(name, place), "rules": some},
                    {**rbac, "kind": "RoleBinding", "metadata": meta(name, place), "roleRef": reference("Role"), "subjects": subject}]
    apply(*objects)
    token = kubectl("-n", "team", "create", "token", name).strip()
    with open(f"{LAB}/admin.kubeconfig", encoding="utf-8") as file:
        text = file.read()
    with open(f"{LAB}/{name}.kubeconfig", "w", encoding="utf-8") as file:
        file.write(text.replace("admin-token", token))
    return name


def rule(verbs, *resources, names=()):
    return {"apiGroups": ["*"], "resources": list(resources), "verbs": verbs.split(), **({"resourceNames": list(names)} if names else {})}


def eventually(what, condition, patience=PATIENCE):
    """Seconds until the condition held."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        try:
            if condition():
                return time.monotonic() - began
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come true")


def backend(address):
    """An HTTP server on a Pod's address that answers with it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", str(len(address)))
            self.end_headers()
            self.wfile.write(address.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((address, 8080), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def meta(name, namespace="team", **more):
    return {"name": name, "namespace": namespace, **more}


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def ingress(host, namespace="team", path="/", name=None):
    service = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": service}]
    spec = {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": paths}}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta(name or host, namespace), "spec": spec}


def service(namespace="team"):
    spec = {"ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta("web", namespace), "spec": spec}


def slices(address, namespace="team"):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": meta("web-1", namespace, labels={"kubernetes.io/service-name": "web"}),
            "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}]}


CLASS = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"},
         "spec": {"controller": "k8s.io/ingress-nginx"}}


class Controller:
    """A running `narthex controller`."""

    def __init__(self, narthex, port, *flags, user="admin", pod="pod-1"):
        self.port, self.admin = port, port + 2
        self.log_path = os.path.join(LAB, f"narthex-{port}.log")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [narthex, "controller", f"--kubeconfig={LAB}/{user}.kubeconfig", f"--http-addr=127.0.0.1:{port}",
                 f"--https-addr=127.0.0.1:{port + 1}", f"--admin-addr=127.0.0.1:{self.admin}",
                 "--publish-status-address=192.0.2.1", "--election-ttl=4s", "--enable-metrics", *flags],
                stdout=log, stderr=log, env={**os.environ, "POD_NAME": pod, "POD_NAMESPACE": "team"})

    def get(self, host, path="/", port=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=5)
        connection.request("GET", path, headers={"host": host, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def is_ready(self):
        return self.get("localhost", "/readyz", self.admin)[0] == 200

    def metric(self, name):
        """The value of a metric without labels."""
        lines = self.get("localhost", "/metrics", self.admin)[1].splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait(PATIENCE)


def status(name):
    got = json.loads(kubectl("-n", "team", "get", "ingress", name, "-o", "json", "--show-managed-fields"))
    managers = [one["manager"] for one in got["metadata"]["managedFields"] if one.get("subresource") == "status"]
    return got["status"].get("loadBalancer", {}).get("ingress"), managers


def younger_than(where, name):
    """Waits until what is made now is younger than that Ingress: ages are in seconds, and of one second the greater name goes first."""
    born = lambda answer: answer[1]["metadata"]["creationTimestamp"]
    made = born(api("GET", f"/apis/networking.k8s.io/v1/namespaces/{where}/ingresses/{name}"))
    probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}}
    eventually("the next second", lambda: born(api("POST", f"/api/v1/namespaces/{where}/configmaps?dryRun=All", probe)) != made)


def holder():
    return json.loads(kubectl("-n", "team", "get", "lease", "ingress-controller-leader", "-o", "json"))["spec"]["holderIdentity"]


def refused(*objects, flags=()):
    """What the API server says when it refuses these objects; None when it takes them."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    done = subprocess.run([*KUBECTL, "apply", *flags, "-f", "-"], input=text, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else None


def pair(host):
    """Certificate and key for a host, PEM, signed by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, name) for name in ("crt", "key")]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                        f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-out", names[0], "-keyout", names[1]], check=True, capture_output=True)
        return [open(name, encoding="ascii").read() for name in names]


def secret(name, chain, key):
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": meta(name), "stringData": {"tls.crt": chain, "tls.key": key}}


def shown(port, host):
    """The certificate that a host is served with, PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw, context.wrap_socket(raw, server_hostname=host) as tls:
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))


class Load:
    """Requests without a pause; whatever is not 200 is kept."""

    def __init__(self, controller, host):
        self.count, self.bad, self.over = 0, [], threading.Event()
        self.thread = threading.Thread(target=self.run, args=(controller, host))
        self.thread.start()

    def run(self, controller, host):
        while not self.over.is_set():
            try:
                answer = controller.get(host)
            except (OSError, http.client.HTTPException) as error:
                answer = (repr(error), "")
            self.count += 1
            if answer[0] != 200:
                self.bad.append(answer)

    def stop(self):
        self.over.set()
        self.thread.join()
        assert self.count > 0 and not self.bad, f"{len(self.bad)} of {self.count} requests went wrong: {self.bad[:3]}"
        return self.count
