//! The demo's shop: racy on purpose, and everything that happens in it told to everybody.

use super::support::{Answer, Server, long, soon};
use lockrelay::Relay;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

async fn shop() -> Server {
    Server::start(Relay::builder().demo().durations(long())).await
}

async fn post(server: &Server, path: &str, body: &Value) -> Answer {
    let headers = "content-type: application/json\r\norigin: http://other.example\r\n";
    server.request("POST", path, headers, &body.to_string()).await
}

async fn stock(server: &Server) -> Value {
    let answer = server.get("/demo/stock").await;
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).unwrap()
}

/// A follower of the event stream.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn open(server: &Server, headers: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET /demo/events HTTP/1.1\r\nhost: shop\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    /// The next event. The chunks of HTTP between the lines are skipped, and so are comments.
    async fn next(&mut self) -> Option<Value> {
        soon("an event", async {
            loop {
                let mut line = String::new();
                if self.0.read_line(&mut line).await.unwrap() == 0 {
                    return None;
                }
                if let Some(data) = line.strip_prefix("data: ") {
                    return Some(serde_json::from_str(data).unwrap());
                }
            }
        })
        .await
    }
}

#[tokio::test]
async fn reading_and_writing_race_as_they_should() {
    let server = shop().await;
    assert_eq!(stock(&server).await, json!({ "stock": 5, "orders": 0 }));
    post(&server, "/demo/reset", &json!({ "stock": 1 })).await;
    // Two buyers read 1, both write 0, both order: two orders of one item.
    for buyer in ["Ada", "Bob"] {
        let answer = post(&server, "/demo/stock", &json!({ "stock": 0, "buyer": buyer })).await;
        assert_eq!(answer.status, 200);
        let order = json!({ "buyer": buyer, "locked": false });
        assert_eq!(post(&server, "/demo/orders", &order).await.status, 201);
    }
    assert_eq!(stock(&server).await, json!({ "stock": 0, "orders": 2 }));
    post(&server, "/demo/reset", &json!({ "stock": 3 })).await;
    assert_eq!(stock(&server).await, json!({ "stock": 3, "orders": 0 }));
}

#[tokio::test]
async fn everything_that_happens_is_told_in_order_with_the_servers_time() {
    let server = shop().await;
    let mut events = Events::open(&server, "").await;
    let first = events.next().await.unwrap();
    assert_eq!((&first["type"], &first["stock"]), (&json!("reset"), &json!(5)));
    let at = first["at"].as_u64().unwrap();
    assert!(at > 1_700_000_000_000, "{at}");
    let timeline =
        json!({ "buyer": "Ada", "kind": "granted", "fencingToken": 7, "at": 1, "type": "x", "id": "x", "run": 9 });
    assert_eq!(post(&server, "/demo/events", &timeline).await.status, 202);
    post(&server, "/demo/stock", &json!({ "stock": 4 })).await;
    post(
        &server,
        "/demo/orders",
        &json!({ "buyer": "Ada", "locked": true, "fencingToken": 7 }),
    )
    .await;
    let mut last = first["id"].as_str().unwrap().to_owned();
    for expected in [
        json!({ "type": "timeline", "buyer": "Ada", "kind": "granted", "fencingToken": 7 }),
        json!({ "type": "stock", "stock": 4 }),
        json!({ "type": "order", "order": 1, "buyer": "Ada", "locked": true, "fencingToken": 7 }),
    ] {
        let mut event = events.next().await.unwrap();
        let fields = event.as_object_mut().unwrap();
        let id = fields.remove("id").unwrap().as_str().unwrap().to_owned();
        assert_ne!(id, last);
        last = id;
        assert!(fields.remove("at").unwrap().as_u64().unwrap() >= at);
        assert_eq!(fields.remove("run"), Some(json!(1)));
        assert_eq!(event, expected);
    }
}

#[tokio::test]
async fn a_newcomer_gets_the_current_run_and_one_that_returns_what_it_missed() {
    let server = shop().await;
    post(&server, "/demo/orders", &json!({ "buyer": "old", "locked": true })).await;
    post(&server, "/demo/reset", &json!({ "stock": 2 })).await;
    post(&server, "/demo/orders", &json!({ "buyer": "Ada", "locked": true })).await;
    let mut newcomer = Events::open(&server, "").await;
    let reset = newcomer.next().await.unwrap();
    assert_eq!((&reset["type"], &reset["run"]), (&json!("reset"), &json!(2)));
    assert_eq!(newcomer.next().await.unwrap()["buyer"], "Ada");
    drop(newcomer);
    post(&server, "/demo/orders", &json!({ "buyer": "Bob", "locked": true })).await;
    let headers = format!("last-event-id: {}\r\n", reset["id"].as_str().unwrap());
    let mut back = Events::open(&server, &headers).await;
    assert_eq!(back.next().await.unwrap()["buyer"], "Ada");
    assert_eq!(back.next().await.unwrap()["buyer"], "Bob");
    post(&server, "/demo/reset", &json!({ "stock": 9 })).await;
    assert_eq!(back.next().await.unwrap()["stock"], 9);
}

#[tokio::test]
async fn the_history_is_bounded() {
    let server = shop().await;
    let mut events = Events::open(&server, "").await;
    events.next().await.unwrap();
    for number in 1..=2_100 {
        post(
            &server,
            "/demo/events",
            &json!({ "buyer": "Ada", "kind": "waiting", "number": number }),
        )
        .await;
        // A follower that keeps up misses nothing.
        assert_eq!(events.next().await.unwrap()["number"], number);
    }
    let mut newcomer = Events::open(&server, "").await;
    assert_eq!(newcomer.next().await.unwrap()["number"], 101);
}

#[tokio::test]
async fn wrong_bodies_are_refused_with_a_text() {
    let server = shop().await;
    for (path, body, text) in [
        ("/demo/stock", json!({}), "stock"),
        ("/demo/stock", json!({ "stock": "many" }), "stock"),
        ("/demo/orders", json!({ "buyer": "Ada" }), "locked"),
        ("/demo/events", json!({ "buyer": "Ada" }), "kind"),
        ("/demo/reset", json!({ "stock": null }), "null"),
    ] {
        let answer = post(&server, path, &body).await;
        assert!(
            answer.status == 422 && answer.body.contains(text),
            "{path} {body}: {answer:?}"
        );
    }
    let long = post(
        &server,
        "/demo/events",
        &json!({ "buyer": "x".repeat(5_000), "kind": "waiting" }),
    )
    .await;
    assert_eq!(long.status, 413);
    assert_eq!(stock(&server).await, json!({ "stock": 5, "orders": 0 }));
}

#[tokio::test]
async fn pages_of_other_relays_may_use_the_shop_and_nothing_else() {
    let server = shop().await;
    let answer = post(&server, "/demo/reset", &json!({ "stock": 1 })).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let ask = "origin: http://other.example\r\naccess-control-request-method: POST\r\n\
               access-control-request-headers: content-type\r\n";
    let answer = server.request("OPTIONS", "/demo/orders", ask, "").await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, "*")
    );
    assert_eq!(answer.header("access-control-allow-headers"), "*");
    let other = server
        .request("GET", "/metrics", "origin: http://other.example\r\n", "")
        .await;
    assert_eq!(other.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn streams_end_at_a_shutdown() {
    let server = shop().await;
    let mut events = Events::open(&server, "").await;
    events.next().await.unwrap();
    server.relay.shutdown().await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn there_is_no_shop_unless_asked_for() {
    let server = Server::open().await;
    assert_eq!(server.get("/demo/stock").await.status, 404);
}
