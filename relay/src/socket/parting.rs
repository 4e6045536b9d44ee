//! The end of a connection: who closes, who answers, and when the session layer may take it that the client knows.

use super::frames::{Farewell, Frames, Incoming};
use crate::Shared;
use crate::session::{Command, Connection, End};
use lockrelay_protocol::ClientMessage;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a client without locks has to answer the relay's close frame before its TCP connection is cut.
const CLOSE_ANSWER: Duration = Duration::from_secs(2);

/// Ends the connection, and tells the session layer whether the client knows.
pub(super) async fn part(shared: &Shared, frames: &mut Frames, connection: Option<Connection>, farewell: Farewell) {
    let closed = match farewell {
        Farewell::CloseFrame => {
            if let Some(connection) = connection {
                connection.end(End::CloseFrame);
            }
            // The answer to it is queued, and leaves with the next read. If the client does not hang up then, the relay does.
            let _ = timeout(CLOSE_ANSWER, until_closed(frames, None)).await;
            return;
        }
        Farewell::TcpEnded => End::TcpEnded,
        Farewell::Cut => End::RelayClosed,
        Farewell::Close(code, reason) => match frames.close(code, &reason).await {
            Ok(()) => answer_to_close(shared, frames, connection.as_ref()).await,
            Err(Farewell::TcpEnded) => End::TcpEnded,
            Err(_) => End::RelayClosed,
        },
        Farewell::CloseUnread(code, reason) => {
            // The client's bytes lie unread in the kernel. Hanging up now would reset the connection, and the reset may
            // overtake the close frame; so the client gets its time to read that first.
            if frames.close(code, &reason).await.is_ok() {
                sleep(CLOSE_ANSWER).await;
            }
            End::RelayClosed
        }
    };
    if let Some(connection) = connection {
        connection.end(closed);
    }
}

/// Waits for what tells that the client knows of the relay's close frame.
async fn answer_to_close(shared: &Shared, frames: &mut Frames, connection: Option<&Connection>) -> End {
    // A client with locks is told by that frame that they are lost. Until it answers, or until F, it may not know.
    let patience = match connection {
        Some(_) => Duration::from_millis(shared.durations.silence_millis),
        None => CLOSE_ANSWER,
    };
    let closed = until_closed(frames, connection);
    tokio::select! {
        closed = timeout(patience, closed) => closed.unwrap_or(End::RelayClosed),
        // Nobody asks any more.
        () = shared.sessions.ended() => End::RelayClosed,
    }
}

/// Reads on until the client's close frame or the end of TCP. What it said before it knew still counts, except that it gets
/// no more locks.
async fn until_closed(frames: &mut Frames, connection: Option<&Connection>) -> End {
    loop {
        let text = match frames.read().await {
            Ok(Incoming::Text(text)) => text,
            Ok(Incoming::Alive) | Err(Farewell::Close(..)) => continue,
            Err(Farewell::CloseFrame) => return End::CloseFrame,
            Err(Farewell::TcpEnded) => return End::TcpEnded,
            Err(Farewell::CloseUnread(..) | Farewell::Cut) => return End::RelayClosed,
        };
        let (Some(connection), Ok(message)) = (connection, ClientMessage::from_json(&text)) else {
            continue;
        };
        let command = match message {
            ClientMessage::Cancel { t, request_id } => Command::Cancel { t, request_id },
            ClientMessage::Release { t, lock_id } => Command::Release { t, lock_id },
            ClientMessage::Hello { .. } => continue,
            ClientMessage::Acquire { t, .. } | ClientMessage::Ack { t } | ClientMessage::Token { t, .. } => {
                Command::Ack { t }
            }
        };
        connection.send(command).await;
    }
}
