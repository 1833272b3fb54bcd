#!/usr/bin/env python3
"""Two TLS scanners against the built binary: testssl.sh (Debian package) and sslyze (PyPI). `make tls-scan`.

usage: scanners.py --bin BIN

Every remark must be one that is explained here (and in docs/security.md); another one fails. A scanner that is not
there is said loudly and skipped; without any of them the end is 77. sslyze is taken from PATH, else from a virtual
environment below target/.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from attacks import FAULTS, Proxy

# Remarks of testssl.sh by their identifier, and why they stay.
KNOWN = {
    "cipher_order": "every cipher on offer is a good one; the client knows best which its machine is fast at",
    "cipher_order_TLSv1_2": "as cipher_order",
    "cipher_order_TLSv1_3": "as cipher_order",
    "cert_trust": "the certificate of this run is self-signed",
    "cert_chain_of_trust": "the certificate of this run is self-signed",
    "cert_extlifeSpan": "the certificate of this run is self-signed",
    "cert_crlDistributionPoints": "the certificate of this run is self-signed",
    "cert_ocspURL": "the certificate of this run is self-signed",
    "cert_revocation": "the certificate of this run is self-signed",
    "OCSP_stapling": "off by default, as with ingress-nginx: enable-ocsp",
    "DNS_CAArecord": "the name of this run is in no zone",
    "overall_grade": "of the self-signed certificate",
    "grade_cap_reason_1": "of the self-signed certificate",
    "HSTS_time": "ingress-nginx's default; keys hsts*",
    "banner_server": "there is none",
    "sessionresumption_ticket": "tickets are off by default, as with ingress-nginx: ssl-session-tickets",
    "security_headers": "they are the application's",
}
BAD = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN"}
ROOT = Path(__file__).resolve().parent.parent


class Answering(BaseHTTPRequestHandler):
    """A page, so that scanners have a head to look at."""

    def do_GET(self) -> None:  # noqa: N802 (its name is given)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def testssl(port: int, directory: str) -> list[str] | None:
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if not program:
        return None
    file = f"{directory}/testssl.json"
    # Its exit status counts remarks.
    subprocess.run(
        [program, "--quiet", "--color", "0", "--ip", "127.0.0.1", "--jsonfile", file, "--severity", "LOW", f"h.test:{port}"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=900, check=False,
    )
    remarks = json.loads(Path(file).read_text())
    said = []
    for remark in remarks:
        name, severity = remark["id"].split(" ")[0], remark["severity"]
        if severity in BAD:
            said.append(f"{name} ({severity}): {remark['finding']}")
            if name not in KNOWN:
                FAULTS.append(f"testssl.sh: {said[-1]}")
    return said


def sslyze(port: int, directory: str) -> list[str] | None:
    program = shutil.which("sslyze")
    place = ROOT / "target" / "sslyze"
    if not program:
        program = str(place / "bin" / "sslyze")
        if not Path(program).exists():
            made = subprocess.run([sys.executable, "-m", "venv", str(place)], capture_output=True, check=False)
            got = made.returncode == 0 and subprocess.run(
                [str(place / "bin" / "pip"), "install", "--quiet", "sslyze"], capture_output=True, check=False
            ).returncode == 0
            if not got:
                return None
    file = f"{directory}/sslyze.json"
    subprocess.run([program, "--json_out", file, "--sni", "h.test", f"127.0.0.1:{port}"], capture_output=True, timeout=600, check=False)
    result = json.loads(Path(file).read_text())["server_scan_results"][0]["scan_result"]

    def of(name: str) -> dict:
        return (result[name] or {}).get("result") or {}

    said = []
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        accepted = of(f"{version}_cipher_suites").get("accepted_cipher_suites")
        said += [f"{version} is accepted"] * bool(accepted)
    for version in ("tls_1_2", "tls_1_3"):
        suites = [one["cipher_suite"]["name"] for one in of(f"{version}_cipher_suites")["accepted_cipher_suites"]]
        said += [f"{version}: none accepted"] * (not suites)
        weak = [name for name in suites if not any(good in name for good in ("GCM", "CHACHA20", "CCM"))]
        said += [f"{version}: {name}" for name in weak]
    for scan, bad in {
        "heartbleed": "is_vulnerable_to_heartbleed", "openssl_ccs_injection": "is_vulnerable_to_ccs_injection",
        "tls_compression": "supports_compression",
    }.items():
        said += [scan] * bool(of(scan).get(bad))
    robot = str(of("robot").get("robot_result", ""))
    said += [f"ROBOT: {robot}"] * ("VULNERABLE_" in robot and not robot.startswith("NOT"))
    renegotiation = of("session_renegotiation")
    said += ["client-initiated renegotiation"] * bool(renegotiation.get("is_vulnerable_to_client_renegotiation_dos"))
    said += ["insecure renegotiation"] * (renegotiation.get("supports_secure_renegotiation") is False)
    FAULTS.extend(f"sslyze: {one}" for one in said)
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", required=True)
    arguments = parser.parse_args()
    backend = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=backend.serve_forever, daemon=True).start()
    proxy = Proxy(arguments.bin, backend.server_port, tls=True)
    ran = []
    with tempfile.TemporaryDirectory() as directory:
        for name, scan in (("testssl.sh", testssl), ("sslyze", sslyze)):
            said = scan(proxy.https, directory)
            if said is None:
                print(f"SKIPPED: there is no {name}", file=sys.stderr)
                continue
            for remark in said:
                print(f"{name}: {remark}")
            ran.append(f"{name}: {len(said)} remarks")
    proxy.stop()
    for fault in FAULTS:
        print(f"FAILED: {fault}", file=sys.stderr)
    print(f"{', '.join(ran) or 'nothing ran'}, {len(FAULTS)} not explained")
    return 1 if FAULTS else 0 if ran else 77


if __name__ == "__main__":
    sys.exit(main())
