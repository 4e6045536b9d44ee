//! One partition's desk: which slots are in use, which operations are to go to the store, which are on their way, and how
//! far the stream of events has been read.

use super::entry::EntryKey;
use crate::session::clock::Millis;
use crate::store::{BOUND, Batch, Generation, Op, Opened, Slot};
use lockrelay_protocol::{LockId, MutexName};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};

#[derive(Debug, Default)]
pub(super) struct Desk {
    slots: Vec<Occupant>,
    free: BinaryHeap<Reverse<u32>>,
    occupied: usize,
    /// The greatest `occupied` since [`Desk::begin_count`].
    peak: usize,
    /// What is to be sent, in order.
    todos: BTreeMap<u64, Todo>,
    next_todo: u64,
    settling: HashSet<MutexName>,
    /// What is on its way: the store carries out one batch of a session at a time.
    in_flight: Option<Vec<Todo>>,
    seq: u64,
    /// The store was full: what frees goes first, and alone.
    removes_first: bool,
    /// All events up to this number have been dealt with.
    pub(super) acknowledged: u64,
    pub(super) generation: u64,
    pub(super) highest_token: u64,
    /// Entries that wait for a grant.
    pub(super) waiters: usize,
    /// Whether there is a session to send operations with.
    open: bool,
    /// Until when the relay may believe in what it has here, on the believer's clock. `None`: there is nothing to believe in.
    pub(super) lease_until: Option<Millis>,
    /// Locks whose claim in a new generation has not been answered.
    pub(super) claims: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Occupant {
    Nobody,
    Entry(EntryKey),
    /// An entry that the store has and the hub does not know.
    Unknown,
    /// An entry that the store has and the hub does not know, on its way out.
    Orphan(LockId),
}

/// An operation that is to go to the store, and on whose account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    /// Claims a lock of an older generation.
    Reassert(EntryKey),
    Acquire(EntryKey),
    Remove(EntryKey),
    RemoveOrphan {
        slot: Slot,
        lock_id: LockId,
    },
    Settle(MutexName),
}

impl Desk {
    /// Forgets the session with all that it had, but not what keeps tokens and generations rising.
    pub(super) fn reset(&mut self) {
        *self = Self {
            generation: self.generation,
            highest_token: self.highest_token,
            ..Self::default()
        };
    }

    /// The session has ended, and what it had is put into the next one: `held` keep their slots, nothing else has one, and
    /// nothing is queued.
    pub(super) fn move_out(&mut self, held: &[(Slot, EntryKey)]) {
        let (lease_until, waiters) = (self.lease_until, self.waiters);
        self.reset();
        (self.lease_until, self.waiters) = (lease_until, waiters);
        let slots = held.iter().map(|(slot, _)| slot.0 + 1).max().unwrap_or(0);
        self.slots = vec![Occupant::Nobody; slots as usize];
        for (slot, key) in held {
            self.put(slot.0, Occupant::Entry(*key));
        }
        let free = |slot: &u32| self.slots[*slot as usize] == Occupant::Nobody;
        self.free = (0..slots).filter(free).map(Reverse).collect();
    }

    pub(super) fn opened(&mut self, opened: &Opened) {
        self.saw_generation(opened.generation);
        self.highest_token = self.highest_token.max(opened.highest_token);
        self.open = true;
        self.lease_until.get_or_insert(0);
    }

    pub(super) fn saw_generation(&mut self, generation: Generation) {
        self.generation = self.generation.max(generation.number);
    }

    /// Queues an operation, and tells its number.
    pub(super) fn push(&mut self, todo: Todo) -> u64 {
        self.next_todo += 1;
        self.todos.insert(self.next_todo, todo);
        self.next_todo
    }

    /// Takes back an operation that has not been sent.
    pub(super) fn withdraw(&mut self, number: u64) {
        self.todos.remove(&number);
    }

    /// Queues the settling of a mutex, unless that is queued already.
    pub(super) fn settle(&mut self, mutex: MutexName) {
        if self.settling.insert(mutex.clone()) {
            self.push(Todo::Settle(mutex));
        }
    }

    /// Makes the next batch, unless one is on its way or there is nothing to do. `op` names the operation; it is given the
    /// lowest free slot where it needs one.
    pub(super) fn next_batch(&mut self, mut op: impl FnMut(&mut Self, &Todo) -> Option<Op>) -> Option<Batch> {
        if self.in_flight.is_some() || !self.open {
            return None;
        }
        let mut sent = Vec::new();
        let mut ops = Vec::new();
        let numbers: Vec<u64> = if std::mem::take(&mut self.removes_first) {
            let frees = |todo: &Todo| matches!(todo, Todo::Remove(_) | Todo::RemoveOrphan { .. });
            let todos = self.todos.iter().filter(|(_, todo)| frees(todo));
            todos.map(|(number, _)| *number).take(BOUND).collect()
        } else {
            Vec::new()
        };
        let mut numbers = numbers.into_iter();
        let only_these = numbers.len() > 0;
        while ops.len() < BOUND {
            let todo = if only_these {
                numbers.next().and_then(|number| self.todos.remove(&number))
            } else {
                self.todos.pop_first().map(|(_, todo)| todo)
            };
            let Some(todo) = todo else { break };
            if let Todo::Settle(mutex) = &todo {
                self.settling.remove(mutex);
            }
            if let Some(op) = op(self, &todo) {
                ops.push(op);
                sent.push(todo);
            }
        }
        if ops.is_empty() {
            return None;
        }
        self.seq += 1;
        self.in_flight = Some(sent);
        Some(Batch { seq: self.seq, ops })
    }

