#!/usr/bin/env python3
"""What the comparison must notice: failed requests, strangers on a port, foreign load, proxies that end. No proxy and no
client is needed; CI runs it (step `guards`).
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import beside
import compare
import crowd
import goals
import guard
import load
import machine
import peers
import profile_of
import report
import report_scale
import scene
import valgrind

WRK = """  {count} requests in 1.00s, 1.00MB read
{errors}Requests/sec:  {count}.00
"""
H2LOAD = """TLS Protocol: TLSv1.3
Cipher: TLS_AES_256_GCM_SHA384
Application protocol: {protocol}

finished in 1.00s, 90.00 req/s, 1KB/s
requests: 100 total, 95 started, 95 done, 90 succeeded, 5 failed, 5 errored, 0 timeout
status codes: 90 2xx, 0 3xx, 0 4xx, 5 5xx
"""


def rounds(cpu, failures=0, foreign=0.0, requests=100_000):
    return [{"cpu": each, "user": each / 2, "system": each / 2, "requests": requests, "rate": 1.0, "failures": failures,
             "pss_kib": 1024, "load": 1.0, "foreign": foreign} for each in cpu]


def run(**scenarios):
    return {"date": "2000-01-01", "machine": "1 × machine, and more", "rounds": 2, "seconds": 1, "versions": {"nginx": "1", "narthex": "2"},
            "missing": [("envoy", "not installed")], "scenarios": scenarios, "failed": {}}


def verdict(own, base, name="S1"):
    return next(goals.ratios(run(**{name: {"nginx": base, "narthex": own}}), {}))[2]


class Clients(unittest.TestCase):
    def test_an_answer_of_another_status_is_a_failure_and_no_request(self):
        answered, rate, failures = load.told_by_wrk(WRK.format(count=100, errors="  Non-2xx or 3xx responses: 40\n"))
        self.assertEqual((answered, rate, failures), (60, 60.0, 40))

    def test_an_error_of_a_socket_is_a_failure(self):
        errors = "  Socket errors: connect 1, read 2, write 3, timeout 4\n"
        self.assertEqual(load.told_by_wrk(WRK.format(count=100, errors=errors))[2], 10)

    def test_a_client_that_says_nothing_is_an_error(self):
        for read in (load.told_by_wrk, lambda out: load.told_by_h2load(out, "h2", None)):
            with self.assertRaises(load.Load):
                read("")

    def test_what_was_asked_for_and_never_sent_is_a_failure(self):
        self.assertEqual(load.told_by_h2load(H2LOAD.format(protocol="h2"), "h2", 200), (90, 90.0, 110))
        self.assertEqual(load.told_by_h2load(H2LOAD.format(protocol="h2"), "h2", None), (90, 90.0, 10))

    def test_another_protocol_than_was_to_be_measured_is_an_error(self):
        with self.assertRaises(load.Load):
            load.told_by_h2load(H2LOAD.format(protocol="http/1.1"), "h2", None)

    def test_a_client_that_never_ends_is_ended(self):
        began = time.monotonic()
        with self.assertRaises(load.Load):
            load.run(["sleep", "1000"], -5.9)
        self.assertLess(time.monotonic() - began, 100)


class Machine(unittest.TestCase):
    def test_a_stranger_on_the_same_port_is_seen(self):
        with socket.socket() as own, socket.socket() as double:
            for one in (own, double):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            own.bind(("127.0.0.1", 0))
            port = own.getsockname()[1]
            self.assertIn("nobody", machine.sole_listener(port, [os.getpid()]))
            own.listen()
            self.assertIsNone(machine.sole_listener(port, [os.getpid()]))
            # Somebody left over from another run.
            double.bind(("127.0.0.1", port))
            double.listen()
            os.set_inheritable(double.fileno(), True)
            left = subprocess.Popen(["sleep", "100"], close_fds=False)
            double.close()
            try:
                self.assertIn("somebody else", machine.sole_listener(port, [os.getpid()]))
                self.assertIsNone(machine.sole_listener(port, [os.getpid(), left.pid]))
            finally:
                left.kill()
                left.wait()

    @unittest.skipUnless(machine.bound(), "setpriv is not installed")
    def test_what_was_started_does_not_outlive_a_program_that_is_killed(self):
        words = f"import subprocess, time; print(subprocess.Popen({machine.bound() + ['sleep', '100']!r}).pid, flush=True); time.sleep(100)"
        parent = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True)
        child = int(parent.stdout.readline())
        self.await_words(child, "sleep")
        parent.kill()
        parent.wait()
        self.await_words(child, None)
        parent.stdout.close()

    def await_words(self, pid, wanted):
        """Waits until a process is that program, or none that runs."""
        for _ in range(1000):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    text = file.read()
                name = None if text[text.rindex(")") + 2] == "Z" else text[text.index("(") + 1:text.rindex(")")]
            except OSError:
                name = None
            if name == wanted:
                return
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        self.fail(f"{pid} is {name}, not {wanted}")

    def test_own_work_is_not_foreign(self):
        before = machine.own_seconds()
        subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
        self.assertGreater(machine.own_seconds(), before, "also of what has ended")

    def test_counts_of_perf_are_read_and_what_was_not_counted_is_absent(self):
        text = "1234,,instructions:u,100,100.00,,\n<not supported>,,instructions:k,0,100.00,,\n99,,cycles,100,100.00,,\n"
        self.assertEqual(machine.Instructions.read(text), {"instructions:u": 1234, "cycles": 99})

    def test_who_missed_the_first_signal_ends_by_the_second_and_in_order(self):
        once_deaf = """import signal, sys
signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)))
print(flush=True)
while True: signal.pause()"""
        process = subprocess.Popen([sys.executable, "-c", once_deaf], stdout=subprocess.PIPE, start_new_session=True)
        with process.stdout:
            process.stdout.readline()
            peers.end(process, 2)
        self.assertEqual(process.returncode, 7)


class Verdicts(unittest.TestCase):
    def test_the_least_of_the_rounds_is_judged_as_it_is_shown(self):
        self.assertEqual(verdict(rounds([1.004, 3]), rounds([1, 1])), "met")
        self.assertEqual(verdict(rounds([1.02, 3]), rounds([1, 1])), "**missed**")

    def test_foreign_load_has_no_verdict(self):
        self.assertIn("others used 0.50", verdict(rounds([0.5], foreign=0.5), rounds([1], foreign=0.5)))
        self.assertEqual(verdict(rounds([0.5], foreign=0.1), rounds([1], foreign=0.1)), "met")

    def test_what_holds_on_a_busy_machine_too_is_said_instead(self):
        data = run(S1={"nginx": rounds([1], foreign=1.0), "narthex": rounds([0.5], foreign=1.0)})
        counted = {"counted": {"S1": {"nginx": 100, "narthex": 80}}}
        self.assertIn("user instructions 0.80", next(goals.ratios(data, counted))[2])

    def test_failed_requests_have_no_verdict(self):
        self.assertIn("requests failed", verdict(rounds([0.5], failures=1000), rounds([1])))

    def test_a_proxy_that_failed_keeps_its_goal_in_the_table(self):
        data = {**run(S1={"nginx": rounds([1])}), "failed": {"S1": {"narthex": "did not start"}}}
        self.assertIn("did not start", next(goals.ratios(data, {}))[2])

    def test_what_the_client_does_to_p99_by_itself_is_not_laid_to_the_proxy(self):
        def verdicts(nobody, scrape):
            p99s = {"nothing": 1.0, "nobody": nobody, "compile": 1.0, "scrape": scrape, "explain": 1.0}
            jobs = {job: {"ratio": dict.fromkeys(("median", "least", "most"), p99)} for job, p99 in p99s.items()}
            told = {told for goal, _, told in goals.beside({"control": {"shared": jobs, "apart": jobs}}) if "`scrape`" in goal}
            self.assertEqual(len(told), 1)
            return told.pop()
        self.assertEqual(verdicts(1.0, 1.0), "met")
        self.assertEqual(verdicts(1.1, 1.5), "**missed**")
        self.assertEqual(verdicts(1.2, 1.5), "not judged: 1.20 without the proxy's part in it")
        self.assertEqual(verdicts(0.5, 0.2), "not judged: 0.50 without the proxy's part in it")

    def test_what_is_measured_beside_something_is_compared_round_by_round(self):
        def one(own, base):
            rest = {"p50": 0.1, "p999": 9, "max": 9, "failures": 0, "asked": 1500, "rate": 1500, "waited": 1}
            return {**rest, "p99": own, "tables": 1, "base": {**rest, "p99": base}}
        told = beside.compared([one(1, 2), one(10, 10), one(6, 3)])
        self.assertEqual(told["ratio"], {"median": 1, "least": 0.5, "most": 2})
        self.assertEqual((told["base"]["p99"]["best"], told["p99"]["median"], told["tables"]), (2, 6, 3))
        whole = {"routes": 5, "scrape_mib": 1, "apart": {"nothing": told}}
        self.assertIn("| 1.00 (0.50 to 2.00) |", "\n".join(report_scale.control(whole)))

    def test_nobody_is_hidden_who_was_not_measured(self):
        data = {**run(S3={"nginx": rounds([1]), "narthex": rounds([0.5])}), "failed": {"S3": {"haproxy": "ended"}}}
        text = report.markdown(data)
        for line in ("* envoy: not installed", "* S3, haproxy: ended"):
            self.assertIn(line, text)

    def test_a_missed_goal_names_its_profile_or_that_there_is_none(self):
        data = run(S2={"nginx": rounds([1]), "narthex": rounds([2])}, S3={"nginx": rounds([1]), "narthex": rounds([2])})
        text = "\n".join(goals.table(data, {}, {}, {"S2": {"title": "S2: TLS 1.3, 200 B"}}, "performance/profile.md"))
        self.assertIn("([profile](performance/profile.md#s2-tls-13-200-b))", text)
        self.assertIn("**missed**, no profile", text)

    def test_every_goal_that_may_be_missed_has_a_subject_of_the_profile(self):
        self.assertLessEqual(set(goals.EXPLAINED.values()), set(profile_of.SUBJECTS))

    def test_a_bar_that_is_cut_off_shows_it(self):
        drawn = report.plot(run(S1={"nginx": rounds([1]), "narthex": rounds([5.0])}))
        self.assertIn("<path", drawn)
        self.assertIn(">5.00<", drawn)
        self.assertNotIn("<path", report.plot(run(S1={"nginx": rounds([1]), "narthex": rounds([2.0])})))


class Guard(unittest.TestCase):
    STORED = {name: {"instructions": 1, "ratio": 0.8, "calls": 4.0} for name in guard.SCENARIOS}

    def check(self, expect, **figures):
        now = {name: {**self.STORED[name]} for name in guard.SCENARIOS}
        now["S1"].update(figures)
        self.assertEqual(len(guard.worse(now, self.STORED)), expect)

    def test_a_clear_regression_fails_and_noise_does_not(self):
        self.check(0)
        self.check(0, ratio=0.8 * 1.02, calls=4.0 * 1.09)
        self.check(1, ratio=0.8 * 1.04)
        self.check(1, calls=5.0)

    def test_less_is_no_regression_and_no_figure_is_one(self):
        self.check(0, ratio=0.4)
        self.check(1, ratio=float("nan"))


class Proxy:
    """Takes the place of a proxy."""

    def __init__(self, name):
        self.name, self.stopped = name, False

    def stop(self):
        self.stopped = True


class Parts(unittest.TestCase):
    def test_one_that_fails_is_named_and_spares_the_others(self):
        one, other, failed, seen = Proxy("one"), Proxy("other"), {}, []
        left = compare.Left([one, other], failed)

        def work(proxy):
            if proxy is one:
                raise load.Load("no request was answered")
            seen.append(proxy.name)

        stderr, sys.stderr = sys.stderr, open(os.devnull, "w")
        try:
            left.each(work)
        finally:
            sys.stderr.close()
            sys.stderr = stderr
        self.assertEqual((seen, failed, one.stopped), (["other"], {"one": "no request was answered"}, True))
        self.assertEqual(left.started, [other])

    def test_an_answer_counts_when_it_has_come_whole(self):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
        self.assertIsNone(crowd.answer_in(head[:-1]))
        self.assertIsNone(crowd.answer_in(head + b"ab"))
        self.assertEqual(crowd.answer_in(head + b"abc"), 200)

    def test_work_that_stops_in_between_is_told(self):
        def work(_):
            raise KeyError("a fault")

        with self.assertRaises(RuntimeError), scene.Busy(work) as busy:
            busy.thread.join()

    def test_all_rounds_are_kept_beside_what_is_made_of_them(self):
        made = scene.fold([{"p99": 1.0, "failures": 1}, {"p99": 3.0, "failures": 2}])
        self.assertEqual((made["p99"], made["failures"], len(made["rounds"])), ({"best": 1.0, "median": 2.0}, 3, 2))


SCRIPT = """worker/0
\tffffffff81 tcp_sendmsg ([kernel.kallsyms])
\tffffffff82 __x64_sys_sendto ([kernel.kallsyms])
\t    7f0000 __send (/lib/libc.so.6)

