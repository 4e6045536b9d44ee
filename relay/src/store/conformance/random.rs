//! Random operations, whose outcomes and events must equal those of a pure [`Machine`] that gets the same calls.
//!
//! The two count tokens from different starts, so the store's are compared after subtracting the difference.

use super::Stores;
use super::harness::{PARTITION, mutex};
use crate::store::queue::Machine;
use crate::store::{
    Admission, Answer, Batch, BatchReply, Caller, Entry, Event, EventKind, Generation, LockStore, Op, Outcome, Reaped,
    Request, SessionId, Slot, StoreError,
};
use lockrelay_protocol::{LockId, Mode};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sequences, each of its own seed and on a fresh store.
const SEEDS: u64 = 40;
/// Calls in a sequence.
const STEPS: usize = 120;
const MUTEXES: [&str; 3] = ["m", "n", "o"];

/// Three sessions, each with the store and the machine beside it, do at random what relays do: batches of everything,
/// the last batch or an older one again, late and partial acknowledgements, renewals, reaps with a right and a wrong
/// counter, closes, calls of the dead. Then everything is closed, and nothing must be left.
///
/// Prints each seed; `LOCKRELAY_SEED=n` runs that one alone.
pub async fn random_operations_equal_the_queue(fresh: impl AsyncFn() -> Stores) {
    let wanted = std::env::var("LOCKRELAY_SEED").ok();
    let wanted = wanted.map(|seed| seed.parse().expect("LOCKRELAY_SEED is a number"));
    for seed in wanted.map_or(0..SEEDS, |seed| seed..seed + 1) {
        println!("LOCKRELAY_SEED={seed}");
        let stores = fresh().await;
        let mut run = Run::new(seed, &stores).await;
        for _ in 0..STEPS {
            run.step().await;
        }
        run.end().await;
    }
}

struct Run {
    rng: ChaCha8Rng,
    machine: Machine,
    actors: Vec<Actor>,
    /// What the store's tokens are above the machine's.
    base: u64,
    generation: u64,
    /// Of each living session: its counter in the store, and in the machine, at its opening.
    counters: BTreeMap<SessionId, (u64, u64)>,
    ids: u64,
}

/// One of the relays, with what it knows.
struct Actor {
    store: Arc<dyn LockStore>,
    session: SessionId,
    /// The last batch, and those before it.
    sent: Vec<Batch>,
    /// What it thinks it has in its slots.
    slots: BTreeMap<Slot, Request>,
    /// Entries that are gone.
    gone: Vec<(Slot, LockId)>,
    /// The highest number of an event it has got, and how far it has acknowledged them.
    got: u64,
    acknowledged: u64,
    /// The highest token it has seen, as the machine counts.
    highest_token: u64,
}

