//! The commands that talk to a server.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Output, time::Duration};

use tokio::time::timeout;

use crate::support::{MIB, SINGLE_USE, Sluice, bytes};

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn uploads_pays_and_downloads() {
    let sluice = Sluice::start(&[]).await;
    let (small, large) = (bytes(MIB, 1), bytes(40 * MIB, 2));
    fs::write(sluice.folder().join("small"), &small).unwrap();
    fs::write(sluice.folder().join("large"), &large).unwrap();
    for (name, file) in [("small", &small), ("large", &large)] {
        let uploaded = text(&sluice.run(&["upload", name, "--pay"]).await);
        let muid = uploaded.split_whitespace().next().unwrap();
        text(&sluice.run(&["download", muid, "-o", &format!("{name}.back")]).await);
        assert!(fs::read(sluice.folder().join(format!("{name}.back"))).unwrap() == *file, "{name}: not the same bytes");
    }
    assert_eq!(sluice.payments_made().await, 1, "the small file was free");
    fs::write(sluice.folder().join("larger"), bytes(41 * MIB, 3)).unwrap();
    text(&sluice.run(&["upload", "larger", "--pay"]).await);
    text(&sluice.run(&["upload", "larger", "--pay", "--name", "another"]).await);
    assert_eq!(sluice.payments_made().await, 1, "a saved token that still buys is used");
    sluice.finish().await;
}

#[tokio::test]
async fn what_is_stored_is_not_paid_for_again() {
    let sluice = Sluice::start_with(SINGLE_USE).await;
    fs::write(sluice.folder().join("file"), bytes(1_000, 1)).unwrap();
    let upload = async |more: &[&str]| {
        sluice.run(&[&["upload", "file", "--paid", "--pay", "--price", "3"], more].concat()).await
    };
    let details = ["--tags", " a, b,,", "--name", "", "--description", ""];
    let muid_and_link = text(&upload(&details).await);
    for more in [&details[..], &details, &["--tags", "a,b"], &[]] {
        assert_eq!(text(&upload(more).await), muid_and_link, "{more:?}");
    }
    let refused = upload(&["--name", "another", "--public"]).await;
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    for part in ["stored this file for you already", "name, public", "Nothing was paid"]
        .iter()
        .chain(&muid_and_link.lines().collect::<Vec<_>>())
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(sluice.payments_made().await, 1);
    fs::write(sluice.folder().join("file"), bytes(1_000, 2)).unwrap();
    text(&upload(&[]).await);
    assert_eq!(sluice.payments_made().await, 2, "another file is");
    sluice.finish().await;
}

#[tokio::test]
async fn a_use_that_was_bought_for_another_file_is_not_spent_on_what_is_said_of_a_stored_one() {
    let sluice = Sluice::start_with(SINGLE_USE).await;
    for (name, seed) in [("stored", 1), ("other", 2)] {
        fs::write(sluice.folder().join(name), bytes(1_000, seed)).unwrap();
    }
    text(&sluice.run(&["upload", "stored", "--paid", "--pay"]).await);
    let not_paid = sluice.run(&["upload", "other", "--paid"]).await;
    assert!(!not_paid.status.success());
    let shown = String::from_utf8(not_paid.stderr).unwrap();
    let invoice = shown.lines().find(|line| line.starts_with("lnbcrt")).expect("the invoice is shown");
    text(&sluice.run(&["pay", invoice]).await);
    assert_eq!(sluice.payments_made().await, 2);

    let refused = sluice.run(&["upload", "stored", "--paid", "--pay", "--name", "another"]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.contains("stored this file for you already"), "{error}");
    text(&sluice.run(&["upload", "other", "--paid", "--pay"]).await);
    assert_eq!(sluice.payments_made().await, 2, "the use was still there");
    sluice.finish().await;
}

#[tokio::test]
async fn who_names_the_media_server_for_the_gateway_is_told_so_at_once() {
    let sluice = Sluice::start(&[]).await;
    fs::write(sluice.folder().join("file"), b"x").unwrap();
    let backend = format!("http://{}", sluice.backend_address());
    let upload = ["upload", "file", "--paid", "--pay", "--server", &backend];
    let refused = timeout(Duration::from_secs(10), sluice.run(&upload)).await.expect("it tries again and again");
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains(&format!("{backend} asks for payment but sells nothing")), "{error}");
    sluice.finish().await;
}

