//! PostgreSQL servers for tests: on a socket only, ending with the process that started them, however that ends.
//!
//! Most tests take [`database`]: one server a test run, and a database for each test that asks. A test that takes its
//! server away has a [`PostgresServer`] of its own. What fails here fails the test: these functions panic.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Makes a cluster in a folder of its own, serves it, says the folder, does what it is told line by line, and ends when
/// standard input does. PostgreSQL's programs are Debian's.
const SERVE: &str = r#"
set -eu
for bin in /usr/lib/postgresql/*/bin; do PATH="$bin:$PATH"; done
cd /tmp
folder=$(mktemp -d /tmp/sluice-postgres.XXXXXX)
trap 'rm -rf "$folder"' EXIT
initdb -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
listen=
if [ -n "$TLS_CERT" ]; then
    umask 077
    printf %s "$TLS_CERT" >"$folder/server.pem"
    printf %s "$TLS_KEY" >"$folder/server.key"
    listen="-c listen_addresses=127.0.0.1 -c ssl=on -c ssl_cert_file=$folder/server.pem -c ssl_key_file=$folder/server.key"
fi
serve() {
    postgres -D "$folder/data" -k "$folder" -c listen_addresses= $listen -c fsync=off -c max_connections=300 >>"$folder/log" 2>&1 &
    server=$!
    tries=0
    until pg_isready -q -h "$folder"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ]; then cat "$folder/log" >&2; kill $server; exit 1; fi
        sleep 0.1
    done
}
end() {
    kill -INT $server
    wait $server || true
}
serve
echo "$folder"
while read -r order name; do
    case "$order" in
    create) createdb -h "$folder" -U postgres -T template0 "$name" ;;
    stop) end ;;
    start) serve ;;
    esac
    echo done
done
kill -0 $server 2>/dev/null && end
"#;

/// A server of a test's own.
#[derive(Debug)]
pub struct PostgresServer {
    folder: String,
    port: u16,
    orders: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    databases: AtomicU32,
    _shell: Child,
}

impl PostgresServer {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with("", "", 5432)
    }

    /// Starts one that listens on a port of 127.0.0.1, too, with TLS: PEM texts of its certificate and key. Gives the port.
    pub fn start_with_tls(certificate: &str, key: &str) -> (Self, u16) {
        let port = crate::free_address().port();
        (Self::start_with(certificate, key, port), port)
    }

    fn start_with(certificate: &str, key: &str, port: u16) -> Self {
        let as_postgres = ["runuser", "-u", "postgres", "--", "sh", "-c", SERVE];
        // PostgreSQL does not run as root.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let words = if is_root { &as_postgres[..] } else { &as_postgres[4..] };
        let mut shell = Command::new(words[0])
            .args(&words[1..])
            .envs([("TLS_CERT", certificate), ("TLS_KEY", key), ("PGPORT", &port.to_string())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, mut answers) = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
        let mut folder = String::new();
        answers.read_line(&mut folder).unwrap();
        let folder = folder.trim().to_owned();
        assert!(Path::new(&folder).is_absolute(), "PostgreSQL does not start; `make test` installs it");
        Self { folder, port, orders: Mutex::new((orders, answers)), databases: AtomicU32::new(0), _shell: shell }
    }

    /// Makes a new database with nothing in it; its URL.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.order(&format!("create {name}"));
        format!("postgres://postgres@localhost:{}/{name}?host={}", self.port, self.folder)
    }

    /// Ends the server and every connection to it; what it holds stays.
    pub fn stop(&self) {
        self.order("stop");
    }

    /// Starts it after [`Self::stop`].
    pub fn start_again(&self) {
        self.order("start");
    }

    fn order(&self, order: &str) {
        let mut pipes = self.orders.lock().unwrap();
        let (orders, answers) = &mut *pipes;
        writeln!(orders, "{order}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "PostgreSQL did not {order}");
    }
}

static SERVER: OnceLock<PostgresServer> = OnceLock::new();

/// The URL of a new database with nothing in it, on the server of this test run.
pub fn database() -> String {
    SERVER.get_or_init(PostgresServer::start).database()
}
