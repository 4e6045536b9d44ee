//! WebSocket connections: frames to commands of the session layer, and its messages to frames.
//!
//! One task per connection. It decides about frames (what is a message, what is too much, what is too slow) and asks the
//! [`Authorizer`](crate::rules::Authorizer); it deliberately decides nothing about locks, which is
//! [`session`](crate::session)'s. A panic in the task ends this connection alone.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | the handshake, and what it refuses |
//! | `connection.rs` | the task: hello, and messages both ways |
//! | `parting.rs` | the end: who closes, and when the client knows |
//! | `frames.rs` | reading and writing: one flush for all that is ready, stalls, what an error of the transport means |

mod connection;
mod frames;
mod parting;

use crate::Shared;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use lockrelay_protocol::SUBPROTOCOL;
use lockrelay_protocol::limits::MAX_FRAME_BYTES;
use std::sync::Arc;

/// What a connection reads at a time, in bytes. Messages are some 200 bytes; axum's default of 128 KiB would be most of
/// an idle connection's memory.
const READ_BUFFER_BYTES: usize = 1024;

/// What is gathered before it is written, in bytes, if no flush comes earlier.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// What a connection that does not read may owe, in bytes: the gathered and one more message, whose text JSON may have
/// doubled. Without this limit it would be all of the memory.
const MAX_WRITE_BUFFER_BYTES: usize = WRITE_BUFFER_BYTES + 4 * MAX_FRAME_BYTES;

/// Answers the handshake at [`PATH`](lockrelay_protocol::PATH).
pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols([SUBPROTOCOL]),
        Err(rejection) => return rejection.into_response(),
    };
    if upgrade.selected_protocol().is_none() {
        let text = format!(
            "this relay speaks the WebSocket subprotocol {SUBPROTOCOL}, which the handshake did not offer in \
             Sec-WebSocket-Protocol\n"
        );
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if shared.closing.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "this relay is shutting down\n").into_response();
    }
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.map(str::to_owned);
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(MAX_FRAME_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .on_upgrade(move |socket| {
            let tasks = shared.tasks.clone();
            // Tracked, so that a shutdown can wait for the last words of every connection.
            tasks.track_future(connection::serve(shared, socket, origin))
        })
}
