"""What Sphinx's apps do (protocols.md §3 and §4): log in with a node's signature, upload, sell by media token."""

import base64
import hashlib
import json
import struct

import coincurve
import requests

TABLE = "The flows of Sphinx's apps"
FILE_BYTES = 200_000
TIMEOUT_SECS = 30
FAR_AWAY = 0xFFFFFFFF
PLACES = ["Bearer", "?jwt=", "cookie"]
# What a node signs: the bytes, or (Core Lightning) their base64url text.
VARIANTS = [("signs bytes", lambda raw: raw), ("signs text", base64.urlsafe_b64encode)]


class Node:
    """A Lightning node, as far as it signs messages."""

    def __init__(self):
        self.key = coincurve.PrivateKey()
        self.public = self.key.public_key.format()

    def sign(self, message):
        """65 bytes: 31 + recovery id, r, s; as LND's SignMessage before zbase32."""
        inner = hashlib.sha256(b"Lightning Signed Message:" + message).digest()
        signature = self.key.sign_recoverable(hashlib.sha256(inner).digest(), hasher=None)
        return bytes([31 + signature[64]]) + signature[:64]


def encode(raw):
    return base64.urlsafe_b64encode(raw).decode()


class Shop:
    def __init__(self, shop, jwt=None, place="Bearer"):
        self.shop, self.jwt, self.place = shop, jwt, place

    def request(self, method, path, headers=(), **keywords):
        headers, query, cookies = dict(headers), {}, {}
        if self.jwt and self.place == "Bearer":
            # Beside a credential both go into one header, as they are two values of it.
            headers["Authorization"] = ", ".join([f"Bearer {self.jwt}", *filter(None, [headers.get("Authorization")])])
        elif self.jwt and self.place == "cookie":
            cookies["jwt"] = self.jwt
        elif self.jwt:
            query["jwt"] = self.jwt
        return requests.request(method, self.shop.gateway + path, headers=headers, params=query, cookies=cookies,
                                timeout=TIMEOUT_SECS, **keywords)

    def media_token(self, muid, buyer, owner, over, expires=FAR_AWAY, meta=b"", host=None):
        sections = [(host or self.shop.host).encode(), base64.urlsafe_b64decode(muid), buyer, struct.pack(">I", expires)]
        if meta:
            sections.append(meta)
        return ".".join(encode(section) for section in [*sections, owner.sign(over(b"".join(sections)))])


def log_in(shop, node, over, **more):
    asked = requests.get(f"{shop.gateway}/ask", timeout=TIMEOUT_SECS).json()
    signature = node.sign(over(base64.urlsafe_b64decode(asked["challenge"])))
    form = {"id": asked["id"], "sig": encode(signature), "pubkey": node.public.hex(), **more}
    return requests.post(f"{shop.gateway}/verify", data=form, timeout=TIMEOUT_SECS)


def buy(shop):
    """A credential, paid by the wallet."""
    offer = requests.get(f"{shop.gateway}/largefile", timeout=TIMEOUT_SECS).json()
    invoice = {"invoice": offer["invoice"]}
    preimage = requests.post(f"{shop.admin}/wallet/pay", json=invoice, timeout=TIMEOUT_SECS).json()["preimage"]
    return {"Authorization": f"L402 {offer['macaroon']}:{preimage}"}


class Wrong(Exception):
    """What went wrong."""


def expect(answer, status, code=None):
    if answer.status_code != status or (code and answer.json()["code"] != code):
        raise Wrong(f"{answer.request.method} {answer.request.path_url[:40]}: {answer.status_code} {answer.text[:200]}, "
                    f"expected {status} {code or ''}")
    return answer


def run(clients, results):
    shop, file = clients.shop, clients.file(FILE_BYTES).read_bytes()
    for variant, over in VARIANTS:
        owner, buyer = Node(), Node()
        logins = {}

        def case(name, steps):
            problem = None
            try:
                steps()
            except (Wrong, requests.RequestException, KeyError, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
            results.record(TABLE, variant, name, problem)

        def logs_in():
            for node in (owner, buyer):
                logins[node] = expect(log_in(shop, node, over), 200).json()["token"]
            expect(log_in(shop, owner, lambda raw: over(raw + b"!")), 406)

        case("/ask, /verify", logs_in)
        if len(logins) < 2:
            continue
        for place in PLACES:
            case(f"upload and sell, {place}", lambda place=place: sells(
                Shop(shop, logins[owner], place), Shop(shop, logins[buyer], place), owner, buyer, over, file))
        for place in PLACES:
            case(f"/largefile, {place}", lambda place=place: pays(Shop(shop, logins[owner], place), owner, file))
        case("readonly", lambda: reads_only(shop, owner, over, file))


def sells(at_owner, at_buyer, owner, buyer, over, file):
    """Uploads for free, and another key downloads with a media token by the rules of §4, checked in its order."""
    stored = expect(at_owner.request("POST", "/file", files={"file": ("a b.bin", file)}, data={"price": "5"}), 200).json()
    if stored["owner_pub_key"] != encode(owner.public):
        raise Wrong(f"the owner is {stored['owner_pub_key']}")
    muid = stored["muid"]
    if muid != encode(hashlib.blake2b(file, digest_size=32).digest()):
        raise Wrong(f"the muid is {muid}")

    def token(**different):
        return at_owner.media_token(**({"muid": muid, "buyer": buyer.public, "owner": owner, "over": over} | different))

    for good in (token(), token(buyer=b""), token(meta=b"amt=5&ttl=31536000")):
        if expect(at_buyer.request("GET", f"/file/{good}"), 200).content != file:
            raise Wrong("what was downloaded is not what was sent")
    nobody = encode(bytes(32))
    for bad, status, code in [
        ("not.a.token", 401, "malformed_media_token"),
        (token(host="example.com", expires=1), 401, "wrong_host"),
        (token(expires=1, muid=nobody), 410, "media_token_expired"),
        (token(muid=nobody, buyer=owner.public), 404, "no_such_file"),
        (token(buyer=Node().public, owner=Node()), 401, "wrong_buyer"),
        (token(owner=buyer), 401, "not_signed_by_owner"),
    ]:
        expect(at_buyer.request("GET", f"/file/{bad}"), status, code)
    expect(Shop(at_buyer.shop).request("GET", f"/file/{token()}"), 401, "login_required")


def pays(at_owner, owner, file):
    """A paid upload is the login's, where there is one."""
    before = at_owner.shop.payments()
    credential = buy(at_owner.shop)
    sent = {"files": {"file": ("large.bin", file + credential["Authorization"].encode())}}
    stored = expect(at_owner.request("POST", "/largefile", credential, **sent), 200).json()
    if stored["owner_pub_key"] != encode(owner.public):
        raise Wrong(f"the owner is {stored['owner_pub_key']}")
    mine = expect(at_owner.request("GET", "/mymedia"), 200).json()
    if stored["muid"] not in [media["muid"] for media in mine]:
        raise Wrong("/mymedia does not show it")
    if at_owner.shop.payments() != before + 1:
        raise Wrong(f"{at_owner.shop.payments() - before} payments")


def reads_only(shop, owner, over, file):
    jwt = expect(log_in(shop, owner, over, readonly="true"), 200).json()["token"]
    if json.loads(base64.urlsafe_b64decode(jwt.split(".")[1] + "=="))["readonly"] is not True:
        raise Wrong("the JWT does not say readonly")
    at_shop = Shop(shop, jwt)
    expect(at_shop.request("GET", "/mymedia"), 200)
    expect(at_shop.request("POST", "/file", files={"file": ("f", file)}), 401, "readonly_login")
