use std::os::unix::fs::PermissionsExt;

use super::*;

const TOKEN: &str = "AgEEbHNhdAJCAACcTKm/GrxCeiFHCJ5Dk1NQPKVSdfFmW7lu63SgTBGQ9ucmKTzAknc8BnF1/0CmSCY51D6nZbqPwaAyWVN8hSW9AAIWc2VydmljZXM9c3BoaW54X21lbWU6MAACJXNwaGlueF9tZW1lX2NhcGFiaWxpdGllcz1sYXJnZV91cGxvYWQAAhdsYXJnZV91cGxvYWRfbWF4X21iPTUwMAACInNwaGlueF9tZW1lX3ZhbGlkX3VudGlsPTQxMDI0NDQ4MDAAAAYgJUzXRjvtxMRrb6syswhhXNhS1UaXFQa72BViHw+jUHI=";

fn preimage(n: u8) -> Preimage {
    Preimage::from_bytes([n; 32])
}

fn unpaid(n: u8, saved_at: u64) -> SavedToken {
    SavedToken {
        server: "http://a".into(),
        payment_hash: preimage(n).payment_hash(),
        macaroon: sluice_common::l402::Macaroon::from_base64(TOKEN).unwrap(),
        invoice: "lnbc1".into(),
        expires_at: 10,
        saved_at,
        preimage: None,
        payment_begun: false,
        uploading: None,
        ended: None,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn state() -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(Some(dir.path().join("state"))).unwrap();
    (dir, state)
}

#[test]
fn nobody_else_may_read_what_is_kept() {
    let (_dir, state) = state();
    state.key().unwrap();
    state.save(&unpaid(1, 0)).unwrap();
    assert_eq!(mode(&state.dir), 0o700);
    assert_eq!(mode(&state.tokens_dir()), 0o700);
    assert_eq!(mode(&state.key_path()), 0o600);
    assert_eq!(mode(&state.token_path(unpaid(1, 0).payment_hash)), 0o600);
}

#[test]
fn the_key_is_made_once() {
    let (_dir, state) = state();
    assert_eq!(state.existing_key().unwrap(), None);
    let key = state.key().unwrap();
    assert_eq!(state.key().unwrap(), key);
    assert_eq!(state.existing_key().unwrap(), Some(key));
    // As when another run made one in between.
    let again = write_whole(&state.key_path(), b"other", Existing::Keep);
    assert!(matches!(again, Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists));
    assert_eq!(state.key().unwrap(), key);
}

#[test]
fn a_key_that_is_none_is_an_error_that_names_the_file_and_not_its_content() {
    let (_dir, state) = state();
    let zero = "00".repeat(32);
    let long = "11".repeat(33);
    for junk in ["", "1111", zero.as_str(), long.as_str(), "zz"] {
        fs::write(state.key_path(), junk).unwrap();
        let error = state.key().unwrap_err().to_string();
        assert!(error.starts_with(&state.key_path().display().to_string()), "{error}");
        assert!(error.ends_with("not a secret key: expected 64 hexadecimal digits"), "{error}");
    }
}

#[test]
fn tokens_come_back_as_they_were_saved_oldest_first() {
    let (_dir, state) = state();
    let bought = SavedToken {
        preimage: Some(preimage(2)),
        payment_begun: true,
        uploading: Some(sluice_common::muid::Muid::from_bytes([9; 32])),
        ended: Some("used_up".into()),
        ..unpaid(2, 5)
    };
    let (newest, oldest) = (unpaid(1, 7), unpaid(3, 2));
    for token in [&newest, &bought, &oldest] {
        state.save(token).unwrap();
    }
    // What a run left that was killed while it wrote.
    fs::write(state.tokens_dir().join(".tmpAbCdEf"), "{").unwrap();
    assert!(state.tokens().unwrap() == [oldest, bought, newest]);
}

#[test]
fn a_preimage_goes_to_the_token_that_it_pays_for() {
    let (_dir, state) = state();
    for token in [unpaid(1, 1), unpaid(2, 2)] {
        state.save(&token).unwrap();
    }
    assert!(state.record_preimage(&preimage(3)).unwrap().is_none());
    let paid = state.record_preimage(&preimage(2)).unwrap().unwrap();
    assert!(paid == SavedToken { preimage: Some(preimage(2)), ..unpaid(2, 2) });
    assert!(state.tokens().unwrap() == [unpaid(1, 1), paid.clone()]);
    assert!(paid.may_buy() && paid.credential().is_some());
    assert!(!unpaid(1, 1).may_buy() && unpaid(1, 1).credential().is_none());
}

#[test]
fn a_file_that_is_no_token_is_not_passed_over() {
    let (_dir, state) = state();
    let token = unpaid(1, 1);
    let path = state.token_path(token.payment_hash);
    let mismatched = SavedToken { preimage: Some(preimage(2)), ..unpaid(1, 1) }.to_json();
    for junk in ["", "{}", &token.to_json()[..50], &mismatched] {
        fs::write(&path, junk).unwrap();
        let error = state.tokens().err().unwrap().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(!error.contains(&preimage(2).expose_hex()[..8]), "{error}");
    }
}

#[test]
fn the_folder_follows_xdg() {
    let dir = |xdg: Option<&str>, home: Option<&str>| {
        default_dir(|name| if name == "HOME" { home } else { xdg }.map(OsString::from))
    };
    assert_eq!(dir(Some("/x"), Some("/h")), Some("/x/sluice".into()));
    assert_eq!(dir(None, Some("/h")), Some("/h/.local/share/sluice".into()));
    assert_eq!(dir(Some("relative"), Some("/h")), Some("/h/.local/share/sluice".into()));
    assert_eq!(dir(Some(""), None), None);
}
