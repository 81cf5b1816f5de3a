//! A node's process: started, and ended by its id.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::program;

/// Lines of its output that are shown when the test fails.
const SHOWN_LINES: usize = 20;

/// A running program. Dropped, it is killed.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Runs `name` with `arguments`; what it prints goes to `folder`, which is its home, too.
    pub fn start(name: &str, arguments: &[String], folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let output = folder.join("output");
        let file = File::options().create(true).append(true).open(&output).unwrap();
        let child = Command::new(program(name))
            .args(arguments)
            .env_clear()
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, output }
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Has it stand still, as a machine that hangs does: its connections stay, and nothing comes of them.
    pub async fn pause(&self) {
        self.signal("-STOP").await;
    }

    /// Has it go on.
    pub async fn resume(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// Ends it as a service manager does, and waits.
    pub async fn stop(mut self) {
        self.signal("-TERM").await;
        timeout(Duration::from_secs(60), self.child.wait()).await.expect("does not stop").unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = fs::read_to_string(&self.output).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            println!("\n{}:", self.output.display());
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                println!("    {line}");
            }
        }
    }
}
