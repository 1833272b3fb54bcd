#!/usr/bin/env python3
"""Judges a running proxy by hostile messages: what the client got back, and what reached the backend.

It starts no proxy; `malformed` beside it does. It opens one raw backend, sends every case of tests/data/malformed-*.yaml
and compares. The proxy must send every request (any host or none, any path, HTTP/1 and HTTP/2) to that one plain backend,
must not redirect to https, and must not give up on a lone endpoint.

Verdicts
  HTTP/1 reject   a final status of 4xx or 5xx but 502 and 504, or a close without an answer; the connection ends; nothing
                  reaches the backend (of streamed and incomplete cases: no complete request, and a begun one is aborted)
  HTTP/1 accept   n answers of the backend with 2xx, exactly n well-formed requests there, `upstream_must` and
                  `upstream_must_not` hold, and no request goes up before the answer to the one before
  HTTP/2 reject   RST_STREAM, GOAWAY, a close, or 4xx and 5xx but 502 and 504; goaway: GOAWAY or a close; any: a normal
                  request is still served within two seconds
  answers reject  5xx, or visibly cut; accept: status and body as sent, and the next request gets its own answer

Cases that can carry an id run twelve at a time; whatever fails there is judged again alone with its exact bytes, and that
verdict counts. Exit status: 0 all as expected, 1 something failed, 2 the proxy was not there.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import socket
import ssl
import struct
import sys
import time
import zlib
import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
IDLE = 1.2  # nothing more happens for so long: the case is pending
GRACE = 0.05  # wait for late requests at the back-end
ID_HDR = b"X-Case-Id"
# answers of a broken back-end where the rationale allows the other verdict as well
RESP_ALSO_502 = {"r-obsfold", "r-space-colon", "r-204-body"}
RESP_ALSO_OK = {"r-cl-te"}
RESP_BODY = {"r-204-body": b"", "r-304-cl": b"", "r-head-cl": b"", "r-head-body": b""}


def raw_of(case):
    if case.get("raw_zlib_b64"):
        return zlib.decompress(base64.b64decode(case["raw_zlib_b64"]))
    return None if case.get("raw") is None else case["raw"].encode("latin-1")


# ------------------------------------------------------------------ strict request parser of the back-end
class Req:
    __slots__ = ("conn", "raw", "head", "line", "hdrs", "complete", "bad", "cid", "t", "pipelined", "body")

    def __init__(self, conn):
        self.conn, self.raw, self.head, self.line, self.hdrs = conn, b"", b"", b"", []
        self.complete, self.bad, self.cid, self.t, self.pipelined, self.body = (
            False,
            [],
            None,
            time.monotonic(),
            False,
            b"",
        )

    def get(self, name):
        return [v for k, v in self.hdrs if k.lower() == name]

    def note(self, what):
        if what not in self.bad:
            self.bad.append(what)

    def parse_head(self, head):
        self.head = self.raw = head
        lines = head[:-4].split(b"\r\n") if head.endswith(b"\r\n\r\n") else re.split(rb"\r?\n", head.rstrip(b"\r\n"))
        if not head.endswith(b"\r\n\r\n"):
            self.note("head does not end with CRLF CRLF")
        if re.search(rb"(?<!\r)\n", head) or re.search(rb"\r(?!\n)", head) or b"\0" in head:
            self.note("bare CR, bare LF or NUL in head")
        self.line = lines[0]
        if not re.fullmatch(TOKEN + rb" [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]", self.line):
            self.note("bad request line %r" % self.line[:60])
        for l in lines[1:]:
            m = re.fullmatch(rb"(" + TOKEN + rb"):[ \t]*([^\0\r\n]*?)[ \t]*", l)
            if m:
                self.hdrs.append((m.group(1), m.group(2)))
            else:
                self.note("bad field line %r" % l[:60])
                if b":" in l:
                    k, v = l.split(b":", 1)
                    self.hdrs.append((k.strip(), v.strip()))
        if len(self.get(b"host")) != 1 and not self.line.endswith(b"HTTP/1.0"):
            self.note("%d Host fields" % len(self.get(b"host")))
        te, cl = self.get(b"transfer-encoding"), self.get(b"content-length")
        if te and cl:
            self.note("both Transfer-Encoding and Content-Length")
        if len(cl) > 1 or any(not re.fullmatch(rb"[0-9]{1,18}", c) for c in cl):
            self.note("bad Content-Length %r" % cl)
        if te and [t.lower() for t in te] != [b"chunked"]:
            self.note("bad Transfer-Encoding %r" % te)
        for k, v in self.hdrs:
            if k.lower() == ID_HDR.lower():
                self.cid = v.decode("latin-1")
        m = re.search(rb"/s(\d{7})(?:[ ?]|$)", self.line)
        if m and not self.cid:
            self.cid = "s%d" % int(m.group(1))
        if any(t.lower().split(b",")[-1].strip() == b"chunked" for t in te):
            return "chunked"
        try:
            return int(cl[0]) if cl else 0
        except ValueError:
            return 0


class Backend:
    """Records everything; answers 200 to each complete request, or what the case asks for."""

    def __init__(self):
        self.reqs, self.conns, self.script, self.alone, self.serial = [], 0, {}, None, 0
        self.writers = set()

    async def start(self, bind, port):
        self.server = await asyncio.start_server(self.serve, bind, port, limit=1 << 24, backlog=512)

    async def serve(self, rd, wr):
        self.conns += 1
        conn = self.conns
        self.writers.add(wr)
        buf = b""
        try:
            while True:
                req = None
                while True:  # head
                    m = re.search(rb"\r?\n\r?\n", buf)
                    if m:
                        break
                    data = await rd.read(65536)
                    if not data:
                        if buf.strip(b"\r\n"):
                            req = Req(conn)
                            req.raw = buf
                            req.note("cut in the head")
                            self.own(req)
                        return
                    buf += data
                while buf.startswith(b"\r\n"):
                    buf = buf[2:]
                    m = re.search(rb"\r?\n\r?\n", buf)
                    if not m:
                        break
                if not m:
                    continue
                req = Req(conn)
                kind = req.parse_head(buf[: m.end()])
                buf = buf[m.end() :]
                self.own(req)

                async def more():
                    nonlocal buf
                    data = await rd.read(65536)
                    if not data:
                        raise EOFError
                    buf += data

                if b"100-continue" in b",".join(req.get(b"expect")).lower() and not buf:
                    wr.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                try:
                    if kind == "chunked":
                        while True:
                            while b"\n" not in buf:
                                await more()
                            line, buf = buf.split(b"\n", 1)
                            req.raw += line + b"\n"
                            if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}\r", line):
                                req.note("bad chunk line %r" % line[:40])
                            mm = re.match(rb"[0-9A-Fa-f]{1,16}", line)
                            size = int(mm.group(), 16) if mm else -1
                            if size < 0:
                                return
                            if size == 0:
                                while True:  # trailers
                                    while b"\n" not in buf:
                                        await more()
                                    line, buf = buf.split(b"\n", 1)
                                    req.raw += line + b"\n"
                                    if not line.endswith(b"\r"):
                                        req.note("bare LF in trailers")
                                    if line.rstrip(b"\r") == b"":
                                        break
                                    if not re.fullmatch(TOKEN + rb":[^\0\r\n]*\r", line):
                                        req.note("bad trailer %r" % line[:40])
                                break
                            while len(buf) < size + 2:
                                await more()
                            req.body += buf[:size]
                            req.raw += buf[: size + 2]
                            if buf[size : size + 2] != b"\r\n":
                                req.note("bad chunk end")
                            buf = buf[size + 2 :]
                    else:
                        while len(buf) < kind:
                            await more()
                        req.body, req.raw, buf = buf[:kind], req.raw + buf[:kind], buf[kind:]
                except (EOFError, ConnectionError):
                    return
                req.complete = True
                key = req.cid or self.alone
                todo = self.script.get(key)
                if todo and todo.get("slow"):
                    await asyncio.sleep(0.03)
                    try:  # bytes before our answer = pipelined or tunnelled
                        buf += await asyncio.wait_for(rd.read(65536), 0.02)
                    except asyncio.TimeoutError:
                        pass
                if buf:
                    req.pipelined = True
                if todo and "answer" in todo and todo["left"]:
                    todo["left"] -= 1
                    ans = todo["answer"]
                    if ans is None:
                        wr.get_extra_info("socket").setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                        wr.transport.abort()
                        return
                    wr.write(ans)
                    await wr.drain()
                    if todo.get("hold"):
                        await asyncio.sleep(0.5)
                    return
                self.serial += 1
                body = b"probe-%d\n" % self.serial
                clen = len(body)
                if req.line.startswith(b"HEAD "):
                    body = b""
                wr.write(
                    b"HTTP/1.1 200 OK\r\nX-Probe-Backend: %d\r\nContent-Length: %d\r\n\r\n%s"
                    % (self.serial, clen, body)
                )
                await wr.drain()
                if req.line.endswith(b"HTTP/1.0") and b"keep-alive" not in b",".join(req.get(b"connection")).lower():
                    return
                if b"close" in b",".join(req.get(b"connection")).lower():
                    return
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(wr)
            try:
                wr.close()
            except Exception:
                pass

    def own(self, req):
        if req.cid is None and self.alone:
            req.cid = self.alone
        self.reqs.append(req)

    def take(self, cid):
        return [r for r in self.reqs if r.cid == cid]


# ------------------------------------------------------------------ client side
class Resp:
    def __init__(self):
        self.status, self.hdrs, self.body, self.complete, self.interim, self.kind = None, [], b"", False, 0, ""

    def get(self, name):
        return [v for k, v in self.hdrs if k.lower() == name]


def parse_responses(data, closed, heads):
    """Split what the client got into responses. heads: list of bools (i-th answer is for HEAD)."""
    out, i, interim = [], 0, 0
    while i < len(data):
        j = data.find(b"\r\n\r\n", i)
        if j < 0:
            r = Resp()
            r.kind = "cut-head"
            out.append(r)
            break
        lines = data[i:j].split(b"\r\n")
        m = re.match(rb"HTTP/1\.[01] (\d{3})", lines[0])
        if not m:
            r = Resp()
            r.kind = "garbage"
            r.body = data[i:]
            out.append(r)
            break
        st = int(m.group(1))
        if 100 <= st < 200 and st != 101:
            interim += 1
            i = j + 4
            continue
        r = Resp()
        r.status, r.interim = st, interim
        interim = 0
        r.hdrs = [tuple(x.strip() for x in line.split(b":", 1)) for line in lines[1:] if b":" in line]
        i = j + 4
        te = b",".join(r.get(b"transfer-encoding")).lower()
        cl = r.get(b"content-length")
        head = heads[len(out)] if len(out) < len(heads) else False
        if head or st in (204, 304):
            r.complete = True
        elif st == 101:
            r.body, r.complete, i = data[i:], True, len(data)
        elif b"chunked" in te:
            while True:
                k = data.find(b"\r\n", i)
                mm = re.match(rb"[0-9A-Fa-f]+", data[i:k]) if k >= 0 else None
                if not mm:
                    i = len(data)
                    break
                n = int(mm.group(), 16)
                if n == 0:
                    e = data.find(b"\r\n\r\n", k)
                    if e >= 0:
                        r.complete, i = True, e + 4
                    else:
                        i = len(data)
                    break
                if k + 2 + n + 2 > len(data):
                    r.body += data[k + 2 : k + 2 + n]
                    i = len(data)
                    break
                r.body += data[k + 2 : k + 2 + n]
                i = k + 2 + n + 2
        elif cl and cl[0].isdigit():
            n = int(cl[0])
            r.body = data[i : i + n]
            r.complete = len(r.body) == n
            i += n
        else:
            r.kind = "until-close"
            r.body, i, r.complete = data[i:], len(data), closed
        out.append(r)
    return out, interim


async def open_conn(addr, tls=None):
    host, port = addr
    return await asyncio.wait_for(
        asyncio.open_connection(host, port, ssl=tls, server_hostname="a.test" if tls else None, limit=1 << 24), 3
    )


class Conn:
    def __init__(self, rd, wr):
        self.rd, self.wr, self.data, self.closed, self.reset = rd, wr, b"", False, False
        self.pump = asyncio.ensure_future(self._pump())
        self.ev = asyncio.Event()

    async def _pump(self):
        try:
            while True:
                d = await self.rd.read(65536)
                if not d:
                    break
                self.data += d
                self.ev.set()
        except (ConnectionError, OSError, ssl.SSLError):
            self.reset = True
        self.closed = True
        self.ev.set()

    async def send(self, raw):
        try:
            for i in range(0, len(raw), 65536):
                self.wr.write(raw[i : i + 65536])
                await asyncio.wait_for(self.wr.drain(), 3)
        except (ConnectionError, OSError, asyncio.TimeoutError):
            pass

    async def until(self, done, timeout):
        end = time.monotonic() + timeout
        while True:
            if done():
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.ev.clear()
            try:
                await asyncio.wait_for(self.ev.wait(), min(left, 0.25))
            except asyncio.TimeoutError:
                pass

    def close(self):
        self.pump.cancel()
        try:
            self.wr.transport.abort()
        except Exception:
            pass


def tag(raw, n):
    """Insert the id header and give smuggled requests an id; None if the bytes do not allow it."""
    end = raw.find(b"\r\n\r\n")
    i = raw.find(b"\r\nHost: a.test\r\n")
    if end < 0 or i < 0 or i >= end or raw.startswith(b"\r"):
        return None
    j = i + len(b"\r\nHost: a.test\r\n")
    if raw[j : j + 1] in (b" ", b"\t") or b"\n" in raw[:i].replace(b"\r\n", b""):
        return None
    out = raw[:j] + ID_HDR + b": s%d\r\n" % n + raw[j:]
    return out.replace(b"/smuggled", b"/s%07d" % n)


class Judge:
    def __init__(self, a):
        self.a, self.be, self.res = a, Backend(), {}
        self.target, self.n = a.target, 0

    # ---- HTTP/1 requests
    async def h1(self, case, cid, raw):
        be = self.be
        be.script[cid] = {"slow": True} if case.get("one_upstream_req_per_conn") else {}
        want = case.get("n", 1) if case["expected"] == "accept" or case.get("also_ok") == "accept" else 1
        heads = [raw[:5] == b"HEAD "]
        try:
            c = Conn(*await open_conn(self.target))
        except Exception as e:
            return False, "connect: %r" % e, {}
        try:
            await c.send(raw)

            def answered():
                if c.closed:
                    return True
                rs, _ = parse_responses(c.data, False, heads)
                k = want + (1 if case.get("then") else 0)
                return (
                    len([r for r in rs if r.complete]) >= k
                    or any(r.complete and r.status >= 400 for r in rs)
                    or any(r.kind == "garbage" for r in rs)
                )

            await c.until(answered, IDLE)
            rs, _ = parse_responses(c.data, c.closed, heads)
            first = rs[0].status if rs else None
            if not c.closed and rs and (case.get("conn_close") or case.get("then") or (rs[0].status or 999) >= 400):
                await c.until(lambda: c.closed, 0.8)
            if first is not None and first < 400 or case.get("incomplete") or case.get("streamed"):
                await asyncio.sleep(GRACE)
            closed = c.closed
            rs, interim = parse_responses(c.data, closed, heads)
        finally:
            c.close()
        if case.get("incomplete") or case.get("streamed"):
            await asyncio.sleep(GRACE)
        else:
            await asyncio.sleep(0.008)
        reqs = be.take(cid)
        up = b"".join(r.raw for r in reqs)
        info = {
            "answers": [r.status or r.kind for r in rs],
            "closed": closed,
            "upstream": len(reqs),
            "upstream_complete": sum(r.complete for r in reqs),
            "upstream_bytes": up[:300].decode("latin-1"),
        }
        ok_r, why_r = self.h1_reject(case, rs, closed, reqs)
        ok_a, why_a = self.h1_accept(case, rs, closed, reqs, up)
        if case["expected"] == "reject":
            ok, why = ok_r, why_r
            if not ok and case.get("also_ok") == "accept" and ok_a:
                ok, why = True, ""
        else:
            ok, why = ok_a, why_a
            if not ok and case.get("also_ok") == "reject" and ok_r:
                ok, why = True, ""
        if ok and case["expected"] == "reject" and first is not None and first != case.get("status") and first >= 400:
            info["status_differs"] = "%s for %s" % (first, case.get("status"))
        return ok, why, info

    def h1_reject(self, case, rs, closed, reqs):
        whole = [r for r in reqs if r.complete]
        heads = [r for r in reqs if r.head]
        if whole:
            return False, "a complete request reached the back-end: %r" % whole[0].line[:80]
        if heads and not case.get("streamed") and not case.get("incomplete"):
            return False, "a request head reached the back-end: %r" % heads[0].line[:80]
        st = rs[0].status if rs else None
        if st is None and rs and rs[0].kind == "garbage":
            # an h2 GOAWAY or a TLS alert is a rejection; HTTP/0.9 text is not
            if case["name"].startswith(("rl-pri", "tls-")) and closed:
                return True, ""
            if not rs[0].body.lstrip().startswith(b"<html") or not closed:
                return False, "answer is not HTTP: %r" % rs[0].body[:40]
            return True, ""
        if st is None:
            if case.get("incomplete"):
                return True, ""
            return (True, "") if closed else (False, "no answer and no close in %.1f s" % IDLE)
        if st in (502, 504):
            return False, "status %d: the fault of the client is blamed on the back-end" % st
        if st < 400:
            return False, "status %d" % st
        if not closed:
            return False, "status %d but the connection stays open" % st
        if any(r.status and r.status < 400 for r in rs):
            return False, "more answers after the rejection: %s" % [r.status for r in rs]
        return True, ""

    def h1_accept(self, case, rs, closed, reqs, up):
        n = case.get("n", 1)
        finals = [r for r in rs if r.status]
        if len(finals) < n:
            return False, "%d answers, %d wanted" % (len(finals), n)
        for r in finals[:n]:
            if not 200 <= r.status < 300:
                return False, "status %d" % r.status
            if not r.get(b"x-probe-backend"):
                return False, "answer does not come from the back-end"
            if not r.complete:
                return False, "answer is cut"
        if case.get("then") == "reject":
            if len(finals) > n and finals[n].status < 400:
                return False, "bytes after the request were answered %d" % finals[n].status
            if not closed:
                return False, "not closed after junk"
        elif len(finals) > n and finals[n].status < 400:
            return False, "%d answers, %d wanted" % (len(finals), n)
        whole = [r for r in reqs if r.complete]
        if len(whole) != n:
            return False, "back-end saw %d complete requests, %d wanted" % (len(whole), n)
        for r in reqs:
            if r.bad:
                return False, "malformed at the back-end: %s" % r.bad[0]
            if not r.complete:
                return False, "an extra, incomplete request at the back-end: %r" % r.raw[:60]
            if r.pipelined:
                return False, "bytes went up before the former answer (pipelined or tunnelled)"
        if case.get("upstream_must") and not re.search(case["upstream_must"].encode("latin-1"), up):
            return False, "upstream_must not met"
        if case.get("upstream_must_not") and re.search(case["upstream_must_not"].encode("latin-1"), up):
            return (
                False,
                "upstream_must_not matched %r"
                % re.search(case["upstream_must_not"].encode("latin-1"), up).group()[:60],
            )
        if case.get("proxy_sets") and not whole[0].get(case["proxy_sets"].encode()):
            return False, "back-end did not get %s" % case["proxy_sets"]
        if case.get("conn_close") and not closed:
            return False, "connection stays open"
        if case["name"] == "expect-http10" and rs[0].interim:
            return False, "100 sent to an HTTP/1.0 client"
        return True, ""

    # ---- broken answers
    async def resp(self, case, cid, hold=False):
        be = self.be
        raw = raw_of(case)
        be.script[cid] = {"answer": raw, "left": 3, "hold": hold}
        m = case["method"].encode()
        try:
            c = Conn(*await open_conn(self.target))
        except Exception as e:
            return False, "connect: %r" % e, {}
        try:
            await c.send(m + b" /r/%s HTTP/1.1\r\nHost: a.test\r\nX-Case-Id: %s\r\n\r\n" % (cid.encode(), cid.encode()))
            heads = [m == b"HEAD"]

            def got():
                rs, _ = parse_responses(c.data, c.closed, heads)
                return c.closed or any(r.complete for r in rs) or any(r.kind == "garbage" for r in rs)

            await c.until(got, 3 if len(raw or b"") > 50000 else IDLE)
            rs, interim = parse_responses(c.data, c.closed, heads)
            second = None
            if rs and rs[0].complete and not c.closed and case["expected"] == "accept":
                mark = len(rs)
                be.script[cid] = {}
                heads.append(False)
                await c.send(b"GET /after HTTP/1.1\r\nHost: a.test\r\nX-Case-Id: %s\r\n\r\n" % cid.encode())
                await c.until(
                    lambda: c.closed
                    or len([r for r in parse_responses(c.data, c.closed, heads)[0] if r.complete]) > mark,
                    IDLE,
                )
                rs2, _ = parse_responses(c.data, c.closed, heads)
                second = rs2[mark] if len(rs2) > mark else None
                rs = rs2[:mark] + rs2[mark + 1 :]
            elif rs and not rs[0].complete:
                await asyncio.sleep(0.15)
                rs, interim = parse_responses(c.data, c.closed, heads)
            closed = c.closed
            data = c.data
        finally:
            c.close()
        await asyncio.sleep(0.01)
        r = rs[0] if rs else None
        info = {
            "answers": [x.status or x.kind for x in rs],
            "closed": closed,
            "first": data[:200].decode("latin-1"),
            "second": second.status if second else None,
        }
        if case["expected"] == "reject":
            ok, why = self.resp_reject(case, r, closed, interim)
            if not ok and case["name"] in RESP_ALSO_OK:
                ok, why = self.resp_accept(case, r, second, data)
        else:
            ok, why = self.resp_accept(case, r, second, data)
            if not ok and case["name"] in RESP_ALSO_502 and r and r.status == 502:
                ok, why = True, ""
        return ok, why, info

    def resp_reject(self, case, r, closed, interim):
        if r is None:
            return (True, "") if closed else (False, "no answer, no close")
        if interim > 64 or r.interim > 64:
            return False, "%d interim answers passed on" % max(interim, r.interim)
        if r.status in (500, 502, 503, 504):
            return True, ""
        if r.status == 101:
            return False, "101 passed on"
        if r.status and not r.complete and closed:
            return True, ""
        if r.kind in ("cut-head",) and closed:
            return True, ""
        return False, "passed on as %s%s" % (
            r.status or r.kind,
            "" if r.complete else ", and the cut answer is not closed",
        )

    def resp_accept(self, case, r, second, data):
        if r is None or r.status is None:
            return False, "no answer"
        raw = raw_of(case)
        m = [x for x in re.findall(rb"(?m)^HTTP/1\.[01] (\d{3})", raw) if not x.startswith(b"1")]
        want = int(m[0]) if m else 200
        if r.status != want:
            return False, "status %s for %s" % (r.status, want)
        if not r.complete:
            return False, "answer is cut"
        body = RESP_BODY.get(case["name"], b"ok")
        if r.body != body:
            return False, "body %r" % r.body[:40]
        if b"POISON" in data:
            return False, "left-over bytes reached the client"
        if len(r.get(b"content-length")) > 1 or (r.get(b"content-length") and r.get(b"transfer-encoding")):
            return False, "ambiguous framing sent down"
        if case["name"] == "r-conn-hop" and r.get(b"x-hop"):
            return False, "field named in Connection passed on"
        if second is not None and (second.status != 200 or not second.body.startswith(b"probe-")):
            return False, "the next request on the connection got %s %r" % (second.status, second.body[:40])
        return True, ""

    # ---- HTTP/2
    async def h2(self, case, cid, addr, tls):
        raw = raw_of(case)
        try:
            c = Conn(*await open_conn(addr, tls))
        except Exception as e:
            return False, "connect: %r" % e, {}
        if tls and c.wr.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            c.close()
            return False, "ALPN did not give h2", {}
        fr = H2Frames()
        try:
            sender = asyncio.ensure_future(c.send(raw))

            def seen():
                fr.feed(c.data)
                if c.closed or fr.goaway is not None:
                    return True
                if case["expected"] in ("goaway", "any"):
                    return False
                if case["expected"] == "accept":
                    return bool(fr.ended or fr.rst)
                return bool(fr.rst or any(s >= 400 for s in fr.status.values()) or fr.ended)

            quiet, last = (0.5 if case["expected"] != "goaway" else IDLE), -1
            end = time.monotonic() + (6 if len(raw) > 100000 else 2.5)
            while time.monotonic() < end:
                if await c.until(seen, quiet):
                    break
                if len(c.data) == last and sender.done():
                    break
                last = len(c.data)
            sender.cancel()
            await asyncio.sleep(GRACE if case["expected"] == "accept" else 0.02)
            fr.feed(c.data)
            closed = c.closed
        finally:
            c.close()
        await asyncio.sleep(0.02)
        reqs = self.be.take(cid)
        whole = [r for r in reqs if r.complete]
        info = {
            "status": dict(list(fr.status.items())[:5]),
            "rst": dict(list(fr.rst.items())[:5]),
            "goaway": fr.goaway,
            "closed": closed,
            "upstream": len(reqs),
            "upstream_complete": len(whole),
            "upstream_bytes": b"".join(r.raw for r in reqs)[:300].decode("latin-1"),
        }
        exp = case["expected"]
        for r in whole:
            if r.bad and exp != "any":
                return False, "malformed at the back-end: %s" % r.bad[0], info
        if exp == "any":
            ok = await self.alive()
            return ok, "" if ok else "proxy does not serve afterwards", info
        if exp == "accept":
            if not any(200 <= s < 300 for s in fr.status.values()):
                return False, "no 2xx: %s rst %s goaway %s" % (fr.status, fr.rst, fr.goaway), info
            if len(whole) != 1:
                return False, "back-end saw %d requests" % len(whole), info
            if (
                case["name"] == "h2-scheme-https-on-h2c"
                and not tls
                and re.search(rb"(?im)^x-forwarded-proto: *https", whole[0].raw)
            ):
                return False, ":scheme was trusted for X-Forwarded-Proto", info
            return True, "", info
        if exp == "goaway":
            if fr.goaway is None and not closed:
                return False, "no GOAWAY and no close", info
            lim = 1 if len(raw) < 5000 else 400
            if len(whole) > lim:
                return False, "%d requests reached the back-end" % len(whole), info
            return True, "", info
        if whole:
            return False, "a complete request reached the back-end: %r" % whole[0].line[:80], info
        bad = [s for s in fr.status.values() if s < 400 or s in (502, 504)]
        if bad:
            return False, "status %s" % bad, info
        if fr.status or fr.rst or fr.goaway is not None or closed:
            return True, "", info
        return False, "no RST_STREAM, no error status, no GOAWAY", info

    async def alive(self):
        try:
            c = Conn(*await open_conn(self.target))
            await c.send(b"GET /alive HTTP/1.1\r\nHost: a.test\r\nX-Case-Id: alive\r\nConnection: close\r\n\r\n")
            await c.until(lambda: b"x-probe-backend" in c.data.lower() or c.closed, 2)
            ok = b"x-probe-backend" in c.data.lower()
            c.close()
            return ok
        except Exception:
            return False

    # ---- driving
    async def alone(self, name, coro_of):
        await asyncio.sleep(0.004)
        self.n += 1
        cid = "a%d" % self.n
        self.be.alone = cid
        t = time.monotonic()
        ok, why, info = await coro_of(cid)
        info["ms"] = round((time.monotonic() - t) * 1000)
        self.be.alone = None
        self.be.reqs.clear()
        return ok, why, info

    async def run(self, sets):
        a = self.a
        await self.be.start(a.backend_bind, a.backend_listen)
        for _ in range(20):
            if await self.alive():
                break
            await asyncio.sleep(0.25)
        else:
            print("the proxy does not serve GET http://a.test/alive from the back-end; nothing judged", file=sys.stderr)
            return 2
        self.be.reqs.clear()
        t0 = time.monotonic()
        h1 = sets["h1"]
        tagged, single = [], []
        for case in h1:
            self.n += 1
            raw = raw_of(case)
            t = (
                None
                if case.get("class") == "limits" or (case.get("n", 1) > 1 and b"/smuggled" not in raw)
                else tag(raw, self.n)
            )
            (tagged.append((case, "s%d" % self.n, t)) if t else single.append(case))
        slow = [x for x in tagged if x[0].get("incomplete")]
        tagged = slow + [x for x in tagged if not x[0].get("incomplete")]
        for i in range(0, len(tagged), 12):
            batch = tagged[i : i + 12]
            out = await asyncio.gather(*[self.h1(c, cid, t) for c, cid, t in batch])
            await asyncio.sleep(0.02)
            owners = {cid for _, cid, _ in batch}
            stray = [r for r in self.be.reqs if r.cid not in owners]
            self.be.reqs.clear()
            for (c, _, _), (ok, why, info) in zip(batch, out):
                if ok and not stray:
                    self.res[c["name"]] = (ok, why, info)
                else:
                    single.append(c)
        for c in single:
            self.res[c["name"]] = await self.alone(c["name"], lambda cid: self.h1(c, cid, raw_of(c)))
        t1 = time.monotonic()
        for c in sets["resp"]:
            r = await self.alone(c["name"], lambda cid: self.resp(c, cid))
            if r[0] and c["name"] in ("r-extra-bytes", "r-204-body", "r-head-body"):
                r = await self.alone(c["name"], lambda cid: self.resp(c, cid, hold=True))
            self.res[c["name"]] = r
        t2 = time.monotonic()
        if a.h2c_target or a.tls_target:
            tls = None
            if not a.h2c_target:
                tls = ssl.create_default_context()
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
                tls.set_alpn_protocols(["h2"])
            addr = a.h2c_target or a.tls_target
            for c in sets["h2"]:
                self.res[c["name"]] = await self.alone(c["name"], lambda cid: self.h2(c, cid, addr, tls))
        if not await self.alive():
            self.res["proxy-alive-at-the-end"] = (False, "the proxy does not serve any more", {})
        self.times = {"h1": t1 - t0, "resp": t2 - t1, "h2": time.monotonic() - t2}
        return 0


class H2Frames:
    """Just enough HTTP/2: frame walk, :status out of HPACK (digits of the Huffman code only)."""

    HUF = {
        "00000": "0",
        "00001": "1",
        "00010": "2",
        "011001": "3",
        "011010": "4",
        "011011": "5",
        "011100": "6",
        "011101": "7",
        "011110": "8",
        "011111": "9",
    }
    STATIC = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}

    def __init__(self):
        self.pos, self.status, self.rst, self.ended, self.goaway, self.dyn, self.block = 0, {}, {}, set(), None, [], b""

    def feed(self, data):
        while self.pos + 9 <= len(data):
            ln = int.from_bytes(data[self.pos : self.pos + 3], "big")
            ty, fl = data[self.pos + 3], data[self.pos + 4]
            sid = int.from_bytes(data[self.pos + 5 : self.pos + 9], "big") & 0x7FFFFFFF
            if self.pos + 9 + ln > len(data):
                break
            p = data[self.pos + 9 : self.pos + 9 + ln]
            self.pos += 9 + ln
            if ty == 1:
                if fl & 8:
                    p = p[1 : len(p) - p[0]]
                if fl & 32:
                    p = p[5:]
                self.block = p
                self.es = fl & 1
                if fl & 4:
                    self.headers(sid)
                if fl & 1:
                    self.ended.add(sid)
            elif ty == 9:
                self.block += p
                if fl & 4:
                    self.headers(sid)
            elif ty == 0 and fl & 1:
                self.ended.add(sid)
            elif ty == 3:
                self.rst[sid] = int.from_bytes(p[:4], "big")
            elif ty == 7:
                self.goaway = int.from_bytes(p[4:8], "big")

    @staticmethod
    def num(b, i, bits):
        m = (1 << bits) - 1
        v = b[i] & m
        i += 1
        if v < m:
            return v, i
        s = 0
        while i < len(b):
            v += (b[i] & 127) << s
            s += 7
            i += 1
            if not b[i - 1] & 128:
                break
        return v, i

    def text(self, b, i):
        huf = b[i] & 128
        n, i = self.num(b, i, 7)
        s = b[i : i + n]
        if huf:
            bits, out, cur = "".join("{:08b}".format(x) for x in s), "", ""
            for ch in bits:
                cur += ch
                if cur in self.HUF:
                    out += self.HUF[cur]
                    cur = ""
                elif len(cur) > 7:
                    break
            return out, i + n
        return s.decode("latin-1"), i + n

    def headers(self, sid):
        b, i = self.block, 0
        st = None
        try:
            while i < len(b):
                x = b[i]
                if x & 128:
                    k, i = self.num(b, i, 7)
                    v = self.STATIC.get(k)
                    if k >= 62 and k - 62 < len(self.dyn):
                        v = self.dyn[k - 62]
                    if v and st is None:
                        st = v
                elif x & 64 or not x & 32:
                    inc = x & 64
                    k, i = self.num(b, i, 6 if inc else 4)
                    if k == 0:
                        name, i = self.text(b, i)
                    val, i = self.text(b, i)
                    v = int(val) if 8 <= k <= 14 and val.isdigit() else None
                    if v and st is None:
                        st = v
                    if inc:
                        self.dyn.insert(0, v)
                else:
                    _, i = self.num(b, i, 5)
        except IndexError:
            pass
        if st and st >= 200 and sid not in self.status:
            self.status[sid] = st


def addr(s):
    h, p = s.rsplit(":", 1)
    return h.strip("[]"), int(p)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--target", type=addr, required=True)
    ap.add_argument("--h2c-target", type=addr)
    ap.add_argument("--tls-target", type=addr)
    ap.add_argument("--backend-listen", type=int, required=True)
    ap.add_argument("--backend-bind", default="0.0.0.0")
    ap.add_argument("--corpus", action="append")
    ap.add_argument("--only")
    ap.add_argument("--sections", default="h1,h2,resp")
    ap.add_argument("--json", nargs="?", const="-")
    ap.add_argument("-v", action="store_true")
    a = ap.parse_args()
    sets = {"h1": [], "h2": [], "resp": []}
    for d in a.corpus or [os.path.join(HERE, "..", "tests", "data")]:
        for k, f in (
            ("h1", "malformed-h1.yaml"),
            ("h2", "malformed-h2.yaml"),
            ("resp", "malformed-responses.yaml"),
            ("h1", "malformed-more-h1.yaml"),
            ("h2", "malformed-more-h2.yaml"),
            ("resp", "malformed-more-responses.yaml"),
        ):
            p = os.path.join(d, f)
            if os.path.exists(p) and k in a.sections.split(","):
                sets[k] += yaml.load(open(p, encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))[
                    "cases"
                ]
    decided = os.path.join(HERE, "..", "tests", "data", "malformed-decided.yaml")
    with open(decided, encoding="utf-8") as file:
        ours = {one["case"]: one["ours"] for one in yaml.safe_load(file)["decided"]}
    for case in sets["h1"] + sets["h2"] + sets["resp"]:
        case["expected"] = ours.get(case["name"], case["expected"])
    if a.only:
        sets = {k: [c for c in v if re.search(a.only, c["name"])] for k, v in sets.items()}
    j = Judge(a)
    t = time.monotonic()
    rc = asyncio.run(j.run(sets))
    if rc:
        return rc
    skipped = len(sets["h2"]) if not (a.h2c_target or a.tls_target) else 0
    bad = {k: v for k, v in j.res.items() if not v[0]}
    sec = {}
    for k in sets:
        names = [c["name"] for c in sets[k] if c["name"] in j.res]
        sec[k] = [sum(j.res[n][0] for n in names), sum(not j.res[n][0] for n in names)]
    if a.json != "-":
        for k, v in sorted(bad.items()):
            print("FAIL %s: %s" % (k, v[1]))
            if a.v:
                print("     %s" % json.dumps(v[2]))
        if skipped:
            print("%d h2 cases skipped (no --h2c-target or --tls-target)" % skipped)
        print(
            "h1 %d/%d  h2 %d/%d  responses %d/%d  in %.1f s"
            % (
                sec["h1"][0],
                sum(sec["h1"]),
                sec["h2"][0],
                sum(sec["h2"]),
                sec["resp"][0],
                sum(sec["resp"]),
                time.monotonic() - t,
            )
        )
        print("%d passed, %d failed" % (len(j.res) - len(bad), len(bad)))
    if a.json:
        doc = {
            "passed": len(j.res) - len(bad),
            "failed": len(bad),
            "skipped": skipped,
            "sections": sec,
            "seconds": {k: round(v, 2) for k, v in j.times.items()},
            "failing": sorted(bad),
            "cases": {k: {"ok": v[0], "why": v[1], **v[2]} for k, v in sorted(j.res.items())},
        }
        s = json.dumps(doc, indent=1)
        if a.json == "-":
            print(s)
        else:
            open(a.json, "w").write(s)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
