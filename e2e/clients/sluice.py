"""Starts the real binary on free ports of loopback, and reads what it kept."""

import os
import pathlib
import socket
import sqlite3
import subprocess
import tempfile
import threading

START_SECS = 60

CONFIG = """
[gateway]
# The tests ask far more often than a client does.
invoices_per_minute = 1000000
invoice_burst = 1000000
invoices_per_minute_per_client = 1000000
invoice_burst_per_client = 1000000
max_open_invoices = 1000000

[[service]]
name = "media"
protect = ["POST /largefile"]
price_sat = 10
capabilities = ["large_upload"]
max_upload_mb = {max_upload_mb}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Sluice:
    """`sluice up` in a folder of its own, with files of at most `max_upload_mb`."""

    def __init__(self, binary, max_upload_mb):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-clients-")
        path = pathlib.Path(self.folder.name)
        (path / "sluice.toml").write_text(CONFIG.format(max_upload_mb=max_upload_mb))
        self.data = path / "data"
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        self.gateway, self.admin, self.backend = (f"http://{address}" for address in addresses)
        self.host = addresses[0]
        self.log_path = path / "log"
        options = ["--config", str(path / "sluice.toml"), "--data", str(self.data)]
        for flag, address in zip(("--listen", "--admin-listen", "--backend-listen"), addresses):
            options += [flag, address]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "up", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                env={"PATH": os.environ["PATH"], "HOME": self.folder.name, "SLUICE_LOG": "info"},
            )
        ready = threading.Event()

        def read():
            for line in self.process.stdout:
                if line.strip() == "ready":
                    ready.set()

        threading.Thread(target=read, daemon=True).start()
        if not ready.wait(START_SECS):
            self.stop()
            raise SystemExit(f"sluice is not ready within {START_SECS} s:\n{self.log()}")

    def log(self):
        return self.log_path.read_text(errors="replace")

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
