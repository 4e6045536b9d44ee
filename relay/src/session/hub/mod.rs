//! Connections, requests and locks: a pure state machine. Each input comes with the present instant; what is to be said to
//! clients is drained with [`Hub::output`], what is to go to the store with [`Hub::next_batch`], and [`Hub::deadline`] tells
//! when [`Hub::tick`] is due.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | what connections ask for |
//! | [`endings`] | how connections, requests and locks end |
//! | [`answers`] | what the store answers and announces |
//! | [`sessions`] | a partition's session: opened, lost, and moved into another generation |
//! | [`time`] | heartbeats, silence, limits |
//! | [`entry`] | a request and its lock, stage by stage |
//! | [`desk`] | slots, operations and events of one partition |
//! | [`timers`] | one ordered set of instants |
//!
//! # Races
//!
//! | race | what happens |
//! |---|---|
//! | cancel crosses the grant | the lock is removed; the answer is `cancelled`, whatever the entry was |
//! | cancel before the acquire was sent | the operation is taken back; nothing goes to the store |
//! | cancel, limit or end while the acquire is in flight | a `Remove` follows it; the slot stays taken until that is answered |
//! | `granted` announced before the acquire's own reply | the entry is found by its slot, which is given out when the acquire is sent; the late `queued` is dropped |
//! | theft announced before the grant | kept, and told after the grant |
//! | event twice | its number is not above those dealt with: dropped |
//! | event out of order, or one missing | dropped, and the session is renewed at once: that returns all of them in order |
//! | event about an entry that is gone, or a slot used again | its lock id is another: dropped |
//! | two releases | the first is answered when the store has freed the lock, with `held: true`; the second after it, with `false` |
//! | release answers `lost` | removed like any other |
//! | `lost` is never answered | removed F after it was told: what the client got before rests on older acknowledgements, what it gets later comes after the `lost` |
//! | connection ends with requests in flight | every entry is removed; nothing is told |
//! | store full after an unknown outcome | the entries may exist: they are removed, their clients told `STORE_UNAVAILABLE` |
//! | new generation with a batch in flight | what it asked for is asked again in the next session; what it removed is gone, for it is not claimed |
//! | release during a move | the claim, if it was not sent yet, is left out; the `Remove` follows it otherwise |
//! | session lost with a batch in flight | the reply is not listened to any more; the entries are not the session's any more |
//! | grant when the own lease has run out | removed again; the client is told `STORE_UNAVAILABLE` |

mod answers;
mod desk;
mod endings;
mod entry;
mod sessions;
mod time;
mod timers;

#[cfg(test)]
mod tests;

use super::clock::{Millis, Now};
use super::handle::{Command, End};
use crate::defaults::Durations;
use crate::metrics::Metrics;
use crate::store::{Admission, Batch, Caller, Generation, Op, Opened, Partition, Request, SessionId};
pub(super) use desk::partition_of;
use desk::{Desk, Todo};
use entry::{Entry, EntryKey, Owed, Place, Stage};
use lockrelay_protocol::{
    Acquire, CloseCode, ErrorCode, LockId, Mode, MutexName, ReleaseReason, RequestId, ServerMessage,
};
use std::collections::{HashMap, VecDeque};
use timers::{Timer, Timers};

/// Names a connection within the process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ConnKey(pub(super) u64);

