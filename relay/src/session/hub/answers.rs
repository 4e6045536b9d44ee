//! What comes from the store: outcomes of batches, events, the end of a recovery, orphans.

use super::sessions::claim;
use super::{
    Admission, Batch, Caller, EntryKey, ErrorCode, Generation, Hub, MutexName, Now, Op, Output, Owed, Partition, Place,
    ReleaseReason, Request, ServerMessage, SessionId, Stage, Timer, Todo,
};
use crate::store::{BOUND, BatchReply, Event, EventKind, Outcome};
use std::collections::BTreeSet;

impl Hub {
    /// The newest that is known of a partition, for a new session.
    pub(in crate::session) fn seen(&self, partition: usize) -> (u64, u64) {
        (self.desks[partition].generation, self.desks[partition].highest_token)
    }

    /// The store told a generation.
    pub(in crate::session) fn saw_generation(&mut self, partition: usize, generation: Generation) {
        self.desks[partition].saw_generation(generation);
    }

    /// The store told a fencing token.
    pub(in crate::session) fn saw_token(&mut self, partition: usize, token: u64) {
        let highest = &mut self.desks[partition].highest_token;
        *highest = token.max(*highest);
    }

    /// What a call carries about the relay.
    pub(in crate::session) fn caller(&self, partition: usize, session: SessionId) -> Caller {
        let desk = &self.desks[partition];
        Caller {
            session,
            generation: desk.generation,
            highest_token: desk.highest_token,
            acknowledged: desk.acknowledged,
        }
    }

    /// The next batch for a partition, unless one is on its way or there is nothing to do, or no session to do it with.
    pub(in crate::session) fn next_batch(&mut self, partition: usize) -> Option<Batch> {
        let Self {
            desks,
            entries,
            locks,
            new_lock_id,
            ..
        } = self;
        desks[partition].next_batch(|desk, todo| match todo {
            Todo::Acquire(key) => {
                let entry = entries.get_mut(key)?;
                let slot = desk.occupy(*key);
                let lock_id = new_lock_id();
                locks.insert(lock_id.clone(), *key);
                entry.place = Place::Sent {
                    slot,
                    lock_id: lock_id.clone(),
                };
                let acquire = &entry.acquire;
                Some(Op::Acquire(Request {
                    slot,
                    lock_id,
                    mutex: acquire.mutex.clone(),
                    mode: acquire.mode,
                    admission: match (acquire.steal, acquire.if_available) {
                        (true, _) => Admission::Steal,
                        (false, true) => Admission::IfAvailable,
                        (false, false) => Admission::Queue,
                    },
                    metadata: acquire.metadata.clone(),
                }))
            }
            Todo::Reassert(key) => claim(entries.get(key)?).or_else(|| {
                // Withdrawn meanwhile.
                desk.claims -= 1;
                None
            }),
            Todo::Remove(key) => match &entries.get(key)?.place {
                Place::Sent { slot, lock_id } => Some(Op::Remove {
                    slot: *slot,
                    lock_id: lock_id.clone(),
                }),
                Place::Unsent(_) => None,
            },
            Todo::RemoveOrphan { slot, lock_id } => Some(Op::Remove {
                slot: *slot,
                lock_id: lock_id.clone(),
            }),
            Todo::Settle(mutex) => Some(Op::Settle { mutex: mutex.clone() }),
        })
    }

    /// The batch that was on its way was carried out.
    pub(in crate::session) fn batch_done(&mut self, now: Now, partition: usize, reply: BatchReply) {
        let todos = self.desks[partition].landed();
        for (todo, outcome) in todos.into_iter().zip(reply.outcomes) {
            match todo {
                Todo::Reassert(key) => self.claim_answered(now, partition, key, outcome),
                Todo::Acquire(key) => self.acquire_done(now, partition, key, outcome),
                Todo::Remove(key) => {
                    if let Some(Stage::Removing(owed)) = self.entries.get(&key).map(|entry| entry.stage) {
                        self.finish(now, key, owed, outcome == Outcome::Released);
                    }
                }
                Todo::RemoveOrphan { slot, lock_id } => self.desks[partition].evicted(slot, &lock_id),
                Todo::Settle(_) => {}
            }
        }
        self.settle(partition, reply.unsettled);
        // After the outcomes: an event may be about an entry whose acquire is in the same reply.
        self.events(now, partition, reply.events);
    }

