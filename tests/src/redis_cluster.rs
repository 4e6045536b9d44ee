//! A Cluster of three masters and three replicas that calls a node down after two seconds.

use crate::redis_server::{REPLICATES_FAST, RedisServer, Setup, until};
use crate::redis_tls::Certificates;
use std::sync::Arc;

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

/// Three masters and three replicas. A failover changes their parts; [`RedisCluster::owner_of`] finds the present one.
#[derive(Debug)]
pub struct RedisCluster {
    /// First the masters, then the replica of each, in the same order.
    pub nodes: Vec<RedisServer>,
    /// Kept for as long as the nodes use them.
    certificates: Option<Arc<Certificates>>,
}

impl RedisCluster {
    /// Starts all, and waits until each node agrees.
    ///
    /// # Panics
    /// If something does not start, or they do not agree within a minute.
    pub async fn start() -> Self {
        Self::start_with(&[], None).await
    }

    /// Starts all with further options, and with TLS, if there are certificates (clients then need one).
    ///
    /// # Panics
    /// If something does not start, or they do not agree within a minute.
    pub async fn start_with(options: &[&str], certificates: Option<Arc<Certificates>>) -> Self {
        let mut all = vec![
            "--cluster-node-timeout",
            "2000",
            "--cluster-replica-validity-factor",
            "0",
        ];
        all.extend(REPLICATES_FAST);
        if certificates.is_some() {
            all.extend(["--tls-cluster", "yes", "--tls-replication", "yes"]);
        }
        all.extend(options);
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let setup = Setup {
                options: &all,
                cluster: true,
                tls: certificates.as_deref(),
            };
            nodes.push(RedisServer::set_up(setup).await);
        }
        let cluster = Self { nodes, certificates };
        cluster.join().await;
        cluster
    }

    async fn join(&self) {
        for (n, node) in self.nodes.iter().enumerate() {
            node.command(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1)).await;
            if n < 3 {
                let (from, to) = (n * SLOTS / 3, (n + 1) * SLOTS / 3 - 1);
                node.command(&format!("CLUSTER ADDSLOTSRANGE {from} {to}")).await;
            }
        }
        for node in &self.nodes[1..] {
            let bus: Vec<String> =
                redis::from_redis_value(node.command("CONFIG GET cluster-port").await).expect("texts");
            let port = if self.certificates.is_some() {
                node.tls_port()
            } else {
                node.port()
            };
            self.nodes[0]
                .command(&format!("CLUSTER MEET 127.0.0.1 {port} {}", bus[1]))
                .await;
        }
        for node in &self.nodes {
            until("all nodes know each other", async || {
                self.nodes_as_seen_by(node)
                    .await
                    .iter()
                    .filter(|line| line.contains(" connected"))
                    .count()
                    == 6
            })
            .await;
        }
        for n in 0..3 {
            let id = self.id(n).await;
            self.nodes[n + 3].command(&format!("CLUSTER REPLICATE {id}")).await;
        }
        for replica in &self.nodes[3..] {
            replica.until_it_follows().await;
        }
        self.until_all_agree().await;
    }

    /// Waits until all nodes that run see three masters, replicas for each, and every slot served.
    ///
    /// # Panics
    /// If they do not within a minute.
    pub async fn until_all_agree(&self) {
        for node in &self.nodes {
            until("the nodes agree", async || {
                let info: String = redis::from_redis_value(node.command("CLUSTER INFO").await).expect("a text");
                let seen = self.nodes_as_seen_by(node).await;
                let masters = seen.iter().filter(|line| line.contains("master")).count();
                info.contains("cluster_state:ok") && masters == 3 && seen.len() == 6
            })
            .await;
        }
    }

    async fn nodes_as_seen_by(&self, node: &RedisServer) -> Vec<String> {
        let text: String = redis::from_redis_value(node.command("CLUSTER NODES").await).expect("a text");
        text.lines().map(str::to_owned).collect()
    }

    /// `redis+cluster://127.0.0.1:P1,127.0.0.1:P2`: some of its nodes, from which a client finds the others. Begins with
    /// `rediss` if it has certificates.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = [&self.nodes[0], &self.nodes[4], &self.nodes[2]]
            .into_iter()
            .map(|node| match self.certificates {
                Some(_) => format!("127.0.0.1:{}", node.tls_port()),
                None => format!("127.0.0.1:{}", node.port()),
            })
            .collect();
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}+cluster://{}", hosts.join(","))
    }

    /// The cluster's name for a node.
    ///
    /// # Panics
    /// If the node does not answer.
    pub async fn id(&self, node: usize) -> String {
        redis::from_redis_value(self.nodes[node].command("CLUSTER MYID").await).expect("a text")
    }

    /// The index of the node that serves a partition, as seen by `witness`.
    ///
    /// # Panics
    /// If the witness does not answer or knows of none.
    pub async fn owner_of(&self, partition: u16, witness: usize) -> usize {
        let slot = usize::from(slot_of(partition));
        let lines = self.nodes_as_seen_by(&self.nodes[witness]).await;
        let owner = lines.iter().find(|line| {
            line.split(' ').skip(8).any(|range| match range.split_once('-') {
                Some((from, to)) => {
                    from.parse().is_ok_and(|from: usize| from <= slot) && to.parse().is_ok_and(|to: usize| slot <= to)
                }
                None => range.parse() == Ok(slot),
            })
        });
        let address = owner
            .expect("every slot has an owner")
            .split(' ')
            .nth(1)
            .expect("an address");
        let port = address
            .split(['@', ','])
            .next()
            .and_then(|text| text.rsplit(':').next())
            .expect("a port");
        let is_it = |node: &RedisServer| node.port().to_string() == port;
        self.nodes.iter().position(is_it).expect("one of ours")
    }

    /// Waits until the partition's slot is served by this node, as it says itself, and the cluster is whole again.
    ///
    /// # Panics
    /// If it is not within a minute.
    pub async fn until_owner_is(&self, partition: u16, node: usize) {
        until("the slot has its new owner", async || {
            let info: String = redis::from_redis_value(self.nodes[node].command("CLUSTER INFO").await).expect("a text");
            info.contains("cluster_state:ok") && self.owner_of(partition, node).await == node
        })
        .await;
    }

    /// The replica (or, after a failover, the former master) that goes with this node.
    #[must_use]
    pub fn partner(node: usize) -> usize {
        (node + 3) % 6
    }
}

/// The slot of a partition's key: CRC16 (XMODEM) of what stands between the braces.
#[must_use]
pub fn slot_of(partition: u16) -> u16 {
    let crc = partition.to_string().bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    });
    crc % 16_384
}
