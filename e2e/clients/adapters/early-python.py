"""Sends bodies that are answered before they have been read. The job: url, client, expect, length (whether it says how
long the body is), ca (the file of the authority that is trusted), cells (size, headers, status, code, repeat). Prints for each cell a list of what went wrong."""

import asyncio
import io
import json
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import requests

job = json.loads(sys.argv[1])
url, length, authority = job["url"], job["length"], job["ca"]
TRUSTS = ssl.create_default_context(cafile=authority)

HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
EXPECT = {"Expect": "100-continue"}
PIECE = 64 * 1024
TIMEOUT_SECS = 30
FOLDER = tempfile.TemporaryDirectory()
MAKING = threading.Lock()


def pieces(size):
    yield HEAD
    for at in range(0, size, PIECE):
        yield b"x" * min(PIECE, size - at)
    yield TAIL


async def async_pieces(size):
    for piece in pieces(size):
        yield piece


def with_requests(size, headers):
    if length:
        answer = requests.post(
            url, files={"file": ("f", bytes(size))}, headers=headers, timeout=TIMEOUT_SECS, verify=authority
        )
    else:
        answer = requests.post(
            url, data=pieces(size), headers=headers | MULTIPART, timeout=TIMEOUT_SECS, verify=authority
        )
    return answer.status_code, answer.text


def with_httpx(size, headers, http2=False):
    with httpx.Client(http1=not http2, http2=http2, timeout=TIMEOUT_SECS, verify=TRUSTS) as client:
        if length:
            # Not as bytes: over HTTP/2 it copies what is left of a piece for every frame, for minutes with 64 MiB.
            answer = client.post(url, files={"file": ("f", io.BytesIO(bytes(size)))}, headers=headers)
        else:
            answer = client.post(url, content=pieces(size), headers=headers | MULTIPART)
        return answer.status_code, answer.text


def with_httpx_h2c(size, headers):
    return with_httpx(size, headers, http2=True)


def with_aiohttp(size, headers):
    async def send():
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECS)
        waits = headers.get("Expect") is not None
        others = {name: value for name, value in headers.items() if name != "Expect"}
        async with aiohttp.ClientSession(timeout=timeout) as session:
            if length:
                form = aiohttp.FormData()
                form.add_field("file", bytes(size), filename="f")
                sent = session.post(url, data=form, headers=others, expect100=waits, ssl=TRUSTS)
            else:
                body = async_pieces(size)
                sent = session.post(url, data=body, headers=others | MULTIPART, expect100=waits, ssl=TRUSTS)
            async with sent as answer:
                return answer.status, await answer.text()

    return asyncio.run(send())


def with_urllib(size, headers):
    data = b"".join(pieces(size)) if length else pieces(size)
    try:
        request = urllib.request.Request(url, data, headers | MULTIPART)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECS, context=TRUSTS) as done:
            return done.status, done.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def with_curl(size, headers, protocol="--http1.1"):
    file = pathlib.Path(FOLDER.name, str(size))
    with MAKING:
        if not file.exists():
            file.write_bytes(bytes(size))
    words = ["curl", "-sS", protocol, "--cacert", authority, "-m", str(TIMEOUT_SECS), "-F", f"file=@{file}", "-w", "\n%{http_code}"]
    # Of its own accord it sends Expect before all but small bodies.
    for name, value in ({"Expect": ""} | headers).items():
        words += ["-H", f"{name}: {value}" if value else f"{name}:"]
    if not length:
        words += ["-H", "Transfer-Encoding: chunked" if protocol == "--http1.1" else "Content-Length:"]
    done = subprocess.run([*words, url], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"curl ended with {done.returncode}: {done.stderr.strip()}")
    text, status = done.stdout.rsplit("\n", 1)
    return int(status), text


def with_curl_h2c(size, headers):
    return with_curl(size, headers, "--http2-prior-knowledge")


def with_curl_h2(size, headers):
    return with_curl(size, headers, "--http2")


send = globals()[f"with_{job['client']}"]


def problem(cell):
    """What goes wrong, or None."""
    try:
        status, text = send(cell["size"], cell["headers"] | (EXPECT if job["expect"] else {}))
        right = status == cell["status"] and json.loads(text)["code"] == cell["code"]
        return None if right else f"{status} {text[:100]}"
    except Exception as error:  # each of these clients has its own
        return f"{type(error).__name__}: {error}"[:200]


# Over HTTP/2 no 100 comes, and curl waits a second for it before it sends: some at once.
with ThreadPoolExecutor(8 if job["client"] in ("curl_h2", "curl_h2c") and job["expect"] else 1) as pool:
    tried = ([cell] * cell["repeat"] for cell in job["cells"])
    print(json.dumps([[wrong for wrong in pool.map(problem, cells) if wrong] for cells in tried]))
