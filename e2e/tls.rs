//! Clients that come by TLS, by HTTP/1.1 and HTTP/2.

use std::fs;

use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Version, redirect::Policy};
use serde_json::Value;
use sluice_common::muid::Muid;

use crate::support::{MIB, Sluice, authorized, bytes, challenge, eventually, form};

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway/testdata/tls");

#[tokio::test]
async fn pays_uploads_and_downloads_over_tls_by_either_version() {
    let tls = sluice_testing::free_address();
    let config = format!(
        "[gateway]\ntls_listen = \"{tls}\"\ntls_certificate = \"{CERTIFICATES}/one.cert\"\ntls_key = \
         \"{CERTIFICATES}/one.key\"\n"
    );
    let sluice = Sluice::start_configured(Some(&config), &["--max-mb", "70"]).await;
    let authority = Certificate::from_pem(&fs::read(format!("{CERTIFICATES}/ca_one.cert")).unwrap()).unwrap();
    for (seed, version) in [(1, Version::HTTP_11), (2, Version::HTTP_2)] {
        let client =
            Client::builder().no_proxy().tls_built_in_root_certs(false).add_root_certificate(authority.clone());
        let client = if version == Version::HTTP_11 { client.http1_only() } else { client };
        let client = client.build().unwrap();
        let url = |path: &str| format!("https://{tls}{path}");
        let send = async |request: RequestBuilder, status: StatusCode| {
            let reply = request.send().await.unwrap();
            assert_eq!((reply.version(), reply.status()), (version, status));
            reply
        };
        let file = bytes(64 * MIB, seed);
        let post = || {
            let (content_type, body) = form::with_file(&file);
            client.post(url("/largefile")).header("content-type", content_type).body(body)
        };
        let unpaid = send(post(), StatusCode::PAYMENT_REQUIRED).await;
        let credential = sluice.pay(&challenge(&unpaid)).await;
        let narrow = sluice.restricted(&credential, &["large_upload_max_mb=3"]);
        send(authorized(post(), &narrow), StatusCode::PAYLOAD_TOO_LARGE).await;
        let forged = post().header("authorization", "L402 AAAA:00");
        send(forged, StatusCode::UNAUTHORIZED).await;
        let stored: Value = send(authorized(post(), &credential), StatusCode::OK).await.json().await.unwrap();
        assert_eq!(stored["muid"].as_str().unwrap(), Muid::of(&file).to_string());
        let path = url(&format!("/file/{}", stored["muid"].as_str().unwrap()));
        let downloaded = send(authorized(client.get(path), &credential), StatusCode::OK).await;
        assert!(downloaded.bytes().await.unwrap() == file, "not the bytes that were sent");
    }
    // Who comes without is sent there, while that is configured.
    let plain = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let sent = async || plain.post(sluice.url("/ask?a=b")).body(bytes(MIB, 3)).send().await.unwrap();
    let redirecting = format!("{config}https_port = {}\n", tls.port());
    for (config, status) in [(redirecting, StatusCode::PERMANENT_REDIRECT), (config, StatusCode::METHOD_NOT_ALLOWED)] {
        fs::write(sluice.folder().join("sluice.toml"), config).unwrap();
        sluice.signal("HUP").await;
        let reply =
            eventually(status.as_str(), async || Some(sent().await).filter(|reply| reply.status() == status)).await;
        if status.is_redirection() {
            assert_eq!(reply.headers()["location"], format!("https://{tls}/ask?a=b"));
        }
    }
    let log = sluice.log();
    assert!(log.contains("http=HTTP/2.0") && log.contains("http=HTTP/1.1"), "{log:.2000}");
    sluice.finish().await;
}
