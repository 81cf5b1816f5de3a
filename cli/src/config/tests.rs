mod lnd;
mod services;
mod storage;

use std::num::NonZeroU64;

use sluice_backend::{config::DatabaseConfig, db::PostgresConfig};
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
    let reuse = all.services[0].reuse.take();
    assert_eq!(reuse, NonZeroU64::new(1).map(Reuse::Times), "a setting without a default");
    let quota = (all.backend.quota_mb.take(), all.backend.quota_files.take());
    assert_eq!(quota, (Some(10_240), Some(10_000)), "two more");
    assert_eq!(all, Settings::default().effective());

    // No key of the effective configuration is missing in the file.
    let effective = toml::Table::try_from(Settings::default().effective()).unwrap();
    for (section, value) in &effective {
        assert!(SLUICE_TOML.contains(section), "{section}");
        let table = value.as_array().map_or(Some(value), |array| array.first()).and_then(toml::Value::as_table);
        for (key, value) in table.into_iter().flatten() {
            let written = if value.is_table() { format!("[{section}.{key}]\n") } else { format!("{key} = ") };
            assert!(SLUICE_TOML.contains(&written), "{section}.{key}");
            for key in value.as_table().into_iter().flat_map(toml::Table::keys) {
                assert!(SLUICE_TOML.contains(&format!("{key} = ")), "{section}: {key}");
            }
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
        ("S3_SECRET", ""),
        ("RESTRICT_UPLOAD_SIZE", "1"),
        ("MAX_FREE_UPLOAD_SIZE_MB", "5"),
        ("PODCAST_INDEX_KEY", "K"),
        ("PODCAST_INDEX_SECRET", "file:S"),
        ("PODCAST_INDEX_URL", "http://127.0.0.1:1/api"),
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
    let podcasts = crate::keys::podcast_index(&settings).unwrap().unwrap();
    assert_eq!((podcasts.key.as_str(), podcasts.secret.expose().as_str()), ("K", "file:S"));
    assert_eq!(podcasts.base_url, "http://127.0.0.1:1/api");

    let all = load_with("", &env, &Flags::default(), Parts::All).unwrap();
    assert_eq!(all.backend.listen, Settings::default().backend.listen, "PORT is for `sluice backend`");
}

/// sphinx-meme had the key of the Podcast Index in its program.
#[test]
fn a_secret_of_the_podcast_index_alone_is_a_warning() {
    let only_secret = [("PODCAST_INDEX_SECRET", "hunter2")];
    let settings = load_with("", &only_secret, &Flags::default(), Parts::Backend).unwrap();
    assert_eq!(crate::keys::podcast_index(&settings).unwrap().map(|podcasts| podcasts.key), None);
    let warning = crate::keys::lone_podcast_secret(&settings).unwrap();
    assert!(warning.contains("PODCAST_INDEX_KEY") && !warning.contains("hunter2"), "{warning}");

    let both = [("PODCAST_INDEX_KEY", "K"), ("PODCAST_INDEX_SECRET", "S")];
    for env in [&both[..], &[]] {
        let settings = load_with("", env, &Flags::default(), Parts::Backend).unwrap();
        assert_eq!(crate::keys::lone_podcast_secret(&settings), None);
    }
}

#[test]
fn a_key_of_zeros_is_the_one_that_a_sphinx_meme_without_one_had() {
    let zeros = "0".repeat(64);
    let settings =
        load_with("", &[("LOCAL_ENCRYPTION_KEY", zeros.as_str())], &Flags::default(), Parts::Backend).unwrap();
    assert_eq!(crate::keys::local_encryption_key(&settings).unwrap().unwrap().expose(), &[0; 32]);
}

#[test]
fn a_quota_is_of_bytes_and_files_and_nought_is_none() {
    use sluice_backend::db::Quota;
    let quota =
        |file: &str| load_with(file, &[], &Flags::default(), Parts::Backend).map(|settings| settings.backend.quota());
    assert_eq!(quota("").unwrap(), Quota::default());
    assert_eq!(quota("[backend]\nquota_mb = 0\nquota_files = 0").unwrap(), Quota::default());
    let both = Quota { max_bytes: Some(3 * 1_048_576), max_files: Some(7) };
    assert_eq!(quota("[backend]\nquota_mb = 3\nquota_files = 7").unwrap(), both);
    assert!(quota("[backend]\nquota_mb = -1").is_err());
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

    let retired = load_env(&[("SLUICE_MASTER_KEYS", "file:/k/a@retired,file:/k/b")]).unwrap().master_keys();
    assert_eq!(retired.iter().map(|key| key.retired).collect::<Vec<_>>(), [true, false]);
    let file = "[l402]\nmaster_keys = [{ key = \"file:/k/a\", retired = true }, { key = \"file:/k/b\" }]";
    assert_eq!(load_file(file).unwrap().master_keys(), retired);
}

#[test]
fn says_where_a_file_is_wrong() {
    for (text, error) in [
        (
            "data_dir = \"a\"\nnodes = 1",
            "test.toml:2:1: unknown field `nodes`, expected one of `data_dir`, `stop_timeout_secs`, `log`, `l402`, `lightning`, `gateway`, `service`, `backend`",
        ),
        (
            "[gateway]\nlisten = \"8081\"",
            "test.toml:2:10: [gateway] listen: expected an address in quotes, for instance \"127.0.0.1:8081\"",
        ),
        (
            "[backend]\n# where\n  listen = 5",
            "test.toml:3:12: [backend] listen: expected an address in quotes, for instance \"127.0.0.1:8081\"",
        ),
        (
            "[backend] # ours\nhost = files.example.org",
            "test.toml:2:8: [backend] host: text must stand in quotes, and true and false stand alone",
        ),
        (
            "[backend]\nhost = example.org",
            "test.toml:2:8: [backend] host: text must stand in quotes, and true and false stand alone",
        ),
        ("[backend]\nhost = 5", "test.toml:2:8: [backend] host: expected text in quotes"),
        ("[backend]\nlegacy_public = \"yes\"", "test.toml:2:17: [backend] legacy_public: expected true or false"),
        (
            "[[service]]\nname = \"a\"\nprotect = []\nprice_sat = \"many\"",
            "test.toml:4:13: [[service]] price_sat: expected a whole number",
        ),
        (
            "[[service]]\nname = \"a\"\nprotect = []\nprice_sat = -1",
            "test.toml:4:13: [[service]] price_sat: expected a whole number",
        ),
        ("[[service]]\nprotect = []", "test.toml:1:1: missing field `name`"),
        (
            "[[service]]\nname = \"a\"\nupstream = 1",
            "test.toml:3:12: [[service]] upstream: invalid type, expected an address or a list of addresses",
        ),
        (
            "[[service]]\nname = \"a\"\nprice = { sat = 1 }",
            "test.toml:3:11: [[service]] price: unknown field `sat`, expected one of `per_mib_sat`, `minimum_sat`, `steps`, `url`, `timeout_ms`, `by_size`, `fallback`",
        ),
        (
            "[lightning]\nkind = \"cln\"",
            "test.toml:2:8: [lightning] kind: unknown variant `cln`, expected `wallet` or `lnd`",
        ),
        (
            "[backend]\ntemplate_uploaders = [\"me\"]",
            "[backend] template_uploaders: \"me\" is not a node's public key of 33 bytes in hex",
        ),
        (
            "[backend]\npodcast_index_key = \"hunter2\"",
            "[backend] podcast_index_key (PODCAST_INDEX_KEY) needs podcast_index_secret (PODCAST_INDEX_SECRET)",
        ),
        (
            "[backend]\npodcast_index_url = \"ftp://a\"",
            "[backend] podcast_index_url cannot be sent to the Podcast Index: it is not an http or https address",
        ),
        (
            "[backend]\ndatabase_url = \"postgres://u:hunter2@h:port/d\"",
            "[backend] database_url (DATABASE_URL): not a URL of a PostgreSQL database; use postgres://USER:PASSWORD@HOST/NAME",
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
            "[backend] storage_mode = \"s3\" (STORAGE_MODE) needs [backend.s3] access_key_id (AWS_ACCESS_KEY_ID or S3_KEY); roles of machines are not asked for one",
        ),
        (
            "[backend]\nstorage_mode = \"s3\"\n[backend.s3]\naccess_key_id = \"hunter2\"",
            "[backend] storage_mode = \"s3\" (STORAGE_MODE) needs [backend.s3] secret_access_key (AWS_SECRET_ACCESS_KEY or S3_SECRET)",
        ),
        (
            "[backend]\nstorage_mode = \"s3\"\ns3.bucket = \"a/b\"",
            "[backend.s3] bucket (S3_BUCKET): \"a/b\" is not the name of a bucket",
        ),
        (
            "[backend]\nstorage_mode = \"s3\"\ns3.endpoint = \"localhost:3900\"",
            "[backend.s3] endpoint (S3_ENDPOINT): \"localhost:3900\" is not http://HOST[:PORT] or https://HOST[:PORT]",
        ),
        (
            "[backend]\nstorage_mode = \"s3\"\ns3.endpoint = \"http://u:hunter2@h\"",
            "[backend.s3] endpoint (S3_ENDPOINT): \"h\" is not",
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
            ("DATABASE_URL", "postgres://u:p@h:port/d"),
            "[backend] database_url (DATABASE_URL): not a URL of a PostgreSQL database; use postgres://USER:PASSWORD@HOST/NAME",
        ),
        (
            ("GATEWAY_DATABASE_URL", "mysql://u:p@h/d"),
            "environment variable GATEWAY_DATABASE_URL: not a database URL; use sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME",
        ),
        (("STORAGE_MODE", "tape"), "environment variable STORAGE_MODE: expected \"local\" or \"s3\""),
        (("RESTRICT_UPLOAD_SIZE", "yes"), "environment variable RESTRICT_UPLOAD_SIZE: expected \"true\" or \"false\""),
        (("MAX_FREE_UPLOAD_SIZE_MB", "-1"), "environment variable MAX_FREE_UPLOAD_SIZE_MB: expected a whole number"),
        (
            ("SLUICE_LOG", "loud"),
            "environment variable SLUICE_LOG: not a log level; use error, warn, info, debug or trace",
        ),
    ] {
        assert_eq!(error_of(load_env(&[env])), error);
    }
}

#[test]
fn flags_for_the_only_service_need_just_one() {
    let text = format!("{SPHINX_STACK_TOML}\n[[service]]\nname = \"b\"\nprotect = [\"GET /b\"]\nprice_sat = 1");
    let flags = Flags { max_mb: NonZeroU64::new(1), ..Flags::default() };
    let error = error_of(load_with(&text, &[], &flags, Parts::All));
    assert_eq!(error, "--price-sat and --max-mb are for one [[service]], but there are 2");
}

#[test]
fn ports_are_numbers_of_ports() {
    for (name, value) in [("PORT", "abc"), ("PORT", "70000"), ("PORT", "0")] {
        let error = error_of(load_with("", &[(name, value)], &Flags::default(), Parts::Backend));
        assert_eq!(error, format!("environment variable {name}: expected a number from 1 to 65535"));
    }
}
