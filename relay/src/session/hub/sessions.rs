//! A partition's session: opened, lost, and, when the store begins a new generation, moved into the next one with all that
//! it has.

use super::{CloseCode, ConnKey, Entry, EntryKey, Hub, Now, Op, Opened, Owed, Place, ReleaseReason, Stage, Todo};
use crate::session::clock::Millis;
use crate::store::{Claim, Outcome};

impl Hub {
    /// A session was opened in a partition. What was asked for meanwhile goes out now.
    pub(in crate::session) fn session_opened(&mut self, partition: usize, opened: &Opened) {
        self.desks[partition].opened(opened);
    }

    /// Until when the session of a partition is valid, on the believer's clock. Only ever later, while it lasts.
    pub(in crate::session) fn lease(&mut self, partition: usize, until: Millis) {
        if let Some(lease) = &mut self.desks[partition].lease_until {
            *lease = until.max(*lease);
        }
    }

    /// The session of a partition is gone, or the relay may no longer believe in it: every lock there ends, and every
    /// connection that has anything there, or was told of its lease, is closed. What such a connection holds elsewhere is
    /// taken from it as by any other close.
    pub(in crate::session) fn session_lost(&mut self, now: Now, partition: usize) {
        for conn in self.conns_in_order() {
            let mut elsewhere = Vec::new();
            let mut here = self.conns[&conn].told.contains(&partition);
            for key in self.entries_of(conn) {
                if self.entries[&key].partition == partition {
                    here = true;
                    self.lost_with_session(now, conn, key);
                } else {
                    elsewhere.push(key);
                }
            }
            if !here || !self.conns.contains_key(&conn) {
                continue;
            }
            for key in elsewhere {
                self.lose(now, key, ReleaseReason::StoreLost);
            }
            if self.is_open(conn) {
                self.close(conn, CloseCode::StoreLost, "the relay lost its session in the store");
            }
            self.closing(now, conn);
        }
        // What is left are entries of connections that ended, on their way out of a store that has none of them any more.
        for key in self.entries_in(partition) {
            self.finish(now, key, Owed::default(), false);
        }
        self.desks[partition].reset();
    }

    fn lost_with_session(&mut self, now: Now, conn: ConnKey, key: EntryKey) {
        if matches!(self.entries[&key].stage, Stage::Held { lost: None, .. }) {
            self.metrics.lost(ReleaseReason::StoreLost);
            if self.is_open(conn) {
                self.tell_loss(key, ReleaseReason::StoreLost);
            }
        }
        self.finish(now, key, Owed::default(), false);
    }

    /// The store has begun a new generation and grants nothing yet: all that the session has is to be put into the next one,
    /// locks first, in the order of their grants, then requests in their order.
    ///
    /// What was being removed is not claimed, and so it is gone. A request that was sent is sent anew, under another lock id:
    /// a grant of the old generation that may have been made for it is worth nothing.
    pub(in crate::session) fn move_out(&mut self, now: Now, partition: usize) {
        let mut held = Vec::new();
        let mut asked = Vec::new();
        for key in self.entries_in(partition) {
            let entry = &self.entries[&key];
            match (&entry.place, entry.stage) {
                (_, Stage::Removing(owed)) => self.finish(now, key, owed, true),
                (Place::Sent { slot, .. }, Stage::Held { token, .. }) => held.push((token, *slot, key)),
                (_, Stage::Asked { .. } | Stage::Waiting { .. }) => asked.push(key),
                (Place::Unsent(_), Stage::Held { .. }) => {}
            }
        }
        held.sort_unstable();
        let slots: Vec<_> = held.iter().map(|(_, slot, key)| (*slot, *key)).collect();
        let desk = &mut self.desks[partition];
        desk.move_out(&slots);
        desk.claims = slots.len();
        for (_, key) in slots {
            desk.push(Todo::Reassert(key));
        }
        for key in asked {
            let number = self.desks[partition].push(Todo::Acquire(key));
            self.set_stage(now, key, Stage::Asked { stolen: false });
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            let place = std::mem::replace(&mut entry.place, Place::Unsent(number));
            if let Place::Sent { lock_id, .. } = place {
                self.locks.remove(&lock_id);
            }
        }
    }

    /// Whether claims in a partition are still to be answered.
    pub(in crate::session) fn is_moving(&self, partition: usize) -> bool {
        self.desks[partition].claims > 0
    }

    pub(super) fn claim_answered(&mut self, now: Now, partition: usize, key: EntryKey, outcome: Outcome) {
        self.desks[partition].claims -= 1;
        if matches!(outcome, Outcome::Granted { .. }) {
            return;
        }
        let Some(entry) = self.entries.get(&key) else { return };
        // Otherwise a `Remove` follows, which finds nothing.
        if entry.stage.holds() {
            let conn = entry.conn;
            self.lost_with_session(now, conn, key);
        }
    }

    /// A partition's entries in the order of their requests.
    fn entries_in(&self, partition: usize) -> Vec<EntryKey> {
        let here = self.entries.iter().filter(|(_, entry)| entry.partition == partition);
        let mut keys: Vec<_> = here.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }
}

/// The claim of a lock, unless it is on its way out.
pub(super) fn claim(entry: &Entry) -> Option<Op> {
    match (&entry.place, entry.stage) {
        (Place::Sent { slot, lock_id }, Stage::Held { token, .. }) => Some(Op::Reassert(Claim {
            slot: *slot,
            lock_id: lock_id.clone(),
            mutex: entry.acquire.mutex.clone(),
            mode: entry.acquire.mode,
            token,
            metadata: entry.acquire.metadata.clone(),
        })),
        _ => None,
    }
}
