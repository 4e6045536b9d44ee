//! Where locks live: the trait [`LockStore`] and the two stores that implement it.
//!
//! A store keeps, per partition, relay sessions, and per mutex its holders and a FIFO queue of waiters over all relays.
//! It decides who is next; it deliberately knows no client, no clock and no lease. Those belong to
//! `session`, which calls a store in batches and renews its own session there.
//!
//! | file | what it holds |
//! |---|---|
//! | [`queue`] | the pure lock machine of one partition: the memory store's heart, and the oracle for the Redis one |
//! | [`memory`] | the embedded default: [`queue`] behind a mutex |
//! | [`redis`] | one hash per partition, changed by Lua scripts |
//! | `conformance` (feature `conformance`) | the suite that every store passes |
//!
//! # The rules that every store keeps
//!
//! **Entries.** A request and the grant that comes of it are one *entry*. The relay names it before it calls: by a
//! [`Slot`], an index that it may use again once the entry is gone, and a [`LockId`], which is unguessable and never used
//! again. So every operation can be sent twice: a call about a slot with another lock id than the store has is about an
//! entry that is gone.
//!
//! **Queue.** An exclusive request is granted when nobody holds the mutex and nobody waits ahead of it; a shared one when
//! only shared ones hold it and nobody waits ahead. Whatever removes an entry (release, cancel, reap) hands the mutex on in
//! the same atomic step, to as many waiters at the head as the rule allows, skipping and removing those whose session is
//! dead. A mutex with neither holder nor waiter leaves nothing behind.
//!
//! **Fencing token.** Each grant gets previous + 1 of its partition, never below what any caller has seen.
//!
//! **Events.** What happens to an entry outside the reply to its own `Acquire` (a grant after waiting, a theft) is appended
//! to the stream of the entry's session, numbered 1, 2, 3.. without gaps. It stays there until the relay acknowledges it in
//! a later call ([`Caller::acknowledged`], cumulative, as in TCP). Every reply carries the caller's unacknowledged events;
//! [`Hint`]s carry them sooner, and may be lost, late or doubled.
//!
//! **Batches.** A batch is applied as a whole and in order. One with the sequence number of the session's last one is a
//! repetition: it changes nothing and gets the same outcomes. An older one is a copy that was late on its way: it is refused.
//!
//! **Bounds.** No call touches more than [`BOUND`] entries. What a bound cut short is named in [`BatchReply::unsettled`]
//! and goes on with [`Op::Settle`].

pub mod memory;
pub mod queue;
pub mod redis;

#[cfg(feature = "conformance")]
pub mod conformance;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lockrelay_protocol::{LockId, Mode, MutexName};
use std::fmt;
use tokio::sync::mpsc;

/// The most entries that one call touches, and the most operations in one batch. A script that touched 100,000 would block
/// a Redis for some 200 ms.
pub const BOUND: usize = 500;

/// Index of a partition. A mutex belongs to one by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

/// A relay's own lease in the store: a random 128-bit id, new at each start and after each loss.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new one, from the operating system's random numbers.
    ///
    /// # Panics
    /// If the operating system has none: nothing could be safe then.
    #[must_use]
    pub fn random() -> Self {
        Self(random_128_bits())
    }

    /// One with these bytes, for tests that print their seed.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id with this text, 22 characters of unpadded URL-safe base64, if it is one.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn random_128_bits() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes
}

/// A new lock id: 128 random bits, so that nobody guesses one.
///
/// # Panics
/// If the operating system has no random numbers.
#[must_use]
pub fn random_lock_id() -> LockId {
    LockId::new(&URL_SAFE_NO_PAD.encode(random_128_bits())).expect("22 characters of base64")
}

/// Names an entry within its session and partition. Relays use the lowest free one, because a reap looks at each slot up
/// to the greatest that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// What every call carries about its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The relay session that calls.
    pub session: SessionId,
    /// Number of the newest generation that the caller has seen. A store that finds its own older takes this one's next.
    pub generation: u64,
    /// The highest fencing token that the caller has seen. The store's counter is never below it.
    pub highest_token: u64,
    /// All events up to this number have reached the caller; the store forgets them.
    pub acknowledged: u64,
}

/// Operations that are applied as a whole, in order, in one round trip. At most [`BOUND`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// 1, 2, 3.. per session. The same number again means the same batch again.
    pub seq: u64,
    /// What to do.
    pub ops: Vec<Op>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Grants, enqueues or refuses a new entry.
    Acquire(Request),
    /// Ends an entry, whether it holds (release) or waits (cancel), and hands the mutex on.
    Remove {
        /// Where the entry is.
        slot: Slot,
        /// Which one it is.
        lock_id: LockId,
    },
    /// Takes a lock of an older generation over into this one, while it recovers.
    Reassert(Claim),
    /// Goes on handing a mutex on, where a bound or a recovery cut that short.
    Settle {
        /// Which mutex.
        mutex: MutexName,
    },
}

