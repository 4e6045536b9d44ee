//! A real `redis-server` for one test: on a free port, without persistence, gone with its guard.

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Client};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    port: u16,
    folder: PathBuf,
}

/// A port that nobody listens on, below the range from which outgoing connections take theirs.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + (std::process::id() % 20_000) as u16;
    (0..2_000)
        .map(|_| 10_000 + (start - 10_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 22_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

impl RedisServer {
    /// Starts one that keeps nothing and evicts nothing.
    ///
    /// # Panics
    /// If `redis-server` is not installed or does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with further options, for example `["--maxmemory", "3mb"]`.
    ///
    /// # Panics
    /// If `redis-server` is not installed or does not start.
    pub async fn start_with(options: &[&str]) -> Self {
        // Another process may take the port between the look and the start.
        for _ in 0..10 {
            if let Some(server) = Self::try_start(options).await {
                return server;
            }
        }
        panic!("redis-server does not start; is it installed? (npm run setup)");
    }

    async fn try_start(options: &[&str]) -> Option<Self> {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("lockrelay-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let mut child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(options)
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed (npm run setup)");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("Ready to accept connections") {
                // Read on, or the pipe fills up and the server blocks.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some(Self { child, port, folder });
            }
        }
        None
    }

    /// `redis://127.0.0.1:PORT/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// A connection for the test itself.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = Client::open(self.url()).expect("the URL is valid");
        client
            .get_multiplexed_async_connection()
            .await
            .expect("the server answers")
    }

    /// Sends a command of the test itself, for example `CONFIG SET maxmemory 1`; arguments have no spaces.
    ///
    /// # Panics
    /// If the server refuses it.
    pub async fn command(&self, command: &str) -> redis::Value {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().expect("split gives one at least"));
        cmd.arg(words.collect::<Vec<_>>());
        cmd.query_async(&mut self.connection().await)
            .await
            .expect("the server does what the test says")
    }

    /// All keys.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.connection().await.keys("*").await.expect("the server answers");
        keys.sort();
        keys
    }

    /// The fields of the partition's hash.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn partition(&self) -> BTreeMap<String, String> {
        self.connection()
            .await
            .hgetall("lockrelay:{0}")
            .await
            .expect("the server answers")
    }

    /// How many commands clients have sent that a relay sends: scripts, waits, publishes of their own. What scripts call
    /// inside is counted by the server too, under other names, and left out.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn client_commands(&self) -> u64 {
        let info: String = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(&mut self.connection().await)
            .await
            .expect("answers");
        [
            "evalsha",
            "eval",
            "wait",
            "script|load",
            "script|exists",
            "ping",
            "client|setinfo",
            "subscribe",
            "xread",
        ]
        .iter()
        .filter_map(|name| {
            info.lines()
                .find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")))
        })
        .filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok())
        .sum()
    }

    /// The server's process id.
    ///
    /// # Panics
    /// If the server has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Killed by its guard in any case; the folder goes once nothing writes there any more.
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
