//! One entry: a request and the lock that comes of it, and what the hub knows of it.
//!
//! ```text
//!            outcome `queued`         event `granted`
//!   Asked ───────────────────> Waiting ────────────> Held ──> Held, lost
//!     │ outcome or event `granted` │                  ^ │        │
//!     └────────────────────────────┼──────────────────┘ │        │
//!     │ withdrawn before it was sent, or `unavailable`  │        │
//!     v                            v                    v        v
//!    gone <───────────────────── Removing <──────────────────────┘
//!                outcome of `Remove`
//! ```

use super::ConnKey;
use crate::session::clock::Millis;
use crate::store::Slot;
use lockrelay_protocol::{Acquire, LockId, ReleaseReason};

/// Names an entry within the process; never used again. In the order of the requests' arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EntryKey(pub(super) u64);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) conn: ConnKey,
    pub(super) acquire: Acquire,
    /// After the rule's cap.
    pub(super) max_hold: Option<Millis>,
    pub(super) partition: usize,
    /// When it was received, on the taker's clock.
    pub(super) asked_at: Millis,
    pub(super) place: Place,
    pub(super) stage: Stage,
    /// When its timer fires: the wait limit, then max hold, then the end of the wait for the answer to `lost`.
    pub(super) timer: Option<Millis>,
}

/// Where the entry is in the store.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Nowhere yet: its `Acquire` has not been sent, and stands in the queue of operations under this number.
    Unsent(u64),
    /// Here, or on the way there. The slot is not used again before the store has said that the entry is gone.
    Sent { slot: Slot, lock_id: LockId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is known of its outcome. `stolen`: the theft overtook the news of the grant.
    Asked { stolen: bool },
    /// In the queue, `ahead` waiters behind the head when it came.
    Waiting { ahead: u64 },
    /// Granted, and the client was told so.
    Held {
        token: u64,
        /// When it was granted, on the taker's clock.
        since: Millis,
        /// The client was told that it is being taken away; it is freed at the client's answer.
        lost: Option<ReleaseReason>,
    },
    /// A `Remove` is on its way; what came of it is told then.
    Removing(Owed),
}

/// What the client is to be told once the entry is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    /// How many `cancel`s wait for their answer.
    pub(super) cancelled: u32,
    /// How many `release`s wait for their answer.
    pub(super) released: u32,
    /// Whether the first of those is what frees the lock.
    pub(super) by_release: bool,
    /// Whether the wait limit passed.
    pub(super) timeout: bool,
}

impl Stage {
    /// Whether it waits for a grant, as far as the hub knows.
    pub(super) const fn waits(self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Waiting { .. })
    }

    pub(super) const fn holds(self) -> bool {
        matches!(self, Self::Held { .. })
    }
}
