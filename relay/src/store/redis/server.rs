//! Whether a server is fit for locks, and whether this is its first use.

use super::failure;
use super::link::Link;
use crate::store::StoreError;
use redis::AsyncCommands as _;

/// A script that is never run. Its presence in the server's script cache, which survives FLUSHALL, tells that a relay has
/// been here since the server started; then an absent partition means lost data, not a first start.
const MARKER: &str = "return 'lockrelay was here'";

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

async fn info(connection: &mut Link, section: &str) -> Result<String, StoreError> {
    redis::cmd("INFO")
        .arg(section)
        .query_async(connection)
        .await
        .map_err(|error| failure(&error))
}

/// Refuses servers on which locks would not be safe.
pub(super) async fn check_fit(connection: &mut Link) -> Result<(), StoreError> {
    let server = info(connection, "server").await?;
    let replication = info(connection, "replication").await?;
    // INFO tells the eviction policy too, where CONFIG GET may be forbidden.
    let memory = info(connection, "memory").await?;
    fitness(&server, &replication, &memory).map_err(StoreError::Unfit)
}

/// What is to be changed about a server with this `INFO`.
fn fitness(server: &str, replication: &str, memory: &str) -> Result<(), String> {
    let version = field(server, "redis_version").unwrap_or("unknown");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.unwrap_or_default() < 7 {
        return Err(format!(
            "the Redis server has version {version}; Lockrelay needs Redis 7 or newer, or Valkey: upgrade the server"
        ));
    }
    if field(replication, "role") != Some("master") {
        return Err(
            "the Redis server is a replica, and locks on a replica would be read-only or lost: give the URL of its master"
                .to_owned(),
        );
    }
    if let Some(policy) = field(memory, "maxmemory_policy").filter(|policy| policy.starts_with("allkeys-")) {
        return Err(format!(
            "the Redis server has maxmemory-policy {policy}, which may evict held locks: set it to noeviction or to one of \
             the volatile-* policies"
        ));
    }
    Ok(())
}

/// Whether an absent partition is certainly a first start, so that no lease of an older life can still be believed in: the
/// server has been up for longer than any lease, has never been a replica, and no relay has been here.
pub(super) async fn is_first_start(connection: &mut Link, key: &str, lease_millis: u64) -> Result<bool, StoreError> {
    let there: bool = connection.hexists(key, "g").await.map_err(|error| failure(&error))?;
    if there {
        return Ok(false);
    }
    let server = info(connection, "server").await?;
    let uptime: u64 = field(&server, "uptime_in_seconds")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let replication = info(connection, "replication").await?;
    let never_replica =
        field(&replication, "master_replid2").is_some_and(|id| id.chars().all(|character| character == '0'));
    let marker = redis::Script::new(MARKER);
    let known: Vec<bool> = redis::cmd("SCRIPT")
        .arg("EXISTS")
        .arg(marker.get_hash())
        .query_async(connection)
        .await
        .map_err(|error| failure(&error))?;
    // The uptime is in whole seconds: rounded down it must still be longer than the lease.
    Ok(uptime.saturating_mul(1000) > lease_millis && never_replica && known.first() == Some(&false))
}

/// Leaves the marker, before anything is granted.
pub(super) async fn leave_marker(connection: &mut Link) -> Result<(), StoreError> {
    redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(MARKER)
        .query_async::<String>(connection)
        .await
        .map(drop)
        .map_err(|error| failure(&error))
}

#[cfg(test)]
mod tests {
    use super::fitness;

    const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\nos:Linux\r\n";
    const MASTER: &str = "# Replication\r\nrole:master\r\n";
    const MEMORY: &str = "# Memory\r\nmaxmemory_policy:volatile-lru\r\n";

    #[test]
    fn unfit_servers_are_named_with_what_to_change() {
        assert_eq!(fitness(SERVER, MASTER, MEMORY), Ok(()));
        for version in ["7.2.4", "8.0.1", "10.0.0"] {
            assert_eq!(fitness(&format!("redis_version:{version}\r\n"), MASTER, MEMORY), Ok(()));
        }
        for (server, replication, memory, told) in [
            ("redis_version:6.2.14\r\n", MASTER, MEMORY, "version 6.2.14"),
            ("# Server\r\n", MASTER, MEMORY, "version unknown"),
            (SERVER, "role:slave\r\n", MEMORY, "replica"),
            (SERVER, MASTER, "maxmemory_policy:allkeys-lru\r\n", "allkeys-lru"),
        ] {
            let problem = fitness(server, replication, memory).unwrap_err();
            assert!(problem.contains(told), "{problem}");
        }
    }
}
