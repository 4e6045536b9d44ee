//! What a partition keeps of a relay session: its counter, its entries by slot, its event stream and its last batch.

use super::entries::Index;
use crate::store::{BOUND, Event, EventKind, Outcome, Slot};
use lockrelay_protocol::{LockId, MutexName};
use std::collections::{BTreeMap, VecDeque};

/// Whether a session may still call and be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    /// It is being reaped or closed. Its entries go, at most so many in a call, and then itself.
    Dead,
}

/// The last batch that was carried out, kept so that a repetition gets the same answer.
#[derive(Clone, Debug, Default)]
pub(super) struct LastBatch {
    pub(super) seq: u64,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) unsettled: Vec<MutexName>,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) life: Life,
    pub(super) counter: u64,
    pub(super) slots: BTreeMap<Slot, Index>,
    pub(super) last_batch: LastBatch,
    last_event: u64,
    unacknowledged: VecDeque<Event>,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            life: Life::Alive,
            counter: 0,
            slots: BTreeMap::new(),
            last_batch: LastBatch::default(),
            last_event: 0,
            unacknowledged: VecDeque::new(),
        }
    }

    /// Appends to the stream of a living session.
    pub(super) fn append(&mut self, slot: Slot, lock_id: LockId, kind: EventKind) -> Option<Event> {
        if self.life == Life::Dead {
            return None;
        }
        self.last_event += 1;
        let event = Event {
            number: self.last_event,
            slot,
            lock_id,
            kind,
        };
        self.unacknowledged.push_back(event.clone());
        Some(event)
    }

    /// Forgets all events up to this number.
    pub(super) fn acknowledge(&mut self, number: u64) {
        while self.unacknowledged.front().is_some_and(|event| event.number <= number) {
            self.unacknowledged.pop_front();
        }
    }

    /// The oldest events that are not acknowledged, as many as a reply takes.
    pub(super) fn events_after(&self, acknowledged: u64) -> Vec<Event> {
        let unknown = |event: &&Event| event.number > acknowledged;
        self.unacknowledged
            .iter()
            .filter(unknown)
            .take(BOUND)
            .cloned()
            .collect()
    }
}
