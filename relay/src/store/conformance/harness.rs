//! A relay as the rules see it: one session, its slots and batch numbers, and what it has heard.

use crate::store::{
    Admission, Answer, BOUND, Batch, BatchReply, Caller, Entry, Event, EventKind, LockStore, Op, Outcome, Partition,
    Reaped, Renewal, Request, SessionId, Slot, StoreError, random_lock_id,
};
use lockrelay_protocol::{LockId, Mode, MutexName};
use std::sync::Arc;

pub(super) const PARTITION: Partition = Partition(0);

pub(super) fn mutex(name: &str) -> MutexName {
    MutexName::new(name).expect("a name that the rules use is valid")
}

/// What a relay has of a request it made.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) slot: Slot,
    pub(super) lock_id: LockId,
    /// What was answered.
    pub(super) outcome: Outcome,
}

impl Ticket {
    /// The token of one that was granted at once.
    pub(super) fn token(&self) -> u64 {
        match self.outcome {
            Outcome::Granted { token } => token,
            other => panic!("not granted at once, but {other:?}"),
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        matches!(self.outcome, Outcome::Queued { .. })
    }

    pub(super) fn removal(&self) -> Op {
        Op::Remove {
            slot: self.slot,
            lock_id: self.lock_id.clone(),
        }
    }
}

pub(super) struct Relay {
    pub(super) store: Arc<dyn LockStore>,
    pub(super) session: SessionId,
    /// What its calls say. `acknowledged` and `highest_token` follow what it hears.
    pub(super) caller: Caller,
    /// The last batch it sent.
    pub(super) last: Batch,
    /// All events heard so far: number `n` at index `n - 1`.
    pub(super) heard: Vec<Event>,
    next_slot: u32,
}

impl Relay {
    pub(super) async fn open(store: &Arc<dyn LockStore>) -> Self {
        Self::open_after(store, 0).await
    }

    /// One that has seen this generation.
    pub(super) async fn open_after(store: &Arc<dyn LockStore>, seen: u64) -> Self {
        let session = SessionId::random();
        let opened = store
            .open(PARTITION, session, seen, 0)
            .await
            .expect("the store takes sessions");
        Self {
            store: Arc::clone(store),
            session,
            caller: Caller {
                session,
                generation: opened.generation.number,
                highest_token: opened.highest_token,
                acknowledged: 0,
            },
            last: Batch {
                seq: 0,
                ops: Vec::new(),
            },
            heard: Vec::new(),
            next_slot: 0,
        }
    }

    /// A request for the next slot that was never used.
    pub(super) fn request(&mut self, name: &str, mode: Mode, admission: Admission) -> Request {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        Request {
            slot,
            lock_id: random_lock_id(),
            mutex: mutex(name),
            mode,
            admission,
            metadata: None,
        }
    }

    pub(super) async fn exclusive(&mut self, name: &str) -> Ticket {
        self.ask(name, Mode::Exclusive, Admission::Queue).await
    }

    pub(super) async fn shared(&mut self, name: &str) -> Ticket {
        self.ask(name, Mode::Shared, Admission::Queue).await
    }

    pub(super) async fn steal(&mut self, name: &str) -> Ticket {
        self.ask(name, Mode::Exclusive, Admission::Steal).await
    }

    pub(super) async fn ask(&mut self, name: &str, mode: Mode, admission: Admission) -> Ticket {
        let request = self.request(name, mode, admission);
        self.send(request).await
    }

    pub(super) async fn send(&mut self, request: Request) -> Ticket {
        let (slot, lock_id) = (request.slot, request.lock_id.clone());
        let outcome = self.one(Op::Acquire(request)).await;
        Ticket { slot, lock_id, outcome }
    }

    /// The same request for each of these mutexes, in as few batches as the bound allows.
    pub(super) async fn ask_many(&mut self, names: impl IntoIterator<Item = String>, mode: Mode) -> Vec<Ticket> {
        let requests: Vec<Request> = names
            .into_iter()
            .map(|name| self.request(&name, mode, Admission::Queue))
            .collect();
        let mut tickets = Vec::new();
        for chunk in requests.chunks(BOUND) {
            let reply = self.run(chunk.iter().cloned().map(Op::Acquire).collect()).await;
            tickets.extend(chunk.iter().zip(reply.outcomes).map(|(request, outcome)| Ticket {
                slot: request.slot,
                lock_id: request.lock_id.clone(),
                outcome,
            }));
        }
        tickets
    }

    /// Whether the mutex is free. Takes it for a moment.
    pub(super) async fn finds_free(&mut self, name: &str) -> bool {
        let ticket = self.ask(name, Mode::Exclusive, Admission::IfAvailable).await;
        match ticket.outcome {
            Outcome::Granted { .. } => {
                self.remove(&ticket).await;
                true
            }
            Outcome::Unavailable => false,
            other => panic!("an answer to a zero wait: {other:?}"),
        }
    }

    pub(super) async fn remove(&mut self, ticket: &Ticket) -> Outcome {
        self.one(ticket.removal()).await
    }

    pub(super) async fn one(&mut self, op: Op) -> Outcome {
        let reply = self.run(vec![op]).await;
        assert_eq!(reply.unsettled, [], "one operation met the bound");
        reply.outcomes[0]
    }

    /// A new batch with these operations. Its reply's events are heard, and acknowledged by the next call.
    pub(super) async fn run(&mut self, ops: Vec<Op>) -> BatchReply {
        self.last = Batch {
            seq: self.last.seq + 1,
            ops,
        };
        self.repeat().await
    }

