#!/usr/bin/env python3
"""The chart against a real API server, inside the lab; `deploy` starts it. Usage: deploy_lab.py NARTHEX HELM KUSTOMIZE"""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import yaml

LAB = os.environ["LAB_DIR"]
KUBECTL = [os.environ["LAB_KUBEBOX"], "kubectl"]
CHART = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "deploy", "chart")
PROVIDERS = os.path.join(CHART, "..", "provider")
PATIENCE = 60

# Kinds of others that the lab has no definitions for.
FOREIGN = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "Certificate", "Issuer"}
# Values files as people have them.
VALUES = {
    "defaults": {},
    "everything": {
        "commonLabels": {"team": "edge"},
        "controller": {
            "replicaCount": 3, "config": {"use-gzip": "true", "proxy-read-timeout": 30}, "addHeaders": {"X-A": "1"}, "proxySetHeaders": {"X-B": "2"},
            "networkPolicy": {"enabled": True}, "ingressClassResource": {"default": True, "aliases": ["public"]},
            "service": {"annotations": {"a.example/b": True}, "externalTrafficPolicy": "Local", "internal": {"enabled": True, "type": "ClusterIP"}},
            "metrics": {"enabled": True, "serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}},
            "extraArgs": {"default-ssl-certificate": "edge/wild", "enable-ssl-passthrough": ""}, "topologySpreadConstraints": [],
        },
        "defaultBackend": {"enabled": True, "image": {"image": "errors", "tag": "1"}},
        "tcp": {"5432": "db/postgres:5432"}, "udp": {53: "kube-system/dns:53"},
    },
    "autoscaled": {"controller": {"autoscaling": {"enabled": True, "minReplicas": 2}, "maxUnavailable": 1}},
    "host network": {"controller": {"kind": "DaemonSet", "hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet", "hostPort": {"enabled": True},
                                    "reportNodeInternalIp": True, "publishService": {"enabled": False}, "service": {"enabled": False}}},
    "one namespace": {"rbac": {"scope": True}, "controller": {"scope": {"enabled": True, "namespace": "team"}}},
    "one namespace, and nothing of the cluster": {"rbac": {"scope": True}, "controller": {
        "scope": {"enabled": True}, "ingressClassResource": {"enabled": False}, "admissionWebhooks": {"enabled": False}}},
    "selected namespaces": {"controller": {"scope": {"namespaceSelector": "a=b"}}},
    "secrets of two namespaces, beside another": {"controller": {"secretNamespaces": ["edge", "team"], "coexist": True}},
    "secrets by reference": {"controller": {"secretsByReference": True}},
    "tcp services elsewhere": {"rbac": {"scope": True}, "controller": {"scope": {"enabled": True, "namespace": "team"}}, "tcp": {"5432": "default/postgres:5432"}},
    "templates in values": {
        "controller": {
            "image": {"registry": "registry.k8s.io", "image": "ingress-nginx/controller", "tag": "v1.15.1", "digest": "sha256:" + "0" * 64},
            "config": {"custom-http-errors": "404", "server-name-hash-bucket-size": 256, "x": "{{ .Release.Name }}"}, "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["{{ .Release.Name }}.test"]}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {
                "matchLabels": {"app.kubernetes.io/name": '{{ include "ingress-nginx.name" . }}'}}}]}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {
                "matchLabels": {"app.kubernetes.io/name": '{{ include "ingress-nginx.name" . }}'}}, "matchLabelKeys": ["pod-template-hash"]}],
            "extraInitContainers": [{"name": "{{ .Release.Name }}-init", "image": "busybox"}],
            "service": {"annotations": {"a.example/name": '{{ include "ingress-nginx.controller.fullname" . }}'}},
        },
        "defaultBackend": {"enabled": True, "labels": {"a": "b"}, "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "autoscaling": {"enabled": True, "minReplicas": 2},
                           "service": {"externalIPs": ["192.0.2.7"]}, "extraVolumes": [{"name": "v", "configMap": {"name": "{{ .Release.Name }}"}}],
                           "extraConfigMaps": [{"name": "pages", "labels": {"c": "d"}, "data": {"404.html": "no"}}]},
    },
    "both autoscalers": {"controller": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}, "replicaCount": 2}},
    "labels, another port for the metrics, the internal Service alone": {"controller": {
        "labels": {"team": "edge"}, "metrics": {"enabled": True, "port": 10255, "service": {"labels": {"a": "b"}}},
        "service": {"labels": {"c": "d"}, "external": {"enabled": False}, "internal": {"enabled": True}}}, "defaultBackend": {"enabled": True, "labels": {"e": "f"}}},
    "a port more, for a load balancer that ends TLS": {"controller": {
        "containerPort": {"http": 80, "https": 443, "tohttps": 2443}, "service": {"targetPorts": {"http": "tohttps", "https": "http"}},
        "hostPort": {"enabled": True, "ports": {"tohttps": 2443}}}},
    "no Service": {"controller": {"service": {"external": {"enabled": False}}}},
    "cert-manager": {"controller": {"admissionWebhooks": {"certManager": {"enabled": True}}}},
}


