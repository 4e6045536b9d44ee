//! Every message in both directions. `PROTOCOL.md` says when each is sent and what a broken rule leads to.

use crate::code::{ErrorCode, ReleaseReason, text_codes};
use crate::name::{ConnectionId, LockId, MutexName, RequestId};
#[cfg(feature = "json")]
use serde::{Deserialize, Serialize};

text_codes! {
    /// Who else may hold the mutex at the same time.
    Mode {
        /// Nobody.
        Exclusive = "exclusive",
        /// Other shared holders.
        Shared = "shared",
    }
}

/// What a client sends. Each carries `t`, the client's own clock in milliseconds, and counts as an acknowledgement.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize))]
#[cfg_attr(
    feature = "json",
    serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")
)]
pub enum ClientMessage {
    /// The first message on a connection: who speaks, and with what authority.
    Hello {
        /// The client's clock, in milliseconds.
        t: u64,
        /// Name and version of the client software, for the relay's logs.
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        agent: Option<String>,
        /// The token that rules judge. Never logged.
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        token: Option<String>,
    },
    /// Asks for a lock. Answered by `granted`, `queued` and later `granted`, `unavailable`, `timeout` or `error`.
    Acquire {
        /// The client's clock, in milliseconds.
        t: u64,
        /// What is asked for.
        #[cfg_attr(feature = "json", serde(flatten))]
        acquire: Acquire,
    },
    /// Withdraws a request. If its grant is on the way already, the relay releases the lock. Answered by `cancelled`.
    Cancel {
        /// The client's clock, in milliseconds.
        t: u64,
        /// The request to withdraw.
        request_id: RequestId,
    },
    /// Gives a lock back, or answers `lost`. Answered by `released`.
    Release {
        /// The client's clock, in milliseconds.
        t: u64,
        /// The lock to give back.
        lock_id: LockId,
    },
    /// Answers `heartbeat`.
    Ack {
        /// The client's clock, in milliseconds.
        t: u64,
    },
    /// Replaces the token of a live connection.
    Token {
        /// The client's clock, in milliseconds.
        t: u64,
        /// The new token. Never logged.
        token: String,
    },
}

/// What an `acquire` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "json", serde(rename_all = "camelCase"))]
pub struct Acquire {
    /// Names the request on this connection.
    pub request_id: RequestId,
    /// What to lock.
    pub mutex: MutexName,
    /// Who else may hold it. Default: [`Mode::Exclusive`].
    #[cfg_attr(feature = "json", serde(default = "exclusive"))]
    pub mode: Mode,
    /// How long to wait in the queue, in milliseconds; without it there is no limit. The relay waits
    /// [`RELAY_WAIT_GRACE_MILLIS`](crate::limits::RELAY_WAIT_GRACE_MILLIS) longer, because the client's clock decides.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub wait_millis: Option<u64>,
    /// How long the lock may be held, in milliseconds from its grant; without it there is no limit.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub max_hold_millis: Option<u64>,
    /// Grant at once or answer `unavailable`.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "is_false"))]
    pub if_available: bool,
    /// Go to the head of the queue and take the lock from whoever holds it. Needs a rule that allows it.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "is_false"))]
    pub steal: bool,
    /// Text for operators: who holds the lock, and what for. At most 1,024 bytes of UTF-8.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub metadata: Option<String>,
}

#[cfg(feature = "json")]
fn exclusive() -> Mode {
    Mode::Exclusive
}

#[cfg(feature = "json")]
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde's skip_serializing_if asks for"
)]
fn is_false(value: &bool) -> bool {
    !value
}

impl ClientMessage {
    /// The client's clock when it sent this, in milliseconds.
    pub const fn t(&self) -> u64 {
        match self {
            Self::Hello { t, .. }
            | Self::Acquire { t, .. }
            | Self::Cancel { t, .. }
            | Self::Release { t, .. }
            | Self::Ack { t }
            | Self::Token { t, .. } => *t,
        }
    }
}

/// What a relay sends.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize))]
#[cfg_attr(
    feature = "json",
    serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")
)]
pub enum ServerMessage {
    /// Answers `hello`.
    Welcome {
        /// Names the connection in the relay's logs.
        connection_id: ConnectionId,
        /// Name and version of the relay software.
        agent: String,
        /// The client lease, in milliseconds: the greatest `validMillis`, and how long the relay may be silent towards a
        /// client that holds or waits before that client takes the connection for dead.
        lease_millis: u64,
    },
    /// The request waits in the queue.
    Queued {
        /// The request.
        request_id: RequestId,
        /// How many requests were ahead of it when it was enqueued, over all relays.
        ahead: u64,
    },
    /// The lock is the client's until `echo + validMillis` of the client's own clock, or longer if prolonged.
    Granted {
        /// The request that it answers.
        request_id: RequestId,
        /// Names the grant in `release` and `lost`.
        lock_id: LockId,
        /// Rises with every grant of the mutex; below 2^53.
        fencing_token: u64,
        /// As asked for.
        mode: Mode,
        /// The latest `t` that the relay has received on this connection, in the client's milliseconds.
        echo: u64,
        /// How long after `echo` the client may believe, in milliseconds.
        valid_millis: u64,
    },
    /// The mutex was not free, and the request said `ifAvailable`.
    Unavailable {
        /// The request that it answers.
        request_id: RequestId,
    },
    /// The request waited for its `waitMillis` and a little longer, and is withdrawn.
    Timeout {
        /// The request that it answers.
        request_id: RequestId,
    },
    /// Answers `cancel`: the request waits for nothing and holds nothing, whatever it did before.
    Cancelled {
        /// The request that it answers.
        request_id: RequestId,
    },
    /// Answers `release`.
    Released {
        /// The lock that it answers.
        lock_id: LockId,
        /// Whether this release freed it. `false`: it was not held (any more) on this connection.
        held: bool,
    },
    /// The lock is being taken away. The client latches the loss, tells its owner, and answers with `release`.
    Lost {
        /// The lock.
        lock_id: LockId,
        /// Why.
        reason: ReleaseReason,
    },
    /// Prolongs the lease of everything that the connection holds.
    Heartbeat {
        /// The latest `t` that the relay has received on this connection, in the client's milliseconds.
        echo: u64,
        /// How long after `echo` the client may believe, in milliseconds.
        valid_millis: u64,
    },
    /// Something is wrong with a message or a request. The connection goes on.
    Error {
        /// What to do about it.
        code: ErrorCode,
        /// What is wrong, for a person.
        message: String,
        /// The request that failed, where it is known.
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        request_id: Option<RequestId>,
        /// The lock that the message was about, where it is known.
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        lock_id: Option<LockId>,
        /// How long to wait before trying again, in milliseconds.
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        retry_after_millis: Option<u64>,
    },
}