    /// The last batch again.
    pub(super) async fn repeat(&mut self) -> BatchReply {
        match self.execute(&self.last).await {
            Ok(Answer::Done(reply)) => {
                assert_eq!(
                    reply.outcomes.len(),
                    self.last.ops.len(),
                    "one outcome for each operation"
                );
                self.hear(&reply.events);
                reply
            }
            other => panic!("a batch was answered {other:?}"),
        }
    }

    /// Whatever the store answers.
    pub(super) async fn execute(&self, batch: &Batch) -> Result<Answer<BatchReply>, StoreError> {
        self.store.execute(PARTITION, &self.caller, batch).await
    }

    /// Goes on with what a bound cut short, until nothing is left.
    pub(super) async fn settle(&mut self, mut unsettled: Vec<MutexName>) {
        while !unsettled.is_empty() {
            let ops = unsettled.into_iter().map(|mutex| Op::Settle { mutex }).collect();
            let reply = self.run(ops).await;
            assert!(reply.outcomes.iter().all(|outcome| *outcome == Outcome::Settled));
            unsettled = reply.unsettled;
        }
    }

    pub(super) async fn renew(&mut self) -> Renewal {
        let renewal = self.renewal().await;
        self.hear(&renewal.events);
        renewal
    }

    /// A renewal whose events are not heard, and so not acknowledged.
    pub(super) async fn renewal(&self) -> Renewal {
        match self.store.renew(PARTITION, &self.caller).await {
            Ok(Answer::Done(renewal)) => renewal,
            other => panic!("a renewal was answered {other:?}"),
        }
    }

    /// The events that were not heard yet.
    pub(super) async fn news(&mut self) -> Vec<Event> {
        let before = self.heard.len();
        while !self.renew().await.events.is_empty() {}
        self.heard[before..].to_vec()
    }

    fn hear(&mut self, events: &[Event]) {
        assert!(events.len() <= BOUND, "{} events in one reply", events.len());
        for event in events {
            let next = self.heard.len() as u64 + 1;
            assert_eq!(
                event.number, next,
                "events come in order, without gaps, and not after they were acknowledged"
            );
            self.heard.push(event.clone());
        }
        self.caller.acknowledged = self.heard.len() as u64;
    }

    /// The token with which a waiter was granted, once that was heard.
    pub(super) fn grant_of(&self, ticket: &Ticket) -> Option<u64> {
        self.heard_about(ticket).find_map(|kind| match kind {
            EventKind::Granted { token } => Some(token),
            EventKind::Stolen | EventKind::Lost => None,
        })
    }

    /// How often it was heard that this one is being stolen.
    pub(super) fn thefts_of(&self, ticket: &Ticket) -> usize {
        self.heard_about(ticket)
            .filter(|kind| *kind == EventKind::Stolen)
            .count()
    }

    fn heard_about<'a>(&'a self, ticket: &'a Ticket) -> impl Iterator<Item = EventKind> + 'a {
        let about = |event: &&Event| event.slot == ticket.slot && event.lock_id == ticket.lock_id;
        self.heard.iter().filter(about).map(|event| event.kind)
    }

    /// Whether a waiter was granted meanwhile; asks the store.
    pub(super) async fn was_granted(&mut self, ticket: &Ticket) -> bool {
        self.news().await;
        self.grant_of(ticket).is_some()
    }

    /// All entries of a session, over all pages, in the order of their slots.
    pub(super) async fn list(&self, session: SessionId) -> Vec<Entry> {
        let (mut entries, mut from) = (Vec::new(), Some(Slot(0)));
        while let Some(slot) = from {
            let (page, next) = self
                .store
                .list(PARTITION, session, slot)
                .await
                .expect("a list is answered");
            assert!(page.len() <= BOUND, "{} entries on one page", page.len());
            assert!(next.is_none_or(|next| next > slot), "pages go forward");
            entries.extend(page);
            from = next;
        }
        entries.sort_by_key(|entry| entry.slot);
        entries
    }

    /// The counter of another session, as a renewal tells it.
    pub(super) async fn counter_of(&mut self, session: SessionId) -> Option<u64> {
        let counters = self.renew().await.counters;
        let mut found = counters.iter().filter(|(id, _)| *id == session);
        let counter = found.next().map(|(_, counter)| *counter);
        assert!(found.next().is_none(), "a session is told of once");
        counter
    }

    /// One call.
    pub(super) async fn reap(&mut self, dead: SessionId, counter: u64) -> Reaped {
        match self.store.reap(PARTITION, &self.caller, dead, counter).await {
            Ok(Answer::Done(reply)) => {
                self.settle(reply.unsettled).await;
                reply.reaped
            }
            other => panic!("a reap was answered {other:?}"),
        }
    }

    /// Reaps a session that stands still, to the end. Returns the number of calls.
    pub(super) async fn reap_all(&mut self, dead: SessionId) -> usize {
        let counter = self.counter_of(dead).await.expect("the session exists");
        let mut calls = 1;
        loop {
            match self.reap(dead, counter).await {
                Reaped::Gone => return calls,
                Reaped::More => calls += 1,
                Reaped::Alive => panic!("the session stands still"),
            }
        }
    }

    /// Ends its own session. Returns what is left for others to settle.
    pub(super) async fn close(self) -> Vec<MutexName> {
        let mut unsettled = Vec::new();
        loop {
            let reply = self
                .store
                .close(PARTITION, self.session)
                .await
                .expect("a close is answered");
            unsettled.extend(reply.unsettled);
            match reply.reaped {
                Reaped::Gone => return unsettled,
                Reaped::More => {}
                Reaped::Alive => panic!("a close compares no counter"),
            }
        }
    }
}
