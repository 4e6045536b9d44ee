//! What goes into the session and what comes out of it.

use lockrelay_protocol::{ClientMessage, ErrorCode, LockId, Mode, MutexName, ReleaseReason, ServerMessage};

/// A moment, or a span, of the client's own clock, in milliseconds.
pub type Millis = u64;

/// Names a call of `acquireLock` within its client. Chosen by the caller, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub u64);

/// Names a delivered lock within its client. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey(pub u64);

/// What the session cannot know by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many relay URLs there are, at least 1. The session names them by index.
    pub urls: usize,
    /// Name and version of the client software, at most 128 bytes.
    pub agent: String,
    /// Seed for the jitter of reconnects. Two clients should not share one.
    pub seed: u64,
}

/// What a call of `acquireLock` asks for. Validated by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcquireOptions {
    /// What to lock.
    pub mutex: MutexName,
    /// Who else may hold it.
    pub mode: Mode,
    /// How long to wait, from the call; `None` is no limit, 0 is: grant at the relay's first look or time out.
    pub wait_millis: Option<Millis>,
    /// How long the lock may be held, from its receipt; `None` is no limit.
    pub max_hold_millis: Option<Millis>,
    /// Answer [`Output::Unavailable`] instead of waiting.
    pub if_available: bool,
    /// Take the lock from its holders.
    pub steal: bool,
    /// Text for operators, at most 1,024 bytes.
    pub metadata: Option<String>,
}

impl AcquireOptions {
    /// The defaults of the public API: exclusive, waits 2,000 ms, held without limit.
    #[must_use]
    pub const fn new(mutex: MutexName) -> Self {
        Self {
            mutex,
            mode: Mode::Exclusive,
            wait_millis: Some(super::DEFAULT_WAIT),
            max_hold_millis: None,
            if_available: false,
            steal: false,
            metadata: None,
        }
    }
}

/// Something happened. `epoch` is that of the [`Output::Connect`] that made the socket; what another one's socket says is
/// ignored.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The page wants a lock.
    Acquire {
        /// Names the call in the outputs.
        request: RequestKey,
        /// What it wants.
        options: AcquireOptions,
    },
    /// The page wants it no more. Nothing is output for this request from now on.
    Abort {
        /// The call.
        request: RequestKey,
    },
    /// The page gives a lock back.
    Release {
        /// Which.
        lock: LockKey,
    },
    /// The page is done with the client.
    Close,
    /// The page is being left, perhaps into the back/forward cache.
    PageHidden,
    /// The page came back from the back/forward cache.
    PageShown,
    /// The WebSocket is open.
    SocketOpened {
        /// Which socket.
        epoch: u64,
        /// The token for `hello`.
        token: Option<String>,
    },
    /// A message arrived.
    Message {
        /// Which socket.
        epoch: u64,
        /// The message.
        message: ServerMessage,
    },
    /// A frame arrived that is no message of the protocol. (One of an unknown type is not even an input.)
    BadMessage {
        /// Which socket.
        epoch: u64,
        /// What is wrong.
        problem: String,
    },
    /// The WebSocket ended, or could not be opened.
    SocketClosed {
        /// Which socket.
        epoch: u64,
        /// The close code, if a close frame came.
        code: Option<u16>,
        /// The close frame's reason.
        reason: String,
    },
    /// There is a newer token.
    TokenReplaced(String),
    /// [`Session::deadline`](super::Session::deadline) has come.
    Timer,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Open a WebSocket.
    Connect {
        /// Tag its events with this.
        epoch: u64,
        /// To which of the URLs.
        url: usize,
    },
    /// Send a message on it.
    Send {
        /// On which socket.
        epoch: u64,
        /// The message.
        message: ClientMessage,
    },
    /// Close it. Its later events are ignored.
    CloseSocket {
        /// Which socket.
        epoch: u64,
        /// Close code.
        code: u16,
        /// Why, for logs.
        reason: &'static str,
    },
    /// The call waits in the queue. At most once on each connection, and never after an answer.
    Queued {
        /// The call.
        request: RequestKey,
        /// How many requests were ahead of it when it was enqueued.
        ahead: u64,
    },
    /// The call has its lock.
    Granted {
        /// The call.
        request: RequestKey,
        /// The lock's name from now on.
        lock: LockKey,
        /// What it is.
        grant: Grant,
    },
    /// The call said `ifAvailable`, and it was not.
    Unavailable {
        /// The call.
        request: RequestKey,
    },
    /// The call failed.
    Rejected {
        /// The call.
        request: RequestKey,
        /// Why.
        failure: Failure,
    },
    /// The lock ended. Exactly once for each lock.
    LockEnded {
        /// Which.
        lock: LockKey,
        /// Why.
        reason: ReleaseReason,
    },
    /// The relay knows that the lock ended, or the connection did. Exactly once for each lock, after its `LockEnded`.
    ReleaseConfirmed {
        /// Which.
        lock: LockKey,
    },
    /// The connection state changed.
    StateChanged(ConnectionState),
}

/// A granted lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What is locked.
    pub mutex: MutexName,
    /// Names the grant at the relay.
    pub lock_id: LockId,
    /// Rises with every grant of the mutex.
    pub fencing_token: u64,
    /// Who else may hold it.
    pub mode: Mode,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable code.
    pub code: ErrorCode,
    /// For people: what happened and what to do.
    pub message: String,
    /// How long to wait before trying again, where the relay said so, in milliseconds.
    pub retry_after_millis: Option<Millis>,
}

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_millis: None,
        }
    }
}

/// What the page may show about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first connection is on its way.
    Connecting,
    /// A relay has answered.
    Connected,
    /// The connection was lost; another is on its way.
    Reconnecting,
    /// Closed for good, by the page or because trying again is useless.
    Closed,
}

impl ConnectionState {
    /// The text in the public API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Closed => "closed",
        }
    }
}
