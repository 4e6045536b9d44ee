//! A relay inside an application: one server, one port, the application's own routes beside `/v1/locks`.
//!
//! `cargo run -p lockrelay --example embed`, then open the URL that it prints.

use axum::Router;
use axum::routing::get;
use lockrelay::Relay;
use lockrelay::rules::{Allow, Rule};
use tokio::net::TcpListener;

/// The application: a route of its own, and the relay's.
pub async fn application() -> Result<(Router, Relay), Box<dyn std::error::Error>> {
    let orders = Rule {
        mutex: "order:*".to_owned(),
        allow: Allow::Anyone,
        steal: false,
    };
    let relay = Relay::builder().rules(vec![orders])?.build().await?;
    let app = Router::new()
        .route("/", get(|| async { "the application's own page\n" }))
        .merge(relay.router());
    Ok((app, relay))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (app, relay) = application().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            // Tells the pages and frees their locks before the process ends.
            let interrupted = tokio::signal::ctrl_c().await;
            if interrupted.is_ok() {
                relay.shutdown().await;
            }
        })
        .await?;
    Ok(())
}
