use super::*;

const MUID: &str = "-V9rMHRbp8urB8zFn9yDvkVknEyWSQm3Z1_wtXsV9YU=";

#[test]
fn a_muid_or_a_media_token_names_the_file() {
    let wanted = Wanted::parse(MUID).unwrap();
    assert!(matches!(wanted, Wanted::Own(_)));
    assert_eq!(wanted.muid().to_string(), MUID);
    for junk in ["", "abc", "a.b.c.d.e"] {
        assert!(matches!(Wanted::parse(junk), Err(DownloadError::NeitherMuidNorToken)), "{junk}");
    }

    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    let terms = sluice_common::media_token::Terms {
        host: "a".into(),
        muid: MUID.parse().unwrap(),
        buyer: None,
        expires_at: Some(1),
        meta: String::new(),
    };
    let token = MediaToken::sign(terms, sluice_common::media_token::SignedOver::Raw, &key).unwrap().to_string();
    let wanted = Wanted::parse(&token).unwrap();
    assert!(matches!(&wanted, Wanted::Token { text, .. } if *text == token));
    assert_eq!(wanted.muid().to_string(), MUID);
}

#[test]
fn the_public_is_asked_first_and_saved_tokens_last() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(Some(dir.path().to_owned())).unwrap();
    let kinds = |wanted: &Wanted| -> Vec<&str> {
        let kind = |source| match source {
            Source::Public => "public",
            Source::Key(_) => "key",
            Source::Token(_) => "token",
        };
        sources(wanted, &state, "http://a", None).unwrap().into_iter().map(kind).collect()
    };
    let own = Wanted::Own(MUID.parse().unwrap());
    assert_eq!(kinds(&own), ["public"]);
    state.key().unwrap();
    assert_eq!(kinds(&own), ["public", "key"]);
    assert_eq!(kinds(&Wanted::Token { text: String::new(), muid: MUID.parse().unwrap() }), ["key"]);
}

#[test]
fn the_user_names_the_file_or_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let place = |output: Option<&Path>| Place { output: output.map(Path::to_owned), force: false };
    let (none, folder) = (place(None), place(Some(dir.path())));
    assert_eq!((none.dir(), none.path("n")), (".".into(), "n".into()));
    assert_eq!((folder.dir(), folder.path("n")), (dir.path().to_owned(), dir.path().join("n")));
    let file = place(Some(&dir.path().join("x")));
    assert_eq!((file.dir(), file.path("n")), (dir.path().to_owned(), dir.path().join("x")));
    assert_eq!(place(Some(Path::new("x"))).dir(), Path::new("."));

    assert!(file.check_output().is_ok());
    std::fs::write(dir.path().join("x"), "").unwrap();
    assert!(matches!(file.check_output(), Err(DownloadError::Exists { .. })));
    assert!(Place { force: true, ..file }.check_output().is_ok());
    assert!(folder.check_output().is_ok());
    let nowhere = place(Some(&dir.path().join("no/x"))).check_output().unwrap_err().to_string();
    assert_eq!(nowhere, format!("there is no folder {}", dir.path().join("no").display()));
}

#[test]
fn a_range_begins_where_it_says() {
    assert_eq!(range_start("bytes 5-9/10"), Some(5));
    for junk in ["", "bytes */10", "5-9/10", "bytes x-9/10"] {
        assert_eq!(range_start(junk), None, "{junk}");
    }
}

#[test]
fn other_sources_are_asked_only_when_one_has_no_such_file() {
    for (status, is) in [(401, true), (402, true), (403, true), (404, true), (410, false), (416, false), (500, false)] {
        assert_eq!(is_none_of_ours(StatusCode::from_u16(status).unwrap()), is, "{status}");
    }
}
