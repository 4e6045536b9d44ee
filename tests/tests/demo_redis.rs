//! The demo's shop on a real Redis: relays that share the server share the shop.

use lockrelay::demo::{Entry, Scratch};
use lockrelay::store::redis::{RedisOptions, RedisStore};
use lockrelay_tests::redis_server::RedisServer;
use std::time::Duration;

async fn scratch(server: &RedisServer) -> impl Scratch {
    let store = RedisStore::connect(RedisOptions::new(server.url())).await;
    store.expect("the server is fit").scratch()
}

/// The next entry that is told.
async fn next(news: &mut tokio::sync::broadcast::Receiver<Entry>) -> Entry {
    let entry = tokio::time::timeout(Duration::from_secs(10), news.recv()).await;
    entry.expect("an entry comes").expect("the log goes on")
}

#[tokio::test]
async fn two_relays_read_and_write_the_same_things() {
    let server = RedisServer::start().await;
    let (here, there) = (scratch(&server).await, scratch(&server).await);
    assert_eq!(here.get("stock").await, Ok(0));
    here.set("stock", -3).await.unwrap();
    assert_eq!(there.get("stock").await, Ok(-3));
    assert_eq!(here.increment("orders").await, Ok(1));
    assert_eq!(there.increment("orders").await, Ok(2));
}

#[tokio::test]
async fn what_one_relay_appends_every_relay_gets_in_the_same_order() {
    let server = RedisServer::start().await;
    let (here, there) = (scratch(&server).await, scratch(&server).await);
    let (mut at_home, mut abroad) = (here.follow(), there.follow());
    for number in 0..20 {
        let by = if number % 3 == 0 { &here as &dyn Scratch } else { &there };
        by.append(&number.to_string()).await.unwrap();
    }
    let log = here.log().await.unwrap();
    let texts: Vec<_> = log.iter().map(|entry| entry.text.to_string()).collect();
    assert_eq!(texts, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(
        log.windows(2)
            .all(|two| Entry::order_of(&two[0].id) < Entry::order_of(&two[1].id))
    );
    for entry in log {
        assert_eq!(next(&mut at_home).await, entry);
        assert_eq!(next(&mut abroad).await, entry);
    }
}

#[tokio::test]
async fn nothing_is_left_for_ever() {
    let server = RedisServer::start().await;
    let here = scratch(&server).await;
    here.set("stock", 1).await.unwrap();
    here.increment("run").await.unwrap();
    here.append("{}").await.unwrap();
    let keys = server.keys().await;
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("lockrelay-demo:"), "{key}");
        let mut connection = server.connection().await;
        let seconds: i64 = redis::cmd("TTL").arg(&key).query_async(&mut connection).await.unwrap();
        assert!((1..=86_400).contains(&seconds), "{key} lives for {seconds} s");
    }
}
