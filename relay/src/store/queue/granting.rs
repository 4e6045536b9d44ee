//! Who is next: entries come, go, and a mutex is handed on.

use super::Machine;
use super::entries::{Chain, Entries, Index, Node, State};
use super::sessions::Life;
use crate::store::{Admission, BOUND, Claim, EventKind, Outcome, Request, SessionId, Slot};
use lockrelay_protocol::{LockId, Mode, MutexName};
use std::collections::BTreeSet;

/// A mutex that somebody holds or waits for; others have no record.
#[derive(Clone, Debug)]
pub(super) struct Mutex {
    /// Holders that were told of no theft, the longest holder first.
    holders: Chain,
    /// Holders that were told of one.
    robbed: Chain,
    waiters: Chain,
    /// The mode of the holders; without one it means nothing.
    mode: Mode,
    /// A theft goes on: the remaining `holders` are still to be told. A grant ends it, for whoever is granted now came
    /// after the thief.
    theft: bool,
}

impl Default for Mutex {
    fn default() -> Self {
        Self {
            holders: Chain::default(),
            robbed: Chain::default(),
            waiters: Chain::default(),
            mode: Mode::Exclusive,
            theft: false,
        }
    }
}

impl Mutex {
    /// Whether a request of this mode may hold it beside those who do.
    fn admits(&self, mode: Mode) -> bool {
        (self.holders.is_empty() && self.robbed.is_empty()) || (self.mode == Mode::Shared && mode == Mode::Shared)
    }

    fn chain(&mut self, state: State) -> &mut Chain {
        match state {
            State::Waiting => &mut self.waiters,
            State::Holding { .. } => &mut self.holders,
            State::Robbed { .. } => &mut self.robbed,
        }
    }

    /// Holders, robbed holders, waiters.
    #[cfg(test)]
    pub(super) fn chains(&self) -> [Chain; 3] {
        [self.holders, self.robbed, self.waiters]
    }

    fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.robbed.is_empty() && self.waiters.is_empty()
    }
}

