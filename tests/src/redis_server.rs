//! A real `redis-server` for one test: on a free port, without persistence, gone with its guard. It can be a replica, speak
//! TLS, be killed, started again, frozen and thawed. Sets of them: [`crate::redis_sentinel`], [`crate::redis_cluster`].

use crate::redis_tls::Certificates;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Client};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    arguments: Vec<String>,
    port: u16,
    tls_port: Option<u16>,
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

/// Waits until this holds. Looks many times a second, and gives up after a minute.
///
/// # Panics
/// If it never holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Setup<'a> {
    /// Further options, for example `["--maxmemory", "3mb"]`.
    pub options: &'a [&'a str],
    /// Whether it is a node of a cluster, with its bus on a free port too.
    pub cluster: bool,
    /// Listens for TLS on a port of its own, besides the plain one.
    pub tls: Option<&'a Certificates>,
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
        Self::set_up(Setup {
            options,
            ..Setup::default()
        })
        .await
    }

    /// Starts a replica of this one, and waits until it follows.
    ///
    /// # Panics
    /// If it does not start, or does not follow within a minute.
    pub async fn start_replica(&self) -> Self {
        let port = self.port.to_string();
        let options = ["--replicaof", "127.0.0.1", &port];
        let options: Vec<&str> = options.into_iter().chain(REPLICATES_FAST).collect();
        let replica = Self::start_with(&options).await;
        replica.until_it_follows().await;
        replica
    }

    /// Waits until this replica has all of its master's data.
    ///
    /// # Panics
    /// If it has not within a minute.
    pub async fn until_it_follows(&self) {
        until("the replica follows", async || {
            self.info("replication").await.contains("master_link_status:up")
        })
        .await;
    }

    /// Starts one.
    ///
    /// # Panics
    /// If `redis-server` is not installed or does not start.
    pub async fn set_up(setup: Setup<'_>) -> Self {
        // Another process may take the port between the look and the start.
        for _ in 0..10 {
            if let Some(server) = Self::try_start(&setup).await {
                return server;
            }
        }
        panic!("redis-server does not start; is it installed? (npm run setup)");
    }

    async fn try_start(setup: &Setup<'_>) -> Option<Self> {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("lockrelay-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let port_text = port.to_string();
        let mut arguments = strings(&["--port", &port_text, "--bind", "127.0.0.1", "--save", ""]);
        arguments.extend(strings(&["--appendonly", "no"]));
        arguments.extend(strings(setup.options));
        if setup.cluster {
            let bus = free_port().to_string();
            arguments.extend(strings(&["--cluster-enabled", "yes", "--cluster-port", &bus]));
        }
        let tls_port = setup.tls.map(|_| free_port());
        if let (Some(certificates), Some(port)) = (setup.tls, tls_port) {
            arguments.extend(strings(&["--tls-port", &port.to_string(), "--tls-auth-clients", "yes"]));
            let files = [
                ("--tls-cert-file", certificates.server_cert()),
                ("--tls-key-file", certificates.server_key()),
                ("--tls-ca-cert-file", certificates.ca()),
            ];
            for (option, file) in files {
                arguments.extend([option.to_owned(), file.display().to_string()]);
            }
        }
        let child = spawn(&arguments, &folder, "Ready to accept connections").await?;
        Some(Self {
            child,
            arguments,
            port,
            tls_port,
            folder,
        })
    }

    /// Ends it at once, as `kill -9` does, and waits for its end.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("our own process can be killed");
    }

    /// Starts it again after [`RedisServer::kill`], with the same port, options and folder.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_again(&mut self) {
        let started = spawn(&self.arguments, &self.folder, "Ready to accept connections").await;
        self.child = started.expect("its port is still free");
    }

    /// Stops its process in its tracks, as SIGSTOP does: connections stay open and hear nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`RedisServer::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("our own process takes signals");
    }

    /// The port of plain connections.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of TLS connections.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("set up with certificates")
    }

    /// A section of what it tells of itself.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn info(&self, section: &str) -> String {
        redis::from_redis_value(self.command(&format!("INFO {section}")).await).expect("a text")
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

/// Options with which a replica is in step soon.
pub(crate) const REPLICATES_FAST: [&str; 6] = [
    "--repl-diskless-sync",
    "yes",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
];

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Starts `redis-server` and waits for the line that says it is ready. `None` if it ends instead.
pub(crate) async fn spawn(arguments: &[String], folder: &std::path::Path, ready: &str) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed (npm run setup)");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains(ready) {
            // Read on, or the pipe fills up and the server blocks.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(child);
        }
    }
    None
}