#[tokio::test]
async fn a_key_that_changed_stops_a_start_until_the_old_one_is_given_up() {
    let mut sluice = Sluice::start(&[]).await;
    sluice.stop().await;
    let data = sluice.data().to_str().unwrap().to_owned();
    for (file, name) in [("wallet.key", "wallet_key"), ("master.key", "SLUICE_MASTER_KEYS")] {
        fs::write(sluice.data().join("keys").join(file), "5a".repeat(32)).unwrap();
        let refused = sluice.run(&sluice.up()).await;
        assert!(!refused.status.success());
        let error = String::from_utf8(refused.stderr).unwrap();
        let advice = error.rsplit_once("sluice keys forget ").expect(&error).1;
        let [named, fingerprint] = advice.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{error}") };
        assert_eq!(named, name);
        let listed = text(&sluice.run(&["keys", "list", "--data", &data]).await);
        assert!(listed.lines().any(|line| line.contains(fingerprint) && line.ends_with("missing")), "{listed}");
        text(&sluice.run(&["keys", "forget", name, fingerprint, "--data", &data]).await);
    }
    sluice.start_again().await;
    let listed = text(&sluice.run(&["keys", "list", "--data", &data]).await);
    assert_eq!(listed.matches("configured").count(), 5, "{listed}");
    assert!(!listed.contains("missing"), "{listed}");
    sluice.finish().await;
}

#[tokio::test]
async fn what_it_keeps_is_for_its_owner_alone() {
    let sluice = Sluice::start(&[]).await;
    fs::write(sluice.folder().join("large"), bytes(33 * MIB, 1)).unwrap();
    text(&sluice.run(&["upload", "large", "--pay"]).await);
    let mut folders = vec![sluice.folder().join("client")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
                assert_eq!(mode, 0o600, "{}", entry.path().display());
            }
        }
    }
    assert!(files >= 2, "a key and a token");
    let in_folder = |folder: PathBuf| fs::read_dir(folder).unwrap().map(Result::unwrap);
    let keys_and_databases = in_folder(sluice.data().join("keys")).chain(in_folder(sluice.data()));
    for file in keys_and_databases.filter(|file| file.file_type().unwrap().is_file()) {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        // A lock holds nothing.
        assert!(mode == 0o600 || file.path().extension().is_some_and(|end| end == "lock"), "{:?}", file.path());
    }
    sluice.finish().await;
}

#[tokio::test]
async fn a_token_is_restricted_and_inspected() {
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let token = credential.expose().expose().clone();
    let restrict = ["token", "restrict", &token, "--max-mb", "3", "--valid-for", "1h", "--max-uses", "1"];
    let narrower = text(&sluice.run(&restrict).await).trim().to_owned();
    sluice.is_secret(&narrower);
    let inspected = text(&sluice.run(&["token", "inspect", &narrower]).await);
    for part in ["large_upload_max_mb=3", "large_upload_max_uses=1", "delegate=", "media_valid_until="] {
        assert!(inspected.contains(part), "{part}: {inspected}");
    }
    assert!(!inspected.contains(&credential.preimage().expose_hex()), "the preimage is not shown");
    let narrower = sluice_common::l402::Credential::parse(&narrower).unwrap();
    assert_eq!(sluice.upload(&narrower, &bytes(3 * MIB + 1, 1)).await.status(), 413);
    assert_eq!(sluice.upload(&narrower, &bytes(3 * MIB, 1)).await.status(), 200);
    assert_eq!(sluice.upload(&narrower, b"more").await.status(), 402);
    let again = text(&sluice.run(&["token", "restrict", &token, "--max-mb", "3"]).await);
    assert_ne!(again.trim(), narrower.expose().expose(), "always with a fresh delegate");
    let wider = sluice.run(&["token", "restrict", &token, "--max-mb", "5000"]).await;
    assert!(!wider.status.success());
    sluice.finish().await;
}
