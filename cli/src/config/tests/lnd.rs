//! `[lightning]`.

use sluice_common::network::Network;

use super::*;

/// What an LND node needs, and more lines.
fn lnd(more: &str) -> String {
    format!("[lightning]\nkind = \"lnd\"\nlndhost = \"n:10009\"\ntlspath = \"tls.cert\"\n{more}")
}

#[test]
fn an_lnd_node_is_named_as_operators_know_it() {
    let settings = load_file(&lnd("macdir = \"/lnd/mainnet\"\nnetwork = \"mainnet\"")).unwrap();
    let lightning = &settings.lightning;
    assert_eq!(lightning.macaroon(), Some(KeySource::File("/lnd/mainnet/invoice.macaroon".into())));
    assert_eq!(lightning.network, Some(Network::Mainnet));
    assert!(settings.effective().lightning.wallet_key.is_none(), "no wallet");
    assert_eq!(load_file(&toml::to_string(&settings.effective()).unwrap()).unwrap(), settings.effective());

    let env = [("LND_MACAROON_HEX", "0201")];
    let settings = load_with(&lnd("macdir = \"/lnd\""), &env, &Flags::default(), Parts::All).unwrap();
    assert_eq!(settings.lightning.macaroon(), Some(KeySource::from("0201")), "over the file's folder");
    assert!(!toml::to_string(&settings.effective()).unwrap().contains("0201"));

    let others = "[gateway]\nlisten = \"0.0.0.0:1\"\n".to_owned() + &lnd("macaroon = \"0201\"");
    assert!(load_file(&others).is_ok(), "real money is for everyone");
}

#[test]
fn flags_alone_name_an_lnd_node() {
    let flags = Flags {
        lnd: Some("n:10009".into()),
        lnd_tls_cert: Some("c".into()),
        lnd_macaroon: Some("m".into()),
        ..Flags::default()
    };
    for file in ["", &lnd("macdir = \"/lnd\""), "[lightning]\nnetwork = \"simnet\"\ntlscert = \"pem\""] {
        let lightning = load_with(file, &[], &flags, Parts::All).unwrap().lightning;
        assert_eq!((lightning.kind, lightning.lndhost.as_deref()), (LightningKind::Lnd, Some("n:10009")));
        assert_eq!((lightning.tlspath.as_deref(), lightning.tlscert), (Some(Path::new("c")), None));
        assert_eq!(lightning.macaroon.unwrap().to_string(), "file:m");
    }
}

#[test]
fn says_what_an_lnd_node_lacks() {
    let macaroon = "macaroon = \"0201\"\n";
    for (text, error) in [
        ("[lightning]\nkind = \"lnd\"".to_owned(), "[lightning] kind = \"lnd\" needs lndhost (--lnd)"),
        (lnd(""), "[lightning] kind = \"lnd\" needs macaroon (--lnd-macaroon, LND_MACAROON_HEX) or macdir"),
        (lnd(macaroon).replace("tlspath", "#"), "[lightning] kind = \"lnd\" needs tlspath (--lnd-tls-cert) or tlscert"),
        (
            lnd(&format!("{macaroon}macdir = \"d\"")),
            "[lightning] macdir and macaroon are two ways to say one thing; say only one",
        ),
        (
            lnd(&format!("{macaroon}tlscert = \"pem\"")),
            "[lightning] tlspath and tlscert are two ways to say one thing; say only one",
        ),
        (
            lnd(&format!("{macaroon}network = \"test-wallet\"")),
            "[lightning] network = \"test-wallet\" is the embedded wallet's; LND's are mainnet, testnet, signet, simnet and regtest",
        ),
        (
            "[lightning]\nlndhost = \"n:10009\"".to_owned(),
            "[lightning] lndhost is for kind = \"lnd\", but kind is \"wallet\"",
        ),
    ] {
        assert_eq!(error_of(load_file(&text)), error);
    }
    let backend = |text: &str| load_with(text, &[], &Flags::default(), Parts::Backend);
    let error = "[lightning] kind = \"lnd\" needs network here: `sluice backend` alone cannot ask the node for it";
    assert_eq!(error_of(backend(&lnd(macaroon))), error);
    assert!(backend("[lightning]\nkind = \"lnd\"\nnetwork = \"mainnet\"").is_ok(), "it uses no node");
}
