//! What is served over HTTP.

use super::support::{Server, long};
use lockrelay::Relay;
use lockrelay_protocol::PATH;

#[tokio::test]
async fn a_handshake_without_our_subprotocol_is_refused_with_400() {
    let server = Server::open().await;
    let upgrade = "upgrade: websocket\r\nconnection: upgrade, close\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for offered in ["", "sec-websocket-protocol: graphql-ws\r\n"] {
        let answer = server.request("GET", PATH, &format!("{upgrade}{offered}"), "").await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("lockrelay.v1"), "{}", answer.body);
    }
    let plain = server.get(PATH).await;
    assert_eq!(plain.status, 400, "{plain:?}");
}

#[tokio::test]
async fn health_and_readiness_are_told() {
    let server = Server::open().await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    assert_eq!(server.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn a_relay_that_shuts_down_is_alive_and_not_ready() {
    // Served by a listener of its own, which goes on accepting, as an application does that embeds a relay.
    let relay = Relay::builder().build().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, relay.router()).into_future());
    relay.shutdown().await;
    let get = |path: &'static str| super::support::request(address, "GET", path, "", "");
    assert_eq!(get("/healthz").await.status, 200);
    assert_eq!(get("/readyz").await.status, 503);
}

#[tokio::test]
async fn a_lock_moves_the_metrics() {
    let server = Server::open().await;
    let value = async |name: &str| {
        let metrics = server.get("/metrics").await;
        assert_eq!(metrics.status, 200);
        assert!(
            metrics
                .header("content-type")
                .starts_with("application/openmetrics-text")
        );
        assert!(metrics.body.contains("# EOF"));
        let line = metrics.body.lines().find(|line| line.starts_with(&format!("{name} ")));
        let value = line.unwrap_or_else(|| panic!("{name} is not in {}", metrics.body));
        value.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(value("lockrelay_connections").await, 0.0);
    let mut client = server.client().await;
    let (lock, _) = client.acquire("m").await;
    client.sync().await;
    assert_eq!(value("lockrelay_connections").await, 1.0);
    assert_eq!(value("lockrelay_locks_held").await, 1.0);
    assert_eq!(value("lockrelay_grants_total").await, 1.0);
    client.release(&lock).await;
    assert_eq!(value("lockrelay_locks_held").await, 0.0);
    assert_eq!(value("lockrelay_hold_seconds_count").await, 1.0);
}

#[tokio::test]
async fn files_have_their_types_and_are_asked_for_again() {
    let folder = std::env::temp_dir().join(format!("lockrelay-www-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("lockrelay")).unwrap();
    let files: [(&str, &str, &str); 5] = [
        ("index.html", "/", "text/html"),
        ("style.css", "/style.css", "text/css"),
        ("shop.js", "/shop.js", "text/javascript"),
        ("shop.mjs", "/shop.mjs", "application/javascript"),
        ("lockrelay/l.wasm", "/lockrelay/l.wasm", "application/wasm"),
    ];
    for (file, ..) in files {
        std::fs::write(folder.join(file), file).unwrap();
    }
    let server = Server::start(Relay::builder().www(&folder).durations(long())).await;
    for (file, path, kind) in files {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, file));
        assert!(answer.header("content-type").starts_with(kind), "{path}: {answer:?}");
        assert_eq!(answer.header("cache-control"), "no-cache");
    }
    for path in ["/missing.js", "/../Cargo.toml", "/%2e%2e/Cargo.toml"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    assert_eq!(server.get("/healthz").await.body, "ok\n");
    std::fs::remove_dir_all(folder).unwrap();
}
