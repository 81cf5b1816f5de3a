"""Answers that come before the body is read: every client must see them, and no broken connection instead."""

import json
import os
import subprocess
import time

import paid

MIB = 1 << 20
SIZES = [("1 B", 1), ("1 MiB", MIB), ("8 MiB", 8 * MIB), ("64 MiB", 64 * MIB)]
# Of tokens for 1 MB: what is smaller would be stored.
TOO_LARGE = [("3 MiB", 3 * MIB), ("8 MiB", 8 * MIB), ("64 MiB", 64 * MIB)]
# How often one of them may send what is not stored before it is 429: until it is cut 2 MiB come each time, and over HTTP/2
# some more.
TIMES_A_TOKEN = 2
REPEAT = int(os.environ.get("CLIENTS_REPEAT", "20"))
# Only clients with this in their name.
ONLY = os.environ.get("CLIENTS_ONLY", "")
TIMEOUT_SECS = 240

NODE, PYTHON, RUST = "early-node.mjs", "early-python.py", "early_reqwest"
# Client as the table names it, the program and its name there, whether it can send Expect, and with which framing.
LENGTH, NO_LENGTH = True, False
CLIENTS = [
    ("curl, HTTP/1.1", PYTHON, "curl", [False, True], [LENGTH, NO_LENGTH]),
    ("curl, h2c", PYTHON, "curl_h2c", [False, True], [LENGTH, NO_LENGTH]),
    ("node fetch, FormData", NODE, "FormData", [False], [LENGTH]),
    ("node fetch, Buffer", NODE, "Buffer", [False], [LENGTH]),
    ("node fetch, stream", NODE, "stream", [False], [NO_LENGTH]),
    ("requests", PYTHON, "requests", [False, True], [LENGTH, NO_LENGTH]),
    ("httpx, HTTP/1.1", PYTHON, "httpx", [False, True], [LENGTH, NO_LENGTH]),
    ("httpx, h2c", PYTHON, "httpx_h2c", [False, True], [LENGTH, NO_LENGTH]),
    ("aiohttp", PYTHON, "aiohttp", [False, True], [LENGTH, NO_LENGTH]),
    ("urllib", PYTHON, "urllib", [False, True], [LENGTH, NO_LENGTH]),
    ("reqwest, HTTP/1.1", RUST, "reqwest", [False, True], [LENGTH, NO_LENGTH]),
    ("reqwest, h2c", RUST, "reqwest_h2c", [False, True], [LENGTH, NO_LENGTH]),
]
# The same over TLS. node's fetch, requests, aiohttp and urllib speak HTTP/1.1 alone there, too.
TLS_CLIENTS = [
    ("curl, TLS, HTTP/1.1", PYTHON, "curl", [False, True], [LENGTH, NO_LENGTH]),
    ("curl, TLS, HTTP/2", PYTHON, "curl_h2", [False, True], [LENGTH, NO_LENGTH]),
    ("node fetch, TLS, FormData", NODE, "FormData", [False], [LENGTH]),
    ("node fetch, TLS, Buffer", NODE, "Buffer", [False], [LENGTH]),
    ("node fetch, TLS, stream", NODE, "stream", [False], [NO_LENGTH]),
    ("requests, TLS", PYTHON, "requests", [False], [LENGTH, NO_LENGTH]),
    ("httpx, TLS, HTTP/1.1", PYTHON, "httpx", [False], [LENGTH, NO_LENGTH]),
    ("httpx, TLS, HTTP/2", PYTHON, "httpx_h2c", [False], [LENGTH, NO_LENGTH]),
    ("aiohttp, TLS", PYTHON, "aiohttp", [False], [LENGTH, NO_LENGTH]),
    ("urllib, TLS", PYTHON, "urllib", [False], [LENGTH, NO_LENGTH]),
    ("reqwest, TLS, HTTP/1.1", RUST, "reqwest", [False], [LENGTH, NO_LENGTH]),
    ("reqwest, TLS, HTTP/2", RUST, "reqwest_h2", [False], [LENGTH, NO_LENGTH]),
]


def bought(clients):
    """A token that is paid for."""
    problem, token = clients.upload("curl.py", {"options": []}, 1000, paid=1)
    if problem:
        raise RuntimeError(f"there is no token to be refused: {problem}")
    return token


def authorization(token):
    return {"Authorization": f"L402 {token}"}


class Refusals:
    """What is refused, and how: `(case, cell)` for each, some of a case in several cells."""

    def __init__(self, clients):
        self.clients, self.tokens = clients, 1
        token = bought(clients)
        self.forged, self.small = authorization(paid.forged(token)), self.narrowed(token)

    def narrowed(self, token):
        return authorization(self.clients.narrowed(token, "large_upload_max_mb=1"))

    def fresh(self):
        self.tokens += 1
        return self.narrowed(bought(self.clients))

    def cases(self, length):
        found = []
        for status, headers, code in [(402, {}, "payment_required"), (401, self.forged, "forged_token")]:
            for name, size in SIZES:
                cell = {"size": size, "headers": headers, "status": status, "code": code, "repeat": REPEAT}
                found.append((f"{status}: {name}", cell))
        for name, size in TOO_LARGE:
            # What says its length is refused for that, and not counted.
            left, most = REPEAT, REPEAT if length else TIMES_A_TOKEN
            while left > 0:
                headers = self.small if length else self.fresh()
                cell = {"size": size, "headers": headers, "status": 413, "code": "too_large", "repeat": min(left, most)}
                found.append((f"413: {name}", cell))
                left -= most
        return found


def run(clients, results):
    refusals = Refusals(clients)
    table = f"Answers before the body, {REPEAT} times each"
    before = clients.shop.payments()
    gateways = [(clients.shop.gateway, CLIENTS), (clients.shop.tls, TLS_CLIENTS)]
    tried = [(gateway, *row) for gateway, rows in gateways for row in rows]
    for gateway, name, program, client, expects, lengths in tried:
        for expect in expects:
            for length in lengths:
                variant = name + (", Expect" if expect else "") + ("" if length else ", no length")
                if ONLY not in variant:
                    continue
                job = {
                    "url": f"{gateway}/largefile", "client": client, "expect": expect, "length": length,
                    "ca": str(clients.shop.authority),
                }
                cases = refusals.cases(length)
                job["cells"] = [cell for _, cell in cases]
                started = time.monotonic()
                try:
                    problems = json.loads(clients.run(program, job, timeout=TIMEOUT_SECS))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    problems = [[str(error)[:300]]] * len(cases)
                if os.environ.get("CLIENTS_TIMES"):
                    print(f"{variant}: {time.monotonic() - started:.1f} s", flush=True)
                all_wrong = {case: [] for case, _ in cases}
                for (case, _), wrong in zip(cases, problems):
                    all_wrong[case] += wrong
                for case, wrong in all_wrong.items():
                    results.record(table, variant, case, f"{len(wrong)} of {REPEAT}: {wrong[0]}" if wrong else None)
    made = clients.shop.payments() - before - (refusals.tokens - 1)
    results.record(paid.SYSTEM, clients.shop.name, "none paid early answers", f"{made} payments" if made else None)
