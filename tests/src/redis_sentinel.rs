//! A master, its replica and three Sentinels that call the master down after half a second.

use crate::redis_server::{RedisServer, free_port, spawn, until};
use redis::Client;
use std::path::PathBuf;
use tokio::process::Child;

/// What the Sentinels call the pair.
pub const SERVICE: &str = "locks";

/// A master, its replica, and the Sentinels that watch them.
#[derive(Debug)]
pub struct SentinelSet {
    /// Master and replica, in the order of their start; a failover changes their parts.
    pub servers: [RedisServer; 2],
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    _child: Child,
    port: u16,
    folder: PathBuf,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl SentinelSet {
    /// Starts all, and waits until a failover could succeed.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start() -> Self {
        let master = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]).await;
        let replica = master.start_replica().await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(master.port()).await);
        }
        let set = Self {
            servers: [master, replica],
            sentinels,
        };
        for sentinel in &set.sentinels {
            until("the Sentinels know each other", async || {
                let info: Vec<String> = sentinel.ask(&["SENTINEL", "MASTER", SERVICE]).await;
                let field = |name: &str| info.iter().skip_while(|text| *text != name).nth(1).cloned();
                field("num-other-sentinels").as_deref() == Some("2") && field("num-slaves").as_deref() == Some("1")
            })
            .await;
        }
        set
    }

    /// `redis+sentinel://127.0.0.1:P1,127.0.0.1:P2,127.0.0.1:P3/SERVICE`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self
            .sentinels
            .iter()
            .map(|one| format!("127.0.0.1:{}", one.port))
            .collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// The port of the server that the first Sentinel calls master.
    ///
    /// # Panics
    /// If the Sentinel does not answer.
    pub async fn master_port(&self) -> u16 {
        let address: Vec<String> = self.sentinels[0]
            .ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])
            .await;
        address[1].parse().expect("a port")
    }

    /// Waits until the Sentinels name this server as master, and it is one.
    ///
    /// # Panics
    /// If they do not within a minute.
    pub async fn until_master_is(&self, server: usize) {
        let server = &self.servers[server];
        until("the failover", async || {
            self.master_port().await == server.port() && server.info("replication").await.contains("role:master")
        })
        .await;
    }

    /// Orders a failover while the master lives.
    ///
    /// # Panics
    /// If the Sentinel refuses.
    pub async fn fail_over(&self) {
        let _: String = self.sentinels[0].ask(&["SENTINEL", "FAILOVER", SERVICE]).await;
    }
}

impl Sentinel {
    async fn start(master: u16) -> Self {
        for _ in 0..10 {
            let port = free_port();
            let folder = std::env::temp_dir().join(format!("lockrelay-sentinel-{}-{port}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
            let config = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {master} 2\n\
                 sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n"
            );
            std::fs::write(folder.join("sentinel.conf"), config).expect("writable");
            let arguments = ["sentinel.conf".to_owned(), "--sentinel".to_owned()];
            let Some(child) = spawn(&arguments, &folder, "+monitor master").await else {
                continue;
            };
            let sentinel = Self {
                _child: child,
                port,
                folder,
            };
            // A busy machine is no reason for it to stand back, and it need not take its time.
            let debug =
                "SENTINEL DEBUG TILT-TRIGGER 60000 INFO-PERIOD 200 PUBLISH-PERIOD 200 ASK-PERIOD 200 PING-PERIOD 100";
            let _: redis::Value = sentinel.ask(&debug.split(' ').collect::<Vec<_>>()).await;
            return sentinel;
        }
        panic!("no Sentinel starts");
    }

    async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = Client::open(format!("redis://127.0.0.1:{}/", self.port)).expect("a valid URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("it answers");
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        cmd.query_async(&mut connection)
            .await
            .expect("it does what the test says")
    }
}
