//! Where the demo's shop keeps its things when several relays share it. No rule of Lockrelay holds here: plain reads and plain
//! writes, which race as those of any shop do. All keys begin with `lockrelay-demo:` and vanish a day after their last use.

use super::link::Link;
use crate::demo::{Entry, Scratch, ScratchError};
use async_trait::async_trait;
use redis::streams::{StreamRangeReply, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands as _, Client, RedisError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

/// How many entries the log keeps, about.
const HISTORY: usize = 2_000;

/// How long a key outlives its last use, in seconds.
const TTL_SECONDS: i64 = 24 * 60 * 60;

const LOG: &str = "lockrelay-demo:log";

/// A scratch in Redis.
pub struct RedisScratch {
    connection: Link,
    news: broadcast::Sender<Entry>,
    reader: AbortHandle,
}

impl RedisScratch {
    pub(super) fn new(client: Client, connection: Link) -> Self {
        let news = broadcast::channel(HISTORY).0;
        let reader = tokio::spawn(read_on(client, news.clone())).abort_handle();
        Self {
            connection,
            news,
            reader,
        }
    }
}

impl Drop for RedisScratch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn key(name: &str) -> String {
    format!("lockrelay-demo:{name}")
}

fn failed(error: RedisError) -> ScratchError {
    ScratchError(error.to_string())
}

fn entry(id: &redis::streams::StreamId) -> Option<Entry> {
    let text: String = id.get("e")?;
    Some(Entry {
        id: id.id.clone(),
        text: Arc::from(text),
    })
}

/// Passes everything that is appended on, on a connection of its own, because reading blocks.
async fn read_on(client: Client, news: broadcast::Sender<Entry>) {
    let mut last = None;
    loop {
        if let Err(error) = read(&client, &news, &mut last).await {
            tracing::warn!(%error, "the demo's log cannot be read; trying again");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn read(client: &Client, news: &broadcast::Sender<Entry>, last: &mut Option<String>) -> Result<(), RedisError> {
    // The response timeout must outlast the blocking read.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    loop {
        // From the beginning: what is appended before the first read is not missed, and who follows knows by the ids what
        // it has had.
        let from = last.clone().unwrap_or_else(|| "0-0".to_owned());
        let options = StreamReadOptions::default().block(5_000).count(HISTORY);
        let reply: Option<StreamReadReply> = connection.xread_options(&[LOG], &[from], &options).await?;
        for id in reply.iter().flat_map(|reply| &reply.keys).flat_map(|key| &key.ids) {
            *last = Some(id.id.clone());
            if let Some(entry) = entry(id) {
                // Nobody listening is no failure.
                let _ = news.send(entry);
            }
        }
    }
}

#[async_trait]
impl Scratch for RedisScratch {
    async fn get(&self, name: &str) -> Result<i64, ScratchError> {
        let value: Option<i64> = self.connection.clone().get(key(name)).await.map_err(failed)?;
        Ok(value.unwrap_or_default())
    }

    async fn set(&self, name: &str, value: i64) -> Result<(), ScratchError> {
        let ttl = TTL_SECONDS.unsigned_abs();
        self.connection
            .clone()
            .set_ex(key(name), value, ttl)
            .await
            .map_err(failed)
    }

    async fn increment(&self, name: &str) -> Result<i64, ScratchError> {
        let mut connection = self.connection.clone();
        let value = connection.incr(key(name), 1).await.map_err(failed)?;
        connection
            .expire::<_, ()>(key(name), TTL_SECONDS)
            .await
            .map_err(failed)?;
        Ok(value)
    }

    async fn append(&self, text: &str) -> Result<(), ScratchError> {
        let mut connection = self.connection.clone();
        let length = redis::streams::StreamMaxlen::Approx(HISTORY);
        let _: String = connection
            .xadd_maxlen(LOG, length, "*", &[("e", text)])
            .await
            .map_err(failed)?;
        connection.expire::<_, ()>(LOG, TTL_SECONDS).await.map_err(failed)
    }

    async fn log(&self) -> Result<Vec<Entry>, ScratchError> {
        let reply: StreamRangeReply = self.connection.clone().xrange_all(LOG).await.map_err(failed)?;
        let skip = reply.ids.len().saturating_sub(HISTORY);
        Ok(reply.ids.iter().skip(skip).filter_map(entry).collect())
    }

    fn follow(&self) -> broadcast::Receiver<Entry> {
        self.news.subscribe()
    }
}