/// How many entries a call may still touch beside those that its operations name, and what it left undone.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    cut: BTreeSet<MutexName>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            left: BOUND,
            cut: BTreeSet::new(),
        }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self) -> bool {
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

/// What a mutex needs next to come to rest.
enum Step {
    /// The waiter at the head belongs to a dead session.
    Skip(Index),
    Grant(Index),
    /// This holder does not know yet that the mutex is being stolen.
    Tell(Index),
}

impl Machine {
    pub(super) fn acquire(&mut self, session: SessionId, request: &Request, budget: &mut Budget) -> Outcome {
        let steals = request.admission == Admission::Steal;
        if let Some(&index) = self.sessions[&session].slots.get(&request.slot) {
            return self.present_state(index, &request.lock_id);
        }
        if steals && request.mode == Mode::Shared {
            return Outcome::Refused;
        }
        let mutex = self.mutexes.entry(request.mutex.clone()).or_default();
        let first = steals || mutex.waiters.is_empty();
        let at_once = first && mutex.admits(request.mode) && !self.generation.recovering;
        if !at_once && request.admission == Admission::IfAvailable {
            self.forget_if_idle(&request.mutex);
            return Outcome::Unavailable;
        }

        let index = self.entries.insert(Node::new(session, request));
        self.session_mut(session).slots.insert(request.slot, index);
        let mutex = self.mutexes.get_mut(&request.mutex).expect("made above");
        let ahead = if first { 0 } else { mutex.waiters.len() as u64 };
        if first {
            mutex.waiters.push_front(&mut self.entries, index);
        } else {
            mutex.waiters.push_back(&mut self.entries, index);
        }
        if at_once {
            return Outcome::Granted {
                token: self.grant(index),
            };
        }
        if steals {
            mutex.theft = true;
            self.settle(&request.mutex, budget);
        }
        Outcome::Queued { ahead }
    }

    /// Enters a lock of an older generation. See [`Claim`] for who stays when two exclude one another.
    pub(super) fn reassert(&mut self, session: SessionId, claim: &Claim, budget: &mut Budget) -> Outcome {
        if let Some(&index) = self.sessions[&session].slots.get(&claim.slot) {
            return self.present_state(index, &claim.lock_id);
        }
        if !self.generation.recovering {
            return Outcome::Lost;
        }
        let in_the_way = self.excluded_by(claim);
        let node = |index: &Index| self.entries.get(*index);
        let same = |index: &Index| node(index).lock_id == claim.lock_id;
        let later = in_the_way
            .iter()
            .any(|index| !same(index) && node(index).token() > Some(claim.token));
        if later || in_the_way.len() > budget.left {
            return Outcome::Lost;
        }
        for index in in_the_way {
            budget.take();
            if self.entries.get(index).lock_id != claim.lock_id {
                self.tell(index, EventKind::Lost);
            }
            self.take_out(index);
        }
        self.highest_token = self.highest_token.max(claim.token);
        let index = self.entries.insert(Node::claimed(session, claim));
        self.session_mut(session).slots.insert(claim.slot, index);
        let mutex = self.mutexes.entry(claim.mutex.clone()).or_default();
        mutex.mode = claim.mode;
        mutex.holders.push_back(&mut self.entries, index);
        // A theft may be under way already.
        self.settle(&claim.mutex, budget);
        Outcome::Granted { token: claim.token }
    }

    /// The holders beside whom a claim cannot stay, as far as the bound lets one look.
    fn excluded_by(&self, claim: &Claim) -> Vec<Index> {
        let Some(mutex) = self.mutexes.get(&claim.mutex).filter(|mutex| !mutex.admits(claim.mode)) else {
            return Vec::new();
        };
        let holders = mutex.holders.walk(&self.entries);
        let robbed = mutex.robbed.walk(&self.entries);
        holders.chain(robbed).take(BOUND + 1).collect()
    }

    /// What an `Acquire` or a `Reassert` is answered whose slot is taken.
    fn present_state(&self, index: Index, lock_id: &LockId) -> Outcome {
        let node = self.entries.get(index);
        if node.lock_id != *lock_id {
            return Outcome::Refused;
        }
        match node.token() {
            Some(token) => Outcome::Granted { token },
            // An upper bound: counting those ahead would walk the queue.
            None => Outcome::Queued {
                ahead: self.mutexes[&node.mutex].waiters.len() as u64 - 1,
            },
        }
    }

    pub(super) fn remove(&mut self, session: SessionId, slot: Slot, lock_id: &LockId, budget: &mut Budget) -> Outcome {
        let Some(&index) = self.sessions[&session].slots.get(&slot) else {
            return Outcome::NotHeld;
        };
        if self.entries.get(index).lock_id != *lock_id {
            return Outcome::NotHeld;
        }
        let node = self.take_out(index);
        self.settle(&node.mutex, budget);
        match node.state {
            State::Waiting => Outcome::Cancelled,
            State::Holding { .. } | State::Robbed { .. } => Outcome::Released,
        }
    }

    /// Removes an entry and nothing else: the caller settles its mutex.
    pub(super) fn take_out(&mut self, index: Index) -> Node {
        let state = self.entries.get(index).state;
        let name = self.entries.get(index).mutex.clone();
        let (mutex, entries) = self.mutex_mut(&name);
        mutex.chain(state).unlink(entries, index);
        let node = self.entries.remove(index);
        self.session_mut(node.session).slots.remove(&node.slot);
        self.forget_if_idle(&name);
        node
    }

    /// Hands a mutex on and tells of thefts until nothing is left to do, or the budget is used up.
    pub(super) fn settle(&mut self, name: &MutexName, budget: &mut Budget) {
        while let Some(step) = self.next_step(name) {
            if !budget.take() {
                budget.cut.insert(name.clone());
                return;
            }
            match step {
                Step::Skip(index) => {
                    self.take_out(index);
                }
                Step::Grant(index) => {
                    let token = self.grant(index);
                    self.tell(index, EventKind::Granted { token });
                }
                Step::Tell(index) => {
                    self.rob(index);
                    self.tell(index, EventKind::Stolen);
                }
            }
        }
    }

    /// Those mutexes, of the ones that the bound cut short, that still have something to be done.
    pub(super) fn unsettled(&self, budget: Budget) -> Vec<MutexName> {
        budget.cut.into_iter().filter(|name| !self.is_settled(name)).collect()
    }

    /// Whether nothing is left to be done at a mutex until somebody calls.
    pub(super) fn is_settled(&self, name: &MutexName) -> bool {
        self.next_step(name).is_none()
    }

    fn next_step(&self, name: &MutexName) -> Option<Step> {
        let mutex = self.mutexes.get(name)?;
        if let Some(head) = mutex.waiters.head() {
            let node = self.entries.get(head);
            if self.sessions[&node.session].life == Life::Dead {
                return Some(Step::Skip(head));
            }
            if mutex.admits(node.mode) && !self.generation.recovering {
                return Some(Step::Grant(head));
            }
        }
        if mutex.theft {
            mutex.holders.head().map(Step::Tell)
        } else {
            None
        }
    }

    /// Turns a waiter into a holder.
    fn grant(&mut self, index: Index) -> u64 {
        self.highest_token += 1;
        let token = self.highest_token;
        let node = self.entries.get_mut(index);
        node.state = State::Holding { token };
        let (name, mode) = (node.mutex.clone(), node.mode);
        let (mutex, entries) = self.mutex_mut(&name);
        mutex.waiters.unlink(entries, index);
        mutex.holders.push_back(entries, index);
        mutex.mode = mode;
        mutex.theft = false;
        token
    }

    /// Turns a holder into one that was told of a theft.
    fn rob(&mut self, index: Index) {
        let node = self.entries.get_mut(index);
        let token = node.token().expect("only holders are robbed");
        node.state = State::Robbed { token };
        let name = node.mutex.clone();
        let (mutex, entries) = self.mutex_mut(&name);
        mutex.holders.unlink(entries, index);
        mutex.robbed.push_back(entries, index);
    }

    fn tell(&mut self, index: Index, kind: EventKind) {
        let node = self.entries.get(index);
        let (session, slot, lock_id) = (node.session, node.slot, node.lock_id.clone());
        // The dead hear nothing: their stream goes when they go.
        if let Some(event) = self.session_mut(session).append(slot, lock_id, kind) {
            self.raised.push((session, event));
        }
    }

    fn mutex_mut(&mut self, name: &MutexName) -> (&mut Mutex, &mut Entries) {
        let mutex = self.mutexes.get_mut(name).expect("an entry's mutex has a record");
        (mutex, &mut self.entries)
    }

    fn forget_if_idle(&mut self, name: &MutexName) {
        if self.mutexes.get(name).is_some_and(Mutex::is_idle) {
            self.mutexes.remove(name);
        }
    }
}
