"""A case of the annotation vectors as objects in a folder, with its running backends; steps change both.

`annotations_blackbox` drives it and starts the process over the folder. Sends no request.
"""

import base64
import os
import re
import ssl

import yaml

from annotations.backends import Endpoint, remember_name
from annotations.credentials import content, password_hash
from ports import free_port
from routing_blackbox import document, references

VARIABLE = re.compile(r"\$\{(?:([a-z_]+):)?([^}]+)\}")


def text_of(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


class Service:
    """What the vectors say of a Service, its ports and its endpoints."""

    def __init__(self, key):
        self.key, self.declared, self.ports, self.endpoints, self.record, self.front = key, {}, set(), [], [], None
        self.namespace, self.name = key.split("/")

    @property
    def own_port(self):
        """True where the port of the Service is that of a listener."""
        return "externalName" in self.declared or bool(self.declared.get("cluster_ip"))

    @property
    def kind(self):
        return self.declared.get("kind", "echo")

    def wanted(self):
        declared = self.declared
        if declared.get("exists") is False and "externalName" not in declared:
            return []
        listed = declared.get("endpoints")
        if listed is None:
            count = 1 if "externalName" in declared else declared.get("replicas", 1)
            listed = ["ready:e%d" % index for index in range(count)]
        for one in listed:
            if not re.match("(ready|status):", one):
                raise ValueError("an endpoint %r is not known here" % one)
        return [(one.partition(":")[2], self.kind) if one.startswith("ready:") else (one, one) for one in listed]

    def listed_ports(self):
        """Name and number of each port."""
        if self.own_port:
            port = self.front.port if self.front else self.endpoints[0].port
            return [(self.declared.get("port_name", "http") if not self.front else None, port)]
        numbers = sorted(port for port in self.ports if isinstance(port, int)) or ([] if self.ports else [80])
        names = sorted(port for port in self.ports if isinstance(port, str))
        free = (number for number in range(80, 65536) if number not in numbers)
        single = len(numbers) + len(names) == 1
        return [(None if single else "p%d" % number, number) for number in numbers] + list(zip(names, free))

    def identity(self):
        numbers = sorted(port for port in self.ports if isinstance(port, int))
        first = 80 if self.own_port else (numbers + sorted(set(self.ports) - set(numbers)) + [80])[0]
        return "%s-%s-%s" % (self.namespace, self.name, first)

    async def settle(self, context):
        """Starts and stops endpoints until they are those that are wanted."""
        wanted = self.wanted()
        kept, self.endpoints = [] if self.declared.get("fresh") else list(self.endpoints), []
        old = [one for one in kept if one.server.is_serving()]
        for label, kind in wanted:
            found = next((one for one in old if (one.label, one.kind) == (label, kind)), None)
            if found:
                old.remove(found)
            self.endpoints.append(found or await self.endpoint(label, kind, context))
        if self.declared.get("cluster_ip") and not self.front:
            self.front = await self.endpoint("cluster-ip", self.kind, context)
        return old

    async def endpoint(self, label, kind, context):
        tls = context(self.declared) if kind in ("https", "grpcs") else None
        return await Endpoint(self.identity(), label, kind, self.record, tls).start()

    def objects(self):
        declared = self.declared
        if declared.get("exists") is False:
            return
        spec = {"type": "ClusterIP", "clusterIP": "127.0.0.1" if self.front else "10.96.0.1"}
        if "externalName" in declared:
            spec = {"type": "ExternalName", "externalName": declared["externalName"]}
        ports = [] if declared.get("ports") is False else self.listed_ports()
        spec["ports"] = []
        for name, number in ports:
            named = {"name": name} if name else {}
            target = number if self.own_port else 8080
            spec["ports"].append({"port": number, "targetPort": target, "protocol": "TCP", **named})
            if "externalName" not in declared:
                for index, one in enumerate(self.endpoints):
                    yield self.slice(
                        "%s-%d-%d" % (self.name, number, index), {"port": one.port, "protocol": "TCP", **named}
                    )
        yield document("Service", "v1", self.namespace, self.name, spec=spec)

    def slice(self, name, port):
        return document(
            "EndpointSlice",
            "discovery.k8s.io/v1",
            self.namespace,
            name,
            metadata={"labels": {"kubernetes.io/service-name": self.name}},
            addressType="IPv4",
            endpoints=[{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            ports=[port],
        )


class Scene:
    """Everything of a case but the process. `folder` gets the manifests and what the binary writes."""

    def __init__(self, case, authorities, folder):
        self.case, self.authorities, self.folder = case, authorities, folder
        self.manifests, self.spare = os.path.join(folder, "manifests"), os.path.join(folder, "spare")
        os.mkdir(self.manifests)
        os.mkdir(self.spare)
        self.ports = {name: free_port() for name in ("http", "https", "admin", "webhook")}
        self.free, self.services, self.documents, self.others, self.configmap = {}, {}, {}, [], {}

    # --- variables ---

    def variable(self, match):
        kind, name = match.groups()
        if kind is None:
            return self.spare if name == "dir" else str(self.ports[name.replace("_port", "")])
        if kind == "free_port":
            if name not in self.free:
                self.free[name] = free_port()
            return str(self.free[name])
        service = self.services[name]
        if kind == "svc_port":
            return str(service.listed_ports()[0][1])
        endpoint = service.endpoints[0]
        return {"addr": endpoint.address, "ip": "127.0.0.1", "port": str(endpoint.port)}[kind]

    def filled(self, value):
        """`value` with its variables replaced."""
        if isinstance(value, str):
            return VARIABLE.sub(self.variable, value)
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        if isinstance(value, dict):
            filled = {self.filled(key): self.filled(one) for key, one in value.items()}
            return {**filled, "number": int(filled["number"])} if "number" in filled else filled
        return value

    # --- objects ---

    def add(self, one):
        self.documents[one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]] = one

    async def build(self):
        for name, controller in (self.case.get("ingressClasses") or {"nginx": "k8s.io/ingress-nginx"}).items():
            self.add(document("IngressClass", "networking.k8s.io/v1", None, name, spec={"controller": controller}))
        fallback = (self.case.get("flags") or {}).get("default-backend-service")
        if fallback:
            self.service(fallback).ports.add(80)
        await self.change(self.case)

    def service(self, key):
        return self.services.setdefault(key, Service(key))

    async def change(self, part):
        """Takes in the case itself or the update of a step, and writes the manifests."""
        for key, declared in (part.get("services") or {}).items():
            self.service(key).declared = declared or {}
        for ingress in part.get("ingresses") or []:
            for key, port in references(ingress):
                self.service(key)
                # A variable is the port of a Service that decides it itself.
                if port is not None and not str(port).startswith("${"):
                    self.service(key).ports.add(port)
        gone = part.get("delete") or []
        for one in gone:
            kind, _, key = one.partition("/")
            if kind == "Service":
                self.service(key).declared = {**self.service(key).declared, "exists": False}
            else:
                del self.documents[(kind, *key.split("/"))]
        over = []
        for service in self.services.values():
            if service.key not in (part.get("stop") or []):
                over += await service.settle(self.backend_tls)
        for one in self.filled((part.get("ingresses") or []) + (part.get("objects") or [])):
            self.add(one)
        for name, labels in (part.get("namespaces") or {}).items():
            self.add(document("Namespace", "v1", None, name, metadata={"labels": labels}))
        for key, wanted in (part.get("secrets") or {}).items():
            await self.secret(key, wanted)
        self.configmap.update(part.get("configmap") or {})
        self.write()
        for key in part.get("stop") or []:
            over += self.services[key].endpoints
        for endpoint in over:
            endpoint.stop()

    def write(self):
        documents = list(self.documents.values())
        for service in self.services.values():
            documents += service.objects()
        if self.configmap:
            data = {key: text_of(self.filled(value)) for key, value in self.configmap.items() if value is not None}
            documents.append(document("ConfigMap", "v1", "sys", "cfg", data=data))
        # At once: the binary watches the folder.
        fresh = os.path.join(self.folder, "fresh.yaml")
        with open(fresh, "w") as file:
            yaml.safe_dump_all(documents, file, allow_unicode=True)
        os.replace(fresh, os.path.join(self.manifests, "all.yaml"))

    async def secret(self, key, wanted):
        kind, data = "Opaque", {}
        if "htpasswd" in wanted:
            lines = [
                "%s:%s\n" % (user, password_hash(one, wanted["scheme"])) for user, one in wanted["htpasswd"].items()
            ]
            data["auth"] = "".join(lines).encode()
        elif "auth_map" in wanted:
            data = {user: password_hash(one, wanted["scheme"]).encode() for user, one in wanted["auth_map"].items()}
        elif "data" in wanted:
            data = {name: value.encode() for name, value in wanted["data"].items()}
        else:
            kind, data = "kubernetes.io/tls", await self.certificate(wanted)
        encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
        self.add(document("Secret", "v1", *key.split("/"), type=kind, data=encoded))

    async def certificate(self, wanted):
        authority, responder = wanted.get("ca"), None
        if wanted.get("ocsp"):
            responder = await Endpoint("ocsp", "ocsp", "responder", []).start()
            self.others.append(responder)
        names, kind = wanted.get("dnsNames"), wanted.get("key", "rsa")
        pair = self.authorities.leaf(wanted.get("commonName"), names, authority, kind, responder and responder.port)
        if responder:
            responder.responder = self.authorities.revocation_answers(pair, authority, self.folder)
        data = {"tls.crt": content(pair.certificate), "tls.key": content(pair.key)}
        if authority:
            data["ca.crt"] = content(self.authorities.authority(authority).certificate)
            data["tls.crt"] += data["ca.crt"] if wanted.get("chain") else b""
        return data

    def backend_tls(self, declared):
        certificate = declared.get("cert") or {}
        name = certificate.get("cn")
        pair = self.authorities.leaf(name or "backend", [name] if name else [], certificate.get("ca"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        context.sni_callback = remember_name
        if declared.get("kind") == "grpcs":
            context.set_alpn_protocols(["h2"])
        return context

    # --- process ---

    def command(self, binary, resolver):
        case = self.case
        flags = {"watch-ingress-without-class": False, "dns-resolver": "127.0.0.1:%d" % resolver}
        flags.update({"%s-addr" % name: "127.0.0.1:%d" % self.ports[name] for name in ("http", "https", "admin")})
        if self.configmap or any((step["update"] or {}).get("configmap") for step in case.get("steps") or []):
            flags["configmap"] = "sys/cfg"
        if case.get("admission"):
            pair = self.authorities.leaf("webhook", ["localhost"])
            flags["validating-webhook"] = "127.0.0.1:%d" % self.ports["webhook"]
            flags["validating-webhook-certificate"] = pair.certificate
            flags["validating-webhook-key"] = pair.key
        flags.update(self.filled(case.get("flags") or {}))
        arguments = ["--%s=%s" % (name, text_of(value)) for name, value in flags.items()]
        return [binary, "standalone", "--manifests", self.manifests, *arguments]

    def close(self):
        for service in self.services.values():
            self.others += service.endpoints + ([service.front] if service.front else [])
        for endpoint in self.others:
            endpoint.stop()
