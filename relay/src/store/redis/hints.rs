//! Grants by publish/subscribe, on a connection of its own. They are hints: what is lost comes with the next renewal, and each
//! new subscription asks for one.

use super::reply;
use crate::store::Hint;
use futures_util::StreamExt as _;
use redis::{Client, RedisError};
use std::time::Duration;
use tokio::sync::mpsc::{self, error::TrySendError};

/// Upper bound of the waits between attempts to subscribe again.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Passes a channel's events on until the receiver is gone.
pub(super) async fn follow(client: Client, channel: String, sender: mpsc::Sender<Hint>) {
    let mut wait = Duration::from_millis(20);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            ended = listen(&client, &channel, &sender) => match ended {
                // It worked for a while.
                Ok(()) => wait = Duration::from_millis(20),
                Err(error) => {
                    tracing::warn!(%error, "no subscription to grants; trying again");
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            },
        }
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One subscription, to its end.
async fn listen(client: &Client, channel: &str, sender: &mpsc::Sender<Hint>) -> Result<(), RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    // Whatever was published before this moment was missed.
    if sender.send(Hint::Renew).await.is_err() {
        return Ok(());
    }
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        let text: String = message.get_payload()?;
        for line in text.lines() {
            match reply::event(line) {
                // A receiver without room has enough to do, and learns of this one by its gap.
                Ok(event) => match sender.try_send(Hint::Event(event)) {
                    Ok(()) | Err(TrySendError::Full(_)) => {}
                    Err(TrySendError::Closed(_)) => return Ok(()),
                },
                Err(error) => tracing::warn!(%error, "a hint makes no sense"),
            }
        }
    }
    Ok(())
}
