"""Clients that others wrote upload, pay and download: who pays when, counted by the wallet."""

import filecmp
import json
import os
import pathlib
import subprocess
import time

TABLE = "Paid uploads with other people's clients"
MIB = 1 << 20
SYSTEM = "The system itself"
TIMEOUT_SECS = 90
BOOKED_WITHIN_SECS = 30
HERE = pathlib.Path(__file__).parent

# Name, adapter, and what the job says besides.
CLIENTS = [
    ("curl, HTTP/1.1", "curl.py", {"options": ["--http1.1"]}),
    ("curl, h2c", "curl.py", {"options": ["--http2-prior-knowledge"]}),
    ("npm lsat-js 2.0.6", "lsat-js.mjs", {}),
    ("npm lightning-tools 9.0.1", "lightning-tools-9.mjs", {}),
    ("npm lightning-tools 6.1.0", "lightning-tools-6.mjs", {}),
    ("PyPI l402 0.0.9, requests", "pypi-l402.py", {}),
    ("PyPI l402 0.0.9, httpx", "pypi-l402-async.py", {}),
    ("PyPI l402-requests 0.9.0", "l402-requests.py", {}),
    ("PyPI l402kit 1.10.1", "pypi-l402kit.py", {}),
]
# What they say in adapters/page.mjs.
IN_BROWSER = [
    ("Chromium, fetch", "browser:fetch", {}),
    ("Chromium, lightning-tools 9.0.1", "browser:lightning-tools 9", {}),
    ("Chromium, lightning-tools 6.1.0", "browser:lightning-tools 6", {}),
]


