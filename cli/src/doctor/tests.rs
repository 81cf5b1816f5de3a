use super::*;

async fn lines(settings: &Settings) -> (String, Result<(), DoctorError>) {
    let mut out = Vec::new();
    let outcome = run(settings, &mut out).await;
    (String::from_utf8(out).unwrap().replace(&*settings.data_dir.to_string_lossy(), "DATA"), outcome)
}

#[tokio::test]
async fn a_first_start_needs_nothing_to_be_mended() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
    let (text, outcome) = lines(&settings).await;
    outcome.unwrap();
    insta::assert_snapshot!(text, @r"
    warning  node      the embedded wallet takes payment: no real money
    ok       keys      some are missing; `sluice up` makes them when it first starts
    ok       database  gateway: DATA/gateway.db is made when Sluice first starts
    ok       database  backend: DATA/backend.db is made when Sluice first starts
    ok       store     DATA/media is made when Sluice first starts
    ok       clock     not compared: no node and no database server tell the time here
    warning  address   media tokens name 127.0.0.1:8081, which only this machine reaches; set [backend] host (HOST) to the name by which clients reach the gateway
    ");
    assert!(!settings.data_dir.exists(), "it changes nothing");
}

#[tokio::test]
async fn counts_what_must_be_mended() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
    std::fs::write(dir.path().join("gateway.db"), "no database").unwrap();
    std::fs::write(dir.path().join("media"), "no folder").unwrap();
    settings.backend.host = Some("0.0.0.0:80".to_owned());
    settings.services[0].upstream = Some("https://a.example".to_owned().into());
    settings.services[0].upstream_ca = Some(dir.path().join("ca.pem"));
    settings.lightning.kind = crate::config::LightningKind::Lnd;
    settings.lightning.lndhost = Some("127.0.0.1:1".to_owned());
    settings.lightning.tlspath = Some(dir.path().join("tls.cert"));
    let (text, outcome) = lines(&settings).await;
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error")).map(|line| &line[9..17]).collect();
    assert_eq!(errors, ["node    ", "keys    ", "services", "database", "store   ", "address "], "{text}");
    assert!(matches!(outcome, Err(DoctorError::Errors(6))), "{outcome:?}");
}
