//! The hub alone, in virtual time, its store's answers written by hand: each race once, at its narrowest.

mod endings;
mod races;
mod time;

use super::*;
use crate::store::{BatchReply, Event, EventKind, Outcome, Slot};
use lockrelay_protocol::Mode;

impl Hub {
    /// What is held, and by whom, of what is not being taken away.
    pub(in crate::session) fn held(&self) -> Vec<(ConnKey, LockId)> {
        let held = self
            .entries
            .values()
            .filter(|entry| matches!(entry.stage, Stage::Held { lost: None, .. }));
        let named = held.filter_map(|entry| match &entry.place {
            Place::Sent { lock_id, .. } => Some((entry.conn, lock_id.clone())),
            Place::Unsent(_) => None,
        });
        named.collect()
    }
}

/// A hub with one partition, a session, and one clock that both believer and taker read, at different offsets.
pub(super) struct Rig {
    pub(super) hub: Hub,
    pub(super) metrics: Metrics,
    pub(super) millis: Millis,
}

pub(super) const A: ConnKey = ConnKey(1);
pub(super) const B: ConnKey = ConnKey(2);

pub(super) fn request(id: &str) -> RequestId {
    RequestId::new(id).unwrap()
}

/// The lock ids are L1, L2.. in the order in which acquires were sent.
pub(super) fn lock(id: &str) -> LockId {
    LockId::new(id).unwrap()
}

pub(super) fn ask(id: &str, mutex: &str) -> Acquire {
    Acquire {
        request_id: request(id),
        mutex: MutexName::new(mutex).unwrap(),
        mode: Mode::Exclusive,
        wait_millis: None,
        max_hold_millis: None,
        if_available: false,
        steal: false,
        metadata: None,
    }
}

pub(super) fn done(outcomes: &[Outcome]) -> BatchReply {
    BatchReply {
        outcomes: outcomes.to_vec(),
        ..BatchReply::default()
    }
}

pub(super) fn event(number: u64, slot: u32, lock_id: &str, kind: EventKind) -> Event {
    Event {
        number,
        slot: Slot(slot),
        lock_id: lock(lock_id),
        kind,
    }
}

pub(super) fn grant_event(number: u64, slot: u32, lock_id: &str) -> Event {
    event(number, slot, lock_id, EventKind::Granted { token: 7 })
}

impl Rig {
    /// With a lease for an hour, and A and B connected.
    pub(super) fn new() -> Self {
        let mut rig = Self::without_session();
        rig.open(3_600_000);
        rig.hub.connected(rig.now(), A, 100);
        rig.hub.connected(rig.now(), B, 200);
        rig
    }

    pub(super) fn without_session() -> Self {
        let metrics = Metrics::new();
        let mut count = 0;
        let ids = move || {
            count += 1;
            lock(&format!("L{count}"))
        };
        let hub = Hub::new(Durations::default(), metrics.clone(), 1, Box::new(ids));
        Self {
            hub,
            metrics,
            millis: 0,
        }
    }

    pub(super) fn open(&mut self, lease: Millis) {
        let generation = Generation {
            number: 1,
            recovering: false,
        };
        let opened = Opened {
            generation,
            highest_token: 0,
        };
        self.hub.session_opened(0, &opened);
        self.hub.lease(0, self.now().believer + lease);
    }

    pub(super) fn now(&self) -> Now {
        Now {
            believer: 9_000_000 + self.millis,
            taker: 50_000 + self.millis,
        }
    }

    /// Lets time pass, with what it brings about, to the millisecond.
    pub(super) fn pass(&mut self, millis: Millis) {
        let end = self.millis + millis;
        while let Some(at) = self.hub.deadline().filter(|at| *at <= 50_000 + end) {
            self.millis = (at - 50_000).max(self.millis);
            self.hub.tick(self.now());
        }
        self.millis = end;
        self.hub.tick(self.now());
    }

    pub(super) fn say(&mut self, conn: ConnKey, command: Command) {
        self.hub.command(self.now(), conn, command);
    }

    pub(super) fn acquire(&mut self, conn: ConnKey, acquire: Acquire) {
        let max_hold_millis = acquire.max_hold_millis;
        let t = self.millis;
        self.say(
            conn,
            Command::Acquire {
                t,
                acquire,
                max_hold_millis,
            },
        );
    }

