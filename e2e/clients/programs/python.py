"""python.py FILE: uploads it, and pays with `sluice pay`. Needs: pip install requests"""

import os
import subprocess
import sys

import requests

url = os.environ.get("SLUICE_SERVER", "http://127.0.0.1:8081") + "/largefile"


def upload(**headers):
    with open(sys.argv[1], "rb") as file:
        return requests.post(url, files={"file": file}, headers=headers)


response = upload()
if response.status_code == 402:
    offer = response.json()
    paid = subprocess.run(["sluice", "pay", offer["invoice"]], capture_output=True, text=True, check=True)
    response = upload(Authorization=f"L402 {offer['macaroon']}:{paid.stdout.strip()}")
response.raise_for_status()
print(response.text)
