//! The task of one connection: hello, then messages both ways, until something ends it.

use super::frames::{Farewell, Frames, Incoming, cut};
use super::parting::part;
use crate::Shared;
use crate::defaults::OUTBOX_MESSAGES;
use crate::rules::{Action, Ask, Decision};
use crate::session::{Command, Connection, Outgoing};
use axum::extract::ws::WebSocket;
use futures_util::FutureExt as _;
use lockrelay_protocol::{Acquire, ClientMessage, CloseCode, ErrorCode, ServerMessage};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument as _;

/// After so many wrong messages in a row the peer is no client of ours, and answering it costs more than it is worth.
const MAX_CONSECUTIVE_ERRORS: u32 = 32;

/// Longest text of an `error` message, in bytes: it may quote what the client sent, which may fill a frame.
const MAX_ERROR_BYTES: usize = 1024;

/// What the relay calls itself in `welcome`.
const AGENT: &str = concat!("lockrelay/", env!("CARGO_PKG_VERSION"));

/// Serves a connection from its first byte to its last.
pub(super) async fn serve(shared: Arc<Shared>, socket: WebSocket, origin: Option<String>) {
    let durations = &shared.durations;
    // A client that reads nothing is cut off well before F, after which it would be too late to tell it anything.
    let stall = Duration::from_millis(durations.silence_millis / 2);
    let idle = Duration::from_millis(durations.idle_ping_millis);
    let mut frames = Frames::new(socket, stall);

    let hello = tokio::select! {
        hello = hello(&mut frames) => hello,
        () = sleep(Duration::from_millis(durations.hello_millis)) => {
            let reason = format!("no hello within {} ms", durations.hello_millis);
            Err(Farewell::Close(CloseCode::HelloTimeout, reason))
        }
        () = shared.closing.cancelled() => {
            Err(Farewell::Close(CloseCode::GoingAway, "this relay is shutting down".to_owned()))
        }
    };
    let (t, agent) = match hello {
        Ok(hello) => hello,
        Err(farewell) => return part(&shared, &mut frames, None, farewell).await,
    };
    let (sender, outbox) = mpsc::channel(OUTBOX_MESSAGES);
    let connection = match shared.sessions.admit(t, sender).await {
        Ok(connection) => connection,
        Err(refused) => {
            let farewell = Farewell::Close(refused.close_code(), refused.to_string());
            return part(&shared, &mut frames, None, farewell).await;
        }
    };
    let span = tracing::info_span!("connection", id = %connection.id());
    async move {
        tracing::info!(agent, origin, "connected");
        let mut talk = Talk {
            shared: &shared,
            origin: origin.as_deref(),
            frames: &mut frames,
            connection: &connection,
            outbox,
            errors: 0,
            idle,
            quiet_since: Instant::now(),
            pinged: false,
        };
        // The frames and the connection outlive a panic: the client is told, and its locks are freed by the same rules as
        // in any other end that the relay decides on.
        let farewell = AssertUnwindSafe(talk.run()).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("a panic ends this connection");
            Farewell::Close(CloseCode::Internal, "a failure inside the relay".to_owned())
        });
        tracing::info!(?farewell, "disconnecting");
        part(&shared, &mut frames, Some(connection), farewell).await;
    }
    .instrument(span)
    .await;
}

/// Waits for the first message, which has to be `hello`.
async fn hello(frames: &mut Frames) -> Result<(u64, Option<String>), Farewell> {
    loop {
        let Incoming::Text(text) = frames.read().await? else {
            continue;
        };
        let reason = match ClientMessage::from_json(&text) {
            Ok(ClientMessage::Hello { t, agent, .. }) => return Ok((t, agent)),
            Ok(_) => "the first message has to be \"hello\"".to_owned(),
            Err(error) => format!("the first message has to be a \"hello\": {error}"),
        };
        return Err(Farewell::Close(CloseCode::Protocol, reason));
    }
}

/// A connection that has said hello.
struct Talk<'a> {
    shared: &'a Shared,
    origin: Option<&'a str>,
    frames: &'a mut Frames,
    connection: &'a Connection,
    outbox: mpsc::Receiver<Outgoing>,
    /// Wrong messages in a row.
    errors: u32,
    idle: Duration,
    quiet_since: Instant,
    /// Whether nothing came since the last ping.
    pinged: bool,
}

