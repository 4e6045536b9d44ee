//! Reading and writing the frames of one connection.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use lockrelay_protocol::limits::MAX_FRAME_BYTES;
use lockrelay_protocol::{CloseCode, ServerMessage};
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as TransportError;

/// Greatest reason in a close frame, in bytes (RFC 6455, 5.5: 125 less the code).
const MAX_REASON_BYTES: usize = 123;

/// How a connection comes to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The client sent a close frame.
    CloseFrame,
    /// The TCP connection is gone.
    TcpEnded,
    /// The relay closes.
    Close(CloseCode, String),
    /// The relay closes, after bytes that make no frames: nothing more can be read.
    CloseUnread(CloseCode, String),
    /// The relay cuts the TCP connection, because not even a close frame can be written.
    Cut,
}

/// What came in.
pub(super) enum Incoming {
    /// A text frame.
    Text(Utf8Bytes),
    /// A ping or pong: the TCP connection lives.
    Alive,
}

/// The frames of one connection.
pub(super) struct Frames {
    socket: WebSocket,
    /// How long a write may make no progress.
    stall: Duration,
}

impl Frames {
    pub(super) fn new(socket: WebSocket, stall: Duration) -> Self {
        Self { socket, stall }
    }

    /// Waits for the next frame. Cancelling loses nothing.
    pub(super) async fn read(&mut self) -> Result<Incoming, Farewell> {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Incoming::Alive),
            Some(Ok(Message::Binary(_))) => {
                let reason = "a binary frame; messages are text".to_owned();
                Err(Farewell::Close(CloseCode::NotText, reason))
            }
            Some(Ok(Message::Close(_))) => Err(Farewell::CloseFrame),
            Some(Err(error)) => Err(farewell(error)),
            None => Err(Farewell::TcpEnded),
        }
    }

    /// Puts a message into the write buffer. Written out when the buffer is full, or by [`Frames::flush`].
    pub(super) async fn feed(&mut self, message: &ServerMessage) -> Result<(), Farewell> {
        let text = message.to_json();
        self.write(|socket| async move { socket.feed(Message::Text(text.into())).await })
            .await
    }

    /// Writes out what was fed.
    pub(super) async fn flush(&mut self) -> Result<(), Farewell> {
        self.write(|socket| async move { socket.flush().await }).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), Farewell> {
        self.write(|socket| async move { socket.send(Message::Ping(Vec::new().into())).await })
            .await
    }

    async fn write<'a, W, F>(&'a mut self, write: W) -> Result<(), Farewell>
    where
        W: FnOnce(&'a mut WebSocket) -> F,
        F: Future<Output = Result<(), axum::Error>> + 'a,
    {
        match timeout(self.stall, write(&mut self.socket)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(farewell(error)),
            Err(_stalled) => Err(Farewell::Cut),
        }
    }

    /// Sends the relay's close frame.
    pub(super) async fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Farewell> {
        let frame = CloseFrame {
            code: code.as_u16(),
            reason: cut(reason, MAX_REASON_BYTES).into(),
        };
        let message = Message::Close(Some(frame));
        self.write(|socket| async move { socket.send(message).await }).await
    }
}

/// What an error of the transport means for the connection.
fn farewell(error: axum::Error) -> Farewell {
    let error = match error.into_inner().downcast::<TransportError>() {
        Ok(error) => *error,
        // Not the transport that axum uses today; what it says is all we know.
        Err(error) => return Farewell::CloseUnread(CloseCode::Protocol, error.to_string()),
    };
    match error {
        TransportError::Capacity(_) => {
            let reason = format!("over {MAX_FRAME_BYTES} bytes in one message");
            Farewell::CloseUnread(CloseCode::TooLarge, reason)
        }
        TransportError::ConnectionClosed | TransportError::AlreadyClosed | TransportError::Io(_) => Farewell::TcpEnded,
        TransportError::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
            | tokio_tungstenite::tungstenite::error::ProtocolError::SendAfterClosing,
        ) => Farewell::TcpEnded,
        TransportError::WriteBufferFull(_) => Farewell::Cut,
        other => Farewell::CloseUnread(CloseCode::Protocol, other.to_string()),
    }
}

/// The longest start of `text` that fits into so many bytes.
pub(super) fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 8), "abc");
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("aé", 2), "a");
    }
}
