//! `/file/{mediaToken}` and `/file/{muid}`.

use sluice_common::{
    clock::unix_now,
    media_token::{MediaToken, SignedOver, Terms},
};

use crate::support::{Answer, HOST, Server, assert_problem, get, head, node_key, secret_key};

const OWNER: u8 = 1;
const BUYER: u8 = 2;
const STRANGER: u8 = 3;
const FILE: &[u8] = b"some text";

struct Shop {
    server: Server,
    terms: Terms,
}

impl Shop {
    async fn new() -> Self {
        let server = Server::new().await;
        let muid = server.store("/file", OWNER, &[("price", "50")], FILE).await.parse().unwrap();
        let expires_at = Some(u32::try_from(unix_now()).unwrap() + 60);
        let terms = Terms { host: HOST.to_owned(), muid, buyer: None, expires_at, meta: String::new() };
        Self { server, terms }
    }

    fn signed_by(&self, node: u8, change: impl FnOnce(&mut Terms)) -> String {
        self.signed(SignedOver::Raw, node, change)
    }

    fn signed(&self, over: SignedOver, node: u8, change: impl FnOnce(&mut Terms)) -> String {
        let mut terms = self.terms.clone();
        change(&mut terms);
        MediaToken::sign(terms, over, &secret_key(node)).unwrap().to_string()
    }

    async fn opened_by(&self, node: u8, token: &str) -> Answer {
        self.server.send(get(&format!("/file/{token}")).bearer(&self.server.login(node)).empty()).await
    }
}

#[tokio::test]
async fn an_owners_signature_opens_the_file() {
    let shop = Shop::new().await;
    let buyer = Some(node_key(BUYER));
    for over in [SignedOver::Raw, SignedOver::Text] {
        for token in [
            shop.signed(over, OWNER, |_| {}),
            shop.signed(over, OWNER, |terms| terms.buyer = buyer),
            shop.signed(over, OWNER, |terms| terms.meta = "amt=50&ttl=60".to_owned()),
        ] {
            for token in [&token, &token.replace('=', "%3D"), &token.replace('=', "")] {
                let answer = shop.opened_by(BUYER, token).await;
                assert_eq!((answer.status.as_u16(), answer.bytes()), (200, FILE), "{token}");
                assert_eq!(answer.header("cache-control"), "private, no-store");
            }
        }
    }
}

#[tokio::test]
async fn refusals_come_in_their_order() {
    let shop = Shop::new().await;
    let buyer = Some(node_key(BUYER));
    let over = |terms: &mut Terms| terms.expires_at = Some(1);
    let muid = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".parse().unwrap();
    // Each is wrong in all that the later ones are wrong in.
    let unknown = shop.signed_by(STRANGER, |terms| (terms.muid, terms.buyer) = (muid, buyer));
    let expired = shop.signed_by(STRANGER, |terms| {
        (terms.muid, terms.buyer) = (muid, buyer);
        over(terms);
    });
    let for_ever = shop.signed_by(OWNER, |terms| terms.expires_at = None);
    let elsewhere = shop.signed_by(STRANGER, |terms| {
        terms.host = "other.example".to_owned();
        over(terms);
    });
    let unsigned =
        MediaToken::new(Terms { meta: "amt=50".to_owned(), ..shop.terms.clone() }, None).unwrap().to_string();
    for (token, status, code) in [
        ("a.b.c", 401, "malformed_media_token"),
        ("....", 401, "malformed_media_token"),
        (&elsewhere, 401, "wrong_host"),
        (&expired, 410, "media_token_expired"),
        (&for_ever, 410, "media_token_expired"),
        (&unknown, 404, "no_such_file"),
        (&shop.signed_by(STRANGER, |terms| terms.buyer = buyer), 401, "wrong_buyer"),
        (&shop.signed_by(OWNER, |terms| terms.buyer = buyer), 401, "wrong_buyer"),
        (&shop.signed_by(STRANGER, |_| {}), 401, "not_signed_by_owner"),
        (&unsigned, 401, "not_signed_by_owner"),
    ] {
        assert_problem(&shop.opened_by(STRANGER, token).await, status, code);
    }
    let good = shop.signed_by(OWNER, |_| {});
    assert_problem(&shop.server.get(&format!("/file/{good}")).await, 401, "login_required");
}

#[tokio::test]
async fn an_owner_needs_no_signature_and_no_token() {
    let shop = Shop::new().await;
    let unsigned = MediaToken::new(shop.terms.clone(), None).unwrap().to_string();
    assert_eq!(shop.opened_by(OWNER, &unsigned).await.bytes(), FILE);
    let muid = shop.terms.muid.to_string();
    assert_eq!(shop.opened_by(OWNER, &muid).await.bytes(), FILE);
    for (node, name) in
        [(STRANGER, muid.as_str()), (OWNER, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), (OWNER, "junk")]
    {
        assert_problem(&shop.opened_by(node, name).await, 404, "no_such_file");
    }
    let answer = shop.server.send(head(&format!("/file/{muid}")).bearer(&shop.server.login(OWNER)).empty()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length"), answer.bytes()), (200, "9", &b""[..]));
}

#[tokio::test]
async fn the_signers_row_is_what_is_sent() {
    let shop = Shop::new().await;
    let muid = shop.terms.muid;
    // The buyer has the same content under another type, and sees the seller's by the seller's token.
    let body = crate::support::form(&[], FILE);
    let body = String::from_utf8(body).unwrap().replace("text/plain", "image/png");
    let request = crate::support::post("/public").bearer(&shop.server.login(BUYER)).multipart().body(body.into());
    assert_eq!(shop.server.send(request).await.json()["muid"], muid.to_string());
    let of = async |name: &str| shop.opened_by(BUYER, name).await.header("content-type").to_owned();
    assert_eq!(of(&shop.signed_by(OWNER, |_| {})).await, "text/plain");
    assert_eq!(of(&shop.signed_by(STRANGER, |_| {})).await, "image/png");
    assert_eq!(of(&muid.to_string()).await, "image/png");
}

#[tokio::test]
async fn a_conditional_request_is_authorised_first() {
    let shop = Shop::new().await;
    let etag = format!("\"{}\"", shop.terms.muid);
    let path = format!("/file/{}", shop.terms.muid);
    let request = |node| get(&path).bearer(&shop.server.login(node)).header("if-none-match", &etag).empty();
    assert_eq!(shop.server.send(request(OWNER)).await.status, 304);
    assert_problem(&shop.server.send(request(STRANGER)).await, 404, "no_such_file");
}
