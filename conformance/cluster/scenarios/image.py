"""The image, as people swap it in: the Deployment of ingress-nginx unchanged but for the image, with its own rights, and ours."""

import http.client
import json
import os
import signal
import subprocess
import sys

from scene import LAB, PATIENCE, account, apply, eventually, ingress, kubectl, meta, pair, rule, status

HERE = os.path.dirname(os.path.abspath(__file__))
ASSEMBLE = os.path.join(HERE, "..", "..", "..", "deploy", "image", "assemble")
ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"
# What ingress-nginx's own manifests grant: no right to patch a status, and none to write webhook configurations.
READ, FOLLOW = "get list watch", "list watch"
CLUSTER_RIGHTS = [rule(FOLLOW, "configmaps", "endpoints", "nodes", "pods", "secrets", "namespaces"), rule(FOLLOW, "leases"), rule("get", "nodes"),
                  rule(READ, "services", "ingresses", "ingressclasses", "endpointslices"), rule("create patch", "events"),
                  rule("update", "ingresses/status")]
OWN_RIGHTS = [rule("get", "namespaces"), rule(READ, "configmaps", "pods", "secrets", "endpoints", "services", "ingresses", "ingressclasses"),
              rule("update", "ingresses/status"), rule("get update", "leases", names=["ingress-nginx-leader"]), rule("create", "leases"),
              rule("create patch", "events"), rule(READ, "endpointslices")]
# The command line that its chart renders.
ARGUMENTS = ["/nginx-ingress-controller", "--publish-service=$(POD_NAMESPACE)/ingress-nginx-controller", "--election-id=ingress-nginx-leader",
             "--controller-class=k8s.io/ingress-nginx", "--ingress-class=nginx", "--configmap=$(POD_NAMESPACE)/ingress-nginx-controller",
             "--validating-webhook=:8443", "--validating-webhook-certificate=/usr/local/certificates/cert",
             "--validating-webhook-key=/usr/local/certificates/key", "--enable-metrics=false"]
# LD_PRELOAD as its chart has it; here there is nothing to preload.
ENVIRONMENT = {"POD_NAME": "pod-1", "POD_NAMESPACE": "team", "LD_PRELOAD": "/usr/local/lib/libmimalloc.so", "KUBERNETES_SERVICE_HOST": "127.0.0.1",
               "KUBERNETES_SERVICE_PORT": "16443", "PATH": "/"}


def lay_out(narthex, user):
    """The files of the image, and what a kubelet mounts into it."""
    root = os.path.join(LAB, "rootfs")
    subprocess.run([sys.executable, ASSEMBLE, narthex, root, "--rootfs"], check=True)
    for folder in ("proc", "dev", ACCOUNT, "usr/local/certificates"):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    chain, key = pair("ingress-nginx-controller-admission.team.svc")
    with open(f"{LAB}/{user}.kubeconfig", encoding="utf-8") as file:
        token = file.read().split("token: ")[1].split("}")[0].strip()
    with open(f"{LAB}/ca.crt", encoding="ascii") as file:
        authority = file.read()
    for path, text in ((f"{ACCOUNT}/token", token), (f"{ACCOUNT}/ca.crt", authority), (f"{ACCOUNT}/namespace", "team"),
                       ("usr/local/certificates/cert", chain), ("usr/local/certificates/key", key)):
        with open(os.path.join(root, path), "w", encoding="ascii") as file:
            file.write(text)
    return root


def ask(port, path="/", host="localhost"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path, headers={"host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def contained(root, user, group, kind, command, **streams):
    arguments = [word.replace("$(POD_NAMESPACE)", "team") for word in command]
    return subprocess.Popen([sys.executable, os.path.join(HERE, "container.py"), root, user, group, kind, *arguments], env={**os.environ, "CONTAINER_ENVIRONMENT": json.dumps(ENVIRONMENT)}, **streams)


def scenario_image(narthex):
    """The unchanged Deployment of ingress-nginx with this image: command line, rights, users, probes, preStop hook."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta("ingress-nginx-controller"), "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta("pod-1", labels={"app": "x"}), "spec": {"containers": [{"name": "c", "image": "x"}]}}
    apply(service, pod, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("ingress-nginx-controller"), "data": {}}, ingress("image.test"))
    kubectl("-n", "team", "patch", "service", "ingress-nginx-controller", "--subresource=status", "--type=merge", "-p",
            '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.70"}]}}}')
    root = lay_out(narthex, account("unchanged", CLUSTER_RIGHTS, team=OWN_RIGHTS))
    try:
        for user, group, kind in (("101", "82", "writable"), ("101", "82", "readonly"), ("65532", "65532", "readonly")):
            runs(root, user, group, kind)
    finally:
        kubectl("-n", "team", "delete", "ingress", "image.test")
        kubectl("-n", "team", "delete", "pod", "pod-1", "--wait=false")
        kubectl("-n", "team", "delete", "service", "ingress-nginx-controller")


def runs(root, user, group, kind):
    path = os.path.join(LAB, f"narthex-image-{user}-{kind}.log")
    with open(path, "wb") as log:
        process = contained(root, user, group, kind, ARGUMENTS, stdout=log, stderr=log)
    said = lambda: open(path, encoding="utf-8", errors="replace").read()
    try:
        eventually(f"the probes as {user} on a {kind} root", lambda: alive(process, said) and ask(10254, "/healthz")[0] == 200)
        assert ask(80, host="image.test")[0] == 200 and ask(80, host="unknown.test")[0] == 404
        eventually("the status", lambda: status("image.test")[0] == [{"ip": "192.0.2.70"}])
        eventually("a leader", lambda: "leads=true" in said())
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            lines = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        assert (lines["Uid"].split()[0], lines["NoNewPrivs"]) == (user, "1"), lines
        assert int(lines["CapEff"], 16) in (0, 1 << 10), lines
        hook = contained(root, user, group, kind, ["/wait-shutdown"], stderr=subprocess.PIPE)
        _, trouble = hook.communicate(timeout=PATIENCE)
        assert hook.returncode == 0, trouble
        assert process.wait(PATIENCE) == 0, said()
        assert "forbidden" not in said().replace("ingresses/status", ""), said()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def alive(process, said):
    assert process.poll() is None, said()
    return True
