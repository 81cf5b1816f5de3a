"""What every adapter in this folder shares, as in job.mjs: one job as JSON in, one outcome as JSON out."""

import json
import sys
import urllib.request

job = json.loads(sys.argv[1])
url = job["gateway"] + "/largefile"


def pay(invoice):
    """Pays with the wallet of the job, and gives the preimage."""
    request = urllib.request.Request(
        job["pay"], json.dumps({"invoice": invoice}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["preimage"]


def content():
    with open(job["file"], "rb") as file:
        return file.read()


def form():
    """What `files=` of requests and httpx takes."""
    return {"file": ("file.bin", content())}


def report(response, token, get):
    """Downloads what was stored through the client (`get(url, headers=…)`) and prints the outcome."""
    if response.status_code == 200 and job["copy"]:
        stored = get(f"{job['gateway']}/file/{response.json()['muid']}", headers={"Authorization": f"L402 {token}"})
        if stored.status_code != 200:
            raise SystemExit(f"the download says {stored.status_code}")
        with open(job["copy"], "wb") as copy:
            copy.write(stored.content)
    print(json.dumps({"status": response.status_code, "body": response.text, "token": token}))