    /// The batch that was on its way has been answered: what it was.
    pub(super) fn landed(&mut self) -> Vec<Todo> {
        self.in_flight.take().unwrap_or_default()
    }

    /// The store was full: before anything else goes out, what frees does.
    pub(super) fn free_first(&mut self) {
        self.removes_first = true;
    }

    /// Whether there is nothing to send and nothing on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.todos.is_empty() && self.in_flight.is_none()
    }

    /// The lowest free slot, for `entry`.
    pub(super) fn occupy(&mut self, entry: EntryKey) -> Slot {
        let index = match self.free.pop() {
            Some(Reverse(index)) => index,
            None => self.grow(),
        };
        self.put(index, Occupant::Entry(entry));
        Slot(index)
    }

    fn grow(&mut self) -> u32 {
        let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 entries fit in memory");
        self.slots.push(Occupant::Nobody);
        index
    }

    fn put(&mut self, index: u32, occupant: Occupant) {
        self.slots[index as usize] = occupant;
        self.occupied += 1;
        self.peak = self.peak.max(self.occupied);
    }

    /// The store has said that nothing is left in the slot.
    pub(super) fn vacate(&mut self, slot: Slot) {
        if let Some(occupant) = self.slots.get_mut(slot.0 as usize)
            && *occupant != Occupant::Nobody
        {
            *occupant = Occupant::Nobody;
            self.occupied -= 1;
            self.free.push(Reverse(slot.0));
        }
    }

    pub(super) fn occupant(&self, slot: Slot) -> Option<EntryKey> {
        match self.slots.get(slot.0 as usize) {
            Some(Occupant::Entry(entry)) => Some(*entry),
            _ => None,
        }
    }

    /// Sends an entry that nobody knows out of the store. Its slot is kept until then, if nobody else has it.
    pub(super) fn evict(&mut self, slot: Slot, lock_id: LockId) {
        // A slot far beyond all that were ever used is not worth a table up to it; lowest-first, it will not be reached
        // before the orphan is gone.
        let near = (slot.0 as usize) < self.slots.len() + BOUND;
        while near && self.slots.len() <= slot.0 as usize {
            let index = self.grow();
            self.free.push(Reverse(index));
        }
        match self.slots.get_mut(slot.0 as usize) {
            Some(Occupant::Nobody) => {
                self.free.retain(|Reverse(index)| *index != slot.0);
                self.put(slot.0, Occupant::Orphan(lock_id.clone()));
            }
            Some(occupant @ Occupant::Unknown) => *occupant = Occupant::Orphan(lock_id.clone()),
            _ => {}
        }
        self.push(Todo::RemoveOrphan { slot, lock_id });
    }

    /// The store has something else in a slot that was free here: it is not used before that is gone.
    pub(super) fn distrust(&mut self, slot: Slot) {
        if self.slots.get(slot.0 as usize) == Some(&Occupant::Nobody) {
            self.free.retain(|Reverse(index)| *index != slot.0);
            self.put(slot.0, Occupant::Unknown);
        }
    }

    /// An orphan is gone.
    pub(super) fn evicted(&mut self, slot: Slot, lock_id: &LockId) {
        if matches!(self.slots.get(slot.0 as usize), Some(Occupant::Orphan(id)) if id == lock_id) {
            self.vacate(slot);
        }
    }

    /// A renewal goes out that will count the session's entries in the store.
    pub(super) fn begin_count(&mut self) {
        self.peak = self.occupied;
    }

    /// The most entries that the store can rightly have counted since [`Desk::begin_count`]: those on their way to it, or
    /// out of it, count as known.
    pub(super) fn known(&self) -> u64 {
        self.peak as u64
    }
}

/// Which partition a mutex belongs to: FNV-1a, 64 bits, modulo their number. All relays of a store must agree, so this
/// never changes.
pub(in crate::session) fn partition_of(mutex: &MutexName, partitions: usize) -> usize {
    let hash = mutex.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    usize::try_from(hash % partitions.max(1) as u64).expect("below the number of partitions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_that_all_relays_share_is_fnv_1a() {
        // Published test vectors of FNV-1a 64: "a" and "foobar".
        for (text, hash) in [("a", 0xaf63_dc4c_8601_ec8c_u64), ("foobar", 0x8594_4171_f739_67e8)] {
            let name = MutexName::new(text).unwrap();
            assert_eq!(partition_of(&name, 65_535) as u64, hash % 65_535);
        }
        assert_eq!(partition_of(&MutexName::new("x").unwrap(), 1), 0);
    }

    #[test]
    fn the_lowest_free_slot_is_used_and_none_before_it_is_vacated() {
        let mut desk = Desk::default();
        let slots: Vec<Slot> = (0..3).map(|n| desk.occupy(EntryKey(n))).collect();
        assert_eq!(slots, [Slot(0), Slot(1), Slot(2)]);
        desk.vacate(Slot(1));
        desk.vacate(Slot(0));
        desk.vacate(Slot(0));
        assert_eq!(desk.occupy(EntryKey(3)), Slot(0));
        assert_eq!(desk.occupy(EntryKey(4)), Slot(1));
        assert_eq!(desk.occupy(EntryKey(5)), Slot(3));
    }
}
