//! What the socket layer sees of the session layer: [`Sessions`] admits connections, and a [`Connection`] passes on what its
//! client says. What the client is told arrives in the outbox that the socket layer gave on admission.

use super::clock::{Clock, SystemClock};
use super::driver::{self, Envelope};
use super::hub::ConnKey;
use crate::defaults::{BadDurations, Durations, INBOX_MESSAGES};
use crate::metrics::Metrics;
use crate::store::LockStore;
use lockrelay_protocol::{Acquire, CloseCode, ConnectionId, LockId, RequestId, ServerMessage};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// The session layer of one relay. Cheap to clone. When the last clone and the last [`Connection`] are dropped without
/// [`Sessions::shutdown`], the relay stops like one that crashed: its session stays in the store until another relay ends it.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    hub: mpsc::UnboundedSender<Envelope>,
    ready: watch::Receiver<bool>,
    next_key: AtomicU64,
}

/// What a client asked for. Each counts as an acknowledgement, with `t`, the client's clock in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `acquire`, after the rules have allowed it.
    Acquire {
        /// The client's clock.
        t: u64,
        /// What it asks for.
        acquire: Acquire,
        /// How long the lock may be held, in milliseconds from its grant: what the client asked for, capped by the rule.
        max_hold_millis: Option<u64>,
    },
    /// `cancel`.
    Cancel {
        /// The client's clock.
        t: u64,
        /// The request to withdraw.
        request_id: RequestId,
    },
    /// `release`.
    Release {
        /// The client's clock.
        t: u64,
        /// The lock to give back.
        lock_id: LockId,
    },
    /// `ack`, and every other message that asks nothing of the session layer.
    Ack {
        /// The client's clock.
        t: u64,
    },
}

impl Command {
    pub(crate) const fn t(&self) -> u64 {
        match self {
            Self::Acquire { t, .. } | Self::Cancel { t, .. } | Self::Release { t, .. } | Self::Ack { t } => *t,
        }
    }
}

/// How a connection ended, which decides when its locks may be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The client sent a close frame: at once.
    CloseFrame,
    /// The TCP connection ended: at once.
    TcpEnded,
    /// The relay itself gives up on the connection, and the client may not know yet: when the client cannot believe any
    /// more, that is `silence_millis` after its last message was received. Better: send the close frame, go on reading, and
    /// report the close frame or the end of TCP that follows; and this only if neither comes.
    RelayClosed,
}

/// What is to be written to a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// A message.
    Message(ServerMessage),
    /// A close frame with this code and reason, after all messages before it. Nothing comes after it. Go on reading and
    /// passing on commands until the client's close frame or the end of TCP; its answers still count.
    Close(CloseCode, String),
}

/// Why a connection was not admitted. Close it with [`Refused::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The relay is shutting down.
    #[error("the relay is shutting down")]
    ShuttingDown,
    /// The outbox that was given has no room at all; give it [`OUTBOX_MESSAGES`](crate::defaults::OUTBOX_MESSAGES).
    #[error("the outbox has no room")]
    NoRoom,
}

impl Refused {
    /// The close code that tells the client.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ShuttingDown => CloseCode::GoingAway,
            Self::NoRoom => CloseCode::Internal,
        }
    }
}

