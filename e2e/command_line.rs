//! The commands that talk to a server.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Output, time::Duration};

use tokio::{io::AsyncWriteExt, time::timeout};

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
    let changed = upload(&["--name", "another", "--public"]).await;
    let said = String::from_utf8(changed.stderr).unwrap();
    for part in ["stored this file for you already", "changed name: \"another\"", "changed public: true (it was false)"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(sluice.payments_made().await, 1);
    fs::write(sluice.folder().join("file"), bytes(1_000, 2)).unwrap();
    text(&upload(&[]).await);
    assert_eq!(sluice.payments_made().await, 2, "another file is");
    sluice.finish().await;
}

#[tokio::test]
async fn what_was_paid_for_in_vain_is_kept_and_said_so() {
    let mut sluice = Sluice::start_with("[backend]\nmin_free_disk_mb = 1000000000000").await;
    fs::write(sluice.folder().join("file"), bytes(MIB, 1)).unwrap();
    let upload = ["upload", "file", "--paid", "--pay"];
    let output = sluice.run(&upload).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("what was paid for is kept"), "{said}");
    sluice.stop().await;
    fs::write(sluice.folder().join("sluice.toml"), "").unwrap();
    sluice.start_again().await;
    text(&sluice.run(&upload).await);
    assert_eq!(sluice.payments_made().await, 1);
    sluice.finish().await;
}

#[tokio::test]
async fn a_small_file_is_sent_once_and_keeps_what_is_not_said_anew() {
    let sluice = Sluice::start(&[]).await;
    fs::write(sluice.folder().join("file"), bytes(1_000, 1)).unwrap();
    let upload = async |more: &[&str]| {
        let output = sluice.run(&[&["upload", "file", "--json"], more].concat()).await;
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        (serde_json::from_str::<serde_json::Value>(&text(&output)).unwrap(), said)
    };
    let (first, said) = upload(&["--public", "--price", "3", "--name", "title"]).await;
    assert!(said.contains("stored file (1000 bytes)"), "{said}");
    let (again, said) = upload(&[]).await;
    assert_eq!(again, first, "it stays public, with its title and price");
    assert!(said.contains("already (public): not sent again") && !said.contains("changed"), "{said}");
    let (changed, said) = upload(&["--price", "4"]).await;
    assert!(said.contains("changed price: 4 (it was 3)"), "{said}");
    for (member, value) in [("public", serde_json::json!(true)), ("price", 4.into()), ("name", "title".into())] {
        assert_eq!(changed[member], value, "{member}");
    }

    // What the server lost comes back, as it was.
    for stored in sluice.stored_files() {
        fs::remove_file(stored).unwrap();
    }
    let (mended, said) = upload(&[]).await;
    assert!(said.contains("cannot read it: sending it again"), "{said}");
    for member in ["public", "price", "name", "description", "tags"] {
        assert_eq!(mended[member], changed[member], "{member}");
    }
    text(&sluice.run(&["download", mended["muid"].as_str().unwrap(), "-o", "back"]).await);
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

    text(&sluice.run(&["upload", "stored", "--paid", "--pay", "--name", "another"]).await);
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
async fn who_names_a_wrong_address_is_told_so_soon() {
    let sluice = Sluice::start(&[]).await;
    fs::write(sluice.folder().join("file"), b"x").unwrap();
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ssh = format!("http://{}", other.local_addr().unwrap());
    let greet = tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = stream.write_all(b"SSH-2.0-test\r\n").await;
        }
    });
    // No resolver asks anybody for a name of so many characters.
    let nowhere = format!("http://{}.invalid", "x".repeat(64));
    let tls = sluice.url("").replace("http:", "https:");
    let no_scheme = format!("localhost:{}", sluice.address().port());
    let (admin, meant) = (sluice.admin_url(""), format!("did you mean http://{no_scheme}?"));
    for (server, error, tries) in [
        (nowhere.as_str(), "no such host", 0),
        (tls.as_str(), "it does not speak TLS; try http://", 0),
        (ssh.as_str(), "it does not speak HTTP; try https://", 0),
        (admin.as_str(), "/ask answers 404 Not Found: is http://127.0.0.1:", 0),
        (no_scheme.as_str(), meant.as_str(), 0),
        ("http://127.0.0.1:1", "Connection refused", 2),
    ] {
        let upload = ["upload", "file", "--server", server];
        let refused = timeout(Duration::from_secs(20), sluice.run(&upload)).await.expect("it tries again and again");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains(error), "{server}: {said}");
        assert_eq!(said.matches("trying again").count(), tries, "{server}: {said}");
    }
    greet.abort();
    sluice.finish().await;
}

#[tokio::test]
async fn who_cannot_pay_is_told_where_it_was_tried() {
    let sluice = Sluice::start(&[]).await;
    fs::write(sluice.folder().join("file"), b"x").unwrap();
    for (admin, error, tries) in [
        ("http://127.0.0.1:1", "cannot reach http://127.0.0.1:1: ", 2),
        (sluice.url("").as_str(), "/wallet/pay answers 404 Not Found: is http://127.0.0.1:", 0),
    ] {
        let refused = sluice.run(&["upload", "file", "--paid", "--pay", "--admin", admin]).await;
        let said = String::from_utf8(refused.stderr).unwrap();
        let last = said.lines().last().unwrap();
        let wanted = "the admin address, where the embedded wallet pays (--admin, SLUICE_ADMIN): ";
        assert!(last.contains(wanted) && last.contains(error), "{said}");
        assert_eq!(said.matches("price: ").count(), 1, "{said}");
        assert_eq!(said.matches("trying again").count(), tries, "{said}");
    }
    sluice.finish().await;
}

#[tokio::test]
async fn what_a_file_is_called_does_not_steer_the_terminal() {
    let sluice = Sluice::start(&[]).await;
    let name = "a\u{1b}[2Jb";
    fs::write(sluice.folder().join(name), b"x").unwrap();
    for arguments in [&["upload", name][..], &["upload", "a\u{1b}"]] {
        let said = sluice.run(arguments).await.stderr;
        assert!(!said.contains(&0x1b) && String::from_utf8(said).unwrap().contains("a\\u{1b}"), "{arguments:?}");
    }
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
        assert_eq!(mode, 0o600, "{:?}", file.path());
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
    for nothing in [&["token", "restrict", &token][..], &["token", "restrict", &token, "--max-mb", "0"]] {
        let refused = sluice.run(nothing).await;
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && error.contains("--max-mb"), "{error}");
    }
    let wider = sluice.run(&["token", "restrict", &token, "--max-mb", "5000"]).await;
    assert!(!wider.status.success());
    sluice.finish().await;
}

#[tokio::test]
async fn the_doctor_finds_a_disk_that_takes_no_bytes() {
    let folder = tempfile::tempdir().unwrap();
    // Files can be made, but hold nothing: as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" doctor --data \"$1\"";
    let doctor = tokio::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_sluice")])
        .arg(folder.path().join("data"))
        .env_clear()
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(!doctor.status.success(), "{said}");
    for what in ["gateway: ", "backend: ", ""] {
        let line = said.lines().find(|line| line.starts_with("error") && line.contains(what));
        assert!(line.is_some_and(|line| line.contains("its folder cannot be written")), "{what}: {said}");
    }
    assert!(said.lines().any(|line| line.starts_with("error    store")), "{said}");
}
