use std::{fs, net::SocketAddr, sync::Arc};

use clap::Parser;
use serde_json::json;
use sluice_common::{
    l402::{PaymentHash, TokenId},
    network::Network,
    secret::Secret,
};
use sluice_gateway::{
    admin::{
        Admin,
        api::{AdminToken, Api},
    },
    db::GatewayDb,
    ledger::{LedgerDb, RevocationDb, SettledToken},
    lightning::NodeHealth,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: AdminArgs,
}

/// A gateway's admin address, whose ledger has a payment.
struct World {
    gateway: Gateway,
    address: SocketAddr,
    db: GatewayDb,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        let paid = SettledToken {
            payment_hash: PaymentHash::from_bytes([1; 32]),
            service: "media".to_owned(),
            network: Network::TestWallet,
            token_id: TokenId::from_bytes([2; 32]),
            amount_msat: 100_000,
            settled_at: 1_700_000_000,
        };
        db.book_settlements("02ab", &[paid], None).await.unwrap();
        let token = AdminToken::new(&Secret::new(TOKEN.to_owned())).unwrap();
        let node = watch::Sender::new(NodeHealth::Ok).subscribe();
        let api = Arc::new(Api::new(token, Arc::new(db.clone()), node.clone(), true, Network::TestWallet));
        let ready = watch::Sender::new(true).subscribe();
        let router =
            sluice_gateway::admin::router(Admin { ready, node, wallet: None, metrics: Arc::default(), api: Some(api) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        fs::write(folder.path().join("admin.token"), TOKEN).unwrap();
        let gateway = Gateway::new(&GatewayArgs::default(), folder.path(), address).unwrap();
        Self { gateway, address, db, folder }
    }

    async fn run(&self, line: &str, as_json: bool) -> Result<String, AdminError> {
        let Line { args } = Line::try_parse_from(["sluice"].into_iter().chain(line.split(' '))).unwrap();
        let mut out = Vec::new();
        write(args.command, &self.gateway, as_json, &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(line, true).await.unwrap()).unwrap()
    }
}

#[tokio::test]
async fn tables_are_for_people_and_json_for_programs() {
    let world = World::new().await;
    let hash = "01".repeat(32);
    assert_eq!(world.json("payments").await[0]["payment_hash"], hash.as_str());
    let payments = world.run("payments", false).await.unwrap();
    assert!(payments.starts_with("SETTLED AT ") && payments.lines().count() == 2, "{payments}");
    let csv = world.run("payments --format csv", false).await.unwrap();
    assert!(csv.starts_with("payment_hash,service,") && csv.lines().count() == 2, "{csv}");
    assert_eq!(world.json("payments --from 2023-11-15").await, json!([]));

    insta::assert_snapshot!(world.run("stats --from 2023-11-01T00:00:00Z --before 2023-12-01T00:00:00Z", false).await.unwrap(), @r#"
    DAY         AMOUNT (SAT)  PAYMENTS  WITHOUT AMOUNT  USES  BYTES  REFUSED  GIVEN BACK  NETWORK      SERVICE
    2023-11-14  100           1         0               0     0      0        0           test-wallet  media
    (all)       100           1         0               0     0      0        0           test-wallet  media
    "#);
    let mut payment = world.json("payments").await[0].take();
    for (name, number) in [("uses", 2), ("bytes", 30), ("refused", 4), ("given_back", 5)] {
        payment[name] = json!(number);
    }
    let token = json!({"payment_hash": hash, "payment": payment, "is_revoked": false});
    let mut said = Vec::new();
    show::token(&serde_json::from_value(token).unwrap(), &mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    for line in ["uses            2", "bytes           30", "refused         4", "given back      5"] {
        assert!(said.lines().any(|said| said == line), "{line} is not in:\n{said}");
    }
    let revoked = world.json(&format!("revoke {hash} --reason gone")).await;
    assert_eq!((&revoked["payment_hash"], &revoked["reason"]), (&json!(hash), &json!("gone")));
    assert_eq!(world.db.last_revocation_change().await.unwrap(), 1);
    let listed = world.run("revocations", false).await.unwrap();
    assert!(listed.lines().nth(1).unwrap().ends_with(&format!("-          {hash}  gone")), "{listed}");
    assert!(!is_unpaid(&world.gateway, hash.parse().unwrap()).await);
    let unpaid = "00".repeat(32);
    assert!(world.run(&format!("revoke {unpaid}"), false).await.unwrap().contains("in effect within 2 s"));
    assert!(is_unpaid(&world.gateway, unpaid.parse().unwrap()).await);
    let undone = world.run(&format!("unrevoke {hash}"), false).await.unwrap();
    assert!(undone.contains("in effect within 2 s"), "{undone}");
}

#[tokio::test]
async fn ends_with_a_code_that_says_why() {
    let world = World::new().await;
    let code = async |line: &str| world.run(line, true).await.err().map_or(0, |error| error.exit_code());
    assert_eq!(code("payments").await, 0);
    assert_eq!(code(&format!("unrevoke {}", "00".repeat(32))).await, 1);
    assert_eq!(code("stats --from yesterday").await, 1);
    assert_eq!(code("revoke --minted-before 2999-01-01T00:00:00Z").await, 1);
    assert_eq!(code("payments --sum").await, 2);
    assert_eq!(code("info").await, 3, "not every part has started");
    for line in ["revoke", "revoke 00", "token x", "unrevoke yesterday", "frobnicate", "revocations --limit 0"] {
        let line = ["sluice"].into_iter().chain(line.split(' '));
        assert_eq!(Line::try_parse_from(line).unwrap_err().exit_code(), 2);
    }
    let away = Gateway::new(&GatewayArgs::default(), world.folder.path(), ([127, 0, 0, 1], 1).into()).unwrap();
    let error = away.get("info", &[]).await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().starts_with("cannot reach http://127.0.0.1:1: "), "{error}");

    let other = GatewayArgs { token: Some(Secret::new("another".to_owned())), ..GatewayArgs::default() };
    let address = world.address;
    let error = Gateway::new(&other, world.folder.path(), address).unwrap().get("info", &[]).await.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().starts_with("admin_token_required: "), "{error}");
    let nowhere = Gateway::new(&GatewayArgs::default(), &world.folder.path().join("none"), address).unwrap_err();
    assert_eq!(nowhere.exit_code(), 2, "{nowhere}");
    let junk = GatewayArgs { admin: Some("127.0.0.1:8082".to_owned()), ..GatewayArgs::default() };
    assert_eq!(Gateway::new(&junk, world.folder.path(), address).unwrap_err().exit_code(), 2);
    assert!(!format!("{:?}", world.gateway).contains(TOKEN));
}
