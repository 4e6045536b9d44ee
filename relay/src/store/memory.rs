//! The embedded default: the pure [`queue`](super::queue) behind a mutex, for the one relay of this process. Nothing of it
//! outlives the process.

use super::queue::Machine;
use super::{
    Answer, Batch, BatchReply, Caller, Entry, Event, Generation, Hint, LockStore, Opened, Partition, ReapReply,
    Renewal, SessionId, Slot, StoreError,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// How many hints a receiver may be behind before further ones are dropped.
const HINTS: usize = 1024;

/// A store in this process's memory, of one partition. Clones share it, so that several relays of one process can.
///
/// There is one generation, number 1, and it never recovers: if the process ends, every client's connection ends with it,
/// and its lease at most one client lease later.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    machine: Machine,
    listeners: HashMap<SessionId, Vec<mpsc::Sender<Hint>>>,
}

impl MemoryStore {
    /// An empty one. Fencing tokens start from the wall clock in microseconds, so that they go on rising after a restart;
    /// the 53 bits of a token last until the year 2255.
    #[must_use]
    pub fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_after(u64::try_from(since_1970.as_micros()).unwrap_or_default())
    }

    /// An empty one whose first grant gets the fencing token `highest_token` + 1.
    #[must_use]
    pub fn starting_after(highest_token: u64) -> Self {
        let generation = Generation {
            number: 1,
            recovering: false,
        };
        Self {
            shared: Arc::new(Mutex::new(Shared {
                machine: Machine::new(generation, highest_token),
                listeners: HashMap::new(),
            })),
        }
    }

    /// All that it knows.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Machine {
        self.lock().machine.clone()
    }

    /// Forgets all since that snapshot, as a server does that fails over or restarts, and begins a new generation.
    #[cfg(test)]
    pub(crate) fn restore(&self, snapshot: &Machine) {
        let mut shared = self.lock();
        shared.machine = snapshot.clone().after(&shared.machine);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no call panics half-way")
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// Passes on what the last call raised, but for `reader`, who reads it in the reply.
    fn pass_on(&mut self, reader: Option<SessionId>) {
        for (session, event) in self.machine.take_raised() {
            if Some(session) != reader {
                self.hint(session, &event);
            }
        }
    }

    fn hint(&mut self, session: SessionId, event: &Event) {
        if let Some(listeners) = self.listeners.get(&session) {
            for listener in listeners {
                // Full or closed: the event stays in the session's stream, and comes with its next reply.
                let _ = listener.try_send(Hint::Event(event.clone()));
            }
        }
    }

    fn forget_closed_listeners(&mut self) {
        self.listeners.retain(|_, listeners| {
            listeners.retain(|listener| !listener.is_closed());
            !listeners.is_empty()
        });
    }
}

#[async_trait]
impl LockStore for MemoryStore {
    fn partitions(&self) -> u16 {
        1
    }

    async fn open(
        &self,
        _: Partition,
        session: SessionId,
        seen: u64,
        highest_token: u64,
    ) -> Result<Opened, StoreError> {
        self.lock().machine.open(session, seen, highest_token)
    }

    async fn execute(&self, _: Partition, caller: &Caller, batch: &Batch) -> Result<Answer<BatchReply>, StoreError> {
        let mut shared = self.lock();
        let answer = shared.machine.execute(caller, batch);
        shared.pass_on(Some(caller.session));
        answer
    }

    async fn renew(&self, _: Partition, caller: &Caller) -> Result<Answer<Renewal>, StoreError> {
        Ok(self.lock().machine.renew(caller))
    }

    async fn reap(
        &self,
        _: Partition,
        caller: &Caller,
        dead: SessionId,
        counter: u64,
    ) -> Result<Answer<ReapReply>, StoreError> {
        let mut shared = self.lock();
        let answer = shared.machine.reap(caller, dead, counter);
        // A reap's reply carries no events: the reaper, too, learns its own by hint.
        shared.pass_on(None);
        Ok(answer)
    }

    async fn close(&self, _: Partition, session: SessionId) -> Result<ReapReply, StoreError> {
        let mut shared = self.lock();
        let reply = shared.machine.close(session);
        shared.pass_on(None);
        Ok(reply)
    }

    async fn end_recovery(&self, _: Partition, caller: &Caller) -> Result<Answer<()>, StoreError> {
        Ok(self.lock().machine.end_recovery(caller))
    }

    async fn list(
        &self,
        _: Partition,
        session: SessionId,
        from: Slot,
    ) -> Result<(Vec<Entry>, Option<Slot>), StoreError> {
        Ok(self.lock().machine.list(session, from))
    }

    fn hints(&self, _: Partition, session: SessionId) -> mpsc::Receiver<Hint> {
        let (sender, receiver) = mpsc::channel(HINTS);
        sender.try_send(Hint::Renew).expect("a new channel has room");
        let mut shared = self.lock();
        shared.forget_closed_listeners();
        shared.listeners.entry(session).or_default().push(sender);
        receiver
    }
}