/// What is to be done for the hub.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// Say this to a client.
    Send(ConnKey, ServerMessage),
    /// Close a connection, after all that was sent before.
    Close(ConnKey, CloseCode, &'static str),
    /// Close a connection, and do not wait until it has read what was sent before: it does not read.
    Cut(ConnKey, CloseCode, &'static str),
    /// An event was missed: renew the session in this partition now.
    Renew(usize),
    /// The store has an entry in this partition that the hub does not know: list them.
    List(usize),
}

#[derive(Debug)]
struct Conn {
    phase: Phase,
    /// The latest `t` that it sent.
    echo: u64,
    /// When that was received, on the taker's clock.
    acknowledged_at: Millis,
    /// Whether it was sent a heartbeat since. If not, it has no reason to speak.
    owes_ack: bool,
    requests: HashMap<RequestId, EntryKey>,
    held: usize,
    heartbeat: Option<Millis>,
    silence: Option<Millis>,
    /// The partitions whose lease it has been told of.
    told: Vec<usize>,
}

impl Conn {
    /// It is told of the lease of this partition.
    fn tell(&mut self, partition: usize) {
        if !self.told.contains(&partition) {
            self.told.push(partition);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The relay has closed it, and frees what it holds at the client's answers, at its end, or at F. It is told nothing
    /// more, so what it says prolongs nothing.
    Closing,
}

/// See the [module documentation](self).
pub(super) struct Hub {
    durations: Durations,
    metrics: Metrics,
    new_lock_id: Box<dyn FnMut() -> LockId + Send>,
    conns: HashMap<ConnKey, Conn>,
    entries: HashMap<EntryKey, Entry>,
    locks: HashMap<LockId, EntryKey>,
    desks: Vec<Desk>,
    timers: Timers,
    next_entry: u64,
    outputs: VecDeque<Output>,
}

impl Hub {
    pub(super) fn new(
        durations: Durations,
        metrics: Metrics,
        partitions: u16,
        new_lock_id: Box<dyn FnMut() -> LockId + Send>,
    ) -> Self {
        Self {
            durations,
            metrics,
            new_lock_id,
            conns: HashMap::new(),
            entries: HashMap::new(),
            locks: HashMap::new(),
            desks: (0..partitions.max(1)).map(|_| Desk::default()).collect(),
            timers: Timers::default(),
            next_entry: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do. Drain it after every input.
    pub(super) fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A connection was admitted; its `hello` carried `t`.
    pub(super) fn connected(&mut self, now: Now, conn: ConnKey, t: u64) {
        self.metrics.connections.inc();
        self.conns.insert(
            conn,
            Conn {
                phase: Phase::Open,
                echo: t,
                acknowledged_at: now.taker,
                owes_ack: false,
                requests: HashMap::new(),
                held: 0,
                heartbeat: None,
                silence: None,
                told: Vec::new(),
            },
        );
    }

    /// A client said something. Of a connection that is gone it is ignored.
    pub(super) fn command(&mut self, now: Now, conn: ConnKey, command: Command) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let open = state.phase == Phase::Open;
        if open {
            // A client's clock does not go back on a connection; if it does, the later belief stands.
            state.echo = state.echo.max(command.t());
            state.acknowledged_at = now.taker;
            state.owes_ack = false;
        }
        match command {
            Command::Ack { .. } => {}
            Command::Acquire {
                acquire,
                max_hold_millis,
                ..
            } if open => self.acquire(now, conn, acquire, max_hold_millis),
            Command::Acquire { .. } => {}
            Command::Cancel { request_id, .. } => self.cancel(now, conn, request_id),
            Command::Release { lock_id, .. } => self.release(now, conn, lock_id),
        }
    }

    fn acquire(&mut self, now: Now, conn: ConnKey, acquire: Acquire, max_hold: Option<Millis>) {
        let request_id = acquire.request_id.clone();
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        if let Some(&key) = state.requests.get(&request_id) {
            self.repeated(now, conn, key, &acquire);
            return;
        }
        if acquire.steal && acquire.mode == Mode::Shared {
            let message = "only an exclusive lock can be stolen".to_owned();
            self.send(
                conn,
                ServerMessage::Error {
                    code: ErrorCode::InvalidArgument,
                    message,
                    request_id: Some(request_id),
                    lock_id: None,
                    retry_after_millis: None,
                },
            );
            return;
        }
        self.next_entry += 1;
        let key = EntryKey(self.next_entry);
        state.requests.insert(request_id, key);
        let partition = partition_of(&acquire.mutex, self.desks.len());
        let number = self.desks[partition].push(Todo::Acquire(key));
        self.desks[partition].waiters += 1;
        let grace = lockrelay_protocol::limits::RELAY_WAIT_GRACE_MILLIS;
        let limit = acquire
            .wait_millis
            .map(|wait| now.taker.saturating_add(wait).saturating_add(grace));
        let mut entry = Entry {
            conn,
            acquire,
            max_hold,
            partition,
            asked_at: now.taker,
            place: Place::Unsent(number),
            stage: Stage::Asked { stolen: false },
            timer: None,
        };
        self.timers.set(&mut entry.timer, Timer::Entry(key), limit);
        self.entries.insert(key, entry);
        self.watch(now, conn);
    }

    /// The same request id again: answers its present state, and changes nothing.
    fn repeated(&mut self, now: Now, conn: ConnKey, key: EntryKey, acquire: &Acquire) {
        let Some(entry) = self.entries.get(&key) else { return };
        let withdrawn = matches!(entry.stage, Stage::Removing(_));
        if entry.acquire != *acquire || withdrawn {
            let problem = if withdrawn {
                "is being withdrawn"
            } else {
                "names another request"
            };
            // Without the request's id, because an `error` that names a request says that it failed; this one goes on.
            self.send(
                conn,
                ServerMessage::Error {
                    code: ErrorCode::InvalidArgument,
                    message: format!("request id {:?} {problem}; use a new one", acquire.request_id),
                    request_id: None,
                    lock_id: None,
                    retry_after_millis: None,
                },
            );
            return;
        }
        match entry.stage {
            // The answer is on its way.
            Stage::Asked { .. } | Stage::Removing(_) => {}
            Stage::Waiting { ahead } => {
                let request_id = acquire.request_id.clone();
                self.send(conn, ServerMessage::Queued { request_id, ahead });
            }
            Stage::Held { lost: None, .. } => self.tell_grant(now, key),
            Stage::Held { lost: Some(reason), .. } => self.tell_loss(key, reason),
        }
    }

    fn cancel(&mut self, now: Now, conn: ConnKey, request_id: RequestId) {
        let key = self
            .conns
            .get(&conn)
            .and_then(|conn| conn.requests.get(&request_id).copied());
        match key {
            Some(key) => {
                let owed = Owed {
                    cancelled: 1,
                    ..Owed::default()
                };
                self.remove(now, key, owed);
            }
            None => self.send(conn, ServerMessage::Cancelled { request_id }),
        }
    }

    fn release(&mut self, now: Now, conn: ConnKey, lock_id: LockId) {
        let mine = |entry: &&Entry| entry.conn == conn && !entry.stage.waits();
        let key = self.locks.get(&lock_id).copied();
        match key.filter(|key| self.entries.get(key).as_ref().is_some_and(mine)) {
            Some(key) => {
                let owed = Owed {
                    released: 1,
                    by_release: true,
                    ..Owed::default()
                };
                self.remove(now, key, owed);
            }
            None => self.send(conn, ServerMessage::Released { lock_id, held: false }),
        }
    }

    /// The only place where a stage changes, so that what is counted by stage is right.
    fn set_stage(&mut self, now: Now, key: EntryKey, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let old = std::mem::replace(&mut entry.stage, stage);
        let desk = &mut self.desks[entry.partition];
        desk.waiters = desk.waiters + usize::from(stage.waits()) - usize::from(old.waits());
        let queued = |stage: Stage| i64::from(matches!(stage, Stage::Waiting { .. }));
        self.metrics.locks_waiting.inc_by(queued(stage) - queued(old));
        self.metrics
            .locks_held
            .inc_by(i64::from(stage.holds()) - i64::from(old.holds()));
        if let Some(conn) = self.conns.get_mut(&entry.conn) {
            conn.held = conn.held + usize::from(stage.holds()) - usize::from(old.holds());
        }
        if let (Stage::Held { since, .. }, false) = (old, stage.holds()) {
            self.metrics.held(now.taker.saturating_sub(since));
        }
    }

    fn is_open(&self, conn: ConnKey) -> bool {
        self.conns.get(&conn).is_some_and(|conn| conn.phase == Phase::Open)
    }

    fn conns_in_order(&self) -> Vec<ConnKey> {
        let mut conns: Vec<_> = self.conns.keys().copied().collect();
        conns.sort_unstable();
        conns
    }

    /// A connection's entries in the order of its requests.
    fn entries_of(&self, conn: ConnKey) -> Vec<EntryKey> {
        let mut keys: Vec<_> = self
            .conns
            .get(&conn)
            .into_iter()
            .flat_map(|conn| conn.requests.values().copied())
            .collect();
        keys.sort_unstable();
        keys
    }

    /// Tells an open connection; whoever was closed is told nothing more.
    fn send(&mut self, conn: ConnKey, message: ServerMessage) {
        if self.is_open(conn) {
            self.outputs.push_back(Output::Send(conn, message));
        }
    }

    fn close(&mut self, conn: ConnKey, code: CloseCode, reason: &'static str) {
        self.outputs.push_back(Output::Close(conn, code, reason));
    }
}