def kubectl(*args, stdin=None):
    done = subprocess.run([*KUBECTL, *args], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"kubectl {args}: {done.stderr.strip()}")
    return done.stdout


def eventually(what, condition):
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        try:
            if condition():
                return
        except AssertionError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true")


def render(helm, values, chart=CHART):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        done = subprocess.run([helm, "template", "ingress-nginx", chart, "-n", "edge", "-f", file.name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def refused(helm, values, words):
    """A values file that must not render, and says why."""
    try:
        render(helm, values)
    except AssertionError as error:
        assert words in str(error), error
        return
    raise AssertionError(f"{values} renders")


def apply(objects, *flags):
    return kubectl("apply", *flags, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def apply_file(path):
    kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", path)


def dry_runs(helm):
    for name, values in VALUES.items():
        objects = render(helm, values)
        foreign = {one["kind"] for one in objects} & FOREIGN
        ours = [one for one in objects if one["kind"] not in FOREIGN]
        apply(ours, "--dry-run=server")
        # The API server prunes fields that it does not know; strict validation says so instead.
        kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": ours}))
        print(f"{name}: {len(ours)} objects accepted{', not judged: ' + ', '.join(sorted(foreign)) if foreign else ''}")
    for provider in sorted(os.path.relpath(folder, PROVIDERS) for folder, _, files in os.walk(PROVIDERS) if "deploy.yaml" in files):
        apply_file(os.path.join(PROVIDERS, provider, "deploy.yaml"))
        print(f"provider {provider}: accepted")
    refused(helm, {"replicaCount": 2}, "controller.replicaCount")
    refused(helm, {"controller": {"stats": {}}}, "controller.metrics")
    refused(helm, {"controller": {"nosuchkey": 1}}, "nosuchkey")
    refused(helm, {"defaultBackend": {"service": {"port": 80}}}, "defaultBackend.service.servicePort")
    pictures(helm)
    ports(helm)


def ports(helm):
    """Probes ask where the process answers; what publishes no Service names none."""
    for values, port in (({}, 10254), ({"metrics": {"port": 10255}}, 10255), ({"metrics": {"port": 10255}, "livenessProbe": {"httpGet": {"port": 7}}}, 7),
                         ({"metrics": {"port": 10255}, "extraArgs": {"healthz-port": "10254"}}, 10254)):
        container = pod(render(helm, {"controller": values}))["containers"][0]
        assert container["livenessProbe"]["httpGet"]["port"] == port, (values, container["livenessProbe"])
        assert len([arg for arg in container["args"] if arg.startswith("--healthz-port")]) == (values.get("metrics") is not None), container["args"]
    foreign = {one["kind"] for one in render(helm, VALUES["one namespace, and nothing of the cluster"])} & {"ClusterRole", "ClusterRoleBinding", "IngressClass", "ValidatingWebhookConfiguration"}
    assert not foreign, foreign
    for off, flag in (({}, "/ingress-nginx-controller"), ({"external": {"enabled": False}}, None), ({"external": {"enabled": False}, "internal": {"enabled": True}}, "-internal")):
        args = pod(render(helm, {"controller": {"service": off}}))["containers"][0]["args"]
        told = [arg for arg in args if arg.startswith("--publish-service")]
        assert (told[0].endswith(flag) if flag else not told), (off, told)


def pod(objects):
    return next(one for one in objects if one["kind"] in ("Deployment", "DaemonSet"))["spec"]["template"]["spec"]


def pictures(helm):
    """Which image comes of which values."""
    theirs = {"registry": "registry.k8s.io", "image": "ingress-nginx/controller", "tag": "v1.15.1", "digest": "sha256:" + "0" * 64}
    expected = (
        ({}, "narthex:0.1.0"),
        (theirs, "narthex:0.1.0"),
        ({**theirs, "repository": "r.example:5000/narthex"}, "r.example:5000/narthex:0.1.0"),
        ({**theirs, "repository": "r.example/narthex", "tag": "7"}, "r.example/narthex:7"),
        ({"repository": "registry.k8s.io/ingress-nginx/controller", "tag": "v1.9.0"}, "narthex:0.1.0"),
        ({"repository": "r.example:5000/narthex@sha256:" + "1" * 64}, "r.example:5000/narthex@sha256:" + "1" * 64),
        ({"registry": "r.example", "tag": "2", "digest": "sha256:" + "1" * 64}, "r.example/narthex:2@sha256:" + "1" * 64),
    )
    for image, name in expected:
        values = {"controller": {"image": image}, "defaultBackend": {"enabled": True}}
        have = [one["spec"]["template"]["spec"]["containers"][0]["image"] for one in render(helm, values) if one["kind"] == "Deployment"]
        assert sorted(have) == sorted([name, "registry.k8s.io/defaultbackend-amd64:1.5"]), (image, have)
    print(f"{len(expected)} ways to name the image give what they say")


def theirs(helm):
    """Values files of a checkout of ingress-nginx, where there is one: the whole of its values.yaml, and those of its CI."""
    checkout = os.environ.get("INGRESS_NGINX")
    if not checkout:
        print("SKIPPED: the values files of ingress-nginx itself (INGRESS_NGINX names a checkout)", file=sys.stderr)
        return
    chart = os.path.join(checkout, "charts", "ingress-nginx")
    paths = [os.path.join(chart, "values.yaml"), *(os.path.join(chart, "ci", name) for name in sorted(os.listdir(os.path.join(chart, "ci"))))]
    for path in paths:
        with open(path, encoding="utf-8") as file:
            objects = render(helm, yaml.safe_load(file))
        ours = [one for one in objects if one["kind"] not in FOREIGN]
        kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": ours}))
        print(f"{os.path.relpath(path, chart)} of ingress-nginx: {len(ours)} objects accepted")
    told, seen = 0, set()
    for folder, _, names in os.walk(os.path.join(chart, "tests")):
        for name in names:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                for test in yaml.safe_load(file)["tests"]:
                    given = test.get("set") or {}
                    if json.dumps(given) not in seen and "defaultBackend.service.port" not in given:  # that one is refused with a hint
                        seen.add(json.dumps(given))
                        beside(helm, chart, nested(given))
                        told += 1
    print(f"{told} values of the tests of ingress-nginx's chart: the same objects, Services, selectors and ports")


def nested(given):
    """`a.b\\.c: 1` of a test as values."""
    values = {}
    for path, value in given.items():
        *folders, last = [part.replace("\0", ".") for part in path.replace("\\.", "\0").split(".")]
        place = values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return values


def beside(helm, chart, values):
    """What ingress-nginx's chart makes of values stands here under the same name, and is found and reached in the same way."""
    # Made by the controller itself, or by cert-manager in one step less.
    own = {"Job", "Certificate", "Issuer", "Secret"}
    name = lambda one: (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
    hooks = lambda one: one["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "admission-webhook" and one["kind"] != "ValidatingWebhookConfiguration"
    here = {name(one): one for one in render(helm, values)}
    for one in render(helm, values, chart):
        if one["kind"] in own or hooks(one):
            continue
        assert name(one) in here, (values, name(one))
        same = here[name(one)]
        if one["kind"] == "Service":
            assert same["spec"] == one["spec"] and same["metadata"].get("annotations") == (one["metadata"].get("annotations") or None), (values, same, one)
        if one["kind"] in ("Deployment", "DaemonSet"):
            ports = lambda it: it["spec"]["template"]["spec"]["containers"][0]["ports"]
            assert same["spec"]["selector"] == one["spec"]["selector"] and ports(same) == ports(one), (values, same, one)


def kustomized(kustomize):
    """The base and every folder of a provider, built by kustomize itself; and an overlay as people write it."""
    folders = ["kustomize", *(os.path.relpath(folder, os.path.join(PROVIDERS, "..")) for folder, _, files in sorted(os.walk(PROVIDERS)) if "kustomization.yaml" in files)]
    for name in folders:
        built = kustomize_build(kustomize, os.path.join(PROVIDERS, "..", name))
        kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=built)
    print(f"kustomize builds {len(folders)} folders: accepted")
    with tempfile.TemporaryDirectory(dir=LAB) as overlay:
        # Bases are relative, and within what is copied here.
        shutil.copytree(os.path.join(PROVIDERS, "..", "kustomize"), os.path.join(overlay, "base"))
        os.mkdir(os.path.join(overlay, "mine"))
        with open(os.path.join(overlay, "mine", "kustomization.yaml"), "w", encoding="utf-8") as file:
            yaml.safe_dump({
                "resources": ["../base"], "namespace": "edge", "namePrefix": "my-", "images": [{"name": "narthex", "newName": "r.example/narthex", "newTag": "9"}],
                "replicas": [{"name": "ingress-nginx-controller", "count": 3}],
                "labels": [{"pairs": {"team": "edge"}}],
                "patches": [{"target": {"kind": "Deployment"}, "patch": '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--v=2"}]'}]}, file)
        built = kustomize_build(kustomize, os.path.join(overlay, "mine"))
        kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=built)
        workload = next(one for one in yaml.safe_load_all(built) if one["kind"] == "Deployment")
        container = workload["spec"]["template"]["spec"]["containers"][0]
        assert (workload["spec"]["replicas"], container["image"], container["args"][-1]) == (3, "r.example/narthex:9", "--v=2"), workload
    print("an overlay with a namespace, a prefix, an image and patches: accepted")


def kustomize_build(kustomize, folder):
    done = subprocess.run([kustomize, "build", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


class Controller:
    """The rendered command line with the rendered rights."""

    def __init__(self, narthex, args, kubeconfig):
        folder = tempfile.mkdtemp(dir=LAB)
        program = os.path.join(folder, "nginx-ingress-controller")
        os.symlink(narthex, program)
        self.log_path = os.path.join(folder, "log")
        args = [one.replace("$(POD_NAMESPACE)", "edge") for one in args[1:]]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([program, *args, f"--kubeconfig={kubeconfig}", "--election-ttl=4s"], stdout=log, stderr=log,
                                            env={**os.environ, "POD_NAME": "pod-1", "POD_NAMESPACE": "edge"})

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)


def is_right(one):
    return one["kind"] in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount")


def ingress(name):
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rules = [{"host": "a.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": "edge"},
            "spec": {"ingressClassName": "nginx", "rules": rules}}


def reset():
    """As before the first start: nothing is written."""
    for kind, name in (("secret", "ingress-nginx-admission"), ("lease", "ingress-nginx-leader")):
        kubectl("-n", "edge", "delete", kind, name, "--ignore-not-found")
    kubectl("-n", "edge", "delete", "events", "--all")
    kubectl("-n", "edge", "patch", "ingress", "one", "two", "--subresource=status", "--type=merge", "-p", '{"status":{"loadBalancer":null}}')


def prepare(objects):
    wanted = [one for one in objects if is_right(one) or one["kind"] in ("ConfigMap", "IngressClass", "Service")]
    apply([ingress("one"), ingress("two")])
    apply(wanted)
    kubectl("-n", "edge", "patch", "service", "ingress-nginx-controller", "--subresource=status", "--type=merge", "-p",
            '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}')
    apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "west"}}}])
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod-1", "namespace": "edge", "labels": {"app": "x"}},
           "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "x"}]}}
    apply([pod])
    give = lambda kind, status, *place: kubectl(*place, "patch", kind, f"{kind}-1", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    give("node", {"addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}]})
    give("pod", {"conditions": [{"type": "Ready", "status": "True"}]}, "-n", "edge")
    apply([one for one in objects if one["kind"] == "ValidatingWebhookConfiguration"])
    token = kubectl("-n", "edge", "create", "token", "ingress-nginx").strip()
    path = os.path.join(LAB, "account.kubeconfig")
    with open(os.path.join(LAB, "admin.kubeconfig"), encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("admin-token", token))
    return path


def everything_works(narthex, args, kubeconfig):
    reset()
    controller = Controller(narthex, args, kubeconfig)
    try:
        eventually("the status", lambda: "192.0.2.1" in kubectl("-n", "edge", "get", "ingress", "one", "-o", "jsonpath={.status}"))
        eventually("the Event", lambda: "PathConflict" in kubectl("-n", "edge", "get", "events", "-o", "jsonpath={.items[*].reason}"))
        eventually("the authority", lambda: kubectl("get", "validatingwebhookconfiguration", "ingress-nginx-admission", "-o",
                                                    "jsonpath={.webhooks[0].clientConfig.caBundle}"))
    finally:
        controller.stop()
    assert "forbidden" not in controller.log(), controller.log()
    assert "the last controller ends" in controller.log(), controller.log()


def denied_without(narthex, args, kubeconfig, role, number, verb, nodes):
    """Runs without one verb of one rule; it must be missed, and said."""
    less = copy.deepcopy(role)
    rule = less["rules"][number]
    rule["verbs"].remove(verb)
    if not rule["verbs"]:
        less["rules"].remove(rule)
    reset()
    resources = role["rules"][number]["resources"]
    if "secrets" in resources and verb == "update":
        apply([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ingress-nginx-admission", "namespace": "edge"}}])
    apply([less])
    controller = Controller(narthex, args, kubeconfig)
    try:
        for resource in resources:
            resource, _, sub = resource.partition("/")
            # Where the status may not be patched it is replaced, as rights made for ingress-nginx allow; that fails next.
            verb = "update" if sub == "status" else verb
            words = f'cannot {verb} resource \\"{resource}{"/" + sub if sub else ""}\\"'
            said = lambda: words in controller.log() or words.replace("\\", "") in controller.log()
            # Else Pods are asked for by the last one that ends.
            if resource == "pods" and not nodes:
                eventually("the status", lambda: "192.0.2.1" in kubectl("-n", "edge", "get", "ingress", "one", "-o", "jsonpath={.status}"))
                controller.stop()
            eventually(f"{role['kind']}: {words}", said)
            assert resource == "pods" or controller.process.poll() is None, "a missing right is no reason to end"
    finally:
        controller.stop()
        apply([role])


# Which values need which rights; by name, the resources whose verbs are taken away one by one, or all.
RIGHTS = (
    ("the defaults", {}, None),
    ("addresses of nodes", {"publishService": {"enabled": False}, "enableTopologyAwareRouting": True}, {"nodes", "pods"}),
    ("the zone of the own node", {"enableTopologyAwareRouting": True}, {"nodes"}),
)


def rights(narthex, helm, name, values, resources):
    objects = render(helm, {"controller": {"containerPort": {"http": 20000, "https": 20001}, **values}})
    workload = next(one for one in objects if one["kind"] == "Deployment")
    args = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    kubeconfig = prepare(objects)
    everything_works(narthex, args, kubeconfig)
    print(f"{name}: the rendered command line works with the rendered rights, and asks for nothing else")
    missed = 0
    for role in objects:
        if role["kind"] not in ("ClusterRole", "Role"):
            continue
        for number, rule in enumerate(role["rules"]):
            if resources and not resources & set(rule["resources"]):
                continue
            for verb in rule["verbs"]:
                denied_without(narthex, args, kubeconfig, role, number, verb, not any(one.startswith("--publish-service") for one in args))
                missed += 1
    assert missed, name
    print(f"{name}: each of {missed} verbs is missed when it is taken away")


def main():
    narthex, helm, kustomize = sys.argv[1:]
    for name in ("edge", "team", "ingress-nginx"):
        kubectl("create", "namespace", name)
    dry_runs(helm)
    theirs(helm)
    kustomized(kustomize)
    for name, values, resources in RIGHTS:
        rights(narthex, helm, name, values, resources)


main()
