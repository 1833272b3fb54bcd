"""The same routes for Narthex and nginx, as many as wanted: written, changed and asked for."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import peers

# Hosts in one manifest: a change touches one file, a directory does not hold 100,000 of them.
PER_FILE = 50
NGINX_LOCATION = (
    "proxy_set_header Host $host; proxy_set_header X-Request-ID $request_id; proxy_set_header X-Real-IP $remote_addr;"
    " proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $host;"
    " proxy_set_header X-Forwarded-Port $server_port; proxy_set_header X-Forwarded-Proto $scheme;"
    " proxy_set_header X-Scheme $scheme; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
    " proxy_http_version 1.1; proxy_pass http://be;"
)


def host(number):
    return f"h{number}.example.test"


def object_of(kind, version, name, **rest):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, **rest}


def path(text, kind="Prefix"):
    return {"path": text, "pathType": kind, "backend": {"service": {"name": "be", "port": {"number": 80}}}}


def ingress(number, mark):
    """One host with five paths; `mark` makes the first of them another one."""
    paths = [path(f"/api-{mark}"), path("/static"), path("/images"), path("/login"), path("/")]
    rules = [{"host": host(number), "http": {"paths": paths}}]
    return object_of("Ingress", "networking.k8s.io/v1", f"i{number}", spec={"rules": rules})


def expressions(count):
    """One host with `count` expressions and one that takes /small, last in order."""
    paths = [path(f"/part{number}/[a-z0-9]+/(edit|view)$", "ImplementationSpecific") for number in range(count)]
    paths.append(path("/sm[a-z]+", "ImplementationSpecific"))
    rules = [{"host": host(0), "http": {"paths": paths}}]
    made = object_of("Ingress", "networking.k8s.io/v1", "expressions", spec={"rules": rules})
    made["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/use-regex": "true"}
    return made


class Narthex(peers.Peer):
    """Narthex over a directory of manifests."""

    def __init__(self, binary, run, addresses=("127.0.0.1",)):
        super().__init__("narthex", None, None)
        self.binary, self.folder = binary, Path(run.folder) / f"manifests-{self.http}"
        self.folder.mkdir()
        self.write("config", [self.settings(60)])
        be = object_of("Service", "v1", "be", spec={"clusterIP": "10.96.0.10", "ports": [{"port": 80, "targetPort": run.backend_port}]})
        slice_of = object_of("EndpointSlice", "discovery.k8s.io/v1", "be-1", addressType="IPv4",
                             ports=[{"port": run.backend_port, "protocol": "TCP"}],
                             endpoints=[{"addresses": list(addresses), "conditions": {"ready": True}}])
        slice_of["metadata"]["labels"] = {"kubernetes.io/service-name": "be"}
        self.write("service", [be, slice_of])

    def settings(self, timeout):
        """The ConfigMap; another `timeout` makes every route another one."""
        return object_of("ConfigMap", "v1", "bench", data={
            "keep-alive-requests": "1000000000", "upstream-keepalive-requests": "1000000000", "ssl-redirect": "false",
            "upstream-keepalive-connections": "320", "hsts": "false", "disable-access-log": "true",
            "proxy-read-timeout": str(timeout)})

    def write(self, name, objects):
        text = "\n---\n".join(json.dumps(one) for one in objects)
        # Outside of the directory first: a file appears whole.
        new = self.folder.with_name(f"{self.folder.name}.{name}.new")
        new.write_text(text + "\n")
        os.replace(new, self.folder / f"{name}.yaml")

    def fill(self, hosts):
        for first in range(0, hosts, PER_FILE):
            self.write(f"hosts{first}", [ingress(number, 0) for number in range(first, min(first + PER_FILE, hosts))])

    def change(self, number, mark, hosts):
        first = number // PER_FILE * PER_FILE
        self.write(f"hosts{first}", [ingress(one, mark if one == number else 0)
                                     for one in range(first, min(first + PER_FILE, hosts))])

    def start(self, run, prefix, workers=1):
        command = [self.binary, "standalone", "--manifests", str(self.folder), "--http-addr", f"127.0.0.1:{self.http}",
                   "--https-addr", f"127.0.0.1:{self.https}", "--admin-addr", f"127.0.0.1:{self.admin}", "--workers", str(workers),
                   "--configmap", "default/bench", "--watch-ingress-without-class=true", "--allow-upstream-cidr=127.0.0.0/8"]
        launch(self, command, run, prefix)


class Nginx(peers.Peer):
    """nginx over one file; a change is a reload."""

    def __init__(self, run):
        super().__init__("nginx", None, None)
        self.folder = Path(run.folder) / f"nginx-{self.http}"
        self.folder.mkdir()
        self.backend_port, self.run, self.hosts = run.backend_port, run.folder, 0

    def servers(self, hosts, changed=None, mark=0):
        for number in range(hosts):
            first = f"/api-{mark if number == changed else 0}"
            locations = "".join(f"location {one} {{ {NGINX_LOCATION} }}\n" for one in (first, "/static", "/images", "/login", "/"))
            yield f"server {{ listen 127.0.0.1:{self.http}; server_name {host(number)};\n{locations}}}\n"

    def fill(self, hosts, changed=None, mark=0, workers=1):
        self.hosts = hosts
        with open(self.folder / "nginx.conf", "w") as out:
            out.write(
                f"worker_processes {workers}; daemon off; pid {self.folder}/pid; error_log {self.folder}/err; worker_rlimit_nofile 50000;\n"
                "events { worker_connections 40000; multi_accept on; }\nhttp {\n"
                "server_names_hash_max_size 1000000; server_names_hash_bucket_size 128; access_log off; keepalive_requests 1000000000;\n"
                "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }\n"
                f"client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p; fastcgi_temp_path {self.folder}/f;\n"
                f"uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;\n"
                f"upstream be {{ server 127.0.0.1:{self.backend_port}; keepalive 320; keepalive_requests 1000000000; }}\n")
            out.writelines(self.servers(hosts, changed, mark))
            out.write("}\n")

    def start(self, run, prefix, workers=1):
        if workers != 1:
            self.fill(self.hosts, workers=workers)
        launch(self, ["nginx", "-c", str(self.folder / "nginx.conf")], run, prefix)


def launch(peer, command, run, prefix):
    """Starts without waiting for the port: that it takes time is what is measured."""
    peer.process = subprocess.Popen(prefix + command, stdout=subprocess.DEVNULL, start_new_session=True, cwd=run.folder,
                                    stderr=open(f"{run.folder}/{peer.name}-{peer.http}.err", "w"))
    run.started.append(peer)


def status(peer, name, target):
    """Status of one GET; 0 when nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{peer.http}{target}", headers={"Host": name})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_until(peer, name, target, wanted, limit=600, pause=0.002):
    """Seconds until `wanted` is answered."""
    start = time.monotonic()
    while status(peer, name, target) != wanted:
        if peer.process.poll() is not None or time.monotonic() - start > limit:
            raise RuntimeError(f"{peer.name} does not answer {target} with {wanted}")
        time.sleep(pause)
    return time.monotonic() - start
