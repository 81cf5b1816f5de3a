//! A new process takes over from a gateway, in the middle of uploads.

use std::{fs, io, time::Duration};

use futures_util::stream;
use reqwest::{Body, Certificate, Client, StatusCode, Version};
use serde_json::Value;
use sluice_common::muid::Muid;
use sluice_testing::postgres;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::support::{MIB, SINGLE_USE, Sluice, authorized, bytes, eventually, form, slow::SlowUpload};

/// What a token costs to who connects anew; none: nobody answers.
async fn price(sluice: &Sluice) -> Option<u64> {
    let client = Client::builder().no_proxy().build().unwrap();
    let reply = client.get(sluice.url("/largefile")).send().await.ok()?;
    assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
    reply.json::<Value>().await.unwrap()["price_sat"].as_u64()
}

/// Begins `count` uploads.
async fn uploads(sluice: &Sluice, count: u64, seed: u64) -> Vec<SlowUpload> {
    let mut uploads = Vec::new();
    for each in 0..count {
        let credential = sluice.buy().await;
        uploads.push(SlowUpload::begin(sluice.address(), &credential, bytes(6 * MIB, seed + each)).await);
    }
    uploads
}

/// Configuration in which it can be asked often who answers.
fn config() -> String {
    format!("[gateway]\ninvoice_burst_per_client = 100000\ninvoice_burst = 100000\n{SINGLE_USE}")
}

async fn no_upload_is_cut(environment: &[(&str, &str)]) {
    let mut sluice = Sluice::start_apart(environment, &config()).await;
    let mut first = uploads(&sluice, 6, 100).await;
    let path = sluice.folder().join("sluice.toml");
    for (round, price_sat) in [(1, 201), (2, 202)] {
        // The new one has a configuration of its own: so it shows who answers.
        let config = fs::read_to_string(&path).unwrap();
        let (before, after) = config.split_once("price_sat = ").unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        fs::write(&path, format!("{before}price_sat = {price_sat}\n{after}")).unwrap();

        let old = sluice.upgrade().await;
        // For some seconds both take connections. Whoever took one finishes it.
        let between = uploads(&sluice, 3, 200 * round).await;
        for upload in &mut first {
            upload.send(10_000).await;
        }
        let mut in_a_row = 0;
        eventually("the new one alone answers", async || {
            in_a_row = if price(&sluice).await == Some(price_sat) { in_a_row + 1 } else { 0 };
            (in_a_row == 50).then_some(())
        })
        .await;
        assert!(old.is_running(), "it has uploads under way");
        let later = uploads(&sluice, 2, 300 * round).await;
        for upload in first.drain(..).chain(between) {
            upload.end().await;
        }
        // Nothing keeps it any more: neither an idle connection, nor what the new one has under way.
        old.ended().await;
        first = later;
    }
    for upload in first {
        upload.end().await;
    }
    assert!(sluice.client.get(sluice.admin_url("/healthz")).send().await.unwrap().status().is_success());
    sluice.finish().await;
}

#[tokio::test]
async fn no_upload_is_cut_with_sqlite() {
    no_upload_is_cut(&[]).await;
}

#[tokio::test]
async fn no_upload_is_cut_with_postgresql() {
    no_upload_is_cut(&[("GATEWAY_DATABASE_URL", &postgres::database()), ("DATABASE_URL", &postgres::database())]).await;
}

/// An upload by TLS that is sent piece by piece.
struct TlsUpload {
    rest: Vec<u8>,
    sender: mpsc::Sender<Vec<u8>>,
    muid: String,
    stored: JoinHandle<Value>,
}

