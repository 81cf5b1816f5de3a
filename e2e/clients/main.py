"""Drives the running system with clients that others wrote, and prints what came of it. Started by `run`."""

import os
import pathlib
import signal
import sys
import tempfile
import traceback

import early
import paid
import programs
import sphinx
from browser import Browser
from results import FAILED, Results
from sluice import Sluice

BINARY = pathlib.Path(os.environ["SLUICE_BINARY"])
INSTALLED = pathlib.Path(os.environ["CLIENTS_INSTALLED"])
PARTS = sys.argv[1:] or ["paid", "browser", "sphinx", "programs", "early"]


def run(folder, shops, results):
    """Appends the servers that it starts to `shops`, for the caller to stop."""
    for max_upload_mb in (70, 1):
        shops.append(Sluice(BINARY, max_upload_mb))
    node_modules, examples = INSTALLED / "node/node_modules", BINARY.parent / "examples"
    clients = paid.Clients(*shops, folder, node_modules, sys.executable, examples)
    try:
        if "browser" in PARTS or "programs" in PARTS:
            clients.browser = Browser(node_modules)
        if "paid" in PARTS or "browser" in PARTS:
            paid.run(clients, results)
        if "sphinx" in PARTS:
            sphinx.run(clients, results)
        if "programs" in PARTS:
            programs.run(clients, BINARY, results)
        if "early" in PARTS:
            early.run(clients, results)
    finally:
        if clients.browser:
            clients.browser.stop()
    for shop in shops:
        paid.booked(shop, results)


def main():
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    results, shops = Results(), []
    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        try:
            run(pathlib.Path(folder), shops, results)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            results.record(paid.SYSTEM, "the run", "comes to its end", f"{type(error).__name__}: {error}")
        finally:
            for shop in shops:
                status = shop.stop()
                results.record(paid.SYSTEM, shop.name, "stops as told", None if status == 0 else f"exit {status}")
    results.print()
    return 1 if results.count(FAILED) else 0


if __name__ == "__main__":
    sys.exit(main())
