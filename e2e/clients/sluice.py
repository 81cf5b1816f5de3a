"""Starts the real binary on free ports of loopback, and reads what it kept."""

import json
import os
import pathlib
import socket
import sqlite3
import subprocess
import tempfile
import threading

START_SECS = 60

CERTIFICATES = pathlib.Path(__file__).resolve().parents[2] / "gateway/testdata/tls"
HOST = "sluice.test"
CONFIG = """
[backend]
host = "{host}"

[gateway]
# The tests ask far more often than a client does.
invoices_per_minute = 1000000
invoice_burst = 1000000
invoices_per_minute_per_client = 1000000
invoice_burst_per_client = 1000000
max_open_invoices = 1000000
tls_listen = "{tls}"
tls_certificate = "{certificates}/one.cert"
tls_key = "{certificates}/one.key"

[[service]]
name = "media"
protect = ["POST /largefile"]
price_sat = 10
capabilities = ["large_upload"]
max_upload_mb = {max_upload_mb}
"""


def free_addresses(count):
    """Addresses of loopback that nobody listens at; the gateway takes no port 0."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    for listener in listeners:
        listener.close()
    return addresses


class Sluice:
    """`sluice up` in a folder of its own, with files of at most `max_upload_mb`."""

    def __init__(self, binary, max_upload_mb):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-clients-")
        path = pathlib.Path(self.folder.name)
        *addresses, tls = free_addresses(4)
        values = {"host": HOST, "max_upload_mb": max_upload_mb, "tls": tls, "certificates": CERTIFICATES}
        (path / "sluice.toml").write_text(CONFIG.format(**values))
        self.authority = CERTIFICATES / "ca_one.cert"
        self.name = f"sluice up, files of {max_upload_mb} MB"
        self.binary, self.data = binary, path / "data"
        self.host = HOST
        self.log_path = path / "log"
        options = ["--config", path / "sluice.toml", "--data", self.data]
        for flag, address in zip(("--listen", "--admin-listen", "--backend-listen"), addresses):
            options += [flag, address]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "up", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                env={"PATH": os.environ["PATH"], "HOME": self.folder.name, "SLUICE_LOG": "info"},
            )
        said, heard = {}, threading.Event()

        def read():
            for line in self.process.stdout:
                name, _, address = line.strip().partition(" ")
                said[name] = address.strip()
                if name == "ready":
                    heard.set()
            heard.set()

        threading.Thread(target=read, daemon=True).start()
        heard.wait(START_SECS)
        if "ready" not in said:
            self.stop()
            raise SystemExit(f"sluice is not ready within {START_SECS} s:\n{self.log()}")
        self.gateway, self.tls, self.admin = said["gateway"], said["tls"], said["admin"]

    def log(self):
        return self.log_path.read_text(errors="replace")

    def booked(self):
        """How many settled payments `sluice payments` lists."""
        command = [self.binary, "payments", "--data", self.data, "--format", "json"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=START_SECS).stdout
        return sum(1 for payment in json.loads(listed) if payment["settled_at"])

    def payments(self):
        """How many payments the embedded wallet has made."""
        ledger = sqlite3.connect(f"file:{self.data}/gateway.db?mode=ro", uri=True)
        try:
            return ledger.execute("SELECT count(*) FROM test_wallet_payments").fetchone()[0]
        finally:
            ledger.close()

    def stop(self):
        """Ends it, by its process id; gives its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
