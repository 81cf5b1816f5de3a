mod lnd;
mod services;

use std::num::NonZeroU64;

use sluice_common::secret::Secret;

use super::*;

const SLUICE_TOML: &str = include_str!("../../../config/sluice.toml");
const COMPOSE_TOML: &str = include_str!("../../../config/compose.toml");
const SPHINX_STACK_TOML: &str = include_str!("../../../config/sphinx-stack.toml");

/// What `load` says of a file with this text and an environment of these variables.
fn load_with(text: &str, env: &[(&str, &str)], flags: &Flags, parts: Parts) -> Result<Settings, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.toml");
    fs::write(&path, text).unwrap();
    let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
    load(Some(&path), &env, flags, parts)
}

fn load_file(text: &str) -> Result<Settings, ConfigError> {
    load_with(text, &[], &Flags::default(), Parts::All)
}

fn load_env(env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    load_with("", env, &Flags::default(), Parts::All)
}

/// The error as printed, without the folder of the test.
fn error_of(result: Result<Settings, ConfigError>) -> String {
    let text = result.unwrap_err().to_string();
    text.rsplit_once('/').map(|(_, text)| text.to_owned()).filter(|text| text.starts_with("test.toml")).unwrap_or(text)
}

#[test]
fn sluice_toml_shows_every_setting_with_its_default() {
    assert_eq!(load_file(SLUICE_TOML).unwrap(), Settings::default());
    assert_eq!(load_file("").unwrap(), Settings::default());

    let is_setting = |line: &str| {
        let name = line.strip_prefix('#').and_then(|line| line.split_once(" = ")).map(|(name, _)| name);
        name.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let all: Vec<_> = SLUICE_TOML.lines().map(|line| if is_setting(line) { &line[1..] } else { line }).collect();
    let mut all = load_file(&all.join("\n")).unwrap();
    assert_eq!(all.services[0].max_uses.take(), NonZeroU64::new(1), "the one setting without a default");
    assert_eq!(all, Settings::default().effective());

    // No key of the effective configuration is missing in the file.
    let effective = toml::Table::try_from(Settings::default().effective()).unwrap();
    for (section, value) in &effective {
        assert!(SLUICE_TOML.contains(section), "{section}");
        let table = value.as_array().map_or(Some(value), |array| array.first()).and_then(toml::Value::as_table);
        for key in table.into_iter().flat_map(toml::Table::keys) {
            assert!(SLUICE_TOML.contains(&format!("{key} = ")), "{section}.{key}");
        }
    }
}

#[test]
fn sphinx_stack_sells_what_it_sells_today() {
    let settings = load_file(SPHINX_STACK_TOML).unwrap();
    let service = &settings.services[0];
    assert_eq!((settings.services.len(), service.name.as_str()), (1, "sphinx_meme"));
    assert_eq!(
        (service.price_sat, service.valid_for_secs.get(), service.max_upload_mb.get()),
        (Some(25000), 31557600, 500)
    );
    assert_eq!(service.capabilities, ["large_upload"]);
    assert_eq!(Settings { services: vec![], ..settings }, Settings { services: vec![], ..Settings::default() });
}

#[test]
fn the_containers_have_a_configuration_without_keys() {
    for parts in [Parts::Gateway, Parts::Backend] {
        let settings = load_with(COMPOSE_TOML, &[], &Flags::default(), parts).unwrap();
        assert!(settings.lightning.allow_test_wallet && settings.gateway.admin_listen.ip().is_loopback());
        let master_keys = settings.master_keys().into_iter().map(|key| key.key);
        let mut keys = master_keys.chain([settings.wallet_key(), settings.jwt_key(), settings.local_encryption_key()]);
        assert!(keys.all(|key| matches!(key, KeySource::File(path) if path.starts_with("/run/secrets"))));

        // With LND, as a comment shows.
        let (before, wallet) = COMPOSE_TOML.split_once("kind = \"wallet\"").unwrap();
        let (lnd, after) = wallet.split_once("above:\n").unwrap().1.split_once("\n\n").unwrap();
        let text = format!("{before}{}\n\n{after}", lnd.replace("# ", ""));
        let lnd = load_with(&text, &[], &Flags::default(), parts).unwrap().lightning;
        assert_eq!((lnd.is_wallet(), lnd.macdir.as_deref()), (false, Some(Path::new("/lnd"))));
    }
}

#[test]
fn flags_go_over_the_environment_over_the_file_over_defaults() {
    let file = "[log]\nlevel = \"warn\"\n[backend]\nhost = \"file.example\"\nlocal_dir = \"file\"";
    let flags = Flags { log_level: Some(LogLevel::Trace), ..Flags::default() };
    let env = [("SLUICE_LOG", "error"), ("HOST", "env.example")];

    let settings = load_with(file, &env, &flags, Parts::All).unwrap();
    assert_eq!(settings.log.level, LogLevel::Trace);
    assert_eq!(settings.host(), "env.example");
    assert_eq!(settings.local_dir(), Path::new("file"));
    assert_eq!(settings.upstream(&settings.services[0]).0, ["127.0.0.1:8083"]);
    assert_eq!(load_with(file, &env, &Flags::default(), Parts::All).unwrap().log.level, LogLevel::Error);
}

#[test]
fn what_follows_from_other_settings_follows_them() {
    let flags = Flags {
        data_dir: Some("/data".into()),
        listen: Some("127.0.0.1:1".parse().unwrap()),
        backend_listen: Some("0.0.0.0:2".parse().unwrap()),
        price_sat: NonZeroU64::new(7),
        max_mb: NonZeroU64::new(9),
        ..Flags::default()
    };
    let settings = load_with("", &[], &flags, Parts::All).unwrap();
    let service = &settings.services[0];
    assert_eq!(settings.host(), "127.0.0.1:1");
    assert_eq!(settings.upstream(service).0, ["127.0.0.1:2"]);
    assert_eq!((service.price_sat, service.max_upload_mb.get()), (Some(7), 9));
    assert_eq!(settings.wallet_key().to_string(), "file:/data/keys/wallet.key");
    assert_eq!(settings.backend_database().to_string(), "sqlite:/data/backend.db");
    assert_eq!(settings.effective().effective(), settings.effective());
}

#[test]
fn the_names_that_sphinx_meme_knows_work() {
    let key = "ab".repeat(32);
    let env = [
        ("PORT", "5000"),
        ("HOST", "media.example"),
        ("JWT_KEY", "file:any text"),
        ("DATABASE_URL", "sqlite:/srv/meme.db"),
        ("STORAGE_MODE", "local"),
        ("LOCAL_DIR", "/srv/files"),
        ("LOCAL_ENCRYPTION_KEY", &key),
        ("S3_KEY", "unused"),
        ("S3_SECRET", "unused"),
        ("RESTRICT_UPLOAD_SIZE", "1"),
        ("MAX_FREE_UPLOAD_SIZE_MB", "5"),
    ];
    let settings = load_with("", &env, &Flags::default(), Parts::Backend).unwrap();
    let backend = &settings.backend;
    assert_eq!(backend.listen.to_string(), "0.0.0.0:5000");
    assert_eq!(settings.host(), "media.example");
    assert_eq!(settings.jwt_key(), KeySource::Value(sluice_common::secret::Secret::new("file:any text".to_owned())));
    assert_eq!(settings.local_encryption_key(), KeySource::from(key.as_str()));
    assert_eq!(settings.backend_database().sqlite_path(), Some(Path::new("/srv/meme.db")));
    assert_eq!(settings.local_dir(), Path::new("/srv/files"));
    assert!(backend.restrict_upload_size);
    assert_eq!(backend.max_free_upload_size_mb, 5);

    let all = load_with("", &env, &Flags::default(), Parts::All).unwrap();
    assert_eq!(all.backend.listen, Settings::default().backend.listen, "PORT is for `sluice backend`");
}

#[test]
fn nothing_in_a_variable_counts_as_not_set_but_for_keys() {
    let names = ["HOST", "DATABASE_URL", "STORAGE_MODE", "LOCAL_DIR", "RESTRICT_UPLOAD_SIZE", "SLUICE_LOG"];
    assert_eq!(load_env(&names.map(|name| (name, ""))).unwrap(), Settings::default());
    for name in ["JWT_KEY", "LOCAL_ENCRYPTION_KEY", "SLUICE_MASTER_KEYS"] {
        let expected = format!("environment variable {name}: is empty; give it a key or unset it");
        assert_eq!(error_of(load_env(&[(name, "")])), expected);
    }
}

#[test]
fn master_keys_are_a_list_with_times() {
    let env = [("SLUICE_MASTER_KEYS", "file:/k/a@b, file:/k/c@2026-01-01T00:00:00Z")];
    assert!(error_of(load_env(&env)).contains("2026-01-01T00:00:00Z"));
    let env = [("SLUICE_MASTER_KEYS", "file:/k/a, file:/k/c@2026-01-01T00:00:00Z")];
    let keys = load_env(&env).unwrap().master_keys();
    let shown: Vec<_> = keys.iter().map(|key| (key.key.to_string(), key.mints_from.unix_timestamp())).collect();
    assert_eq!(shown, [("file:/k/a".to_owned(), 0), ("file:/k/c".to_owned(), 1_767_225_600)]);

    let file = "[l402]\nmaster_keys = [{ key = \"file:/k/a\" }, { key = \"file:/k/c\", mints_from = \"2026-01-01T00:00:00Z\" }]";
    assert_eq!(load_file(file).unwrap().master_keys(), keys);
    assert!(error_of(load_env(&[("SLUICE_MASTER_KEYS", "hunter2,")])).ends_with("a key is missing"));
}

#[test]
fn says_where_a_file_is_wrong() {
    for (text, error) in [
        (
            "data_dir = \"a\"\nnodes = 1",
            "test.toml:2:1: unknown field `nodes`, expected one of `data_dir`, `log`, `l402`, `lightning`, `gateway`, `service`, `backend`",
        ),
        ("[gateway]\nlisten = \"8081\"", "test.toml:2:10: invalid socket address syntax"),
        ("[[service]]\nname = \"a\"\nprotect = []\nprice_sat = -1", "test.toml:4:13: invalid value, expected u64"),
        ("[[service]]\nprotect = []", "test.toml:1:1: missing field `name`"),
        (
            "[[service]]\nname = \"a\"\nupstream = 1",
            "test.toml:3:12: invalid type, expected an address or a list of addresses",
        ),
        (
            "[[service]]\nname = \"a\"\nprice = { sat = 1 }",
            "test.toml:3:11: unknown field `sat`, expected one of `per_mib_sat`, `minimum_sat`, `steps`, `url`, `timeout_ms`, `by_size`, `fallback`",
        ),
        ("[lightning]\nkind = \"cln\"", "test.toml:2:8: unknown variant `cln`, expected `wallet` or `lnd`"),
        (
            "[backend]\ndatabase_url = \"postgres://u:hunter2@h/d\"",
            "[backend] database_url (DATABASE_URL): PostgreSQL is not supported there yet; use sqlite:PATH",
        ),
    ] {
        assert_eq!(error_of(load_file(text)), error);
    }
}

#[test]
fn errors_never_show_a_key() {
    for text in [
        "[backend]\njwt_key = \"hunter2",
        "[backend]\njwt_key = \"hunter2\" hunter2",
        "[backend]\njwt_key = [\"hunter2\"]",
        "[l402]\nmaster_keys = [{ key = \"hunter2\", mints_from = \"hunter2\" }]",
        "[l402]\nmaster_keys = \"hunter2\"",
        "[l402]\nmaster_keys = [\"hunter2\"]",
        "[l402]\nmaster_keys = \"hunter2, expected hunter2\"",
        "[backend]\ndatabase_url = \"hunter2\"",
    ] {
        let error = load_file(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error:?}");
    }
    for name in ["SLUICE_MASTER_KEYS", "DATABASE_URL", "GATEWAY_DATABASE_URL"] {
        let error = load_env(&[(name, "hunter2@hunter2")]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{name}: {error:?}");
    }
}

#[test]
fn the_effective_configuration_shows_no_key() {
    let env = [("JWT_KEY", "hunter2"), ("LOCAL_ENCRYPTION_KEY", "hunter2"), ("SLUICE_MASTER_KEYS", "hunter2")];
    let settings = load_env(&env).unwrap();
    let shown = toml::to_string(&settings.effective()).unwrap();
    assert!(!format!("{shown} {settings:?}").contains("hunter2"));
    assert_eq!(shown.matches("[redacted]").count(), 3);
}

#[test]
fn refuses_what_cannot_be_used() {
    let service =
        |more: &str| format!("[[service]]\nname = \"a\"\nprotect = [\"POST /largefile\"]\nprice_sat = 1\n{more}");
    let two = service("") + "\n" + &service("");
    let other = service("").replace("largefile", "other");
    for (text, error) in [
        (
            "[backend]\nstorage_mode = \"s3\"",
            "[backend] storage_mode = \"s3\" (STORAGE_MODE) is not supported yet; use \"local\"",
        ),
        (
            "[gateway]\nlisten = \"0.0.0.0:1\"",
            "the embedded wallet is no real money: with it, the gateway listens on 0.0.0.0:1, where others can reach it; if that is meant, say [lightning] allow_test_wallet = true",
        ),
        (
            "[gateway]\nadmin_listen = \"[::]:1\"",
            "the embedded wallet is no real money: with it, its admin address listens on [::]:1, where others can reach it; if that is meant, say [lightning] allow_test_wallet = true",
        ),
        (
            "[gateway]\nadmin_listen = \"127.0.0.1:8083\"",
            "its admin address and the backend cannot both listen on 127.0.0.1:8083",
        ),
        ("[backend]\nhost = \"h\u{f6}st\"", "[backend] host (HOST): \"h\u{f6}st\" is not a host name in ASCII"),
        ("[gateway]\nlisten = \"127.0.0.1:0\"", "[gateway] listen: port 0 would be another one each time"),
        ("service = []", "there is no [[service]]"),
        (&two, "service `a`: there are two of this name"),
        (&other, "no [[service]] protects \"POST /largefile\": the backend would know no token"),
        (
            &service("capabilities = [\"a,b\"]"),
            "service `a`: capability `a,b` has more than letters, digits, `-` and `_`",
        ),
        (&service("").replace("POST /", "HEAD /"), "service `a`: `HEAD /largefile` is not METHOD /path"),
        (
            &service("").replace("_sat = 1", "_sat = 2100000000000001"),
            "service `a`: price: a token could cost more than there will ever be",
        ),
        ("[lightning]\ninvoice_expiry_secs = 1", "invoice_expiry_secs must be from 60 to 2592000"),
    ] {
        let found = error_of(load_file(text));
        assert!(found.starts_with(error), "{found}");
    }
    let exposed = "[gateway]\nlisten = \"0.0.0.0:1\"\n[lightning]\nallow_test_wallet = true";
    assert_eq!(load_file(exposed).unwrap().gateway.listen.port(), 1);
    let in_a_part = load_with("[gateway]\nlisten = \"0.0.0.0:1\"", &[], &Flags::default(), Parts::Backend);
    assert!(in_a_part.is_ok(), "the backend has no wallet: {in_a_part:?}");
    assert!(load_file(&service("constraints = { region = \"eu\" }")).is_ok());
}

#[test]
fn refuses_what_a_later_version_can_by_name() {
    for (env, error) in [
        (
            ("DATABASE_URL", "postgres://u:p@h/d"),
            "[backend] database_url (DATABASE_URL): PostgreSQL is not supported there yet; use sqlite:PATH",
        ),
        (
            ("GATEWAY_DATABASE_URL", "mysql://u:p@h/d"),
            "environment variable GATEWAY_DATABASE_URL: not a database URL; use sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME",
        ),
        (("STORAGE_MODE", "S3"), "[backend] storage_mode = \"s3\" (STORAGE_MODE) is not supported yet; use \"local\""),
        (("STORAGE_MODE", "tape"), "environment variable STORAGE_MODE: expected \"local\" or \"s3\""),
        (("RESTRICT_UPLOAD_SIZE", "yes"), "environment variable RESTRICT_UPLOAD_SIZE: expected \"true\" or \"false\""),
        (
            ("MAX_FREE_UPLOAD_SIZE_MB", "-1"),
            "environment variable MAX_FREE_UPLOAD_SIZE_MB: invalid digit found in string",
        ),
        (
            ("SLUICE_LOG", "loud"),
            "environment variable SLUICE_LOG: not a log level; use error, warn, info, debug or trace",
        ),
    ] {
        assert_eq!(error_of(load_env(&[env])), error);
    }
}

#[test]
fn the_ledger_can_be_in_postgres_and_the_wallet_stays_in_its_file() {
    let env = [("GATEWAY_DATABASE_URL", "postgres://u:hunter2@h/d")];
    let settings = load_env(&env).unwrap();
    assert_eq!(settings.gateway_database(), DatabaseUrl::Postgres(Secret::new(env[0].1.to_owned())));
    assert_eq!(settings.wallet_database(), Path::new("sluice-data/gateway.db"));
    assert!(!format!("{settings:?} {}", toml::to_string(&settings.effective()).unwrap()).contains("hunter2"));
    // The backend has no use for it.
    assert!(load_with("", &[("DATABASE_URL", "postgres://h/d")], &Flags::default(), Parts::Gateway).is_ok());

    let settings = load_file("[gateway]\ndatabase_url = \"sqlite:/srv/ledger.db\"").unwrap();
    assert_eq!(settings.wallet_database(), Path::new("/srv/ledger.db"));
}

#[test]
fn flags_for_the_only_service_need_just_one() {
    let text = format!("{SPHINX_STACK_TOML}\n[[service]]\nname = \"b\"\nprotect = [\"GET /b\"]\nprice_sat = 1");
    let flags = Flags { max_mb: NonZeroU64::new(1), ..Flags::default() };
    let error = error_of(load_with(&text, &[], &flags, Parts::All));
    assert_eq!(error, "--price-sat and --max-mb are for one [[service]], but there are 2");
}
