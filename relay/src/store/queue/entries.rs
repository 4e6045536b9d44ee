//! Entries and the chains they stand in: a slab of doubly linked nodes, so that a waiter in the middle of 10,000 leaves as
//! cheaply as one at the head.

use crate::store::{SessionId, Slot};
use lockrelay_protocol::{LockId, Mode, MutexName};

/// Names a node of the slab, for as long as the entry exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index(usize);

/// What an entry is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Holding {
        token: u64,
    },
    /// It holds, and its session was told of a theft.
    Robbed {
        token: u64,
    },
}

/// One entry, a link of exactly one chain of its mutex.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) session: SessionId,
    pub(super) slot: Slot,
    pub(super) lock_id: LockId,
    pub(super) mutex: MutexName,
    pub(super) mode: Mode,
    pub(super) state: State,
    pub(super) metadata: Option<String>,
    previous: Option<Index>,
    next: Option<Index>,
}

impl Node {
    /// A waiting entry in no chain yet.
    pub(super) fn new(session: SessionId, request: &crate::store::Request) -> Self {
        Self {
            session,
            slot: request.slot,
            lock_id: request.lock_id.clone(),
            mutex: request.mutex.clone(),
            mode: request.mode,
            state: State::Waiting,
            metadata: request.metadata.clone(),
            previous: None,
            next: None,
        }
    }

    /// A holding entry in no chain yet.
    pub(super) fn claimed(session: SessionId, claim: &crate::store::Claim) -> Self {
        Self {
            session,
            slot: claim.slot,
            lock_id: claim.lock_id.clone(),
            mutex: claim.mutex.clone(),
            mode: claim.mode,
            state: State::Holding { token: claim.token },
            metadata: claim.metadata.clone(),
            previous: None,
            next: None,
        }
    }

    /// Its fencing token, if it holds.
    pub(super) fn token(&self) -> Option<u64> {
        match self.state {
            State::Waiting => None,
            State::Holding { token } | State::Robbed { token } => Some(token),
        }
    }
}

/// A doubly linked list of nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    head: Option<Index>,
    tail: Option<Index>,
    length: usize,
}

impl Chain {
    pub(super) fn head(&self) -> Option<Index> {
        self.head
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn push_back(&mut self, entries: &mut Entries, index: Index) {
        let previous = self.tail.replace(index);
        let node = entries.get_mut(index);
        (node.previous, node.next) = (previous, None);
        match previous {
            Some(previous) => entries.get_mut(previous).next = Some(index),
            None => self.head = Some(index),
        }
        self.length += 1;
    }

    pub(super) fn push_front(&mut self, entries: &mut Entries, index: Index) {
        let next = self.head.replace(index);
        let node = entries.get_mut(index);
        (node.previous, node.next) = (None, next);
        match next {
            Some(next) => entries.get_mut(next).previous = Some(index),
            None => self.tail = Some(index),
        }
        self.length += 1;
    }

    /// Takes a node of this chain out of it.
    pub(super) fn unlink(&mut self, entries: &mut Entries, index: Index) {
        let node = entries.get_mut(index);
        let (previous, next) = (node.previous.take(), node.next.take());
        match previous {
            Some(previous) => entries.get_mut(previous).next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => entries.get_mut(next).previous = previous,
            None => self.tail = previous,
        }
        self.length -= 1;
    }

    /// From head to tail.
    pub(super) fn walk(self, entries: &Entries) -> impl Iterator<Item = Index> {
        std::iter::successors(self.head, |index| entries.get(*index).next)
    }
}

/// The slab. Whoever has an [`Index`] has got it from a session's slots or from a chain, and both forget it when the entry
/// goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
}

impl Entries {
    pub(super) fn insert(&mut self, node: Node) -> Index {
        match self.free.pop() {
            Some(place) => {
                self.nodes[place] = Some(node);
                Index(place)
            }
            None => {
                self.nodes.push(Some(node));
                Index(self.nodes.len() - 1)
            }
        }
    }

    pub(super) fn remove(&mut self, index: Index) -> Node {
        let node = self.nodes[index.0].take().expect("an index lives as long as its entry");
        self.free.push(index.0);
        node
    }

    pub(super) fn get(&self, index: Index) -> &Node {
        self.nodes[index.0]
            .as_ref()
            .expect("an index lives as long as its entry")
    }

    pub(super) fn get_mut(&mut self, index: Index) -> &mut Node {
        self.nodes[index.0]
            .as_mut()
            .expect("an index lives as long as its entry")
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}