worker/0
\t    550000 narthex::wire::head::parse (/opt/narthex)

control
\t    550001 <narthex::compile::Table as core::clone::Clone>::clone (/opt/narthex)
"""


class Profiles(unittest.TestCase):
    def test_samples_are_told_by_phase(self):
        told = profile_of.told(profile_of.samples(SCRIPT))
        self.assertEqual(told["samples"], 3)
        self.assertEqual(set(told["phases"]), {"kernel: send", "user: narthex::wire", "user: narthex::compile"})

    def test_samples_are_told_by_thread_where_that_is_asked(self):
        told = profile_of.told(profile_of.samples(SCRIPT), by_thread=True)
        self.assertIn("control, user: narthex::compile", told["phases"])
        self.assertIn("worker, kernel: send", told["phases"])

    def test_the_account_of_a_subject_names_each_phase(self):
        shares = profile_of.told(profile_of.samples(SCRIPT))
        about = {"date": "2000-01-01", "machine": "one", "foreign": 0.0, "binary": "0"}
        text = "\n".join(profile_of.subject("S1", "request", {"about": about, "columns": {"narthex": {"each": 30.0, **shares}}}))
        self.assertIn("| kernel: send | 10.00 |", text)

    def test_instructions_of_callgrind_are_told_by_function(self):
        text = "1,000 (100.0%)  PROGRAM TOTALS\n\n  600 (60.00%)  /a/b.rs:core::one [/x/narthex]\n  400 (40.00%)  ???:memcpy [/lib/libc.so.6]\n"
        self.assertEqual(profile_of.by_function(text), [(60.0, "core::one"), (40.0, "memcpy")])


class Instructions(unittest.TestCase):
    def test_a_process_that_served_nothing_has_no_count(self):
        self.assertEqual(valgrind.for_each(1_000_000, 61_000_000, 2000), 30_000)
        with self.assertRaisesRegex(RuntimeError, "another process"):
            valgrind.for_each(1_000_000, 1_002_000, 2000)


class StoredProfile(unittest.TestCase):
    """`deploy/profile/rustc`, with a compiler that only says what it is told."""

    OPTIMISED = ("--crate-name", "narthex", "-C", "opt-level=3")

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(suffix=" of two words"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.here, self.lock = self.folder / "deploy" / "profile", self.folder / "Cargo.lock"
        shutil.copytree(Path(__file__).parents[2] / "deploy" / "profile", self.here)
        self.lock.write_text("one")
        self.compiler = self.folder / "compiler"
        self.compiler.write_text("""#!/bin/bash
            if [[ $1 == -vV ]]; then printf 'release: 1\nhost: a\nLLVM version: 2\n'; else printf '%s\n' "$@"; fi""")
        self.compiler.chmod(0o755)
        made = subprocess.run([self.here / "fits", self.compiler], capture_output=True, text=True, check=True).stdout
        (self.here / "made").write_text(made)

    def told(self, *words, **environment):
        """What the compiler was told beyond these words, and what was said."""
        command = [self.here / "rustc", self.compiler, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
        given = done.stdout.splitlines()
        self.assertEqual(given[: len(words)], list(words))
        return given[len(words):], done.stderr

    def test_what_is_optimised_takes_the_profile(self):
        told, said = self.told(*self.OPTIMISED)
        self.assertEqual(told[0], f"-Cprofile-use={self.here}/narthex.profdata")
        self.assertEqual(said, "")

    def test_debug_builds_and_build_scripts_pass_as_they_are(self):
        for words in (("-",), ("--crate-name", "narthex"), ("-C", "opt-level=0", "an argument")):
            self.assertEqual(self.told(*words), ([], ""))

    def test_a_profile_of_something_else_is_not_used_and_that_is_said_once(self):
        self.lock.write_text("another")
        told, said = self.told(*self.OPTIMISED)
        self.assertEqual(told, [])
        self.assertIn("here:   Cargo.lock: ", said)
        self.assertNotIn("release", said)
        self.assertEqual(self.told("--crate-name", "tokio", "-C", "opt-level=3"), ([], ""))

    def test_where_a_target_is_named_it_is_not_used_and_that_is_said(self):
        told, said = self.told(*self.OPTIMISED, "--target", "b")
        self.assertEqual(told, [])
        self.assertIn("--target b", said)

    def test_a_build_with_counters_takes_none(self):
        self.lock.write_text("another")
        self.assertEqual(self.told(*self.OPTIMISED, NARTHEX_PROFILE_INTO="/there"), (["-Cprofile-generate=/there"], ""))


if __name__ == "__main__":
    unittest.main()