    /// The store was full, and did nothing with the batch this time. An earlier attempt with an unknown outcome may have
    /// been carried out, though: so what it asked for is removed, and not merely forgotten.
    pub(in crate::session) fn batch_full(&mut self, now: Now, partition: usize) {
        for todo in self.desks[partition].landed() {
            match todo {
                Todo::Acquire(key) => {
                    if self.entries.get(&key).is_some_and(|entry| entry.stage.waits()) {
                        self.fail(key, "the store is full");
                        self.remove(now, key, Owed::default());
                    }
                }
                Todo::Settle(mutex) => self.desks[partition].settle(mutex),
                again => {
                    self.desks[partition].push(again);
                }
            }
        }
        self.desks[partition].free_first();
    }

    fn acquire_done(&mut self, now: Now, partition: usize, key: EntryKey, outcome: Outcome) {
        if let Outcome::Granted { token } = outcome {
            self.saw_token(partition, token);
        }
        let Some(entry) = self.entries.get(&key) else { return };
        // In any other stage an event has overtaken this, or a `Remove` follows it.
        let Stage::Asked { stolen } = entry.stage else { return };
        let (conn, request_id) = (entry.conn, entry.acquire.request_id.clone());
        match outcome {
            Outcome::Granted { token } => {
                self.granted(now, key, token);
                if stolen {
                    self.lose(now, key, ReleaseReason::Stolen);
                }
            }
            Outcome::Queued { ahead } => {
                self.set_stage(now, key, Stage::Waiting { ahead });
                self.send(conn, ServerMessage::Queued { request_id, ahead });
            }
            Outcome::Unavailable => {
                self.finish(now, key, Owed::default(), false);
                self.send(conn, ServerMessage::Unavailable { request_id });
            }
            // Something that the hub does not know is in the slot: it stays taken until a list shows what.
            Outcome::Refused => {
                let slot = match &entry.place {
                    Place::Sent { slot, .. } => Some(*slot),
                    Place::Unsent(_) => None,
                };
                self.fail(key, "a place in the store is taken");
                self.finish(now, key, Owed::default(), false);
                if let Some(slot) = slot {
                    self.desks[partition].distrust(slot);
                }
                self.outputs.push_back(Output::List(partition));
            }
            // No outcome of an acquire: whatever the store has of it is to go.
            Outcome::Released | Outcome::Cancelled | Outcome::NotHeld | Outcome::Settled | Outcome::Lost => {
                self.fail(key, "the store answered nonsense");
                self.remove(now, key, Owed::default());
            }
        }
    }

    fn granted(&mut self, now: Now, key: EntryKey, token: u64) {
        let Some(partition) = self.entries.get(&key).map(|entry| entry.partition) else {
            return;
        };
        let valid = self.valid_millis(now, partition) > 0;
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if !valid {
            self.fail(key, "the relay's lease in its store has run out");
            self.remove(now, key, Owed::default());
            return;
        }
        let limit = entry.max_hold.map(|millis| now.taker.saturating_add(millis));
        self.timers.set(&mut entry.timer, Timer::Entry(key), limit);
        self.metrics.granted(now.taker.saturating_sub(entry.asked_at));
        let stage = Stage::Held {
            token,
            since: now.taker,
            lost: None,
        };
        self.set_stage(now, key, stage);
        self.tell_grant(now, key);
    }

    /// Events of the session, from a reply or a hint.
    pub(in crate::session) fn events(&mut self, now: Now, partition: usize, events: Vec<Event>) {
        // There may be more than a reply holds.
        let mut renew = events.len() >= BOUND;
        for event in events {
            let desk = &mut self.desks[partition];
            if event.number <= desk.acknowledged {
                continue;
            }
            if event.number > desk.acknowledged + 1 {
                renew = true;
                break;
            }
            desk.acknowledged = event.number;
            self.event(now, partition, &event);
        }
        if renew {
            self.outputs.push_back(Output::Renew(partition));
        }
    }

