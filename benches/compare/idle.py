"""Memory that an idle connection holds: a fresh process, one request on each connection, then nothing."""

import gc
import http.client
import resource
import sys
import tempfile
import time

import machine
import peers

PATIENCE = 1.5


def connect(peer, tls):
    """A connection that was served once and idles."""
    connection = peer.client(tls)
    connection.request("GET", "/small", headers={"Host": peers.HOST})
    connection.getresponse().read()
    return connection


def measure(facts, tls, count):
    """KiB for each of `count` idle connections of one proxy."""
    name, template, command, extra = facts
    proxy, client = machine.placement()
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        run = peers.Run(folder)
        try:
            run.prepare(client)
            peer = peers.Peer(name, template, command, False, extra)
            peer.start(run, proxy)
            # What is allocated once for all is not a connection's.
            held = [connect(peer, tls) for _ in range(50)]
            time.sleep(PATIENCE)
            before = machine.proportional_kib(peer.pids())
            held += [connect(peer, tls) for _ in range(count)]
            time.sleep(PATIENCE)
            after = machine.proportional_kib(peer.pids())
            del held
            return (after - before) / count
        finally:
            run.stop()


def all_of(found, options):
    """{kind: {peer: KiB}}, {what: why it was not measured}."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 20000), hard))
    out, failed = {}, {}
    part = 4 if options.short else 1
    for kind, tls, count in (("HTTP/1.1", False, 4000 // part), ("HTTP/1.1 over TLS", True, 1000 // part)):
        for facts in found:
            if facts[0] == "nginx-tuned" or (options.peer and facts[0] not in options.peer):
                continue
            try:
                each = measure(facts, tls, count)
            except (RuntimeError, OSError, http.client.HTTPException) as error:
                failed[f"{kind}, {facts[0]}"] = " ".join(str(error).split())
                print(f"NOT MEASURED: idle {kind}: {facts[0]}: {error}", file=sys.stderr, flush=True)
                continue
            gc.collect()
            out.setdefault(kind, {})[facts[0]] = round(each, 2)
            print(f"idle {kind}: {facts[0]:12} {each:7.2f} KiB a connection", flush=True)
    return out, failed
