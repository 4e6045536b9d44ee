//! The Lockrelay relay: distributed locks for web pages, over a WebSocket, in Redis or in memory.
//!
//! The binary `lockrelay` is this library behind a command line. To have locks in an application of one's own, mount a
//! relay into its axum router:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use lockrelay::Relay;
//! use lockrelay::rules::{Allow, Rule};
//!
//! let relay = Relay::builder()
//!     .rules(vec![Rule { mutex: "order:*".into(), allow: Allow::Anyone, steal: false }])?
//!     .build()
//!     .await?;
//! let app = axum::Router::new().merge(relay.router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8787").await?;
//! axum::serve(listener, app).await?;
//! relay.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what happens there |
//! |---|---|
//! | [`rules`] | who may lock what |
//! | `socket` | WebSocket connections: frames to commands and back |
//! | [`session`] | connections, requests and locks; the relay's own lease in the store |
//! | [`store`] | where locks live: in memory or in Redis |
//! | `routes` | what is served over HTTP |
//! | [`demo`] | the service behind the demo page |
//! | [`config`] | options: command line, environment, file |
//! | [`defaults`] | durations, each with its reason |
//! | [`metrics`] | what is counted |

pub mod config;
pub mod defaults;
pub mod demo;
pub mod metrics;
mod relay;
mod routes;
pub mod rules;
pub mod session;
mod socket;
pub mod store;

pub(crate) use relay::Shared;
pub use relay::{Relay, RelayBuilder};
