//! The service behind the demo page: a shop with a few items in stock, which oversells unless its buyers lock.
//!
//! Its stock is deliberately racy: `GET /demo/stock` is a plain read, `POST /demo/stock` a plain write, and nothing checks
//! one against the other. It is no example of how to keep stock. It is served with `--demo` only, and to anybody.
//!
//! With a Redis all relays share one shop; in memory each relay has its own.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | the routes: the reference for the page |
//! | `shop.rs` | what the routes do |
//! | `scratch.rs` | where the shop keeps its things: a few values and a log, in memory or in Redis |
//!
//! # Routes
//!
//! All bodies are JSON objects in `camelCase`; unknown fields are ignored, except in timeline events, where they are kept.
//! Every answer has `access-control-allow-origin: *`, so that a page of one relay can use another's shop. A body that is
//! wrong is answered with 400 (not JSON), 415 (not `application/json`) or 422 and a text that says why; a scratch that does
//! not answer with 503.
//!
//! ## `GET /demo/stock`
//! `{"stock": 5, "orders": 0}`: items left (may be negative, if a buyer writes that) and the number of orders in this run.
//!
//! ## `POST /demo/stock`
//! `{"stock": 4}`. Writes it, whatever it was. Optional: `"buyer"`, text, shown with the change. Answer: as
//! `GET /demo/stock`.
//!
//! ## `POST /demo/orders`
//! `{"buyer": "Ada", "locked": true, "fencingToken": 1763915400000001}`; `fencingToken` is optional. Answer: 201 with
//! `{"order": 3}`, the order's number in this run, from 1.
//!
//! ## `POST /demo/reset`
//! `{"stock": 5}`. Begins a new run: the stock is this, the orders are none, the events of older runs are not replayed any
//! more. Answer: as `GET /demo/stock`.
//!
//! ## `POST /demo/events`
//! `{"buyer": "Ada", "kind": "queued", ...}`. Something for the timeline, with whatever else the page wants to say about it
//! (`fencingToken`, `ahead`, `lockId`, ..); `kind` is any text: `waiting`, `queued`, `granted`, `released`, `lost`, ... At
//! most 4 KiB. The fields `id`, `at`, `run` and `type` are the server's and are overwritten. Answer: 202 with `{}`.
//!
//! ## `GET /demo/events`
//! Server-sent events (`text/event-stream`), all without a name, so that `source.onmessage` gets them. `id:` is the
//! event's id. Data is one JSON object:
//!
//! | field | value |
//! |---|---|
//! | `id` | text; opaque, the same as `id:` |
//! | `at` | when it happened, by the clock of the server, in milliseconds since 1970 |
//! | `run` | number of the run |
//! | `type` | `"reset"` with `stock`; `"stock"` with `stock` and perhaps `buyer`; `"order"` with `order`, `buyer`, `locked` and perhaps `fencingToken`; `"timeline"` with what was posted to `/demo/events` |
//!
//! A newcomer first gets the events of the current run (the last 2,000 at most), then what happens. One that reconnects
//! with `Last-Event-ID`, as an `EventSource` does by itself, gets what it missed. A comment every 10 seconds keeps proxies
//! from closing the stream.

mod scratch;
mod shop;

pub use scratch::{Entry, MemoryScratch, Scratch, ScratchError};
pub(crate) use shop::Shop;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tower_http::cors::{Any, CorsLayer};

/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// How often a silent event stream sends a comment: well within the 30 to 60 seconds after which proxies give up.
const HEARTBEAT: Duration = Duration::from_secs(10);

pub(crate) fn routes(shop: Shop) -> Router {
    Router::new()
        .route("/demo/stock", get(stock).post(write_stock))
        .route("/demo/orders", post(order))
        .route("/demo/reset", post(reset))
        .route("/demo/events", get(events).post(timeline))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any))
        .with_state(shop)
}

/// Why a request failed.
enum Failure {
    Body(JsonRejection),
    Scratch(ScratchError),
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::Body(rejection)
    }
}

impl From<ScratchError> for Failure {
    fn from(error: ScratchError) -> Self {
        Self::Scratch(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Body(rejection) => rejection.into_response(),
            Self::Scratch(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        }
    }
}

type Body<T> = Result<Json<T>, JsonRejection>;

async fn stock(State(shop): State<Shop>) -> Result<Json<Value>, Failure> {
    let (stock, orders) = shop.stock().await?;
    Ok(Json(json!({ "stock": stock, "orders": orders })))
}

#[derive(Deserialize)]
struct WriteStock {
    stock: i64,
    buyer: Option<String>,
}

async fn write_stock(State(shop): State<Shop>, body: Body<WriteStock>) -> Result<Json<Value>, Failure> {
    let Json(body) = body?;
    shop.write_stock(body.stock, body.buyer.as_deref()).await?;
    stock(State(shop)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    buyer: String,
    locked: bool,
    fencing_token: Option<u64>,
}

async fn order(State(shop): State<Shop>, body: Body<Order>) -> Result<(StatusCode, Json<Value>), Failure> {
    let Json(body) = body?;
    let number = shop.order(&body.buyer, body.locked, body.fencing_token).await?;
    Ok((StatusCode::CREATED, Json(json!({ "order": number }))))
}

#[derive(Deserialize)]
struct Reset {
    stock: i64,
}

async fn reset(State(shop): State<Shop>, body: Body<Reset>) -> Result<Json<Value>, Failure> {
    let Json(body) = body?;
    shop.reset(body.stock).await?;
    stock(State(shop)).await
}

#[derive(Deserialize)]
struct Timeline {
    // Named so that an event without them is refused with their names; kept with the rest.
    buyer: String,
    kind: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

async fn timeline(State(shop): State<Shop>, body: Body<Timeline>) -> Result<(StatusCode, Json<Value>), Failure> {
    let Json(body) = body?;
    let mut fields = body.rest;
    fields.insert("buyer".to_owned(), body.buyer.into());
    fields.insert("kind".to_owned(), body.kind.into());
    shop.timeline(fields).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

async fn events(
    State(shop): State<Shop>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let events = shop.events(last.map(str::to_owned)).await?;
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("still here");
    Ok(Sse::new(events).keep_alive(keep_alive))
}
