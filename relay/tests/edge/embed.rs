//! The example that mounts a relay into an application: its very code, served and used.

#[allow(dead_code, unreachable_pub, reason = "an example, whose main is not called here")]
#[path = "../../examples/embed.rs"]
mod example;

use super::support::{Client, request};
use lockrelay_protocol::ErrorCode;

#[tokio::test]
async fn the_example_serves_its_own_page_and_locks() {
    let (app, relay) = example::application().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = axum::serve(listener, app).with_graceful_shutdown(relay.closing());
    let serving = tokio::spawn(serving.into_future());

    let page = request(address, "GET", "/", "", "").await;
    assert_eq!(page.body, "the application's own page\n");
    assert_eq!(request(address, "GET", "/readyz", "", "").await.status, 200);

    let mut client = Client::connect(address, None).await;
    client.hello().await;
    client.acquire("order:1").await;
    client.ask("r", "invoice:1", |_| {}).await;
    assert_eq!(client.error().await.0, ErrorCode::Unauthorized);

    let closed = client.closed();
    let ((), closed) = tokio::join!(relay.shutdown(), closed);
    assert_eq!(closed.unwrap().0, 1001);
    serving.await.unwrap().unwrap();
}