/// A new entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to put it: a slot that the caller has nothing in. If the very same entry is there already, the answer is its
    /// present state (then [`Outcome::Queued::ahead`] is an upper bound), and nothing changes.
    pub slot: Slot,
    /// Its id, new.
    pub lock_id: LockId,
    /// What to lock.
    pub mutex: MutexName,
    /// Who else may hold it.
    pub mode: Mode,
    /// What to do when it cannot be granted at once.
    pub admission: Admission,
    /// Text for operators; at most 1,024 bytes.
    pub metadata: Option<String>,
}

/// A lock that was granted in an older generation and that its relay still vouches for.
///
/// The store keeps it as if it had been granted here. Two that exclude one another should never come; if they do, the one
/// with the higher fencing token stays: it was granted later, so the other must have been freed before, which the store has
/// forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where to put it: a slot that the caller has nothing in. The very same entry there is answered with its state.
    pub slot: Slot,
    /// Its id, as it was granted. An entry of an older session with this id is replaced.
    pub lock_id: LockId,
    /// What it locks.
    pub mutex: MutexName,
    /// Who else may hold it.
    pub mode: Mode,
    /// Its fencing token, as it was granted. The counter is never below it.
    pub token: u64,
    /// Text for operators; at most 1,024 bytes.
    pub metadata: Option<String>,
}

/// What to do with a request that cannot be granted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Put it at the end of the queue.
    Queue,
    /// Refuse it.
    IfAvailable,
    /// Put it at the head of the queue and tell every holder's relay, by an [`EventKind::Stolen`], to free its lock.
    /// Exclusive requests only. The mutex changes hands when the last of them is removed, as always.
    ///
    /// Told are those who hold when the request comes and were not told by an earlier theft, the longest holder first.
    /// Whoever is granted afterwards is told by the next theft only, though the thief may still wait.
    Steal,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `Acquire`: granted.
    Granted {
        /// Its fencing token.
        token: u64,
    },
    /// `Acquire`: waits.
    Queued {
        /// How many waiters are ahead of it, over all relays.
        ahead: u64,
    },
    /// `Acquire` with [`Admission::IfAvailable`]: not granted, and nothing is kept of it.
    Unavailable,
    /// `Acquire` that no relay should send: into a slot that has another entry, or a shared one that steals. Nothing was
    /// done.
    Refused,
    /// `Remove`: it held, and is gone.
    Released,
    /// `Remove`: it waited, and is gone.
    Cancelled,
    /// `Remove`: there is no such entry.
    NotHeld,
    /// `Settle`: done as far as the bound allows.
    Settled,
    /// `Reassert`: the store grants again, or a later grant excludes it. Nothing is kept of it. (One that is kept is
    /// answered `Granted`, with its own token.)
    Lost,
}

/// The answer to a call that a store carried out, or the reason why it did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// Done.
    Done(T),
    /// The caller's session does not exist: it was reaped or closed, or the store lost its data. Nothing was changed. All
    /// that the session held is lost.
    NoSession,
    /// The store's generation is not the caller's: it was restarted, failed over or lost data. Nothing was changed but the
    /// generation itself. What the caller holds is to be carried into a new session with [`Op::Reassert`] while the
    /// generation recovers, or to be given up.
    NewGeneration(Generation),
}

/// One life of a store between two events that may have lost writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Rises with each.
    pub number: u64,
    /// While true the store grants nothing: locks of an older generation may still be believed in. Ended by
    /// [`LockStore::end_recovery`].
    pub recovering: bool,
}

/// What a batch led to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BatchReply {
    /// One for each operation, in order.
    pub outcomes: Vec<Outcome>,
    /// The caller's unacknowledged events in order, at most [`BOUND`].
    pub events: Vec<Event>,
    /// Mutexes whose handing-on met [`BOUND`]: send an [`Op::Settle`] for each. A reply that was lost loses nothing: the
    /// next removal at the mutex goes on too.
    pub unsettled: Vec<MutexName>,
}

/// Something that happened to an entry of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// 1, 2, 3.. per session and partition.
    pub number: u64,
    /// Where the entry is.
    pub slot: Slot,
    /// Which one it is.
    pub lock_id: LockId,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It waited and now holds.
    Granted {
        /// Its fencing token.
        token: u64,
    },
    /// It holds, and another request steals the mutex: tell the client, then remove the entry.
    Stolen,
    /// It was claimed, and a later grant that excludes it was claimed after it: the entry is gone.
    Lost,
}

/// A session's first sight of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The store's generation.
    pub generation: Generation,
    /// The last fencing token that the partition gave.
    pub highest_token: u64,
}

