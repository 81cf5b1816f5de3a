"""The programs that docs/CLIENTS.md shows: each is in the folder `programs`, and uploads and pays for real."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import urllib.parse

from sphinx import encode

TABLE = "The programs of docs/CLIENTS.md"
HERE = pathlib.Path(__file__).parent
DOC = HERE.parent.parent / "docs/CLIENTS.md"
FILE_BYTES = 3_000_000
TIMEOUT_SECS = 90


def run(clients, binary, results):
    shown = re.findall(r"^```\w+\n(.*?)^```$", DOC.read_text(), re.DOTALL | re.MULTILINE)
    # Node looks for packages beside the program, and above.
    folder = clients.folder / "programs"
    folder.mkdir()
    tools = clients.folder / "bin"
    tools.mkdir()
    (tools / "sluice").symlink_to(binary)
    start = {
        "curl.sh": lambda file: command(clients, tools, "bash", folder / "curl.sh", file),
        "browser.html": lambda file: in_browser(clients, folder / "browser.html", file),
        "node.mjs": lambda file: command(clients, tools, "node", folder / "node.mjs", file),
        "python.py": lambda file: command(clients, tools, clients.python, folder / "python.py", file),
        "rust.rs": lambda file: command(clients, tools, clients.examples / "upload_and_pay", file),
        "cli.sh": lambda file: command(clients, tools, "bash", folder / "cli.sh", file),
    }
    for path in sorted((HERE / "programs").iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
        is_shown = path.read_text() in shown
        results.record(TABLE, path.name, "shown as it is", None if is_shown else f"{DOC.name} has another text")
        file = clients.file(FILE_BYTES)
        muid = encode(hashlib.blake2b(file.read_bytes(), digest_size=32).digest())
        before = clients.shop.payments()
        try:
            stored = json.loads(start[path.name](file))
            same = (stored["muid"], stored["size"]) == (muid, FILE_BYTES)
            problem = None if same else f"stored {stored}, not {muid}"
        except (RuntimeError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
            problem = f"{type(error).__name__}: {error}"
        made = clients.shop.payments() - before
        results.record(TABLE, path.name, "402, pays, 200, same", problem)
        results.record(TABLE, path.name, "pays once", None if made == 1 else f"{made} payments")


def command(clients, tools, *words):
    """Runs a program as the doc says, with `sluice` in the path; gives what it printed."""
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}", "SLUICE_SERVER": clients.shop.gateway,
        "SLUICE_ADMIN": clients.shop.admin, "SLUICE_STATE": str(clients.folder / "state"),
    }
    done = subprocess.run(
        words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_SECS
    )
    if done.returncode != 0:
        raise RuntimeError(f"it ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def in_browser(clients, page, file):
    """Opens the page in Chromium with a wallet in it, and chooses the file as a user would."""
    browser = clients.browser
    # Runs while the page is read, so before the page's own module.
    browser.pages["/program.html"] = page.read_bytes() + b'<script src="/user.js"></script>\n'
    browser.job = {"file": str(file), "pay": f"{clients.shop.admin}/wallet/pay"}
    browser.open("/program.html?" + urllib.parse.urlencode({"server": clients.shop.gateway}))
    return browser.outcome(TIMEOUT_SECS)
