"""Answers that come before the body is read: every client must see them, and no broken connection instead."""

import json
import os
import subprocess
import time

import paid

MIB = 1 << 20
SIZES = [("1 B", 1), ("1 MiB", MIB), ("8 MiB", 8 * MIB), ("64 MiB", 64 * MIB)]
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


def refusals(clients):
    """Status, headers and code of each refusal."""
    problem, token = clients.upload("curl.py", {"options": []}, 1000, paid=1)
    if problem:
        raise RuntimeError(f"there is no token to be refused: {problem}")

    def authorization(token):
        return {"Authorization": f"L402 {token}"}

    return [
        (402, {}, "payment_required"),
        (401, authorization(paid.forged(token)), "forged_token"),
        (413, authorization(clients.narrowed(token, "large_upload_max_mb=0")), "too_large"),
    ]


def run(clients, results):
    cases = []
    for status, headers, code in refusals(clients):
        for name, size in SIZES:
            cell = {"size": size, "headers": headers, "status": status, "code": code, "repeat": REPEAT}
            cases.append((f"{status}: {name}", cell))
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
                    "cells": [cell for _, cell in cases],
                }
                started = time.monotonic()
                try:
                    problems = json.loads(clients.run(program, job, timeout=TIMEOUT_SECS))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    problems = [[str(error)[:300]]] * len(cases)
                if os.environ.get("CLIENTS_TIMES"):
                    print(f"{variant}: {time.monotonic() - started:.1f} s", flush=True)
                for (case, cell), wrong in zip(cases, problems):
                    problem = f"{len(wrong)} of {cell['repeat']}: {wrong[0]}" if wrong else None
                    results.record(table, variant, case, problem)
    made = clients.shop.payments() - before
    results.record(paid.SYSTEM, clients.shop.name, "none paid early answers", f"{made} payments" if made else None)