impl Talk<'_> {
    /// Talks until something ends it, and says what.
    async fn run(&mut self) -> Farewell {
        let Err(farewell) = self.talk().await;
        farewell
    }

    async fn talk(&mut self) -> Result<Infallible, Farewell> {
        let welcome = ServerMessage::Welcome {
            connection_id: self.connection.id().clone(),
            agent: AGENT.to_owned(),
            lease_millis: self.shared.durations.client_lease_millis,
        };
        self.answer(welcome).await?;
        loop {
            self.step().await?;
        }
    }

    async fn step(&mut self) -> Result<(), Farewell> {
        tokio::select! {
            outgoing = self.outbox.recv() => {
                self.quiet_since = Instant::now();
                // The session layer says goodbye before it ends, unless it failed.
                let gone = || Outgoing::Close(CloseCode::Internal, "a failure inside the relay".to_owned());
                self.forward(outgoing.unwrap_or_else(gone)).await
            }
            incoming = self.frames.read() => {
                self.quiet_since = Instant::now();
                self.pinged = false;
                match incoming? {
                    Incoming::Text(text) => self.receive(&text).await,
                    Incoming::Alive => Ok(()),
                }
            }
            () = sleep_until(self.quiet_since + self.idle) => {
                if self.pinged {
                    let reason = "no answer to a ping".to_owned();
                    return Err(Farewell::Close(CloseCode::Silent, reason));
                }
                self.quiet_since = Instant::now();
                self.pinged = true;
                uncut(self.connection, self.frames.ping()).await
            }
        }
    }

    /// Writes this message and all that are ready behind it, in one flush.
    async fn forward(&mut self, first: Outgoing) -> Result<(), Farewell> {
        let connection = self.connection;
        uncut(connection, async {
            let mut next = Some(first);
            while let Some(outgoing) = next {
                match outgoing {
                    Outgoing::Message(message) => self.frames.feed(&message).await?,
                    Outgoing::Close(code, reason) => return Err(Farewell::Close(code, reason)),
                }
                next = self.outbox.try_recv().ok();
            }
            self.frames.flush().await
        })
        .await
    }

    async fn receive(&mut self, text: &str) -> Result<(), Farewell> {
        let message = match ClientMessage::from_json(text) {
            Ok(message) => message,
            Err(error) => {
                return match error.answer() {
                    Some(answer) => self.complain(answer).await,
                    None => Err(Farewell::Close(CloseCode::Protocol, error.to_string())),
                };
            }
        };
        let command = match message {
            ClientMessage::Hello { .. } => {
                return self
                    .complain(error(ErrorCode::ProtocolError, "a second \"hello\" on this connection"))
                    .await;
            }
            ClientMessage::Acquire { t, acquire } => match self.authorize(&acquire).await {
                Decision::Allow { max_hold_millis: cap } => Command::Acquire {
                    t,
                    max_hold_millis: acquire.max_hold_millis.into_iter().chain(cap).min(),
                    acquire,
                },
                Decision::Deny { message } => {
                    tracing::debug!(mutex = %acquire.mutex, "denied");
                    self.errors = 0;
                    self.connection.send(Command::Ack { t }).await;
                    let mut answer = error(ErrorCode::Unauthorized, &message);
                    if let ServerMessage::Error { request_id, .. } = &mut answer {
                        *request_id = Some(acquire.request_id);
                    }
                    return self.answer(answer).await;
                }
            },
            ClientMessage::Cancel { t, request_id } => Command::Cancel { t, request_id },
            ClientMessage::Release { t, lock_id } => Command::Release { t, lock_id },
            // No rule looks at tokens yet: a new one changes nothing.
            ClientMessage::Ack { t } | ClientMessage::Token { t, .. } => Command::Ack { t },
        };
        self.errors = 0;
        self.connection.send(command).await;
        Ok(())
    }

    async fn authorize(&mut self, acquire: &Acquire) -> Decision {
        let mut ask = Ask::of(&acquire.mutex);
        ask.mode = acquire.mode;
        ask.action = if acquire.steal { Action::Steal } else { Action::Acquire };
        ask.origin = self.origin;
        ask.wait_millis = acquire.wait_millis;
        ask.max_hold_millis = acquire.max_hold_millis;
        self.shared.authorizer.authorize(&ask).await
    }

    /// Answers a wrong message, unless there were too many of them.
    async fn complain(&mut self, answer: ServerMessage) -> Result<(), Farewell> {
        self.errors += 1;
        if self.errors >= MAX_CONSECUTIVE_ERRORS {
            let reason = format!("{MAX_CONSECUTIVE_ERRORS} wrong messages in a row");
            return Err(Farewell::Close(CloseCode::Protocol, reason));
        }
        self.answer(answer).await
    }

    async fn answer(&mut self, mut answer: ServerMessage) -> Result<(), Farewell> {
        if let ServerMessage::Error { message, .. } = &mut answer {
            *message = cut(message, MAX_ERROR_BYTES);
        }
        let connection = self.connection;
        uncut(connection, async {
            self.frames.feed(&answer).await?;
            self.frames.flush().await
        })
        .await
    }
}

/// A write that ends when the session layer finds that the client does not read.
async fn uncut(connection: &Connection, write: impl Future<Output = Result<(), Farewell>>) -> Result<(), Farewell> {
    tokio::select! {
        written = write => written,
        () = connection.cut() => Err(Farewell::Cut),
    }
}

fn error(code: ErrorCode, message: &str) -> ServerMessage {
    ServerMessage::Error {
        code,
        message: message.to_owned(),
        request_id: None,
        lock_id: None,
        retry_after_millis: None,
    }
}
