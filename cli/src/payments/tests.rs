use sluice_common::{
    l402::{PaymentHash, TokenId},
    network::Network,
};
use sluice_gateway::{
    db::GatewayDb,
    ledger::{Bought, Sale, SettledToken, TokenUse},
};

use super::*;

/// A ledger of three payments: one whole, one of mainnet that no node has said, one of a service with a strange name.
async fn ledger() -> (GatewayDb, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
    let settled = |byte, service: &str, amount_msat, settled_at| SettledToken {
        payment_hash: PaymentHash::from_bytes([byte; 32]),
        service: service.to_owned(),
        network: Network::TestWallet,
        token_id: TokenId::from_bytes([byte + 0x10; 32]),
        amount_msat,
        settled_at,
    };
    let used = |byte, used_at| TokenUse {
        payment_hash: PaymentHash::from_bytes([byte; 32]),
        service: "media".to_owned(),
        network: if byte == 2 { Network::Mainnet } else { Network::TestWallet },
        token_id: TokenId::from_bytes([byte + 0x10; 32]),
        used_at,
    };
    let paid = [settled(1, "media", 100_000, 1_700_000_000), settled(3, "a \"b\", c", 250_001, 1_700_172_800)];
    db.book_settlements("02ab", &paid, Some(2)).await.unwrap();
    db.book_uses(&[used(1, 1_700_000_060), used(2, 1_700_086_400)]).await.unwrap();
    let bought = Bought { uses: 3, bytes: 4_096, refused: 2, given_back: 1 };
    let sale = Sale {
        payment_hash: PaymentHash::from_bytes([1; 32]),
        service: "media".to_owned(),
        network: Network::TestWallet.name(),
        day: 19_675,
    };
    db.book_bought(&[(sale, bought)]).await.unwrap();
    (db, folder)
}

