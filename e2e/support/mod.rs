//! Starts the real binary on free ports, talks to it, and looks for secrets in what it logged.

mod client;
pub mod form;
mod process;
pub mod raw;
pub mod rows;
pub mod slow;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
    time::Duration,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use sluice_common::l402::{Challenge, Credential, Macaroon};
use tempfile::TempDir;
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use self::process::Process;

pub const MIB: usize = 1 << 20;

/// Configuration that sells tokens for one upload.
pub const SINGLE_USE: &str = r#"
    [[service]]
    name = "media"
    protect = ["POST /largefile"]
    price_sat = 100
    max_upload_mb = 64
    reuse = 1
    capabilities = ["large_upload"]
    forward_credential = true
"#;

/// The keys of every Sluice whose parts have processes of their own: those must share them, and make none.
const KEYS: [(&str, &str); 4] =
    [("master.key", "a1"), ("jwt.key", "b2"), ("local-encryption.key", "c3"), ("wallet.key", "d4")];

/// One folder with everything of one Sluice, and the processes that run on it.
pub struct Sluice {
    folder: TempDir,
    /// By their commands, in the order in which they start.
    processes: Vec<(&'static str, Option<Process>)>,
    /// What each command gets besides where it listens.
    pub options: Vec<String>,
    environment: Vec<(String, String)>,
    /// The program, and its first arguments, that each command is run by; none: it runs by itself.
    pub wrapper: Vec<String>,
    listen: u16,
    admin: u16,
    backend: u16,
    pub client: Client,
    secrets: Mutex<Vec<String>>,
}

impl Sluice {
    /// `sluice up` with these further options, at trace level.
    pub async fn start(options: &[&str]) -> Self {
        Self::start_configured(None, options).await
    }

    /// The same with a configuration file.
    pub async fn start_with(config: &str) -> Self {
        Self::start_configured(Some(config), &[]).await
    }

    /// The same with both.
    pub async fn start_configured(config: Option<&str>, options: &[&str]) -> Self {
        Self::start_in(&[], config, options).await
    }

    /// The same in an environment with these variables.
    pub async fn start_in(environment: &[(&str, &str)], config: Option<&str>, options: &[&str]) -> Self {
        let mut sluice = Self::prepare(&["up"], environment, options);
        if let Some(config) = config {
            sluice.configure(config);
        }
        sluice.start_again().await;
        sluice
    }

