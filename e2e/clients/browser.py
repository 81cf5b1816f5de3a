"""Debian's Chromium, headless, on a page that is not of the gateway's origin."""

import http.server
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

HERE = pathlib.Path(__file__).parent
# How long the page waits for a job before it asks again.
POLL_SECS = 10


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A page that was closed waits for no answer.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Browser:
    """One Chromium with one page, which does jobs. Other pages and what they post go through the same server."""

    def __init__(self, node_modules):
        self.jobs, self.outcomes = queue.Queue(), queue.Queue()
        self.job = None
        self.pages = {
            "/": (HERE / "adapters/page.html").read_bytes(),
            "/page.mjs": (HERE / "adapters/page.mjs").read_bytes(),
            "/user.js": (HERE / "adapters/user.js").read_bytes(),
            "/lightning-tools-9.js": (node_modules / "@getalby/lightning-tools/dist/esm/402/l402.js").read_bytes(),
            "/lightning-tools-6.js": (node_modules / "lightning-tools-6/dist/esm/l402.js").read_bytes(),
        }
        self.server = Server(("127.0.0.1", 0), self._handler())
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.profile = tempfile.mkdtemp(prefix="clients-chromium-")
        self.processes = []
        self.open("/")

    def open(self, path):
        """Opens a page in a Chromium of its own."""
        profile = tempfile.mkdtemp(dir=self.profile)
        words = [
            # As root, in a container, Chromium's own sandbox cannot be had; all it opens are the pages here.
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
            f"--user-data-dir={profile}", self.origin + path,
        ]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # A group of its own, to be ended as a whole.
        self.processes.append(subprocess.Popen(words, start_new_session=True, **quiet))

    def run(self, client, job, timeout):
        """Gives the outcome as JSON, or raises with why there is none."""
        self.job = job | {"client": client}
        self.jobs.put(self.job)
        return self.outcome(timeout)

    def outcome(self, timeout):
        """What a page says next."""
        try:
            text = self.outcomes.get(timeout=timeout)
        except queue.Empty:
            raise RuntimeError(f"the page says nothing for {timeout} s") from None
        error = json.loads(text).get("error")
        if error:
            raise RuntimeError(f"in the page: {error}")
        return text

    def stop(self):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.server.shutdown()
        shutil.rmtree(self.profile, ignore_errors=True)

    def _handler(browser):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, body, content_type="application/json", status=200):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path == "/job":
                    try:
                        return self.answer(json.dumps(browser.jobs.get(timeout=POLL_SECS)).encode())
                    except queue.Empty:
                        return self.answer(b"{}", status=202)
                if self.path == "/file":
                    return self.answer(pathlib.Path(browser.job["file"]).read_bytes(), "application/octet-stream")
                path = self.path.partition("?")[0]
                if path in browser.pages:
                    is_script = path.endswith("js")
                    return self.answer(browser.pages[path], "text/javascript" if is_script else "text/html")
                self.answer(b"{}", status=404)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/pay":
                    json_type = {"Content-Type": "application/json"}
                    request = urllib.request.Request(browser.job["pay"], body, json_type)
                    with urllib.request.urlopen(request) as response:
                        return self.answer(response.read())
                if self.path == "/copy":
                    pathlib.Path(browser.job["copy"]).write_bytes(body)
                else:
                    browser.outcomes.put(body.decode())
                self.answer(b"{}")

            def log_message(self, *_):
                pass

        return Handler
