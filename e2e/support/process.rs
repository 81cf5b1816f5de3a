//! One process of the binary.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// One that has said that it is ready. It ends with the test.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it and waits until it is ready. What it logs is appended to the file `log`.
    pub async fn start(mut command: Command, log: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            loop {
                match lines.next_line().await.unwrap() {
                    Some(line) if line == "ready" => return true,
                    Some(_) => {}
                    None => return false,
                }
            }
        };
        if !timeout(Duration::from_secs(30), ready).await.is_ok_and(|ready| ready) {
            panic!("not ready within 30 s, or ended: {}", fs::read_to_string(log).unwrap());
        }
        Self { child }
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        // One that has ended is a zombie until it is waited for.
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        !status.contains("State:\tZ")
    }

    /// Waits until it ends by itself, well.
    pub async fn ended(mut self) {
        let status = timeout(Duration::from_secs(60), self.child.wait()).await.expect("does not end").unwrap();
        assert!(status.success(), "{status}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Ends it at once, in the middle of whatever it does.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends it a signal, by its name.
    pub async fn signal(&self, name: &str) {
        let kill = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(kill.await.unwrap().success());
    }

    /// Ends it as a service manager does, and waits.
    pub async fn stop(mut self, log: &Path) {
        self.signal("TERM").await;
        let status = timeout(Duration::from_secs(60), self.child.wait()).await.expect("does not stop").unwrap();
        assert!(status.success(), "{status}: {}", fs::read_to_string(log).unwrap());
    }
}
