use std::{fs, os::unix::fs::symlink};

use tempfile::TempDir;
use time::OffsetDateTime;

use super::*;

/// A data folder of its own, and settings that use it.
fn first_start() -> (TempDir, Settings) {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
    (dir, settings)
}

fn key_files(settings: &Settings) -> Vec<String> {
    let Ok(files) = fs::read_dir(settings.data_dir.join("keys")) else { return vec![] };
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const ALL: [&str; 4] = ["jwt.key", "local-encryption.key", "master.key", "wallet.key"];

#[test]
fn a_first_start_makes_every_key_once() {
    let (_dir, settings) = first_start();
    assert_eq!(make_missing(&settings).unwrap().len(), 4);
    assert_eq!(key_files(&settings), ALL);
    for name in ALL {
        let path = settings.data_dir.join("keys").join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let fingerprint = |settings| master_keys(settings).unwrap().fingerprints().next().unwrap();
    let before = (fingerprint(&settings), jwt_key(&settings).unwrap(), wallet_key(&settings).unwrap());
    assert_ne!(wallet_key(&settings).ok(), local_encryption_key(&settings).unwrap());

    assert!(make_missing(&settings).unwrap().is_empty());
    assert_eq!(before, (fingerprint(&settings), jwt_key(&settings).unwrap(), wallet_key(&settings).unwrap()));
}

#[test]
fn a_first_start_that_was_cut_short_is_gone_on_with() {
    let (_dir, settings) = first_start();
    make_missing(&settings).unwrap();
    let kept = wallet_key(&settings).unwrap();
    fs::remove_file(settings.data_dir.join("keys/jwt.key")).unwrap();
    assert_eq!(make_missing(&settings).unwrap(), [settings.data_dir.join("keys/jwt.key")]);
    assert_eq!(wallet_key(&settings).unwrap(), kept);
}

#[test]
fn no_new_key_takes_the_place_of_one_that_was_used() {
    type Used = fn(&Settings) -> PathBuf;
    let backend: Used = |settings| settings.backend_database().sqlite_path().unwrap().to_owned();
    let gateway: Used = |settings| settings.wallet_database();
    let file: Used = |settings| settings.local_dir().join("0123");
    for used in [backend, gateway, file] {
        let (_dir, settings) = first_start();
        make_missing(&settings).unwrap();
        let used = used(&settings);
        fs::create_dir_all(used.parent().unwrap()).unwrap();
        fs::write(&used, "").unwrap();
        assert!(make_missing(&settings).unwrap().is_empty(), "nothing is missing");

        let lost = settings.data_dir.join("keys/master.key");
        fs::remove_file(&lost).unwrap();
        let error = make_missing(&settings).unwrap_err();
        assert!(matches!(&error, KeyError::Lost { path, .. } if *path == lost), "{error}");
        assert_eq!(key_files(&settings), ["jwt.key", "local-encryption.key", "wallet.key"]);
    }
}

#[test]
fn a_folder_that_stands_ready_is_still_a_first_start() {
    let (_dir, settings) = first_start();
    fs::create_dir_all(settings.local_dir()).unwrap();
    assert_eq!(make_missing(&settings).unwrap().len(), 4);
}

#[test]
fn a_link_to_nowhere_is_no_missing_key() {
    let (_dir, settings) = first_start();
    fs::create_dir_all(settings.data_dir.join("keys")).unwrap();
    symlink("/nowhere/at/all", settings.data_dir.join("keys/jwt.key")).unwrap();
    assert_eq!(make_missing(&settings).unwrap().len(), 3);
    assert!(matches!(jwt_key(&settings), Err(KeyError::Missing { .. })));
}

#[test]
fn says_which_key_is_missing_and_how_to_make_one() {
    let (_dir, settings) = first_start();
    let path = settings.data_dir.join("keys/wallet.key");
    let error = wallet_key(&settings).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "[lightning] wallet_key: there is no key file {0}; put the key there, or make a new one: \
             (umask 077; openssl rand -hex 32 > {0})",
            path.display()
        )
    );
    assert!(matches!(master_keys(&settings), Err(KeyError::Missing { .. })));
}

