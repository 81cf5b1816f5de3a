//! The commands that talk to a server.

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use crate::support::{MIB, Sluice, bytes};

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
    let paid = sluice.log().matches("/wallet/pay").count();
    fs::write(sluice.folder().join("larger"), bytes(41 * MIB, 3)).unwrap();
    text(&sluice.run(&["upload", "larger", "--pay"]).await);
    assert_eq!(sluice.log().matches("/wallet/pay").count(), paid, "a saved token that still buys is used");
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
    for file in fs::read_dir(sluice.data().join("keys")).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
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
