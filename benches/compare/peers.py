"""The proxies: what each needs, how it is configured, started and stopped."""

import base64
import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "conformance"))
import ingress_nginx  # noqa: E402
import machine  # noqa: E402
from ports import free_port  # noqa: E402

HERE = Path(__file__).resolve().parent
HOST = "bench.example.test"
# Seconds that a proxy gets to end before it is killed.
PATIENCE = 2
MODULES = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules"]
# Requests whose metrics the Lua code keeps for one flush a second. By default 10,000; what comes above is dropped, with a
# line in the error log for each request, and it is the usual load that is to be measured.
BATCH = 100_000
# What the controller of ingress-nginx is told besides: one worker, loopback only. Every other key is Narthex's too.
CONTROLLED = """worker-processes: "1"
  bind-address: 127.0.0.1
  disable-ipv6: "true"
  error-log-path: @RUN@/@NAME@.err"""
# The same line for those that have another language for it; haproxy knows no files but those that are open already.
HAPROXY_LINE = r"""log global
  log-format "%ci - - [%tr] %{+Q}r %ST %B %U %Tt [%b] [] %si:%sp %B %Tr %ST" """
ENVOY_LOG = """{ name: envoy.access_loggers.file, typed_config: {
            "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: "@RUN@/@NAME@.access",
            log_format: { text_format_source: { inline_string: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% - - [%START_TIME%] \\"%REQ(:METHOD)%
            %REQ(:PATH)% %PROTOCOL%\\" %RESPONSE_CODE% %BYTES_SENT% \\"%REQ(REFERER)%\\" \\"%REQ(USER-AGENT)%\\" %BYTES_RECEIVED% %DURATION%
            [%UPSTREAM_CLUSTER%] [] %UPSTREAM_HOST% %BYTES_SENT% %RESPONSE_DURATION% %RESPONSE_CODE% %REQ(X-REQUEST-ID)%\\n" } } } }"""
TUNED = "proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k;"


def lua_module():
    """`load_module` lines for nginx's Lua module; None where it is not installed."""
    for folder in MODULES:
        if os.path.exists(f"{folder}/ngx_http_lua_module.so"):
            return f"load_module {folder}/ndk_http_module.so; load_module {folder}/ngx_http_lua_module.so;"
    return None


def version(command, pattern):
    out = subprocess.run(command, capture_output=True, text=True)
    found = re.search(pattern, out.stdout + out.stderr)
    return found.group(1) if found else "unknown version"


class Peer:
    """One proxy in one configuration."""

    def __init__(self, name, template, command, log=False, extra=None):
        self.name, self.template, self.command, self.log = name, template, command, log
        self.extra = extra or {}
        self.http, self.https, self.admin = free_port(), free_port(), free_port()
        self.process = None

    def start(self, run, prefix):
        values = {
            "RUN": run.folder, "NAME": self.name, "HTTP": self.http, "HTTPS": self.https, "BACKEND": run.backend_port,
            "LUA_MODULE": lua_module() or "", "BUFFERS": "", "BUFFERING": "off", "NO_LOG": "false" if self.log else "true",
            "MORE": "", "HAPROXY_LOG": "log stdout format raw local0" if self.log else "",
            "HAPROXY_LINE": HAPROXY_LINE if self.log else "", "ENVOY_LOG": ENVOY_LOG if self.log else "",
            "LOG": f"access_log {run.folder}/{self.name}.access upstreaminfo;" if self.log else "",
            "CERT64": run.encoded("cert.pem"), "KEY64": run.encoded("key.pem"), **self.extra,
        }
        folder = Path(run.folder) / self.name
        folder.mkdir(exist_ok=True)
        config = folder / self.template
        config.write_text(render(self.template, values))
        words = {"config": config, "folder": folder, "http": self.http, "https": self.https, "admin": self.admin,
                 "backend": run.backend_port, "run": run.folder}
        command = [word.format(**words) for word in self.command]
        controller = self.extra.get("CONTROLLER")
        if controller:
            controller.render(config, folder, "default/bench", (self.http, self.https), batch=BATCH)
            controller.count(HOST, run.beside)
        self.process = subprocess.Popen(
            prefix + command, stdout=open(f"{run.folder}/{self.name}.out", "w"), stderr=open(f"{run.folder}/{self.name}.err", "w"),
            start_new_session=True, cwd=run.folder)
        run.started.append(self)
        wait_for(self.http, self.process, self.name, run.folder)
        if controller:
            controller.configure(self.answers)

    def answers(self):
        """Whether requests reach the back-end."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/head", headers={"Host": HOST})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status == 204
        except urllib.error.HTTPError:
            return False

    def client(self, tls):
        """An HTTP/1.1 client of it that opens its connection with the first request; no certificate is judged."""
        if not tls:
            return http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        # Without the machine's authorities, which take longer to load than a handshake does.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.https, timeout=10, context=context)

    def pids(self):
        return machine.tree(self.process.pid)

    def beside(self):
        """CPU seconds so far of what counts this proxy's metrics in another process; None where none does."""
        controller = self.extra.get("CONTROLLER")
        return sum(machine.cpu_seconds([controller.counter.pid])) if controller else None

    def port(self, kind):
        """Where requests of this kind go."""
        return self.https if kind in ("tls", "h2", "close") else self.http

    def stop(self, patience=None):
        try:
            if self.process:
                end(self.process, patience or PATIENCE)
        finally:
            if self.process and "CONTROLLER" in self.extra:
                self.extra["CONTROLLER"].close()


