//! A PostgreSQL server for tests: one a test run, on a socket only, with a database for each test that asks. It ends with
//! the process that started it, however that ends.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use sqlx::{Connection, Executor, PgConnection};

/// Makes a cluster in a folder of its own, serves it, says the folder, and ends when standard input does.
const SERVE: &str = r#"
set -eu
for bin in /usr/lib/postgresql/*/bin; do PATH="$bin:$PATH"; done
cd /tmp
folder=$(mktemp -d /tmp/sluice-postgres.XXXXXX)
trap 'rm -rf "$folder"' EXIT
initdb -D "$folder/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
postgres -D "$folder/data" -k "$folder" -c listen_addresses= -c fsync=off -c max_connections=200 >"$folder/log" 2>&1 &
tries=0
until pg_isready -q -h "$folder"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ]; then cat "$folder/log" >&2; kill $!; exit 1; fi
    sleep 0.1
done
echo "$folder"
read -r _ || true
kill -INT $!
wait $! || true
"#;

struct Server {
    folder: String,
    /// Its standard input is open as long as this process lives.
    _shell: Child,
}

impl Server {
    fn start() -> Self {
        let as_postgres = ["runuser", "-u", "postgres", "--", "sh", "-c", SERVE];
        // PostgreSQL does not run as root.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let words = if is_root { &as_postgres[..] } else { &as_postgres[4..] };
        let mut shell =
            Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut folder = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut folder).unwrap();
        let folder = folder.trim().to_owned();
        assert!(Path::new(&folder).is_absolute(), "PostgreSQL does not start; `make test` installs it");
        Self { folder, _shell: shell }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder)
    }
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// The URL of a new database with nothing in it.
pub async fn database() -> String {
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start)).await.unwrap();
    let name = format!("test_{:016x}", rand::random::<u64>());
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"));
    // Several at once wait for each other.
    PgConnection::connect(&server.url("postgres")).await.unwrap().execute(create).await.unwrap();
    server.url(&name)
}
