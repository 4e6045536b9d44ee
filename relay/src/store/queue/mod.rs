//! The pure FIFO lock machine of one partition: the memory store's heart, and the oracle that the Redis store is compared
//! with. It keeps the rules of [`crate::store`] and nothing else: no clock, no randomness, no async, no thread.
//!
//! | file | what it holds |
//! |---|---|
//! | `entries` | a slab of doubly linked nodes: every push, pop and unlink is O(1) |
//! | `granting` | who is next: acquire, remove, hand on, steal, re-assert |
//! | `sessions` | a session's counter, slots, event stream and last batch |
//!
//! The calls are those of [`LockStore`](crate::store::LockStore), one for one. What they raise for sessions, to be passed
//! on as hints, is fetched with [`Machine::take_raised`].

mod entries;
mod granting;
mod sessions;
#[cfg(test)]
mod tests;

use super::{
    Answer, BOUND, Batch, BatchReply, Caller, Entry, Event, Generation, Op, Opened, Outcome, ReapReply, Reaped,
    Renewal, SessionId, Slot, StoreError,
};
use entries::Entries;
use granting::{Budget, Mutex};
use lockrelay_protocol::MutexName;
use sessions::{LastBatch, Life, Session};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

/// One partition: its sessions, its mutexes, its fencing counter.
#[derive(Clone, Debug)]
pub struct Machine {
    generation: Generation,
    highest_token: u64,
    sessions: BTreeMap<SessionId, Session>,
    mutexes: HashMap<MutexName, Mutex>,
    entries: Entries,
    raised: Vec<(SessionId, Event)>,
}

impl Machine {
    /// An empty one whose first grant gets `highest_token` + 1.
    #[must_use]
    pub fn new(generation: Generation, highest_token: u64) -> Self {
        Self {
            generation,
            highest_token,
            sessions: BTreeMap::new(),
            mutexes: HashMap::new(),
            entries: Entries::default(),
            raised: Vec::new(),
        }
    }

    /// Enters a session, or finds it entered already.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the session is being reaped or closed.
    pub fn open(&mut self, session: SessionId, seen: u64, highest_token: u64) -> Result<Opened, StoreError> {
        self.meet(seen);
        let session = self.sessions.entry(session).or_insert_with(Session::new);
        if session.life == Life::Dead {
            return Err(StoreError::Refused("the session is being ended; open another".into()));
        }
        self.highest_token = self.highest_token.max(highest_token);
        Ok(Opened {
            generation: self.generation,
            highest_token: self.highest_token,
        })
    }

    /// Carries out a batch.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is older than the session's last one, or longer than [`BOUND`].
    pub fn execute(&mut self, caller: &Caller, batch: &Batch) -> Result<Answer<BatchReply>, StoreError> {
        if let Err(answer) = self.admit(caller) {
            return Ok(answer);
        }
        if batch.ops.len() > BOUND {
            let length = batch.ops.len();
            return Err(StoreError::Refused(format!(
                "{length} operations; at most {BOUND} go in a batch"
            )));
        }
        let last = self.sessions[&caller.session].last_batch.seq;
        match batch.seq.cmp(&last) {
            Ordering::Less => {
                let seq = batch.seq;
                return Err(StoreError::Refused(format!(
                    "batch {seq} is older than the last one, {last}"
                )));
            }
            // A repetition. Not even its acknowledgement is taken: whoever sends it will say it again.
            Ordering::Equal => {}
            Ordering::Greater => {
                self.listen_to(caller);
                let mut budget = Budget::new();
                let mut apply = |op| self.apply(caller.session, op, &mut budget);
                let outcomes = batch.ops.iter().map(&mut apply).collect();
                let unsettled = self.unsettled(budget);
                self.session_mut(caller.session).last_batch = LastBatch {
                    seq: batch.seq,
                    outcomes,
                    unsettled,
                };
            }
        }
        let session = &self.sessions[&caller.session];
        Ok(Answer::Done(BatchReply {
            outcomes: session.last_batch.outcomes.clone(),
            events: session.events_after(caller.acknowledged),
            unsettled: session.last_batch.unsettled.clone(),
        }))
    }

    fn apply(&mut self, session: SessionId, op: &Op, budget: &mut Budget) -> Outcome {
        match op {
            Op::Acquire(request) => self.acquire(session, request, budget),
            Op::Remove { slot, lock_id } => self.remove(session, *slot, lock_id, budget),
            Op::Reassert(claim) => self.reassert(session, claim, budget),
            Op::Settle { mutex } => {
                self.settle(mutex, budget);
                Outcome::Settled
            }
        }
    }