async fn printed(ledger: &dyn LedgerDb, selection: Selection) -> String {
    let mut out = Vec::new();
    write(ledger, &selection, &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

fn all(format: Format, sum: bool) -> Selection {
    Selection { from: None, to: None, service: None, network: None, format: Some(format), sum }
}

#[tokio::test]
async fn a_table_is_for_people() {
    let (ledger, _folder) = ledger().await;
    insta::assert_snapshot!(printed(&ledger, all(Format::Table, false)).await, @r#"
    SETTLED AT            FIRST USED AT           AMOUNT (SAT)      USES           BYTES  NETWORK      PAYMENT HASH                                                      SERVICE
    2023-11-14T22:13:20Z  2023-11-14T22:14:20Z             100         3            4096  test-wallet  0101010101010101010101010101010101010101010101010101010101010101  media
    -                     2023-11-15T22:13:20Z               -         0               0  mainnet      0202020202020202020202020202020202020202020202020202020202020202  media
    2023-11-16T22:13:20Z  -                            250.001         0               0  test-wallet  0303030303030303030303030303030303030303030303030303030303030303  a "b", c
    "#);
    let sums = [
        "  AMOUNT (SAT)    PAYMENTS  WITHOUT AMOUNT  NETWORK      SERVICE\n",
        "             0           1               1  mainnet      media\n",
        "             0           1               1  mainnet      (all)\n",
        "       250.001           1               0  test-wallet  a \"b\", c\n",
        "           100           1               0  test-wallet  media\n",
        "       350.001           2               0  test-wallet  (all)\n",
    ];
    assert_eq!(printed(&ledger, all(Format::Table, true)).await, sums.concat());
}

#[tokio::test]
async fn csv_quotes_what_must_be_quoted() {
    let (ledger, _folder) = ledger().await;
    insta::assert_snapshot!(printed(&ledger, all(Format::Csv, false)).await, @r#"
    payment_hash,service,network,token_id,amount_msat,settled_at,first_used_at,node,uses,bytes,refused,given_back
    0101010101010101010101010101010101010101010101010101010101010101,media,test-wallet,1111111111111111111111111111111111111111111111111111111111111111,100000,2023-11-14T22:13:20Z,2023-11-14T22:14:20Z,02ab,3,4096,2,1
    0202020202020202020202020202020202020202020202020202020202020202,media,mainnet,1212121212121212121212121212121212121212121212121212121212121212,,,2023-11-15T22:13:20Z,,0,0,0,0
    0303030303030303030303030303030303030303030303030303030303030303,"a ""b"", c",test-wallet,1313131313131313131313131313131313131313131313131313131313131313,250001,2023-11-16T22:13:20Z,,02ab,0,0,0,0
    "#);
    insta::assert_snapshot!(printed(&ledger, all(Format::Csv, true)).await, @r#"
    network,service,payments,without_amount,amount_msat
    mainnet,media,1,1,0
    test-wallet,"a ""b"", c",1,0,250001
    test-wallet,media,1,0,100000
    "#);
}

#[tokio::test]
async fn json_is_one_array_also_of_nothing() {
    let (ledger, _folder) = ledger().await;
    let list: serde_json::Value = serde_json::from_str(&printed(&ledger, all(Format::Json, false)).await).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 3);
    insta::assert_json_snapshot!(list[0], @r#"
    {
      "amount_msat": 100000,
      "bytes": 4096,
      "first_used_at": "2023-11-14T22:14:20Z",
      "given_back": 1,
      "network": "test-wallet",
      "node": "02ab",
      "payment_hash": "0101010101010101010101010101010101010101010101010101010101010101",
      "refused": 2,
      "service": "media",
      "settled_at": "2023-11-14T22:13:20Z",
      "token_id": "1111111111111111111111111111111111111111111111111111111111111111",
      "uses": 3
    }
    "#);
    insta::assert_json_snapshot!(list[1], @r#"
    {
      "amount_msat": null,
      "bytes": 0,
      "first_used_at": "2023-11-15T22:13:20Z",
      "given_back": 0,
      "network": "mainnet",
      "node": null,
      "payment_hash": "0202020202020202020202020202020202020202020202020202020202020202",
      "refused": 0,
      "service": "media",
      "settled_at": null,
      "token_id": "1212121212121212121212121212121212121212121212121212121212121212",
      "uses": 0
    }
    "#);
    insta::assert_snapshot!(printed(&ledger, all(Format::Json, true)).await, @r#"[{"amount_msat":0,"network":"mainnet","payments":1,"service":"media","without_amount":1},{"amount_msat":250001,"network":"test-wallet","payments":1,"service":"a \"b\", c","without_amount":0},{"amount_msat":100000,"network":"test-wallet","payments":1,"service":"media","without_amount":0}]"#);
    let nothing = Selection { service: Some("none".to_owned()), ..all(Format::Json, false) };
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&printed(&ledger, nothing).await).unwrap(),
        serde_json::json!([])
    );
}

#[tokio::test]
async fn shows_what_is_asked_for() {
    let (ledger, _folder) = ledger().await;
    for (from, to, service, network, payments) in [
        (None, None, None, None, 3),
        (Some("2023-11-15"), None, None, None, 2),
        (None, Some("2023-11-14"), None, None, 1),
        (Some("2023-11-15"), Some("2023-11-15"), None, None, 1),
        (None, Some("2023-11-14T22:13:20Z"), None, None, 0),
        (None, None, Some("media"), None, 2),
        (None, None, None, Some(Network::TestWallet), 2),
        (None, None, Some("media"), Some(Network::Mainnet), 1),
        (None, None, None, Some(Network::Regtest), 0),
    ] {
        let selection = Selection {
            from: from.map(|text| text.parse().unwrap()),
            to: to.map(|text| text.parse().unwrap()),
            service: service.map(str::to_owned),
            network,
            ..all(Format::Csv, false)
        };
        let lines = printed(&ledger, selection).await.lines().count();
        assert_eq!(lines - 1, payments, "{from:?} {to:?} {service:?} {network:?}");
    }
}

#[tokio::test]
async fn makes_no_ledger_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { data_dir: folder.path().join("data"), ..Settings::default() };
    let error = run(&settings, &all(Format::Table, false), &mut Vec::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("there is no ledger "), "{error}");
    assert!(!settings.data_dir.exists());
}
