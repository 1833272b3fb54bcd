"""What the kernel counts for a process tree, and where it runs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        text = file.read()
    return text[text.rindex(")") + 2:].split()


def tree(root):
    """`root` and everything below it."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                children.setdefault(int(_stat(name)[1]), []).append(int(name))
            except (OSError, ValueError):
                pass
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(pids):
    """(user, system) seconds of all of them so far."""
    user = system = 0
    for pid in pids:
        try:
            fields = _stat(pid)
        except OSError:
            continue
        user += int(fields[11])
        system += int(fields[12])
    return user / TICK, system / TICK


def busy(processor=""):
    """Seconds that a processor was not idle so far, or all of them together, whoever used it; what the host took away
    counts as well."""
    with open("/proc/stat") as file:
        for line in file:
            if line.startswith(f"cpu{processor} "):
                user, nice, system, _, _, irq, softirq, steal, *_ = map(int, line.split()[1:])
                return (user + nice + system + irq + softirq + steal) / TICK
    return 0


def own_seconds():
    """CPU-seconds so far of this program and all that it started, also of what has ended."""
    total = 0
    for pid in tree(os.getpid()):
        try:
            total += sum(map(int, _stat(pid)[11:15]))
        except OSError:
            pass
    return total / TICK


class Foreign:
    """How many processors somebody else used meanwhile: other programs, and the host of a virtual machine."""

    def __enter__(self):
        self.begin, self.all, self.own, self.value = time.monotonic(), busy(), own_seconds(), None
        return self

    def __exit__(self, *_):
        took = max(time.monotonic() - self.begin, 1 / TICK)
        self.value = round(max(busy() - self.all - (own_seconds() - self.own), 0) / took, 3)


def listening(port):
    """Sockets that listen on `port`, by their numbers."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            if words[3] == "0A" and int(words[1].rsplit(":", 1)[1], 16) == port:
                found.add(words[9])
    return found


def sockets(pids):
    """Sockets that these processes have open, by their numbers."""
    found = set()
    for pid in pids:
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    found.add(target[8:-1])
        except OSError:
            pass
    return found


def sole_listener(port, pids):
    """None when these processes, and nobody else, listen on `port`; else what is wrong. With SO_REUSEPORT somebody left
    over from another run would take a share of the requests, and every figure would be too good."""
    heard = listening(port)
    if not heard:
        return f"nobody listens on port {port}"
    others = heard - sockets(pids)
    return f"somebody else listens on port {port} as well" if others else None


def proportional_kib(pids):
    """Proportional set size: memory, shared pages counted once."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except OSError:
            pass
    return total


_CPUS = frozenset(os.sched_getaffinity(0))


def processors():
    """Those that this process was given at its start."""
    return _CPUS


def placement():
    """(prefix for the proxy, prefix for client and back-end): one processor each where there are two."""
    cpus = sorted(_CPUS)
    if len(cpus) < 2 or not shutil.which("taskset"):
        return bound(), bound()
    return bound() + ["taskset", "-c", str(cpus[0])], bound() + ["taskset", "-c", str(cpus[-1])]


def everywhere():
    """Prefix for what may run on any processor that is ours."""
    return bound() + (["taskset", "-c", ",".join(map(str, sorted(_CPUS)))] if shutil.which("taskset") else [])


def bound():
    """Prefix for what is not to outlive this program, however that ends (setpriv of util-linux)."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def end_cleanly():
    """What was started is stopped on the way out, also when the terminal goes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def step_aside():
    """Keeps this process off the proxy's processor."""
    if len(_CPUS) > 1:
        os.sched_setaffinity(0, {max(_CPUS)})


def urgent(prefix):
    """`prefix` for a client that nothing else of this run may hold up, where that is allowed: what it times is the proxy
    and not what shares its own processor."""
    tried = ["chrt", "-f", "1"]
    if shutil.which("chrt") and subprocess.run(tried + ["true"], capture_output=True).returncode == 0:
        return prefix + tried
    return prefix


def shield(pid):
    """Lets the session of `pid` come before what else this machine does, where that is allowed. Its threads stay to each
    other what they are: the scheduler weighs sessions first and the threads within one afterwards."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text("-20")
    except OSError:
        pass


def urgent_workers(pids):
    """Puts the threads that serve requests into real-time scheduling, where that is allowed: only for what a proxy does
    when nothing but requests is there to do. Named so by Narthex, processes of their own with nginx."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                serves = (task / "comm").read_text().startswith("worker") or "worker process" in Path(f"/proc/{pid}/cmdline").read_text()
                if serves:
                    os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(1))
            except OSError:
                pass


class Instructions:
    """What `perf stat` counts, where the kernel gives counters: {"instructions:u", "instructions:k", "cycles"}; else
    `values` stays empty, and instructions can be had from valgrind (`--instructions`)."""

    EVENTS = ("instructions:u", "instructions:k", "cycles")
    available = None

    def __init__(self, pids):
        self.values = {}
        self.pids = pids

    @classmethod
    def probe(cls):
        if cls.available is None:
            cls.available = False
            if shutil.which("perf"):
                command = ["perf", "stat", "-x,", "-e", ",".join(cls.EVENTS), "true"]
                tried = subprocess.run(command, capture_output=True, text=True)
                cls.available = tried.returncode == 0 and cls.EVENTS[0] in cls.read(tried.stderr)
        return cls.available

    @classmethod
    def read(cls, text):
        """Counts by event of what `perf stat -x,` wrote; what was not counted is absent."""
        out = {}
        for fields in (line.split(",") for line in text.splitlines()):
            if len(fields) > 3 and fields[0].isdigit() and fields[2] in cls.EVENTS:
                out[fields[2]] = int(fields[0])
        return out

    def __enter__(self):
        self.process = None
        if self.probe():
            self.file = tempfile.NamedTemporaryFile("r")
            pids = ",".join(map(str, self.pids))
            command = ["perf", "stat", "-x,", "-e", ",".join(self.EVENTS), "-o", self.file.name, "-p", pids]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.15)
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.values = self.read(self.file.read())


def congestion():
    """Who paces what is sent over loopback: asked of a connection, because routes may say otherwise than the system."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).split(b"\0")[0].decode()


# What Linux takes where nobody chose another one. BBR lets a timer send nearly every segment of a large body.
USUAL_CONGESTION = "cubic"


def settle_congestion(wanted=USUAL_CONGESTION):
    """Runs this program anew in a network of its own that has `wanted`, where the machine has another congestion control
    and root may do so; "machine": whatever it has. Each run says what it had (`describe`)."""
    own = congestion()
    if wanted in ("machine", own):
        return
    wrapper = [str(Path(__file__).resolve().parent / "with-congestion"), wanted]
    tried = subprocess.run(wrapper + ["true"], capture_output=True, text=True)
    if tried.returncode == 0:
        sys.stdout.flush()
        os.execv(wrapper[0], wrapper + [sys.executable, *sys.argv, "--congestion", "machine"])
    print(f"congestion control {own} instead of {wanted}: {tried.stderr.strip()}", file=sys.stderr)


def describe():
    """The machine in one line."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    system = os.uname()
    apart = "" if len(_CPUS) > 1 and shutil.which("taskset") else ", proxy, client and back-end NOT on processors of their own"
    return f"{os.cpu_count()} × {model}, {system.sysname} {system.release}, congestion control {congestion()}{apart}"