def end(process, patience):
    """Ends a process that leads a group, and whoever of the group is left then."""
    # Asked twice: a single process of nginx that hears the signal just before it waits for events goes on to wait.
    for _ in range(2):
        if process.poll() is not None:
            break
        signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(patience / 2)
        except subprocess.TimeoutExpired:
            pass
    signal_group(process.pid, signal.SIGKILL)
    process.wait()


def signal_group(leader, number):
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        pass


def render(template, values):
    text = (HERE / "conf" / template).read_text()
    # What comes in last may hold names of what came before.
    for key, value in reversed(values.items()):
        text = text.replace(f"@{key}@", str(value))
    return text


def wait_for(port, process, name, folder):
    # A minute: valgrind starts slowly on a busy machine.
    for _ in range(1200):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{name} did not start: " + Path(f"{folder}/{name}.err").read_text()[-600:])


class Run:
    """Folder, certificate, back-end and everything started; cleans up."""

    def __init__(self, folder):
        self.folder = folder
        self.backend_port = free_port()
        self.started = []

    def prepare(self, prefix):
        # Where runs what is not the proxy.
        self.beside = prefix
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
             "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", f"{self.folder}/key.pem",
             "-out", f"{self.folder}/cert.pem"], check=True, capture_output=True)
        both = Path(f"{self.folder}/cert.pem").read_text() + Path(f"{self.folder}/key.pem").read_text()
        Path(f"{self.folder}/both.pem").write_text(both)
        www = Path(self.folder) / "www"
        www.mkdir()
        (www / "small").write_bytes(b"s" * 200)
        (www / "large").write_bytes(b"l" * (1 << 20))
        os.chmod(self.folder, 0o755)
        upload = ""
        if lua_module():
            upload = 'location = /up { content_by_lua_block { ngx.req.read_body() ngx.header["Content-Length"] = 2 ngx.print("ok") } }'
        self.backend = Peer("backend", "backend.conf", ["nginx", "-c", "{config}"], extra={"UPLOAD": upload})
        self.backend.http = self.backend_port
        self.backend.start(self, prefix)

    def close(self):
        self.stop()

    def encoded(self, name):
        path = Path(self.folder) / name
        return base64.b64encode(path.read_bytes()).decode() if path.exists() else ""

    def stop(self):
        """Stops everything, also when somebody loses patience meanwhile or one of them makes trouble."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for peer in reversed(self.started):
                try:
                    peer.stop()
                except Exception as error:
                    print(f"{peer.name} could not be stopped: {error}", file=sys.stderr)
        finally:
            signal.signal(signal.SIGINT, before)


def configurations(found):
    """{name: what a peer was started with}, for the raw data: words and file as they are before ports are filled in."""
    out = {}
    for name, template, command, extra in found:
        # Where a program lies is nobody's business.
        words = [os.path.basename(word) if os.path.isabs(word) else word for word in command]
        given = {key: value for key, value in extra.items() if isinstance(value, str)}
        out[name] = {"command": words, "file": f"conf/{template}", "given": given, "text": (HERE / "conf" / template).read_text()}
    return out


def need(*tools):
    """Ends the program with a word about what is not installed."""
    lacking = [tool for tool in tools if not shutil.which(tool)]
    if lacking:
        raise SystemExit(f"{', '.join(lacking)} needed and not installed (Debian: wrk, nghttp2-client for h2load, openssl, nginx)")


def identity(binary):
    """Tells one build from another where both have the same version."""
    digest = hashlib.sha256()
    with open(binary, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()[:12]


def locked(*packages):
    """Versions of packages that the naive proxy is built of."""
    text = (HERE / "naive" / "Cargo.lock").read_text()
    return " and ".join(f"{one} " + re.search(rf'name = "{one}"\nversion = "(.*)"', text).group(1) for one in packages)


def prepared(binary, found, versions, missing):
    """Adds the proxies that `prepare` gets: ingress-nginx, Envoy and the naive one."""
    # Beside the folder of the profile that the binary was built with.
    below = Path(os.environ.get("PEERS") or Path(binary).parents[1] / "peers")
    home = below / "ingress-nginx"
    why = ingress_nginx.lacking(home)
    if why:
        missing.append(("ingress-nginx", why))
    else:
        # It is given the objects that Narthex is given.
        found.append(("ingress-nginx", "narthex.yaml", ["nginx", "-p", "{folder}", "-c", "{folder}/nginx.conf"],
                      {"CONTROLLER": ingress_nginx.Controller(home), "MORE": CONTROLLED}))
        versions["ingress-nginx"] = (f"nginx.conf rendered by the controller {ingress_nginx.version(home)} and its own Lua code,"
                                     f" in nginx {versions['nginx']}")
    wheel = next(below.glob("python/lib/*/site-packages/envoy/_bin/envoy"), None)
    envoy = shutil.which("envoy") or (wheel and str(wheel))
    if envoy:
        found.append(("envoy", "envoy.yaml", [envoy, "-c", "{config}", "--concurrency", "1", "--disable-hot-restart",
                                              "--log-level", "error"], {}))
        versions["envoy"] = version([envoy, "--version"], r"/(\d+\.\d+\.\d+)/")
    else:
        missing.append(("envoy", "not installed, and its wheel could not be had"))
    naive = below / "naive" / "release" / "naive"
    if naive.exists():
        # The template is not read by it; every proxy has one.
        found.append(("naive", "backend.conf", [str(naive), "{http}", "{https}", "{backend}", "{run}/cert.pem", "{run}/key.pem"], {}))
        versions["naive"] = locked("hyper", "hyper-util") + ", as their examples use them"
    else:
        missing.append(("naive", "could not be built"))


def available(binary):
    """([peers], {version by kind}, [(what is missing, why)])."""
    found, versions, missing = [], {}, []
    if not shutil.which("nginx"):
        raise SystemExit("nginx is needed: it is the back-end and the measure (Debian: nginx, libnginx-mod-http-lua)")
    nginx = ["nginx", "-c", "{config}"]
    found += [("nginx", "nginx.conf", nginx, {}), ("nginx-tuned", "nginx.conf", nginx, {"BUFFERS": TUNED})]
    versions["nginx"] = version(["nginx", "-v"], r"nginx/(\S+)")
    versions["nginx-tuned"] = "the same with 16 buffers of 64 KiB"
    if lua_module():
        found.append(("nginx-lua", "nginx-lua.conf", nginx, {}))
        versions["nginx-lua"] = "the same with the Lua balancer and phases of ingress-nginx (an emulation written by hand)"
    else:
        missing.append(("nginx-lua", "the Lua module is not installed (Debian: libnginx-mod-http-lua); no uploads either"))
    if shutil.which("haproxy"):
        found.append(("haproxy", "haproxy.cfg", ["haproxy", "-db", "-f", "{config}"], {}))
        versions["haproxy"] = version(["haproxy", "-v"], r"version (\S+)")
    else:
        missing.append(("haproxy", "not installed"))
    prepared(binary, found, versions, missing)
    narthex = [binary, "standalone", "--manifests", "{folder}", "--http-addr", "127.0.0.1:{http}", "--https-addr",
               "127.0.0.1:{https}", "--admin-addr", "127.0.0.1:{admin}", "--workers", "1", "--configmap", "default/bench",
               "--watch-ingress-without-class=true", "--allow-upstream-cidr=127.0.0.0/8"]
    found.append(("narthex", "narthex.yaml", narthex, {}))
    versions["narthex"] = version([binary, "--version"], r"(\d\S+)") + f", SHA-256 of the binary {identity(binary)}…"
    return found, versions, missing