/// Why a relay cannot start. A store that merely does not answer is not among them: the relay starts, is not
/// [ready](Sessions::ready), and keeps trying.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The durations contradict one another.
    #[error(transparent)]
    Durations(#[from] BadDurations),
    /// The store refuses to be used as it is configured; the message says what to change.
    #[error("{0}")]
    Unfit(String),
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drained {
    /// Every lock is freed and the session is gone from the store.
    Clean,
    /// Some client may still believe in its lock, or the store did not answer. What is left in the store is ended by another
    /// relay, or by the next start of this one, when nobody can believe in it any more.
    Left,
}

impl Sessions {
    /// Starts the session layer over `store`. Must be called within a tokio runtime.
    ///
    /// Resolves once the store has answered for the first time, or has failed to.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start(store: Arc<dyn LockStore>, durations: Durations, metrics: Metrics) -> Result<Self, StartError> {
        Self::start_with_clock(store, durations, metrics, Box::new(SystemClock::default())).await
    }

    /// As [`Sessions::start`], with a clock for tests: [`TokioClock`](super::clock::TokioClock).
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start_with_clock(
        store: Arc<dyn LockStore>,
        durations: Durations,
        metrics: Metrics,
        clock: Box<dyn Clock>,
    ) -> Result<Self, StartError> {
        durations.validate()?;
        let (hub, inbox) = mpsc::unbounded_channel();
        let (set_ready, ready) = watch::channel(false);
        let (first, opened) = oneshot::channel();
        tokio::spawn(driver::run(driver::Setup {
            store,
            durations,
            metrics,
            clock,
            inbox,
            ready: set_ready,
            first,
        }));
        // A driver that is gone already counts as one whose store does not answer.
        opened.await.unwrap_or(Ok(()))?;
        Ok(Self {
            shared: Arc::new(Shared {
                hub,
                ready,
                next_key: AtomicU64::new(1),
            }),
        })
    }

    /// Admits a connection that has said `hello` with the clock `t`. Its messages arrive in `outbox`, a channel of
    /// [`OUTBOX_MESSAGES`](crate::defaults::OUTBOX_MESSAGES); one that runs full ends the connection.
    ///
    /// An outbox whose sender is gone without an [`Outgoing::Close`] means that the session layer has ended: close with
    /// [`CloseCode::Internal`].
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn admit(&self, t: u64, outbox: mpsc::Sender<Outgoing>) -> Result<Connection, Refused> {
        let key = ConnKey(self.shared.next_key.fetch_add(1, Ordering::Relaxed));
        // Kept back, so that the close code always finds room.
        let closing = outbox.clone().try_reserve_owned().map_err(|_| Refused::NoRoom)?;
        let cut = CancellationToken::new();
        let (answer, admitted) = oneshot::channel();
        let connection = Connection {
            id: connection_id(),
            key,
            hub: self.shared.hub.clone(),
            inbox: Arc::new(Semaphore::new(INBOX_MESSAGES)),
            cut: cut.clone(),
            ended: false,
        };
        let envelope = Envelope::Connect {
            conn: key,
            t,
            outbox,
            closing,
            cut,
            answer,
        };
        self.shared.hub.send(envelope).map_err(|_| Refused::ShuttingDown)?;
        // From here on the guard's drop tells the hub, also when this future is dropped.
        admitted.await.unwrap_or(Err(Refused::ShuttingDown))?;
        Ok(connection)
    }

    /// Whether the relay has a valid session in its store, that is, can grant locks. For `/readyz`.
    #[must_use]
    pub fn ready(&self) -> bool {
        *self.shared.ready.borrow() && self.shared.ready.has_changed().is_ok()
    }

    /// Resolves when [`Sessions::ready`] is true; at once if it is. Never if the session layer has ended.
    pub async fn wait_until_ready(&self) {
        let mut ready = self.shared.ready.clone();
        if ready.wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when the session layer has ended: after [`Sessions::shutdown`], or because it failed. A relay whose session
    /// layer failed is of no use any more, and had better be restarted.
    pub async fn ended(&self) {
        self.shared.hub.closed().await;
    }

    /// Stops cleanly: admits nobody any more, tells every holder `relay_shutdown`, closes every connection with
    /// [`CloseCode::GoingAway`], frees each lock at its client's answer or end, and takes the session out of the store.
    /// A lock whose client does not answer within `limit` is left to another relay. The default is
    /// [`Durations::drain_millis`].
    pub async fn shutdown(&self, limit: Duration) -> Drained {
        let (done, drained) = oneshot::channel();
        if self.shared.hub.send(Envelope::Shutdown { limit, done }).is_err() {
            self.ended().await;
            return Drained::Left;
        }
        drained.await.unwrap_or(Drained::Left)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

/// A connection that was admitted. A guard: dropping it without [`Connection::end`], as a panic of its task does, counts as
/// the end of its TCP connection, so that its locks are freed whatever happens.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    key: ConnKey,
    hub: mpsc::UnboundedSender<Envelope>,
    inbox: Arc<Semaphore>,
    cut: CancellationToken,
    ended: bool,
}

impl Connection {
    /// Its name in logs and in `welcome`.
    #[must_use]
    pub fn id(&self) -> &ConnectionId {
        &self.id
    }

    /// Passes on what the client said. Waits while [`INBOX_MESSAGES`] of this connection have not been dealt with, so that
    /// a client that floods is read no further. Does nothing after the session layer's end; the outbox tells.
    ///
    /// Cancel safe: a command is either passed on or not.
    pub async fn send(&self, command: Command) {
        let Ok(place) = Arc::clone(&self.inbox).acquire_owned().await else {
            return;
        };
        let _ = self.hub.send(Envelope::Command {
            conn: self.key,
            command,
            place,
        });
    }

    /// Resolves when the client is to be cut off without waiting until what is in the outbox has been written: it does not
    /// read. Await it beside every write.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Ends the connection.
    pub fn end(mut self, how: End) {
        self.tell(how);
    }

    fn tell(&mut self, how: End) {
        if !std::mem::replace(&mut self.ended, true) {
            let _ = self.hub.send(Envelope::Ended { conn: self.key, how });
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tell(End::TcpEnded);
    }
}

/// 40 random bits: enough to find a connection in the logs.
fn connection_id() -> ConnectionId {
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    let mut text = String::from("c-");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    ConnectionId::new(&text).expect("12 letters and digits")
}
