"""`requests` of PyPI l402. With "file_object" in the job the form holds an open file, as its README shows."""

from l402.client import PreimageProvider, requests
from l402.client.credentials import L402Credentials, SqliteCredentialsService

from job import form, job, pay, report, url


class Wallet(PreimageProvider):
    def get_preimage(self, invoice):
        return pay(invoice)


saved = SqliteCredentialsService(":memory:")
if job["token"]:
    credentials = L402Credentials(*job["token"].split(":"), invoice="")
    credentials.set_location(url)
    saved.store(credentials)
requests.configure(preimage_provider=Wallet(), credentials_service=saved)

files = {"file": open(job["file"], "rb")} if job.get("file_object") else form()
response = requests.post(url, files=files)
held = saved.get(url)
report(response, held and f"{held.macaroon}:{held.preimage}", requests.get)
