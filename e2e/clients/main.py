"""Drives the running system with clients that others wrote, and prints what came of it. Started by `run`."""

import os
import pathlib
import signal
import sys
import tempfile

import early
import paid
import sphinx
from browser import Browser
from results import Results
from sluice import Sluice

BINARY = os.environ["SLUICE_BINARY"]
INSTALLED = pathlib.Path(os.environ["CLIENTS_INSTALLED"])
PARTS = sys.argv[1:] or ["paid", "browser", "sphinx", "early"]


def main():
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    results = Results()
    shops, clients = [], None
    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        try:
            shops = [Sluice(BINARY, max_upload_mb=70), Sluice(BINARY, max_upload_mb=1)]
            clients = paid.Clients(*shops, pathlib.Path(folder), INSTALLED / "node/node_modules", sys.executable)
            if "browser" in PARTS:
                clients.browser = Browser(INSTALLED / "node/node_modules")
            if "paid" in PARTS or "browser" in PARTS:
                paid.run(clients, results)
            if "sphinx" in PARTS:
                sphinx.run(clients, results)
            if "early" in PARTS:
                early.run(clients, results)
        finally:
            if clients and clients.browser:
                clients.browser.stop()
            for shop in shops:
                status = shop.stop()
                results.record("The system", "sluice up", "stops as told", None if status == 0 else f"exit {status}")
    results.print()
    return 1 if results.count("FAILED") else 0


if __name__ == "__main__":
    sys.exit(main())