    /// `sluice backend` and, in front of it, `sluice gateway`. The configuration says nothing of `[backend]`. All that are
    /// started so take each other's tokens and logins.
    pub async fn start_apart(environment: &[(&str, &str)], config: &str) -> Self {
        let mut sluice = Self::prepare(&["backend", "gateway"], environment, &[]);
        sluice.configure(&format!("{config}\n[backend]\nlisten = \"{}\"", sluice.backend_address()));
        let keys = sluice.data().join("keys");
        fs::create_dir_all(&keys).unwrap();
        for (name, byte) in KEYS {
            fs::write(keys.join(name), byte.repeat(32)).unwrap();
            fs::set_permissions(keys.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        sluice.start_again().await;
        sluice
    }

    /// Everything but the processes.
    pub fn prepare(commands: &[&'static str], environment: &[(&str, &str)], options: &[&str]) -> Self {
        let free_port = || sluice_testing::free_address().port();
        Self {
            folder: tempfile::tempdir().unwrap(),
            processes: commands.iter().map(|&command| (command, None)).collect(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            environment: environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            wrapper: Vec::new(),
            listen: free_port(),
            admin: free_port(),
            backend: free_port(),
            client: Client::builder().no_proxy().build().unwrap(),
            secrets: Mutex::default(),
        }
    }

    /// Takes this configuration from the next start on.
    pub fn configure(&mut self, config: &str) {
        let path = self.folder.path().join("sluice.toml");
        fs::write(&path, config).unwrap();
        self.options.extend(["--config".to_owned(), path.display().to_string()]);
    }

    /// Starts on the same folder and ports.
    pub async fn start_again(&mut self) {
        for at in 0..self.processes.len() {
            self.start_process(at).await;
        }
    }

    async fn start_process(&mut self, at: usize) {
        let (command, process) = &self.processes[at];
        assert!(process.is_none(), "still running");
        let command = self.command(command);
        self.processes[at].1 = Some(Process::start(command, &self.log_path()).await);
    }

    /// Starts another gateway in the place of the one that runs, and gives that one, which may go on for a while.
    pub async fn upgrade(&mut self) -> Process {
        let mut command = self.command("gateway");
        command.arg("--upgrade");
        let process = Process::start(command, &self.log_path()).await;
        let at = self.gateway_process();
        self.processes[at].1.replace(process).unwrap()
    }

    /// Starts one that cannot.
    pub async fn try_upgrade(&self) -> bool {
        let mut command = self.command("gateway");
        let ended = command.arg("--upgrade").stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).status();
        timeout(Duration::from_secs(30), ended).await.expect("does not end").unwrap().success()
    }

    /// Sends a signal to the gateway alone.
    pub async fn signal_gateway(&self, name: &str) {
        self.processes[self.gateway_process()].1.as_ref().unwrap().signal(name).await;
    }

    fn gateway_process(&self) -> usize {
        self.processes.iter().position(|(command, _)| *command == "gateway").unwrap()
    }

    fn command(&self, command: &str) -> Command {
        let arguments = self.arguments(command);
        let mut words = self.wrapper.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_sluice")]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(arguments)
            .env_clear()
            .env("SLUICE_LOG", "trace")
            .env("RUST_LOG", "trace")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The arguments that `sluice up` is started with.
    pub fn up(&self) -> Vec<String> {
        self.arguments("up")
    }

    fn arguments(&self, command: &str) -> Vec<String> {
        let data = self.data().to_str().unwrap().to_owned();
        let address = |port| format!("127.0.0.1:{port}");
        let gateway = [("--listen", address(self.listen)), ("--admin-listen", address(self.admin))];
        let backend = if command == "backend" { "--listen" } else { "--backend-listen" };
        let backend = [(backend, address(self.backend))];
        let gateway = gateway.into_iter().filter(|_| command != "backend");
        let backend = backend.into_iter().filter(|_| command != "gateway");
        let flags = [("--data", data)].into_iter().chain(gateway).chain(backend);
        let flags = flags.flat_map(|(flag, value)| [flag.to_owned(), value]);
        [command.to_owned()].into_iter().chain(flags).chain(self.options.iter().cloned()).collect()
    }

    /// Ends it at once, in the middle of whatever it does.
    pub async fn kill(&mut self) {
        for (_, process) in &mut self.processes {
            process.take().unwrap().kill().await;
        }
    }

    /// Ends the media server alone so.
    pub async fn kill_backend(&mut self) {
        let at = self.backend_process();
        self.processes[at].1.take().unwrap().kill().await;
    }

    /// Starts the media server after [`Self::kill_backend`].
    pub async fn start_backend(&mut self) {
        self.start_process(self.backend_process()).await;
    }

    /// Ends the gateway alone so.
    pub async fn kill_gateway(&mut self) {
        let at = self.gateway_process();
        self.processes[at].1.take().unwrap().kill().await;
    }

    /// Starts the gateway after [`Self::kill_gateway`].
    pub async fn start_gateway(&mut self) {
        self.start_process(self.gateway_process()).await;
    }

    fn backend_process(&self) -> usize {
        self.processes.iter().position(|(command, _)| *command == "backend").unwrap()
    }

    /// Ends it as a service manager does, and waits: first what was started last.
    pub async fn stop(&mut self) {
        let log = self.log_path();
        for (_, process) in self.processes.iter_mut().rev() {
            process.take().unwrap().stop(&log).await;
        }
    }

    /// Sends a signal, by its name, to all its processes.
    pub async fn signal(&self, name: &str) {
        for (_, process) in &self.processes {
            process.as_ref().unwrap().signal(name).await;
        }
    }

    /// Stops it, and looks whether its log holds a secret.
    pub async fn finish(mut self) {
        // The media server logs each request at debug level: so there is a line of it, whatever the test did.
        assert_eq!(self.get("/ping").send().await.unwrap().status(), StatusCode::OK);
        self.stop().await;
        let log = self.log();
        assert!(log.contains("TRACE"), "the log is not at trace level:\n{log}");
        for secret in self.secrets.lock().unwrap().iter().chain(&self.keys()) {
            assert!(secret.len() >= 8, "too short to look for");
            if let Some(line) = log.lines().find(|line| line.contains(secret.as_str())) {
                panic!("a secret stands in the log: {line}");
            }
        }
    }

    fn keys(&self) -> Vec<String> {
        let files = fs::read_dir(self.data().join("keys")).unwrap();
        let mut keys: Vec<String> =
            files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap().trim().to_owned()).collect();
        keys.extend(fs::read_to_string(self.data().join("admin.token")).map(|token| token.trim().to_owned()));
        assert!(keys.len() >= 3, "master, JWT and storage keys, and the embedded wallet's where it takes the payments");
        keys
    }

    /// What it must never log, from now on. A token (with or without `:` and its preimage) also in its other spellings.
    pub fn is_secret(&self, secret: &str) {
        let mut secrets = self.secrets.lock().unwrap();
        secrets.push(secret.to_owned());
        if let Ok(macaroon) = Macaroon::from_base64(secret.split(':').next().unwrap()) {
            let hex = hex::encode(macaroon.as_bytes());
            secrets.extend([hex.to_uppercase(), hex]);
            // Without padding, which may be there or not.
            secrets.extend([STANDARD_NO_PAD, URL_SAFE_NO_PAD].map(|base64| base64.encode(macaroon.as_bytes())));
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    /// The process that was started first.
    pub fn pid(&self) -> u32 {
        self.processes[0].1.as_ref().unwrap().pid()
    }

    /// The most memory that it ever had resident, in MiB.
    pub fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.listen).into()
    }

    pub fn backend_address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.backend).into()
    }

    /// The files in the store.
    pub fn stored_files(&self) -> Vec<PathBuf> {
        let store = self.data().join("media");
        let mut files: Vec<PathBuf> = fs::read_dir(&store).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }

    /// Runs another command of the binary to its end, its state in the same folder.
    pub async fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> std::process::Output {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(arguments)
            .env_clear()
            .env("SLUICE_SERVER", self.url(""))
            .env("SLUICE_ADMIN", self.admin_url(""))
            .env("XDG_DATA_HOME", self.folder.path().join("client"))
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        timeout(Duration::from_secs(60), output).await.expect("does not end").unwrap()
    }
}

/// The challenge of a 402.
pub fn challenge(reply: &Response) -> Challenge {
    let values = reply.headers().get_all("www-authenticate").iter().map(|value| value.to_str().unwrap());
    Challenge::parse(values).expect("a challenge")
}

pub fn authorized(request: RequestBuilder, credential: &Credential) -> RequestBuilder {
    request.header("authorization", credential.authorization().expose())
}

/// Bytes that look random and are the same each time; `seed` makes others.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(len / 8 + 1).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// A number that the environment says.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Asks until the answer is `Some`, for at most 30 s.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(30), what, &mut ask).await
}

/// Asks until the answer is `Some`, for at most `limit`.
pub async fn eventually_within<T>(limit: Duration, what: &str, ask: &mut impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", limit.as_secs());
        sleep(Duration::from_millis(20)).await;
    }
}