#[test]
fn an_empty_short_or_other_file_is_no_key() {
    let (_dir, settings) = first_start();
    make_missing(&settings).unwrap();
    let hex = "5a".repeat(32);
    for text in ["", "\n", "5a5a", &hex[1..], &format!("{hex}5a"), &format!("0x{hex}"), &"z".repeat(64)] {
        for name in ALL {
            fs::write(settings.data_dir.join("keys").join(name), text).unwrap();
        }
        let path = settings.data_dir.join("keys/master.key");
        let error = master_keys(&settings).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(text.trim().is_empty() || !error.contains(text), "{error}");
        assert!(wallet_key(&settings).is_err() && local_encryption_key(&settings).is_err(), "{text}");
        assert_eq!(jwt_key(&settings).is_err(), text.len() < 32, "{text}");
    }
    fs::write(settings.data_dir.join("keys/jwt.key"), vec![b'a'; 5000]).unwrap();
    assert!(matches!(jwt_key(&settings), Err(KeyError::Unreadable { .. })));
    fs::write(settings.data_dir.join("keys/wallet.key"), format!("{}\r\n", hex.to_uppercase())).unwrap();
    assert_eq!(wallet_key(&settings).unwrap().expose(), &[0x5a; 32]);
}

#[test]
fn keys_given_as_text_are_taken_as_they_stand() {
    let (_dir, mut settings) = first_start();
    settings.backend.jwt_key = Some(KeySource::Value(Secret::new(" short\n".to_owned())));
    assert_eq!(jwt_key(&settings).unwrap().expose(), " short\n");
    settings.backend.jwt_key = Some(KeySource::Value(Secret::new(String::new())));
    assert_eq!(jwt_key(&settings).unwrap_err().to_string(), "[backend] jwt_key (JWT_KEY): its value is empty");

    let key =
        |text: &str| MasterKeySettings { key: text.into(), mints_from: OffsetDateTime::UNIX_EPOCH, retired: false };
    let hex = "5a".repeat(32);
    settings.l402.master_keys = vec![key(&hex), key(&hex)];
    let error = master_keys(&settings).unwrap_err().to_string();
    assert_eq!(error, "[l402] master_keys (SLUICE_MASTER_KEYS): a master key stands in the list twice");
    settings.l402.master_keys = vec![key("hunter2")];
    let error = master_keys(&settings).unwrap_err().to_string();
    assert!(error.ends_with("its value is not 64 hexadecimal digits"), "{error}");
}

#[test]
fn one_master_key_must_mint_by_now() {
    let (_dir, mut settings) = first_start();
    let mints_from = OffsetDateTime::now_utc() + time::Duration::DAY;
    settings.l402.master_keys =
        vec![MasterKeySettings { key: "5a".repeat(32).as_str().into(), mints_from, retired: false }];
    assert!(matches!(minting_master_keys(&settings), Err(KeyError::NoneMints)));
    assert!(master_keys(&settings).is_ok(), "it checks tokens already");
    settings.l402.master_keys[0].mints_from -= 2 * time::Duration::DAY;
    assert!(minting_master_keys(&settings).is_ok());
}

#[test]
fn a_check_tells_what_a_first_start_would_make_and_what_is_wrong() {
    let (_dir, settings) = first_start();
    assert_eq!(check(&settings).unwrap().len(), 4);
    assert!(!settings.data_dir.exists(), "it makes nothing");
    make_missing(&settings).unwrap();
    assert!(check(&settings).unwrap().is_empty());
    fs::write(settings.data_dir.join("keys/wallet.key"), "5a").unwrap();
    assert!(matches!(check(&settings), Err(KeyError::NotHex { .. })));
}

#[test]
fn a_macaroon_is_a_file_of_bytes_or_hex() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("invoice.macaroon");
    let of = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        lnd_macaroon(&KeySource::File(path.clone())).unwrap()
    };
    let macaroon = Secret::new(vec![2, 1, 0xff]);
    assert_eq!(of(&[2, 1, 0xff]), macaroon);
    assert_eq!(of(b"0201ff\n"), macaroon);
    assert_eq!(lnd_macaroon(&KeySource::from("0201FF")).unwrap(), macaroon);

    let error = lnd_macaroon(&KeySource::from("/lnd/hunter2.macaroon")).unwrap_err().to_string();
    assert!(error.contains("file:PATH") && !error.contains("hunter2"), "{error}");
    let missing = lnd_macaroon(&KeySource::File(dir.path().join("none"))).unwrap_err().to_string();
    assert!(missing.contains("there is no file") && !missing.contains("openssl"), "{missing}");
}

#[test]
fn without_sealing_no_key_for_it_is_made_or_missed() {
    let (_dir, mut settings) = first_start();
    settings.backend.storage_mode = StorageMode::S3;
    assert_eq!(make_missing(&settings).unwrap().len(), 3);
    assert_eq!(local_encryption_key(&settings).unwrap(), None);
    // A key that is named must be there.
    settings.backend.local_encryption_key = Some(settings.local_encryption_key());
    assert!(matches!(local_encryption_key(&settings), Err(KeyError::Missing { .. })));
    settings.backend.local_encryption_key = None;
    settings.backend.s3.seal = true;
    assert!(matches!(local_encryption_key(&settings), Err(KeyError::Missing { .. })));
}
