//! The Redis store keeps every rule of a lock store, on a real server; and what only a server can do to it.

use lockrelay::store::conformance::Stores;
use lockrelay::store::redis::{RedisOptions, RedisStore};
use lockrelay_tests::redis_server::RedisServer;

async fn connect(server: &RedisServer) -> RedisStore {
    let options = RedisOptions {
        assume_first_start: true,
        ..RedisOptions::new(server.url())
    };
    RedisStore::connect(options).await.expect("the server is fit")
}

async fn fresh() -> Stores {
    let server = RedisServer::start().await;
    let (here, there) = (connect(&server).await, connect(&server).await);
    Stores::new(here, there).keeping(server)
}

lockrelay::store_conformance!(fresh);
