//! A panic in one connection's task ends that connection alone.

use super::support::{Server, long};
use async_trait::async_trait;
use lockrelay::Relay;
use lockrelay::rules::{Ask, Authorizer, Decision};
use lockrelay_protocol::CloseCode;
use std::sync::{Arc, Mutex};

/// Knows no answer for one mutex.
struct Fragile;

#[async_trait]
impl Authorizer for Fragile {
    async fn authorize(&self, ask: &Ask<'_>) -> Decision {
        assert_ne!(ask.mutex.as_str(), "boom", "on purpose");
        Decision::Allow { max_hold_millis: None }
    }
}

#[tokio::test]
async fn a_panicking_authorizer_ends_the_connection_that_asked_and_no_other() {
    let builder = Relay::builder().authorizer(Arc::new(Fragile)).durations(long());
    let server = Server::start(builder).await;
    let (mut steady, mut fragile, mut waiter) = (server.client().await, server.client().await, server.client().await);
    let (kept, _) = steady.acquire("kept").await;
    fragile.acquire("freed").await;
    waiter.wait_for("w", "freed").await;
    fragile.ask("r", "boom", |_| {}).await;
    let (code, _) = fragile.closed().await.expect("a close frame");
    assert_eq!(CloseCode::from_u16(code), Some(CloseCode::Internal));
    waiter.granted("w").await;
    assert!(steady.release(&kept).await, "the other connection has kept its lock");
}

/// Notes what it is asked.
#[derive(Default)]
struct Curious(Mutex<Vec<String>>);

#[async_trait]
impl Authorizer for Curious {
    async fn authorize(&self, ask: &Ask<'_>) -> Decision {
        self.0.lock().unwrap().push(format!("{ask:?}"));
        Decision::Allow {
            max_hold_millis: Some(20),
        }
    }
}

#[tokio::test]
async fn an_authorizer_learns_what_is_asked_and_limits_the_hold() {
    let curious = Arc::new(Curious::default());
    let builder = Relay::builder().authorizer(Arc::clone(&curious) as Arc<dyn Authorizer>);
    let server = Server::start(builder.durations(long())).await;
    let mut client = server.client().await;
    client
        .ask("r", "m", |acquire| {
            acquire.wait_millis = Some(7);
            acquire.max_hold_millis = Some(60_000);
        })
        .await;
    client.granted("r").await;
    // The limit of the authorizer, not the minute that was asked for.
    assert!(matches!(
        client.next().await,
        lockrelay_protocol::ServerMessage::Lost { .. }
    ));
    let asked = curious.0.lock().unwrap().join("\n");
    assert_eq!(
        asked,
        "Ask { mutex: \"m\", mode: Exclusive, action: Acquire, origin: Some(\"https://shop.example\"), wait_millis: \
         Some(7), max_hold_millis: Some(60000) }"
    );
}