class Clients:
    """Runs adapters. `node_modules` is where npm put its packages, `python` the interpreter with PyPI's, `examples`
    where cargo put the programs in Rust."""

    def __init__(self, shop, small_shop, folder, node_modules, python, examples):
        self.shop, self.small_shop, self.folder, self.python = shop, small_shop, folder, python
        self.examples = examples
        self.browser = None
        # Node looks for packages beside the program, and above.
        self.adapters = folder / "adapters"
        self.adapters.mkdir()
        for adapter in (HERE / "adapters").iterdir():
            if adapter.is_file():
                (self.adapters / adapter.name).write_bytes(adapter.read_bytes())
        (folder / "node_modules").symlink_to(node_modules)
        self.files = 0

    def file(self, size):
        """A new file with content that no other has."""
        self.files += 1
        path = self.folder / f"file-{self.files}"
        path.write_bytes(os.urandom(size))
        return path

    def run(self, adapter, job, timeout=TIMEOUT_SECS):
        """Gives what the adapter printed, or raises with why it did not."""
        if adapter.startswith("browser:"):
            return self.browser.run(adapter.removeprefix("browser:"), job, timeout)
        starters = {".mjs": ["node", self.adapters / adapter], ".py": [self.python, self.adapters / adapter]}
        command = starters.get(pathlib.Path(adapter).suffix, [self.examples / adapter])
        # Node reads it from nowhere else.
        environment = os.environ | {"NODE_EXTRA_CA_CERTS": str(self.shop.authority)}
        done = subprocess.run(
            [*command, json.dumps(job)], capture_output=True, text=True, timeout=timeout, env=environment
        )
        if done.returncode != 0:
            words = done.stderr.strip().splitlines() or ["no word"]
            named = [line for line in words if "Error" in line or "Exception" in line]
            raise RuntimeError(f"{adapter} ended with {done.returncode}: {(named or words)[-1][:300]}")
        return done.stdout

    def narrowed(self, token, *caveats):
        """The token with more caveats, by the npm package macaroon."""
        return self.run("js-macaroon.mjs", {"token": token, "caveats": caveats}).strip()

    def upload(self, adapter, options, size, token=None, shop=None, status=200, code=None, paid=0):
        """Uploads a file of `size`; gives (problem or None, the token that the client holds then)."""
        shop = shop or self.shop
        file = self.file(size)
        copy = file.with_suffix(".copy")
        job = {
            "gateway": shop.gateway, "pay": f"{shop.admin}/wallet/pay", "token": token, "file": str(file),
            "copy": str(copy), **options,
        }
        before = shop.payments()
        try:
            outcome = json.loads(self.run(adapter, job))
        except (RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
            return f"{error} ({shop.payments() - before} paid)", None
        made = shop.payments() - before
        problem = None
        if outcome["status"] != status:
            problem = f"answer {outcome['status']} {outcome['body'][:200]!r}, expected {status}"
        elif code and json.loads(outcome["body"])["code"] != code:
            problem = f"answer {outcome['body'][:200]!r}, expected {code}"
        elif status == 200 and not (copy.exists() and filecmp.cmp(file, copy, shallow=False)):
            problem = "what was downloaded is not what was sent"
        if made != paid:
            problem = f"{made} payments, expected {paid}; {problem or 'else right'}"
        for path in (file, copy):
            path.unlink(missing_ok=True)
        return problem, outcome.get("token")


def forged(token):
    """The token with another last bit in its signature."""
    macaroon, preimage = token.split(":")
    place = -4 if macaroon.endswith("=") else -3
    letter = "A" if macaroon[place] != "A" else "B"
    return f"{macaroon[:place]}{letter}{macaroon[place:][1:]}:{preimage}"


def run(clients, results):
    tokens = {}
    tried = CLIENTS + (IN_BROWSER if clients.browser else [])
    for name, adapter, options in tried:
        problem, token = clients.upload(adapter, options, 300_000, paid=1)
        results.record(TABLE, name, "402, pays, 200, same", problem)
        tokens[name] = token
    names = [name for name, _, _ in tried]
    for at, (name, adapter, options) in enumerate(tried):
        def case(case, *arguments, **keywords):
            problem, token = clients.upload(adapter, options, *arguments, **keywords)
            results.record(TABLE, name, case, problem)
            return token

        # Of the client before it in the table; the first uses the last one's.
        others = tokens[names[at - 1]]
        if others is None or tokens[name] is None:
            results.record(TABLE, name, "all else", "there is no token to go on with")
            continue
        case("another's token", 300_000, token=others)
        case("too large, paid", 3 * MIB, token=clients.narrowed(tokens[name], "large_upload_max_mb=1"), status=413,
             code="too_large")
        case("too large, unpaid", 3 * MIB, shop=clients.small_shop, status=413, code="too_large")
        case("expired, pays once", 300_000, token=clients.narrowed(tokens[name], "media_valid_until=1"), paid=1)
        case("forged: 401", 300_000, token=forged(tokens[name]), status=401, code="forged_token")
        case("64 MiB", 64 * MIB, paid=1)
    narrowing(clients, results, tokens[names[0]])
    sends_nothing(clients, results)


def narrowing(clients, results, token):
    """A token that npm's macaroon narrows buys less; one that it widens buys nothing."""
    adapter, options = "curl.py", {"options": []}
    name = "npm macaroon 3.0.4"
    table = "Tokens that a client makes narrower"
    narrower = clients.narrowed(token, "large_upload_max_mb=2", "media_capabilities=large_upload")
    problem, _ = clients.upload(adapter, options, MIB, token=narrower)
    results.record(table, name, "narrowed: 200", problem)
    problem, _ = clients.upload(adapter, options, 3 * MIB, token=narrower, status=413, code="too_large")
    results.record(table, name, "too large, paid", problem)
    try:
        problem = None
        clients.run("js-macaroon.mjs", {"token": token, "caveats": ["large_upload_max_mb=2"], "binary": True})
    except RuntimeError as error:
        problem = str(error)
    reason = "its buffer doubles with every field, so it cannot write a token of more than three caveats"
    results.record(table, name, "exportBinary", problem, ("Invalid typed array length", reason))
    for caveat in ("large_upload_max_mb=3", "services=media:0,other:0", "media_valid_until=99999999999"):
        wider = clients.narrowed(narrower, caveat)
        problem, _ = clients.upload(adapter, options, 1000, token=wider, status=401, code="widened_caveat")
        results.record(table, name, f"{caveat.split('=')[0]} widened: 401", problem)


def sends_nothing(clients, results):
    """What PyPI l402 sends after it paid, when it was given an open file: a form without the file's bytes."""
    reason = "sends the open file again without rewinding it: an empty file, which uses up nothing of what was paid for"
    problem, token = clients.upload("pypi-l402.py", {"file_object": True}, 300_000, paid=1)
    name = "PyPI l402 0.0.9, open file"
    results.record(TABLE, name, "402, pays, 200, same", problem, ("empty_file", reason))
    if token:
        problem, _ = clients.upload("pypi-l402.py", {}, 300_000, token=token)
        results.record(TABLE, name, "the token still buys", problem)


def booked(shop, results):
    """The ledger, which keeps up with the wallet, ends with every payment in it."""
    made, until = shop.payments(), time.monotonic() + BOOKED_WITHIN_SECS
    while (listed := shop.booked()) != made and time.monotonic() < until:
        time.sleep(0.2)
    problem = None if listed == made else f"{made} payments, {listed} of them listed"
    results.record(SYSTEM, shop.name, "`sluice payments` has all", problem)
