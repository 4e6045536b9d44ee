//! The real `lockrelay` binary in a process of its own.

use crate::redis_server::RedisServer;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// A running relay that allows everything. Killed when dropped.
#[derive(Debug)]
pub struct RelayProcess {
    child: Child,
    address: String,
}

/// The binary, built once per test process. (Tests of this package do not make cargo build another package's binary.)
async fn binary() -> &'static PathBuf {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    BINARY
        .get_or_init(|| async {
            if let Some(path) = std::env::var_os("LOCKRELAY_BIN") {
                return path.into();
            }
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo)
                .args(["build", "--quiet", "-p", "lockrelay", "--bin", "lockrelay"])
                .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
                .status()
                .await
                .expect("cargo runs");
            assert!(status.success(), "the relay does not build");
            let test = std::env::current_exe().expect("a running test has a path");
            let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
            folder.join("lockrelay")
        })
        .await
}

impl RelayProcess {
    /// Starts one on this Redis, with further options, and waits until it listens.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(redis: &RedisServer, options: &[&str]) -> Self {
        let mut child = Command::new(binary().await)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--config",
                concat!(env!("CARGO_MANIFEST_DIR"), "/relay.toml"),
            ])
            .args(["--log", "warn", "--redis", &redis.url(), "--assume-first-start"])
            .args(options)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the relay can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines
            .next_line()
            .await
            .expect("its output can be read")
            .expect("the relay listens");
        let address = line
            .strip_prefix("listening on http://")
            .expect("the line that says where")
            .to_owned();
        Self { child, address }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `ws://host:port/v1/locks`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.address, lockrelay_protocol::PATH)
    }

    /// Ends it without a word, as `kill -9` does.
    ///
    /// # Panics
    /// If it has ended already.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Ends it as it is meant to end, by SIGTERM.
    ///
    /// # Panics
    /// If it does not end with exit code 0.
    pub async fn stop(mut self) {
        let pid = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .expect("it runs");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id is positive");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it can be told");
        let status = self.child.wait().await.expect("it ends");
        assert!(status.success(), "{status}");
    }

    /// What a metric says, the sum over its labels.
    ///
    /// # Panics
    /// If the relay does not answer.
    pub async fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers");
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}
