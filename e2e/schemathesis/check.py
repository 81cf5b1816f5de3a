"""Starts a server with some files in it, and runs Schemathesis on it: check.py SCHEMATHESIS SLUICE [ARGUMENT...]"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
import zlib

# The whole run is to end within three minutes.
SECONDS_A_RUN = 60

# What is expected where the schema cannot say it.
EXPECTED = pathlib.Path(__file__).with_name("schemathesis.toml")

# Some node's public key: secp256k1's generator.
NODE = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")


class PodcastIndex(http.server.BaseHTTPRequestHandler):
    """Answers as the Podcast Index does."""

    def do_GET(self):
        body = json.dumps({"status": "true", "items": [{"id": 1, "title": "Episode", "datePublished": 1700000000}]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def base64url(data):
    return base64.urlsafe_b64encode(data).decode()


def login(key):
    """A JWT of NODE under `key`, good for an hour."""
    claims = {"key": base64url(NODE), "exp": int(time.time()) + 3600}
    parts = [base64url(json.dumps(part).encode()).rstrip("=") for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.new(key, ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, base64url(signature).rstrip("=")])


def png(side):
    """A grey picture."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress((b"\0" + bytes(side)) * side)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def upload(url, jwt, path, file):
    """Stores a picture and gives its muid."""
    boundary = uuid.uuid4().hex
    public = f'--{boundary}\r\nContent-Disposition: form-data; name="public"\r\n\r\ntrue\r\n'
    head = public + f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    body = head.encode() + file + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Authorization": f"Bearer {jwt}", "Content-Type": f"multipart/form-data; boundary={boundary}"}
    with urllib.request.urlopen(urllib.request.Request(url + path, body, headers)) as answer:
        return json.load(answer)["muid"]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(url, server):
    for _ in range(300):
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            if server.poll() is not None:
                sys.exit("the server ended")
            time.sleep(0.1)
    sys.exit("the server does not answer")


def run(schemathesis, url, jwt, folder, name, config, arguments):
    """Whether Schemathesis finds nothing."""
    path = pathlib.Path(folder, f"{name}.toml")
    path.write_text(config + EXPECTED.read_text())
    print(f"== {name}", flush=True)
    command = [
        schemathesis, "--config-file", path, "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {jwt}",
        "--max-time", str(SECONDS_A_RUN), "--seed", "1", "--request-timeout", "20",
        "--continue-on-failure", *arguments,
    ]
    # It keeps what it found before in the folder that it runs in.
    return subprocess.run(command, cwd=folder).returncode == 0


def main(schemathesis, sluice, *arguments):
    schemathesis, sluice = os.path.abspath(schemathesis), os.path.abspath(sluice)
    podcasts = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PodcastIndex)
    threading.Thread(target=podcasts.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        gateway, admin, backend = free_ports(3)
        environment = {
            **os.environ,
            "PODCAST_INDEX_URL": f"http://127.0.0.1:{podcasts.server_port}",
            "PODCAST_INDEX_KEY": "KEY",
            "PODCAST_INDEX_SECRET": "SECRET",
        }
        addresses = [("--listen", gateway), ("--admin-listen", admin), ("--backend-listen", backend)]
        flags = [text for flag, port in addresses for text in (flag, f"127.0.0.1:{port}")]
        data = pathlib.Path(folder, "data")
        with open(pathlib.Path(folder, "log"), "w+") as log:
            command = [sluice, "up", "--data", data, "--log-level", "warn", *flags]
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                url = f"http://127.0.0.1:{backend}"
                wait_for(f"{url}/ping", server)
                jwt = login(pathlib.Path(data, "keys/jwt.key").read_text().strip().encode())
                upload(url, jwt, "/template", png(8))
                clean = run(schemathesis, url, jwt, folder, "any-file", "", arguments)
                # Whatever was there may be deleted by now.
                muid = upload(url, jwt, "/template", png(9))
                known = f'parameters = {{ muid = "{muid}", name = "{muid}" }}\n'
                of_one = ["--include-path-regex", "muid|name", "--exclude-method", "DELETE", *arguments]
                clean &= run(schemathesis, url, jwt, folder, "a-file-that-is-there", known, of_one)
            finally:
                server.terminate()
                server.wait(60)
            log.seek(0)
            if problems := [line for line in log if "ERROR" in line or "panicked" in line]:
                print("the server logged:", *problems[:20], sep="\n")
                clean = False
        return 0 if clean else 1


sys.exit(main(*sys.argv[1:]))