    pub(super) fn cancel(&mut self, conn: ConnKey, id: &str) {
        let request_id = request(id);
        self.say(conn, Command::Cancel { t: 0, request_id });
    }

    pub(super) fn release(&mut self, conn: ConnKey, id: &str) {
        let lock_id = lock(id);
        self.say(conn, Command::Release { t: 0, lock_id });
    }

    pub(super) fn ack(&mut self, conn: ConnKey) {
        let t = self.millis;
        self.say(conn, Command::Ack { t });
    }

    /// What goes to the store now, in short; it counts as on its way.
    pub(super) fn sent(&mut self) -> Vec<String> {
        let ops = self.hub.next_batch(0).map(|batch| batch.ops).unwrap_or_default();
        let short = |op: &Op| match op {
            Op::Acquire(request) => format!("acquire {} at {} as {}", request.mutex, request.slot.0, request.lock_id),
            Op::Remove { slot, lock_id } => format!("remove {lock_id} at {}", slot.0),
            Op::Reassert(claim) => format!(
                "claim {} {} {} {}",
                claim.slot.0, claim.lock_id, claim.mutex, claim.token
            ),
            Op::Settle { mutex } => format!("settle {mutex}"),
        };
        ops.iter().map(short).collect()
    }

    pub(super) fn reply(&mut self, outcomes: &[Outcome]) {
        self.hub.batch_done(self.now(), 0, done(outcomes));
    }

    pub(super) fn events(&mut self, events: Vec<Event>) {
        self.hub.events(self.now(), 0, events);
    }

    /// What was said and done since the last time, in short.
    pub(super) fn said(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.hub.output()).map(short).collect()
    }

    /// A holds "m" as L1 at slot 0.
    pub(super) fn held(acquire: Acquire) -> Self {
        let mut rig = Self::new();
        rig.acquire(A, acquire);
        assert_eq!(rig.sent(), ["acquire m at 0 as L1"]);
        rig.reply(&[Outcome::Granted { token: 1 }]);
        assert_eq!(rig.said().len(), 1);
        rig
    }

    /// A waits for "m" as L1 at slot 0.
    pub(super) fn waiting(acquire: Acquire) -> Self {
        let mut rig = Self::new();
        rig.acquire(A, acquire);
        assert_eq!(rig.sent(), ["acquire m at 0 as L1"]);
        rig.reply(&[Outcome::Queued { ahead: 1 }]);
        assert_eq!(rig.said(), ["1: queued 1 behind 1"]);
        rig
    }

    pub(super) fn metric(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|found| found == line)
    }
}

fn short(output: Output) -> String {
    match output {
        Output::Send(ConnKey(conn), message) => format!("{conn}: {}", said(&message)),
        Output::Close(ConnKey(conn), code, _) => format!("{conn}: close {}", code.as_u16()),
        Output::Cut(ConnKey(conn), code, _) => format!("{conn}: cut {}", code.as_u16()),
        Output::Renew(partition) => format!("renew {partition}"),
        Output::List(partition) => format!("list {partition}"),
    }
}

fn said(message: &ServerMessage) -> String {
    match message {
        ServerMessage::Welcome { .. } => "welcome".to_owned(),
        ServerMessage::Queued { request_id, ahead } => format!("queued {request_id} behind {ahead}"),
        ServerMessage::Granted {
            request_id,
            lock_id,
            fencing_token,
            echo,
            valid_millis,
            ..
        } => format!("granted {request_id} as {lock_id}, token {fencing_token}, until {echo} + {valid_millis}"),
        ServerMessage::Unavailable { request_id } => format!("unavailable {request_id}"),
        ServerMessage::Timeout { request_id } => format!("timeout {request_id}"),
        ServerMessage::Cancelled { request_id } => format!("cancelled {request_id}"),
        ServerMessage::Released { lock_id, held } => format!("released {lock_id}, held {held}"),
        ServerMessage::Lost { lock_id, reason } => format!("lost {lock_id}, {reason}"),
        ServerMessage::Heartbeat { echo, valid_millis } => format!("heartbeat until {echo} + {valid_millis}"),
        ServerMessage::Error { code, request_id, .. } => match request_id {
            Some(request_id) => format!("error {code} {request_id}"),
            None => format!("error {code}"),
        },
    }
}