impl TlsUpload {
    /// Sends the first half.
    async fn begin(sluice: &Sluice, client: Client, url: String, version: Version, seed: u64) -> Self {
        let credential = sluice.buy().await;
        let file = bytes(6 * MIB, seed);
        let muid = Muid::of(&file).to_string();
        let (content_type, body) = form::with_file(&file);
        let (sender, pieces) = mpsc::channel(1);
        let pieces = stream::unfold(pieces, async |mut pieces: mpsc::Receiver<Vec<u8>>| {
            Some((Ok::<_, io::Error>(pieces.recv().await?), pieces))
        });
        let request = client.post(url).header("content-type", content_type).body(Body::wrap_stream(pieces));
        let request = authorized(request, &credential);
        let stored = tokio::spawn(async move {
            let reply = request.send().await.unwrap();
            assert_eq!((reply.version(), reply.status()), (version, StatusCode::OK));
            reply.json().await.unwrap()
        });
        let (first, rest) = body.split_at(body.len() / 2);
        let upload = Self { rest: rest.to_vec(), sender, muid, stored };
        upload.send(first).await;
        upload
    }

    async fn send(&self, bytes: &[u8]) {
        for piece in bytes.chunks(100_000) {
            timeout(Duration::from_secs(60), self.sender.send(piece.to_vec())).await.unwrap().expect("it was cut");
        }
    }

    /// Sends the rest. What is stored must be what was sent.
    async fn end(self) {
        self.send(&self.rest).await;
        drop(self.sender);
        let stored = timeout(Duration::from_secs(60), self.stored).await.expect("no answer").unwrap();
        assert_eq!(stored["muid"].as_str().unwrap(), self.muid, "not the bytes that were sent");
    }
}

#[tokio::test]
async fn no_upload_by_tls_is_cut_by_either_version() {
    let tls = sluice_testing::free_address();
    let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway/testdata/tls");
    let listen = format!(
        "tls_listen = \"{tls}\"\ntls_certificate = \"{certificates}/one.cert\"\ntls_key = \"{certificates}/one.key\"\n"
    );
    let config = config().replace("[gateway]\n", &format!("[gateway]\n{listen}"));
    let mut sluice = Sluice::start_apart(&[], &config).await;
    let authority = Certificate::from_pem(&fs::read(format!("{certificates}/ca_one.cert")).unwrap()).unwrap();
    let client = |version| {
        let client =
            Client::builder().no_proxy().tls_built_in_root_certs(false).add_root_certificate(authority.clone());
        if version == Version::HTTP_11 { client.http1_only() } else { client }.build().unwrap()
    };
    let url = || format!("https://{tls}/largefile");
    let mut uploads = Vec::new();
    for (seed, version) in [(1, Version::HTTP_11), (2, Version::HTTP_2)] {
        let client = client(version);
        // Two on one connection, where that can be.
        for each in 0..2 {
            uploads.push(TlsUpload::begin(&sluice, client.clone(), url(), version, seed + 10 * each).await);
        }
    }
    let old = sluice.upgrade().await;
    eventually("the old one takes no connection any more", async || sluice.log().contains("handed over").then_some(()))
        .await;
    for upload in uploads {
        upload.end().await;
    }
    old.ended().await;
    let after = TlsUpload::begin(&sluice, client(Version::HTTP_2), url(), Version::HTTP_2, 3).await;
    after.end().await;
    sluice.finish().await;
}

#[tokio::test]
async fn a_gateway_that_nobody_takes_over_from_goes_on() {
    let mut sluice = Sluice::start_apart(&[], SINGLE_USE).await;
    let upload = uploads(&sluice, 1, 1).await;
    sluice.signal_gateway("QUIT").await;
    eventually("nobody is there", async || sluice.log().contains("no new process waits").then_some(())).await;
    assert_eq!(price(&sluice).await, Some(100));

    // One that cannot start leaves it alone.
    let path = sluice.folder().join("sluice.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("price_sat = 100", "price_sat = \"junk\"")).unwrap();
    assert!(!sluice.try_upgrade().await);
    fs::write(&path, config).unwrap();
    tokio::time::timeout(Duration::from_secs(5), price(&sluice)).await.unwrap().unwrap();
    for upload in upload {
        upload.end().await;
    }
    sluice.upgrade().await.ended().await;
    sluice.finish().await;
}
