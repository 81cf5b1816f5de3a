//! Where rows and files are.

use super::*;

#[test]
fn s3_has_the_bucket_of_sphinx_meme_and_credentials_of_the_environment() {
    let value = |text: &str| Some(KeySource::Value(Secret::new(text.to_owned())));
    let mode = ("STORAGE_MODE", "S3");
    let aws = [("AWS_ACCESS_KEY_ID", "aws id"), ("AWS_SECRET_ACCESS_KEY", "aws"), ("AWS_SESSION_TOKEN", "file:token")];
    let meme = [("S3_KEY", "meme id"), ("S3_SECRET", "meme")];

    let s3 = load_env(&[&[mode][..], &aws].concat()).unwrap().backend.s3;
    assert_eq!((s3.bucket.as_str(), s3.region.as_str(), s3.path_style()), ("sphinx-memes", "us-east-1", false));
    assert_eq!(s3.access_key_id, value("aws id"));
    assert_eq!((s3.secret_access_key, s3.session_token), (value("aws"), value("file:token")));
    // sphinx-meme's own names go first, and have no token.
    let s3 = load_env(&[&[mode][..], &aws, &meme].concat()).unwrap().backend.s3;
    assert_eq!((s3.access_key_id, s3.secret_access_key, s3.session_token), (value("meme id"), value("meme"), None));

    let place = [("S3_BUCKET", "b-1"), ("S3_REGION", "garage"), ("S3_ENDPOINT", "http://127.0.0.1:3900")];
    let s3 = load_env(&[&[mode][..], &meme, &place].concat()).unwrap().backend.s3;
    assert_eq!((s3.bucket.as_str(), s3.region.as_str(), s3.path_style()), ("b-1", "garage", true));

    let file =
        "[backend]\nstorage_mode = \"s3\"\n[backend.s3]\naccess_key_id = \"hunter2\"\nsecret_access_key = \"file:/k\"";
    let settings = load_file(file).unwrap();
    assert_eq!(settings.backend.s3.secret_access_key, Some(KeySource::File("/k".into())));
    assert!(!toml::to_string(&settings.effective()).unwrap().contains("hunter2"));
    assert!(!settings.seals() && Settings::default().seals());
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
fn the_media_servers_rows_can_be_in_postgres() {
    let url = "postgres://u:hunter2@h/d?sslmode=verify-full&sslrootcert=/dev/null";
    let config = |settings: Settings| match settings.backend_database_config().unwrap() {
        DatabaseConfig::Postgres(config) => config,
        sqlite => panic!("{sqlite:?}"),
    };
    let settings = load_env(&[("DATABASE_URL", url)]).unwrap();
    assert!(!format!("{settings:?} {}", toml::to_string(&settings).unwrap()).contains("hunter2"));
    let defaults = PostgresConfig::new(Secret::new(url.to_owned()));
    assert_eq!(format!("{:?}", config(settings.clone())), format!("{defaults:?}"));
    assert_eq!(config(settings).url, defaults.url);

    let file = "[backend]\ndatabase_url = \"postgresql:///d\"\ndatabase_max_connections = 3\n\
        database_acquire_timeout_secs = 2\ndatabase_statement_timeout_secs = 7\nlegacy_public = false";
    let config = config(load_file(file).unwrap());
    assert_eq!((config.max_connections, config.acquire_timeout.as_secs()), (3, 2));
    assert_eq!((config.statement_timeout.as_secs(), config.legacy_public), (7, false));
    let error = error_of(load_env(&[("DATABASE_URL", "postgres://u:hunter2@h/d?sslrootcert=nowhere.pem")]));
    assert!(error.contains("nowhere.pem: No such file") && !error.contains("hunter2"), "{error}");
    for zero in ["database_max_connections", "database_acquire_timeout_secs", "database_statement_timeout_secs"] {
        assert!(load_file(&format!("[backend]\n{zero} = 0")).is_err());
    }
}

#[test]
fn the_variables_of_amazons_databases_work_where_there_is_no_url() {
    let rds = [
        ("RDS_HOSTNAME", "db.example"),
        ("RDS_PORT", "5433"),
        ("RDS_DB_NAME", "ebdb"),
        ("RDS_USERNAME", "me"),
        ("RDS_PASSWORD", "p@ss/w:rd?"),
    ];
    let database = |env: &[(&str, &str)]| load_env(env).unwrap().backend_database();
    let is = |url: &str| DatabaseUrl::Postgres(Secret::new(url.to_owned()));
    let url = "postgres://me:p%40ss%2Fw%3Ard%3F@db.example:5433/ebdb?sslmode=require";
    assert_eq!(database(&rds), is(url));
    assert_eq!(
        database(&[&rds[..], &[("PGSSLMODE", "verify-full")]].concat()),
        is(&url.replace("require", "verify%2Dfull"))
    );
    assert_eq!(database(&[&rds[..], &[("DATABASE_URL", "sqlite:/a.db")]].concat()), DatabaseUrl::sqlite("/a.db"));
    assert_eq!(database(&rds[1..]), Settings::default().backend_database());
    let no_name = [rds[0], rds[3]];
    assert_eq!(error_of(load_env(&no_name)), "environment variable RDS_DB_NAME: is not set, but RDS_HOSTNAME is");
    let no_port = [rds[0], ("RDS_PORT", "many"), rds[2], rds[3]];
    assert!(error_of(load_env(&no_port)).starts_with("environment variable RDS_PORT"));
}