    /// Raises the session's counter, and tells what happened meanwhile.
    pub fn renew(&mut self, caller: &Caller) -> Answer<Renewal> {
        if let Err(answer) = self.admit(caller) {
            return answer;
        }
        self.listen_to(caller);
        self.session_mut(caller.session).counter += 1;
        let session = &self.sessions[&caller.session];
        Answer::Done(Renewal {
            counters: self
                .sessions
                .iter()
                .map(|(id, session)| (*id, session.counter))
                .collect(),
            events: session.events_after(caller.acknowledged),
            entries: session.slots.len() as u64,
            recovering: self.generation.recovering,
            highest_token: self.highest_token,
        })
    }

    /// Ends another session, if its counter still is `counter`.
    pub fn reap(&mut self, caller: &Caller, dead: SessionId, counter: u64) -> Answer<ReapReply> {
        if let Err(answer) = self.admit(caller) {
            return answer;
        }
        self.listen_to(caller);
        match self.sessions.get(&dead) {
            // One that is marked dead can renew no more, so there is nothing to compare.
            Some(session) if session.life == Life::Alive && session.counter != counter => Answer::Done(ReapReply {
                reaped: Reaped::Alive,
                unsettled: Vec::new(),
            }),
            _ => Answer::Done(self.end(dead)),
        }
    }

    /// Ends the caller's own session, whatever its counter.
    pub fn close(&mut self, session: SessionId) -> ReapReply {
        self.end(session)
    }

    /// Lets a recovering generation grant again.
    pub fn end_recovery(&mut self, caller: &Caller) -> Answer<()> {
        if let Err(answer) = self.admit(caller) {
            return answer;
        }
        self.listen_to(caller);
        self.generation.recovering = false;
        Answer::Done(())
    }

    /// The session's entries in slots from `from` on, at most [`BOUND`], and where to go on, if there is more.
    #[must_use]
    pub fn list(&self, session: SessionId, from: Slot) -> (Vec<Entry>, Option<Slot>) {
        let Some(session) = self.sessions.get(&session) else {
            return (Vec::new(), None);
        };
        let mut rest = session.slots.range(from..);
        let entry = |index| {
            let node = self.entries.get(index);
            Entry {
                slot: node.slot,
                lock_id: node.lock_id.clone(),
                mutex: node.mutex.clone(),
                mode: node.mode,
                token: node.token(),
                metadata: node.metadata.clone(),
            }
        };
        let page = rest.by_ref().take(BOUND).map(|(_, index)| entry(*index)).collect();
        (page, rest.next().map(|(slot, _)| *slot))
    }

    /// The events that were appended to any session's stream since the last call of this.
    pub fn take_raised(&mut self) -> Vec<(SessionId, Event)> {
        std::mem::take(&mut self.raised)
    }

    /// This machine as the next generation of another one, whose newer writes are lost. Tokens go on above the other's, as
    /// the clock makes them do.
    #[cfg(test)]
    pub(crate) fn after(mut self, lost: &Self) -> Self {
        self.generation = Generation {
            number: lost.generation.number + 1,
            recovering: true,
        };
        self.highest_token = lost.highest_token + 1_000;
        self
    }

    /// Whether nobody holds and nobody waits. Sessions may be there.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.mutexes.is_empty() && self.entries.len() == 0
    }

    /// Checks the caller's generation, then its session.
    fn admit<T>(&mut self, caller: &Caller) -> Result<(), Answer<T>> {
        self.meet(caller.generation);
        if caller.generation != self.generation.number {
            return Err(Answer::NewGeneration(self.generation));
        }
        match self.sessions.get(&caller.session) {
            Some(session) if session.life == Life::Alive => Ok(()),
            _ => Err(Answer::NoSession),
        }
    }

    /// A caller that has seen a newer generation than this one shows that this one has lost data.
    fn meet(&mut self, seen: u64) {
        if seen > self.generation.number {
            self.generation = Generation {
                number: seen + 1,
                recovering: true,
            };
        }
    }

    fn listen_to(&mut self, caller: &Caller) {
        self.highest_token = self.highest_token.max(caller.highest_token);
        self.session_mut(caller.session).acknowledge(caller.acknowledged);
    }

    /// Frees as many of a session's entries as the bound allows, and forgets the session when none is left. It is marked
    /// dead first, so that nothing is handed to it on the way.
    fn end(&mut self, id: SessionId) -> ReapReply {
        let mut budget = Budget::new();
        let reaped = loop {
            let Some(session) = self.sessions.get_mut(&id) else {
                break Reaped::Gone;
            };
            session.life = Life::Dead;
            let Some((_, &index)) = session.slots.first_key_value() else {
                self.sessions.remove(&id);
                break Reaped::Gone;
            };
            if !budget.take() {
                break Reaped::More;
            }
            let node = self.take_out(index);
            self.settle(&node.mutex, &mut budget);
        };
        ReapReply {
            reaped,
            unsettled: self.unsettled(budget),
        }
    }

    fn session_mut(&mut self, id: SessionId) -> &mut Session {
        self.sessions
            .get_mut(&id)
            .expect("an entry's or a caller's session exists")
    }
}