    fn event(&mut self, now: Now, partition: usize, event: &Event) {
        if let EventKind::Granted { token } = event.kind {
            self.saw_token(partition, token);
        }
        let Some(key) = self.desks[partition].occupant(event.slot) else {
            return;
        };
        if self.locks.get(&event.lock_id) != Some(&key) {
            return;
        }
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        match (event.kind, &mut entry.stage) {
            (EventKind::Granted { token }, Stage::Asked { .. } | Stage::Waiting { .. }) => {
                self.granted(now, key, token)
            }
            (EventKind::Stolen, Stage::Asked { stolen }) => *stolen = true,
            (EventKind::Stolen, Stage::Held { .. }) => self.lose(now, key, ReleaseReason::Stolen),
            // The store has nothing more of it: the `Remove` that follows finds nothing.
            (EventKind::Lost, Stage::Held { .. }) => self.lose(now, key, ReleaseReason::StoreLost),
            // Waiting cannot be stolen from, nor be claimed. What is being removed needs no news.
            (EventKind::Stolen, Stage::Waiting { .. } | Stage::Removing(_))
            | (EventKind::Lost, _)
            | (EventKind::Granted { .. }, Stage::Held { .. } | Stage::Removing(_)) => {}
        }
    }

    /// Mutexes whose handing-on was cut short.
    pub(in crate::session) fn settle(&mut self, partition: usize, mutexes: Vec<MutexName>) {
        for mutex in mutexes {
            self.desks[partition].settle(mutex);
        }
    }

    /// The store grants again: whatever was asked for meanwhile, or is on its way with an answer from before, is settled.
    pub(in crate::session) fn recovered(&mut self, partition: usize) {
        let waiting = self
            .entries
            .values()
            .filter(|entry| entry.partition == partition && entry.stage.waits());
        let mutexes: BTreeSet<MutexName> = waiting.map(|entry| entry.acquire.mutex.clone()).collect();
        self.settle(partition, mutexes.into_iter().collect());
    }

    /// Whether a partition has anything that a lost announcement would delay.
    pub(in crate::session) fn has_waiters(&self, partition: usize) -> bool {
        self.desks[partition].waiters > 0
    }

    /// A renewal goes out that will count entries.
    pub(in crate::session) fn begin_count(&mut self, partition: usize) {
        self.desks[partition].begin_count();
    }

    /// The most entries that a renewal can rightly have counted.
    pub(in crate::session) fn known(&self, partition: usize) -> u64 {
        self.desks[partition].known()
    }

    /// What the store has of the session. What no connection knows is removed.
    pub(in crate::session) fn listed(&mut self, partition: usize, entries: Vec<crate::store::Entry>) {
        for listed in entries {
            let known = self.desks[partition].occupant(listed.slot);
            if known.is_none() || self.locks.get(&listed.lock_id) != known.as_ref() {
                self.desks[partition].evict(listed.slot, listed.lock_id);
            }
        }
    }

    /// Which partition this is to the store.
    pub(in crate::session) fn partition(index: usize) -> Partition {
        Partition(u16::try_from(index).expect("a store counts its partitions with 16 bits"))
    }

    pub(super) fn tell_grant(&mut self, now: Now, key: EntryKey) {
        let Some(entry) = self.entries.get(&key) else { return };
        let valid_millis = self.valid_millis(now, entry.partition);
        let (Place::Sent { lock_id, .. }, Stage::Held { token, .. }) = (&entry.place, entry.stage) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(&entry.conn) else {
            return;
        };
        conn.tell(entry.partition);
        let (to, message) = (
            entry.conn,
            ServerMessage::Granted {
                request_id: entry.acquire.request_id.clone(),
                lock_id: lock_id.clone(),
                fencing_token: token,
                mode: entry.acquire.mode,
                echo: conn.echo,
                valid_millis,
            },
        );
        self.send(to, message);
    }

    pub(super) fn tell_loss(&mut self, key: EntryKey, reason: ReleaseReason) {
        let Some(entry) = self.entries.get(&key) else { return };
        if let Place::Sent { lock_id, .. } = &entry.place {
            let (conn, lock_id) = (entry.conn, lock_id.clone());
            self.send(conn, ServerMessage::Lost { lock_id, reason });
        }
    }

    /// Tells a client that its request failed for want of the store.
    pub(super) fn fail(&mut self, key: EntryKey, problem: &str) {
        let Some(entry) = self.entries.get(&key) else { return };
        let (conn, request_id) = (entry.conn, entry.acquire.request_id.clone());
        self.send(
            conn,
            ServerMessage::Error {
                code: ErrorCode::StoreUnavailable,
                message: format!("{problem}; nothing was granted"),
                request_id: Some(request_id),
                lock_id: None,
                retry_after_millis: None,
            },
        );
    }
}
