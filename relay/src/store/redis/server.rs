//! Whether a server is fit for locks, and whether this is its first use.

use crate::store::StoreError;
use redis::AsyncCommands as _;
use redis::aio::ConnectionManager;

/// A script that is never run. Its presence in the server's script cache, which survives FLUSHALL, tells that a relay has
/// been here since the server started; then an absent partition means lost data, not a first start.
const MARKER: &str = "return 'lockrelay was here'";

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn unavailable(error: &redis::RedisError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

async fn info(connection: &mut ConnectionManager, section: &str) -> Result<String, StoreError> {
    redis::cmd("INFO")
        .arg(section)
        .query_async(connection)
        .await
        .map_err(|error| unavailable(&error))
}

/// Refuses servers on which locks would not be safe.
pub(super) async fn check_fit(connection: &mut ConnectionManager) -> Result<(), StoreError> {
    let server = info(connection, "server").await?;
    let version = field(&server, "redis_version").unwrap_or("unknown");
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok())
        .unwrap_or_default();
    if major < 7 {
        return Err(StoreError::Unfit(format!(
            "the Redis server has version {version}; Lockrelay needs Redis 7 or newer, or Valkey: upgrade the server"
        )));
    }
    if field(&info(connection, "replication").await?, "role") != Some("master") {
        return Err(StoreError::Unfit(
            "the Redis server is a replica, and locks on a replica would be read-only or lost: give the URL of its master"
                .to_owned(),
        ));
    }
    let memory = info(connection, "memory").await?;
    if let Some(policy) = field(&memory, "maxmemory_policy").filter(|policy| policy.starts_with("allkeys-")) {
        return Err(StoreError::Unfit(format!(
            "the Redis server has maxmemory-policy {policy}, which may evict held locks: set it to noeviction or to one of \
             the volatile-* policies"
        )));
    }
    Ok(())
}

/// Whether an absent partition is certainly a first start, so that no lease of an older life can still be believed in: the
/// server has been up for longer than any lease, has never been a replica, and no relay has been here.
pub(super) async fn is_first_start(
    connection: &mut ConnectionManager,
    key: &str,
    lease_millis: u64,
) -> Result<bool, StoreError> {
    let there: bool = connection
        .hexists(key, "g")
        .await
        .map_err(|error| unavailable(&error))?;
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
        .map_err(|error| unavailable(&error))?;
    // The uptime is in whole seconds: rounded down it must still be longer than the lease.
    Ok(uptime.saturating_mul(1000) > lease_millis && never_replica && known.first() == Some(&false))
}

/// Leaves the marker, before anything is granted.
pub(super) async fn leave_marker(connection: &mut ConnectionManager) -> Result<(), StoreError> {
    redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(MARKER)
        .query_async::<String>(connection)
        .await
        .map(drop)
        .map_err(|error| unavailable(&error))
}