impl Run {
    async fn new(seed: u64, stores: &Stores) -> Self {
        let generation = Generation {
            number: 1,
            recovering: false,
        };
        let mut run = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            machine: Machine::new(generation, 0),
            actors: Vec::new(),
            base: 0,
            generation: 1,
            counters: BTreeMap::new(),
            ids: 0,
        };
        for store in [&stores.here, &stores.there, &stores.here] {
            let actor = run.open(store).await;
            run.actors.push(actor);
        }
        run
    }

    async fn open(&mut self, store: &Arc<dyn LockStore>) -> Actor {
        let session = SessionId::from_bytes(self.rng.random());
        let opened = store
            .open(PARTITION, session, 0, 0)
            .await
            .expect("the store takes sessions");
        let expected = self.machine.open(session, 0, 0).expect("so does the machine");
        if self.actors.is_empty() {
            self.base = opened.highest_token - expected.highest_token;
            self.generation = opened.generation.number;
        }
        assert_eq!(opened.highest_token - self.base, expected.highest_token);
        let mut actor = Actor {
            store: Arc::clone(store),
            session,
            sent: Vec::new(),
            slots: BTreeMap::new(),
            gone: Vec::new(),
            got: 0,
            acknowledged: 0,
            highest_token: expected.highest_token,
        };
        // A store may count from where it likes.
        let (store, machine) = self.renew(&mut actor).await.expect("it has just opened");
        self.counters.insert(session, (store[&session], machine[&session]));
        actor
    }

    async fn step(&mut self) {
        let chosen = self.rng.random_range(0..self.actors.len());
        let mut actor = self.actors.remove(chosen);
        actor.acknowledged = self.rng.random_range(actor.acknowledged..=actor.got);
        if self.rng.random_bool(0.02) {
            actor.highest_token += self.rng.random_range(0..2_000);
        }
        let lives = match self.rng.random_range(0..100) {
            0..62 => {
                let batch = self.batch(&actor);
                actor.sent.push(batch);
                self.send_last(&mut actor).await
            }
            62..71 => self.send_last(&mut actor).await,
            71..74 => self.send_older(&mut actor).await,
            74..86 => self.renew(&mut actor).await.is_some(),
            86..90 => self.reap(&mut actor).await,
            90..92 => {
                self.close(&actor).await;
                self.rng.random()
            }
            _ => {
                self.list(&actor, actor.session).await;
                let other = self.rng.random_range(0..self.actors.len());
                self.list(&actor, self.actors[other].session).await;
                true
            }
        };
        if !lives {
            let store = Arc::clone(&actor.store);
            self.counters.remove(&actor.session);
            actor = self.open(&store).await;
        }
        self.actors.insert(chosen, actor);
    }

    /// Closes all and looks whether anything is left.
    async fn end(mut self) {
        let mut actors = std::mem::take(&mut self.actors);
        for actor in &actors {
            self.close(actor).await;
            self.list(actor, actor.session).await;
        }
        assert!(self.machine.is_idle());
        let store = Arc::clone(&actors[0].store);
        let last = &mut actors[0];
        self.counters.clear();
        *last = self.open(&store).await;
        let ops = MUTEXES.iter().enumerate().map(|(slot, name)| {
            Op::Acquire(Request {
                slot: Slot(slot as u32),
                lock_id: LockId::new(name).expect("a short text"),
                mutex: mutex(name),
                mode: Mode::Exclusive,
                admission: Admission::IfAvailable,
                metadata: None,
            })
        });
        let batch = Batch {
            seq: 1,
            ops: ops.collect(),
        };
        last.sent.push(batch);
        assert!(self.send_last(last).await);
        assert_eq!(last.slots.len(), MUTEXES.len(), "every mutex is free");
    }

    /// One to four operations.
    fn batch(&mut self, actor: &Actor) -> Batch {
        let mut slots = actor.slots.clone();
        let count = self.rng.random_range(1..=4);
        let ops = (0..count).map(|_| self.op(actor, &mut slots)).collect();
        Batch {
            seq: actor.sent.last().map_or(0, |batch| batch.seq) + 1,
            ops,
        }
    }

    fn op(&mut self, actor: &Actor, slots: &mut BTreeMap<Slot, Request>) -> Op {
        let present = |rng: &mut ChaCha8Rng| slots.values().nth(rng.random_range(0..slots.len().max(1))).cloned();
        match self.rng.random_range(0..100) {
            // One of its own goes.
            0..40 => {
                if let Some(Request { slot, lock_id, .. }) = present(&mut self.rng) {
                    slots.remove(&slot);
                    return Op::Remove { slot, lock_id };
                }
            }
            // One that is gone, perhaps from a slot that is used again.
            40..44 if !actor.gone.is_empty() => {
                let (slot, lock_id) = actor.gone[self.rng.random_range(0..actor.gone.len())].clone();
                return Op::Remove { slot, lock_id };
            }
            // One that it has already.
            44..48 => {
                if let Some(request) = present(&mut self.rng) {
                    return Op::Acquire(request);
                }
            }
            // A slot that is taken.
            48..50 => {
                if let Some(Request { slot, .. }) = present(&mut self.rng) {
                    return Op::Acquire(self.request(slot));
                }
            }
            50..53 => {
                let name = MUTEXES[self.rng.random_range(0..MUTEXES.len())];
                return Op::Settle { mutex: mutex(name) };
            }
            _ => {}
        }
        let free = (0..).map(Slot).find(|slot| !slots.contains_key(slot));
        let request = self.request(free.expect("there are many slots"));
        slots.insert(request.slot, request.clone());
        Op::Acquire(request)
    }

    fn request(&mut self, slot: Slot) -> Request {
        self.ids += 1;
        Request {
            slot,
            lock_id: LockId::new(&format!("lock-{}", self.ids)).expect("a short text"),
            mutex: mutex(MUTEXES[self.rng.random_range(0..MUTEXES.len())]),
            mode: if self.rng.random() {
                Mode::Shared
            } else {
                Mode::Exclusive
            },
            admission: match self.rng.random_range(0..10) {
                0 => Admission::Steal,
                1 | 2 => Admission::IfAvailable,
                _ => Admission::Queue,
            },
            metadata: self.rng.random_bool(0.1).then(|| format!("request {}", self.ids)),
        }
    }

    /// Sends the last batch for the first time, or again. Returns whether the session lives.
    async fn send_last(&mut self, actor: &mut Actor) -> bool {
        let Some(batch) = actor.sent.last().cloned() else {
            return true;
        };
        let Some(reply) = self
            .send(actor, &batch)
            .await
            .expect("no batch is refused but an older one")
        else {
            return false;
        };
        for (op, outcome) in batch.ops.iter().zip(reply.outcomes) {
            actor.learn(op, outcome);
        }
        actor.take_in(&reply.events);
        true
    }

    async fn send_older(&mut self, actor: &mut Actor) -> bool {
        if actor.sent.len() < 2 {
            return true;
        }
        let chosen = self.rng.random_range(0..actor.sent.len() - 1);
        let batch = actor.sent[chosen].clone();
        !matches!(self.send(actor, &batch).await, Ok(None))
    }

    /// The machine's answer to a batch, which the store's equals. `None` if the session is gone.
    async fn send(&mut self, actor: &Actor, batch: &Batch) -> Result<Option<BatchReply>, StoreError> {
        let got = actor.store.execute(PARTITION, &self.store_caller(actor), batch).await;
        let expected = self.machine.execute(&self.machine_caller(actor), batch);
        let (got, expected) = match (got, expected) {
            (Ok(Answer::Done(got)), Ok(Answer::Done(expected))) => (got, expected),
            (Ok(Answer::NoSession), Ok(Answer::NoSession)) => return Ok(None),
            (Err(StoreError::Refused(_)), Err(refused)) => return Err(refused),
            (got, expected) => panic!("{batch:?}\nis answered {got:?}\nand not    {expected:?}"),
        };
        let outcomes: Vec<Outcome> = got
            .outcomes
            .iter()
            .zip(&expected.outcomes)
            .map(|(got, expected)| match (*got, *expected) {
                (Outcome::Granted { token }, _) => Outcome::Granted {
                    token: token - self.base,
                },
                // Of an entry that was there already it is an upper bound only.
                (Outcome::Queued { ahead: got }, Outcome::Queued { ahead }) if got >= ahead => *expected,
                (got, _) => got,
            })
            .collect();
        assert_eq!(outcomes, expected.outcomes, "{batch:?}");
        assert_eq!(self.relative(got.events), expected.events, "{batch:?}");
        assert_eq!(got.unsettled, expected.unsettled, "{batch:?}");
        Ok(Some(expected))
    }

    /// The counters as the store and as the machine tell them; `None` if the session is gone.
    async fn renew(&mut self, actor: &mut Actor) -> Option<(BTreeMap<SessionId, u64>, BTreeMap<SessionId, u64>)> {
        let got = actor.store.renew(PARTITION, &self.store_caller(actor)).await;
        let expected = self.machine.renew(&self.machine_caller(actor));
        let (got, expected) = match (got.expect("a renewal is answered"), expected) {
            (Answer::Done(got), Answer::Done(expected)) => (got, expected),
            (Answer::NoSession, Answer::NoSession) => return None,
            (got, expected) => panic!("a renewal is answered {got:?}\nand not {expected:?}"),
        };
        assert_eq!(self.relative(got.events), expected.events);
        assert_eq!(got.entries, expected.entries);
        assert_eq!(got.highest_token - self.base, expected.highest_token);
        assert_eq!(got.recovering, expected.recovering);
        let got: BTreeMap<_, _> = got.counters.into_iter().collect();
        let machine: BTreeMap<_, _> = expected.counters.into_iter().collect();
        assert!(got.keys().eq(machine.keys()));
        for (session, (store_start, machine_start)) in &self.counters {
            if let (Some(store), Some(machine)) = (got.get(session), machine.get(session)) {
                assert_eq!(store - store_start, machine - machine_start);
            }
        }
        actor.take_in(&expected.events);
        Some((got, machine))
    }

    /// Reaps another, which perhaps is gone, with the right counter or a wrong one.
    async fn reap(&mut self, actor: &mut Actor) -> bool {
        let Some((store, machine)) = self.renew(actor).await else {
            return false;
        };
        let other = self.rng.random_range(0..self.actors.len());
        let other = self.actors[other].session;
        let wrong = if self.rng.random() { 0 } else { 7 };
        let counter = |counters: &BTreeMap<_, u64>| counters.get(&other).copied().unwrap_or(1) + wrong;
        let caller = self.store_caller(actor);
        let got = actor.store.reap(PARTITION, &caller, other, counter(&store)).await;
        let expected = self.machine.reap(&self.machine_caller(actor), other, counter(&machine));
        assert_eq!(got, Ok(expected));
        true
    }

    async fn close(&mut self, actor: &Actor) {
        let got = actor.store.close(PARTITION, actor.session).await;
        let expected = self.machine.close(actor.session);
        assert_eq!(expected.reaped, Reaped::Gone, "a random session is small");
        assert_eq!(got, Ok(expected));
    }

    async fn list(&mut self, actor: &Actor, session: SessionId) {
        let got = actor.store.list(PARTITION, session, Slot(0)).await;
        let (got, _) = got.expect("a list is answered");
        let relative = |entry: Entry| Entry {
            token: entry.token.map(|token| token - self.base),
            ..entry
        };
        let got: Vec<Entry> = got.into_iter().map(relative).collect();
        assert_eq!(got, self.machine.list(session, Slot(0)).0);
    }

    fn machine_caller(&self, actor: &Actor) -> Caller {
        Caller {
            session: actor.session,
            generation: 1,
            highest_token: actor.highest_token,
            acknowledged: actor.acknowledged,
        }
    }

    fn store_caller(&self, actor: &Actor) -> Caller {
        Caller {
            generation: self.generation,
            highest_token: actor.highest_token + self.base,
            ..self.machine_caller(actor)
        }
    }

    fn relative(&self, mut events: Vec<Event>) -> Vec<Event> {
        for event in &mut events {
            if let EventKind::Granted { token } = &mut event.kind {
                *token -= self.base;
            }
        }
        events
    }
}

impl Actor {
    fn learn(&mut self, op: &Op, outcome: Outcome) {
        match (op, outcome) {
            (Op::Acquire(request), Outcome::Granted { .. } | Outcome::Queued { .. }) => {
                self.slots.insert(request.slot, request.clone());
            }
            (Op::Acquire(request), _) => self.gone.push((request.slot, request.lock_id.clone())),
            (Op::Remove { slot, lock_id }, _) => {
                if self.slots.get(slot).is_some_and(|request| request.lock_id == *lock_id) {
                    self.slots.remove(slot);
                    self.gone.push((*slot, lock_id.clone()));
                }
            }
            (Op::Settle { .. } | Op::Reassert(_), _) => {}
        }
    }

    fn take_in(&mut self, events: &[Event]) {
        for event in events {
            self.got = self.got.max(event.number);
            if let EventKind::Granted { token } = event.kind {
                self.highest_token = self.highest_token.max(token);
            }
        }
    }
}
