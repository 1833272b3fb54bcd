"""ingress-nginx beside us: the nginx.conf that its own controller renders for our manifests, its own Lua code in the
nginx that is installed here, and what the controller does besides (backends and certificates posted, metrics read).

`rendered/build` makes what is needed from a checkout. Not the image of ingress-nginx: its nginx is newer and has modules
that Debian's has not; what is changed for that stands in `adapted`. Used by benches/compare and nginx/rendered.py.
"""

import glob
import http.client
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from ports import free_port

MODULES = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules"]
# Each needs the one before it; the last only where something signs in.
NEEDED = ["ndk_http_module", "ngx_http_lua_module", "ngx_http_headers_more_filter_module"]
OPTIONAL = ["ngx_http_set_misc_module"]
# Where Debian puts the libraries of Lua that have packages.
PACKAGED = {"lua-cjson": "/usr/lib/*/lua/5.1/cjson.so", "lua-resty-core": "/usr/share/lua/5.1/resty/core.lua",
            "lua-resty-lrucache": "/usr/share/lua/5.1/resty/lrucache.lua"}
# Where nginx of the image writes.
THEIR_FOLDER = os.path.join(os.sep, "tmp", "nginx", "")
# How long backends may take to be known to the workers, seconds; their timer is one.
PATIENCE = 30


def folder_of_modules():
    return next((folder for folder in MODULES if os.path.exists(f"{folder}/{NEEDED[0]}.so")), None)


def lacking(home):
    """Why there is no such peer; None where all is there."""
    if not Path(home, "version").exists():
        return "not prepared (needs Go and a checkout of kubernetes/ingress-nginx or the network; conformance/rendered/build)"
    modules = folder_of_modules()
    for name in NEEDED:
        if not modules or not os.path.exists(f"{modules}/{name}.so"):
            return f"nginx's {name} is not installed"
    return next((f"{package} is not installed" for package, place in PACKAGED.items() if not glob.glob(place)), None)


def version(home):
    return Path(home, "version").read_text().strip()


def older_than(release):
    """Whether the nginx here is older than this release."""
    said = subprocess.run([shutil.which("nginx") or "/usr/sbin/nginx", "-v"], capture_output=True, text=True).stderr
    return tuple(map(int, re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said).groups())) < release


def adapted(text, folder, home):
    """The rendered file for the nginx that is here: other places, its modules, nothing of TCP and UDP."""
    modules = folder_of_modules()
    load = "".join(f"load_module {modules}/{name}.so;\n" for name in NEEDED + OPTIONAL if os.path.exists(f"{modules}/{name}.so"))
    if os.geteuid() == 0:
        # No rights are given away: the files here are whose who started it.
        load += "user root;\n"
    # No module of Lua for streams in Debian; requests do not come there.
    text, streams = re.subn(r"^stream \{\n.*?^\}\n", "", text, flags=re.M | re.S)
    assert streams == 1, "one block of streams"
    if older_than((1, 25, 1)):
        # HTTP/2 was asked for at the socket, for all servers there.
        text, spoken = re.subn(r"^\s*http2 on;\n", "", text, flags=re.M)
        if spoken:
            text = re.sub(r"^(\s*listen .* ssl);", r"\1 http2;", text, flags=re.M)
    paths = f'lua_package_path "{folder}/lua/?.lua;{home}/lib/?.lua;;";\n\tlua_package_cpath "{home}/lib/?.so;;";'
    text = text.replace('lua_package_path "/etc/nginx/lua/?.lua;;";', paths
                        + f"\n\tuwsgi_temp_path {folder}/tmp/uwsgi; scgi_temp_path {folder}/tmp/scgi;")
    # Loopback only.
    text = re.sub(r"^(\s*listen )(\d+ default_server)", r"\g<1>127.0.0.1:\2", text, flags=re.M)
    return load + text.replace("/etc/nginx/lua/", f"{folder}/lua/").replace(THEIR_FOLDER, f"{folder}/tmp/")


class Controller:
    """What the controller would do for one nginx."""

    def __init__(self, home):
        self.home, self.counter = os.path.abspath(home), None

    def render(self, manifests, folder, configmap, ports, batch=None):
        """Writes `folder`/nginx.conf and all that goes with it for the nginx that will listen on `ports` (http, https)."""
        # Sockets and files of it are named from here.
        self.folder, self.status = os.path.abspath(folder), free_port()
        command = [f"{self.home}/render", "-manifests", os.path.abspath(manifests), "-configmap", configmap, "-template",
                   f"{self.home}/nginx.tmpl", "-out", self.folder, "-http", str(ports[0]), "-https", str(ports[1]),
                   "-default", str(free_port()), "-status", str(self.status)]
        if batch:
            command += ["-batch", str(batch)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        Path(self.folder, "render.log").write_text(done.stderr)
        if done.returncode:
            raise RuntimeError("ingress-nginx rendered nothing: " + done.stderr[-600:])
        config = Path(self.folder, "nginx.conf")
        config.write_text(adapted(config.read_text(), self.folder, self.home))
        Path(self.folder, "tmp").mkdir(exist_ok=True)
        shutil.copytree(f"{self.home}/lua", f"{self.folder}/lua", dirs_exist_ok=True)
        # Two places are constants in the Lua code.
        for file in Path(self.folder, "lua").rglob("*.lua"):
            text = file.read_text()
            moved = text.replace("/etc/nginx/lua/cfg.json", f"{self.folder}/cfg.json").replace(THEIR_FOLDER, f"{self.folder}/tmp/")
            if moved != text:
                file.write_text(moved)

    def count(self, host, prefix=()):
        """Starts what reads the metrics and counts them: the controller's own code, in a process of its own."""
        self.counter = subprocess.Popen([*prefix, f"{self.home}/render", "-collect", host], cwd=self.folder,
                                        stdout=subprocess.DEVNULL, stderr=open(f"{self.folder}/collect.log", "w"))
        place, end = f"{self.folder}/tmp/prometheus-nginx.socket", time.monotonic() + PATIENCE
        while not os.path.exists(place):
            if self.counter.poll() is not None or time.monotonic() > end:
                raise RuntimeError("metrics are not read: " + Path(self.folder, "collect.log").read_text()[-600:])
            time.sleep(0.05)

    def configure(self, ready):
        """Posts backends and certificates as the controller does, and waits until `ready()`."""
        for name in ("backends", "servers"):
            body = Path(self.folder, f"{name}.json").read_bytes()
            client = http.client.HTTPConnection("127.0.0.1", self.status, timeout=PATIENCE)
            client.request("POST", f"/configuration/{name}", body, {"Content-Type": "application/json"})
            answer = client.getresponse()
            answer.read()
            client.close()
            if answer.status != 201:
                raise RuntimeError(f"/configuration/{name} was answered with {answer.status}")
        end = time.monotonic() + PATIENCE
        while not ready():
            if time.monotonic() > end:
                raise RuntimeError("the workers of ingress-nginx have no backends")
            time.sleep(0.05)

    def close(self):
        if self.counter:
            self.counter.terminate()
            self.counter.wait()
            self.counter = None
