"""L402Client of PyPI l402kit. It keeps what it bought to itself: here the wallet and the next request tell."""

from l402kit import L402Client
from l402kit.client import L402Wallet

from job import form, job, pay, report, url


class Wallet(L402Wallet):
    def pay_invoice(self, bolt11):
        return pay(bolt11)


client = L402Client(wallet=Wallet(), timeout=60)
headers = {"Authorization": f"L402 {job['token']}"} if job["token"] else {}
response = client.post(url, files=form(), headers=headers)
# The credential that the request which was answered had carried.
sent = response.request.headers.get("authorization")
report(response, sent and sent.removeprefix("L402 "), client.get)