/// What a renewal tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Every session of the partition with its counter, the caller's own included. One that stands still for long enough
    /// on the caller's own clock may be reaped.
    pub counters: Vec<(SessionId, u64)>,
    /// The caller's unacknowledged events in order, at most [`BOUND`].
    pub events: Vec<Event>,
    /// How many entries, holding or waiting, the store has of the caller. A hand-off leaves it unchanged.
    pub entries: u64,
    /// Whether the generation (the caller's own) is still recovering.
    pub recovering: bool,
    /// The last fencing token that the partition gave.
    pub highest_token: u64,
}

/// How far a reap or a close came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// The session and all its entries are gone, or there never was such a session.
    Gone,
    /// Up to [`BOUND`] entries were freed; call again.
    More,
    /// The session's counter is another than the caller saw: it lives, and nothing was changed.
    Alive,
}

/// What became of a reap, with what it left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReapReply {
    /// How far it came.
    pub reaped: Reaped,
    /// As in [`BatchReply::unsettled`].
    pub unsettled: Vec<MutexName>,
}

/// An entry as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub slot: Slot,
    /// Which one it is.
    pub lock_id: LockId,
    /// What it locks or waits for.
    pub mutex: MutexName,
    /// Who else may hold it.
    pub mode: Mode,
    /// Its fencing token if it holds; `None` if it waits.
    pub token: Option<u64>,
    /// Text for operators.
    pub metadata: Option<String>,
}

/// News from the store outside any reply. Never needed for correctness: whatever was missed comes with the next reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// An event, perhaps out of order.
    Event(Event),
    /// Events may have been missed (the subscription is new): renew now.
    Renew,
}

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The outcome is unknown: send the same call again before anything newer.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The store has no memory left for new entries. Nothing was changed; a batch of `Remove`s alone still works.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store is not fit for use as it is configured; the message says what to change.
    #[error("{0}")]
    Unfit(String),
    /// The call breaks a rule of [`LockStore`], for example by a batch older than the session's last one or longer than
    /// [`BOUND`]. Nothing was done, and sending it again is no use.
    #[error("the store refuses the call: {0}")]
    Refused(String),
}

/// Where locks live. See the [module documentation](self) for the rules.
#[async_trait]
pub trait LockStore: Send + Sync + 'static {
    /// How many partitions there are, at least 1.
    fn partitions(&self) -> u16;

    /// Enters a session, or finds it entered already. Call it first; after [`Answer::NoSession`] or
    /// [`Answer::NewGeneration`] with a new id.
    ///
    /// `seen` is the highest generation number and `highest_token` the highest fencing token that the caller has ever seen
    /// (0 at first).
    ///
    /// # Errors
    /// [`StoreError::Unfit`] if the store refuses to be used as it is configured, [`StoreError::Refused`] if the session is
    /// being reaped or closed, else [`StoreError::Unavailable`].
    async fn open(
        &self,
        partition: Partition,
        session: SessionId,
        seen: u64,
        highest_token: u64,
    ) -> Result<Opened, StoreError>;

    /// Carries out a batch.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: unknown outcome, send the same batch again. [`StoreError::Full`]: nothing was done.
    async fn execute(
        &self,
        partition: Partition,
        caller: &Caller,
        batch: &Batch,
    ) -> Result<Answer<BatchReply>, StoreError>;

    /// Raises the session's counter, and tells what happened meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the counter may have been raised or not.
    async fn renew(&self, partition: Partition, caller: &Caller) -> Result<Answer<Renewal>, StoreError>;

    /// Ends another session, if its counter still is `counter`: marks it dead, frees its entries, hands their mutexes on,
    /// and deletes it last. Entries are freed in the order of their slots. Call again while it answers [`Reaped::More`];
    /// any relay may go on where another stopped.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it may have been done or not; sending it again is safe.
    async fn reap(
        &self,
        partition: Partition,
        caller: &Caller,
        dead: SessionId,
        counter: u64,
    ) -> Result<Answer<ReapReply>, StoreError>;

    /// Ends the caller's own session in the same way, whatever its counter. Call again while it answers [`Reaped::More`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it may have been done or not; sending it again is safe.
    async fn close(&self, partition: Partition, session: SessionId) -> Result<ReapReply, StoreError>;

    /// Lets a recovering generation grant again. Call it when every older lease must have run out. Waiters that came
    /// meanwhile are granted by an [`Op::Settle`] of their mutex.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it may have been done or not; sending it again is safe.
    async fn end_recovery(&self, partition: Partition, caller: &Caller) -> Result<Answer<()>, StoreError>;

    /// The session's entries in slots from `from` on, at most [`BOUND`] slots, and where to go on, if there is more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn list(
        &self,
        partition: Partition,
        session: SessionId,
        from: Slot,
    ) -> Result<(Vec<Entry>, Option<Slot>), StoreError>;

    /// News for the session, from now on: of what others do, for its own batches tell it themselves. The first is a
    /// [`Hint::Renew`], once the subscription stands. Ends when the receiver is dropped. A store may drop hints that the
    /// receiver has no room for.
    fn hints(&self, partition: Partition, session: SessionId) -> mpsc::Receiver<Hint>;
}
