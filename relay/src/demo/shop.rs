//! What the routes do: numbers and a log, no locks.

use super::scratch::{Entry, Scratch, ScratchError};
use axum::response::sse::Event;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// How many items there are before anybody resets the shop.
const FIRST_STOCK: i64 = 5;

/// The shop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shop {
    scratch: Arc<dyn Scratch>,
    closing: CancellationToken,
}

/// The time by the computer's clock, in milliseconds since 1970.
pub(super) fn wall_clock_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Shop {
    /// A shop whose event streams end with `closing`.
    pub(crate) fn new(scratch: Arc<dyn Scratch>, closing: CancellationToken) -> Self {
        Self { scratch, closing }
    }

    /// Items left, and orders in this run.
    pub(super) async fn stock(&self) -> Result<(i64, i64), ScratchError> {
        self.run().await?;
        Ok((self.scratch.get("stock").await?, self.scratch.get("orders").await?))
    }

    pub(super) async fn write_stock(&self, stock: i64, buyer: Option<&str>) -> Result<(), ScratchError> {
        let run = self.run().await?;
        self.scratch.set("stock", stock).await?;
        let mut event = json!({ "run": run, "type": "stock", "stock": stock });
        if let Some(buyer) = buyer {
            event["buyer"] = buyer.into();
        }
        self.scratch.append(&event.to_string()).await
    }

    /// Notes an order, and tells its number in this run.
    pub(super) async fn order(&self, buyer: &str, locked: bool, token: Option<u64>) -> Result<i64, ScratchError> {
        let run = self.run().await?;
        let number = self.scratch.increment("orders").await?;
        let mut event = json!({ "run": run, "type": "order", "order": number, "buyer": buyer, "locked": locked });
        if let Some(token) = token {
            event["fencingToken"] = token.into();
        }
        self.scratch.append(&event.to_string()).await?;
        Ok(number)
    }

    pub(super) async fn reset(&self, stock: i64) -> Result<(), ScratchError> {
        let run = self.scratch.increment("run").await?;
        self.begin(run, stock).await
    }

    pub(super) async fn timeline(&self, mut fields: Map<String, Value>) -> Result<(), ScratchError> {
        fields.insert("run".to_owned(), self.run().await?.into());
        fields.insert("type".to_owned(), "timeline".into());
        self.scratch.append(&Value::Object(fields).to_string()).await
    }

    /// The events of the current run, or those after `last`, then those that come.
    pub(super) async fn events(
        &self,
        last: Option<String>,
    ) -> Result<impl Stream<Item = Result<Event, Infallible>> + use<>, ScratchError> {
        let run = self.run().await?;
        // Followed first and read second: an entry that comes in between is in both, and dropped once below.
        let news = self.scratch.follow();
        let mut past = self.scratch.log().await?;
        let last = last.as_deref().and_then(Entry::order_of);
        match last {
            Some(last) => past.retain(|entry| Entry::order_of(&entry.id) > Some(last)),
            None => past.retain(|entry| run_of(&entry.text) == Some(run)),
        }
        let seen = past.last().and_then(|entry| Entry::order_of(&entry.id)).or(last);
        let news = stream::unfold(news, |mut news| async move {
            match news.recv().await {
                Ok(entry) => Some((entry, news)),
                // One that lagged comes back with its last id, and misses nothing that is still there.
                Err(broadcast::error::RecvError::Closed | broadcast::error::RecvError::Lagged(_)) => None,
            }
        })
        .filter(move |entry| std::future::ready(Entry::order_of(&entry.id) > seen));
        let closing = self.closing.clone();
        Ok(stream::iter(past)
            .chain(news)
            .map(|entry| Ok(event(&entry)))
            .take_until(closing.cancelled_owned()))
    }

    /// Number of the current run. The first one begins with the first question.
    async fn run(&self) -> Result<i64, ScratchError> {
        let run = self.scratch.get("run").await?;
        if run > 0 {
            return Ok(run);
        }
        let run = self.scratch.increment("run").await?;
        // Relays that share a scratch may both ask first. Then there are two runs, the second of which goes on; each begins
        // with its event, or newcomers would wait for it.
        self.begin(run, FIRST_STOCK).await?;
        Ok(run)
    }

    async fn begin(&self, run: i64, stock: i64) -> Result<(), ScratchError> {
        self.scratch.set("stock", stock).await?;
        self.scratch.set("orders", 0).await?;
        let event = json!({ "run": run, "type": "reset", "stock": stock });
        self.scratch.append(&event.to_string()).await
    }
}

fn run_of(text: &str) -> Option<i64> {
    serde_json::from_str::<Value>(text).ok()?.get("run")?.as_i64()
}

fn event(entry: &Entry) -> Event {
    let mut data: Map<String, Value> = serde_json::from_str(&entry.text).unwrap_or_default();
    let at = Entry::order_of(&entry.id).map_or(0, |(at, _)| at);
    data.insert("id".to_owned(), entry.id.clone().into());
    data.insert("at".to_owned(), at.into());
    Event::default()
        .id(entry.id.clone())
        .data(Value::Object(data).to_string())
}
