//! What must be true of the machine after every call, looked up in its inside, through seeded random calls; some of them
//! so large that the bound cuts them short.

use super::entries::State;
use super::*;
use crate::store::{Admission, Op, Request};
use lockrelay_protocol::{LockId, Mode};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeSet, HashSet};

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn caller(session: SessionId) -> Caller {
    Caller {
        session,
        generation: 1,
        highest_token: 0,
        acknowledged: 0,
    }
}

fn name(n: usize) -> MutexName {
    MutexName::new(&format!("m{n}")).unwrap()
}

fn machine(sessions: u8) -> Machine {
    let generation = Generation {
        number: 1,
        recovering: false,
    };
    let mut machine = Machine::new(generation, 0);
    for n in 0..sessions {
        machine.open(session(n), 0, 0).unwrap();
    }
    machine
}

fn request(slot: u32, id: u64, mutex: MutexName, mode: Mode) -> Op {
    Op::Acquire(Request {
        slot: Slot(slot),
        lock_id: LockId::new(&id.to_string()).unwrap(),
        mutex,
        mode,
        admission: Admission::Queue,
        metadata: None,
    })
}

fn removal(slot: u32, id: u64) -> Op {
    Op::Remove {
        slot: Slot(slot),
        lock_id: LockId::new(&id.to_string()).unwrap(),
    }
}

impl Machine {
    fn run(&mut self, session: SessionId, seq: u64, ops: Vec<Op>) -> BatchReply {
        match self.execute(&caller(session), &Batch { seq, ops }).unwrap() {
            Answer::Done(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Mutexes at which something is left to be done. Where a dead session's waiter is at the head, its reap has not come
    /// to it yet, and will go on when it does.
    fn restless(&self) -> BTreeSet<MutexName> {
        let dead_head = |name| {
            let head = self.mutexes[name].chains()[2].head();
            head.is_some_and(|head| self.sessions[&self.entries.get(head).session].life == Life::Dead)
        };
        let names = self.mutexes.keys();
        names
            .filter(|name| !self.is_settled(name) && !dead_head(name))
            .cloned()
            .collect()
    }

    /// Lock ids of the waiters, from head to tail.
    fn queue_of(&self, name: &MutexName) -> Vec<LockId> {
        let waiters = self.mutexes.get(name).map(|mutex| mutex.chains()[2]);
        let walk = waiters.into_iter().flat_map(|waiters| waiters.walk(&self.entries));
        walk.map(|index| self.entries.get(index).lock_id.clone()).collect()
    }

    /// Everything that must be true at any time.
    fn check(&self) {
        let mut seen = HashSet::new();
        for (name, mutex) in &self.mutexes {
            let [holders, robbed, waiters] = mutex.chains();
            let mut modes = Vec::new();
            for (chain, which) in [(holders, 0), (robbed, 1), (waiters, 2)] {
                assert_eq!(chain.walk(&self.entries).count(), chain.len());
                for index in chain.walk(&self.entries) {
                    let node = self.entries.get(index);
                    let state = match node.state {
                        State::Holding { .. } => 0,
                        State::Robbed { .. } => 1,
                        State::Waiting => 2,
                    };
                    assert_eq!((state, &node.mutex), (which, name));
                    assert_eq!(self.sessions[&node.session].slots.get(&node.slot), Some(&index));
                    assert!(seen.insert((node.session, node.slot)));
                    if state != 2 {
                        modes.push(node.mode);
                    }
                }
            }
            assert!(
                !modes.is_empty() || !waiters.is_empty(),
                "{name:?} left a record behind"
            );
            assert!(
                modes.len() < 2 || !modes.contains(&Mode::Exclusive),
                "{name:?} has {modes:?}"
            );
        }
        let slots: usize = self.sessions.values().map(|session| session.slots.len()).sum();
        assert_eq!((seen.len(), self.entries.len()), (slots, slots));
    }
}

/// The one with the greatest number of entries on few mutexes that a relay could send.
fn random_batch(rng: &mut ChaCha8Rng, slots: &mut BTreeMap<u32, u64>, ids: &mut u64) -> Vec<Op> {
    let count = if rng.random_bool(0.2) {
        BOUND
    } else {
        rng.random_range(1..20)
    };
    let exclusive = [0.02, 0.5][rng.random_range(0..2)];
    let acquires = [0.1, 0.6, 0.95][rng.random_range(0..3)];
    let op = |_| {
        if rng.random_bool(acquires) || slots.is_empty() {
            *ids += 1;
            let slot = slots.last_key_value().map_or(0, |(slot, _)| slot + 1);
            slots.insert(slot, *ids);
            let mode = if rng.random_bool(exclusive) {
                Mode::Exclusive
            } else {
                Mode::Shared
            };
            let mut op = request(slot, *ids, name(rng.random_range(0..2)), mode);
            if let Op::Acquire(request) = &mut op
                && request.mode == Mode::Exclusive
                && rng.random_bool(0.1)
            {
                request.admission = Admission::Steal;
            }
            op
        } else {
            let from = rng.random_range(0..=*slots.last_key_value().unwrap().0);
            let (&slot, &id) = slots.range(from..).next().unwrap();
            slots.remove(&slot);
            removal(slot, id)
        }
    };
    (0..count).map(op).collect()
}

#[test]
fn no_waiter_is_lost_and_none_is_passed() {
    let wanted = std::env::var("LOCKRELAY_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in wanted.map_or(0..15, |seed: u64| seed..seed + 1) {
        println!("LOCKRELAY_SEED={seed}");
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut machine = machine(3);
        let mut relays: Vec<_> = (0..3).map(|n| (session(n), BTreeMap::new(), 0)).collect();
        let (mut ids, mut sessions, mut last_token) = (0, 3, 0);
        for _ in 0..60 {
            let queues = [0, 1].map(|n| machine.queue_of(&name(n)));
            let chosen = rng.random_range(0..3);
            let (id, slots, seq) = &mut relays[chosen];
            let mut left = if rng.random_bool(0.1) {
                let reply = machine.close(*id);
                if reply.reaped == Reaped::Gone {
                    *id = session(sessions);
                    (sessions, *seq) = (sessions + 1, 0);
                    slots.clear();
                    machine.open(*id, 0, 0).unwrap();
                }
                reply.unsettled
            } else {
                *seq += 1;
                let batch = Batch {
                    seq: *seq,
                    ops: random_batch(rng, slots, &mut ids),
                };
                match machine.execute(&caller(*id), &batch).unwrap() {
                    Answer::Done(reply) => reply.unsettled,
                    // Its end has begun, and goes on at a later step.
                    _ => Vec::new(),
                }
            };
            machine.check();
            let told: BTreeSet<_> = left.iter().cloned().collect();
            assert!(machine.restless().is_subset(&told));
            assert!(!told.iter().any(|name| machine.is_settled(name)));

            // Some relay that lives goes on where the bound cut the call short.
            for _ in 0..10 {
                let settler = &relays.iter().find(|(id, ..)| machine.renewed(*id)).map(|(id, ..)| *id);
                let Some(settler) = settler else { break };
                let (.., seq) = relays.iter_mut().find(|(id, ..)| id == settler).unwrap();
                *seq += 1;
                let ops = left.drain(..).map(|mutex| Op::Settle { mutex }).collect();
                left = machine.run(*settler, *seq, ops).unsettled;
                machine.check();
                if left.is_empty() {
                    assert_eq!(
                        machine.restless(),
                        BTreeSet::new(),
                        "settled, and yet somebody could be granted"
                    );
                    break;
                }
            }

            // Those who wait still, wait in the order in which they waited.
            for (n, before) in queues.into_iter().enumerate() {
                let after = machine.queue_of(&name(n));
                let (old, new): (HashSet<_>, HashSet<_>) = (before.iter().collect(), after.iter().collect());
                let kept_before: Vec<_> = before.iter().filter(|id| new.contains(id)).collect();
                let kept_after: Vec<_> = after.iter().filter(|id| old.contains(id)).collect();
                assert_eq!(kept_before, kept_after);
            }
            for (_, event) in machine.take_raised() {
                if let crate::store::EventKind::Granted { token } = event.kind {
                    assert!(token > last_token, "tokens rise in the order of the grants");
                    last_token = token;
                }
            }
        }
        for (id, ..) in relays {
            while machine.close(id).reaped != Reaped::Gone {}
        }
        assert!(machine.is_idle());
    }
}

impl Machine {
    /// Whether the session lives.
    fn renewed(&mut self, id: SessionId) -> bool {
        matches!(self.renew(&caller(id)), Answer::Done(_))
    }
}

#[test]
fn repetition_tells_again_what_is_unsettled() {
    let mut machine = machine(2);
    machine.run(session(0), 1, vec![request(0, 0, name(0), Mode::Exclusive)]);
    for half in 0..2 {
        let slots = half * 400..(half + 1) * 400;
        let ops = slots.map(|slot| request(slot, u64::from(slot), name(0), Mode::Shared));
        machine.run(session(1), u64::from(half) + 1, ops.collect());
    }
    let first = machine.run(session(0), 2, vec![removal(0, 0)]);
    assert_eq!(first.unsettled, [name(0)]);
    assert_eq!(machine.run(session(0), 2, vec![removal(0, 0)]), first);
}

#[test]
fn refusal_while_recovering_leaves_no_record() {
    let generation = Generation {
        number: 1,
        recovering: true,
    };
    let mut machine = Machine::new(generation, 0);
    machine.open(session(0), 0, 0).unwrap();
    let mut op = request(0, 0, name(0), Mode::Exclusive);
    if let Op::Acquire(request) = &mut op {
        request.admission = Admission::IfAvailable;
    }
    let reply = machine.run(session(0), 1, vec![op]);
    assert_eq!(reply.outcomes, [Outcome::Unavailable]);
    assert!(machine.is_idle());
}

/// Quadratic work here would take minutes.
#[test]
fn long_queues_and_large_sessions_cost_no_more_per_entry() {
    const LOCKS: u32 = 100_000;
    let mut machine = machine(2);
    let slots: Vec<u32> = (0..LOCKS).collect();
    let mut seq = 0;
    for id in [0, 1] {
        seq = 0;
        for chunk in slots.chunks(BOUND) {
            seq += 1;
            // A tenth of it on one mutex.
            let mutex = |slot: u32| name(if slot.is_multiple_of(10) { 1 } else { slot as usize });
            let op = |slot: &u32| request(*slot, u64::from(*slot), mutex(*slot), Mode::Exclusive);
            machine.run(session(id), seq, chunk.iter().map(op).collect());
        }
    }
    machine.check();
    // From the end, so that waiters leave from the middle and the tail of the queue.
    for chunk in slots.rchunks(BOUND) {
        seq += 1;
        let op = |slot: &u32| removal(*slot, u64::from(*slot));
        let reply = machine.run(session(0), seq, chunk.iter().rev().map(op).collect());
        assert!(!reply.outcomes.contains(&Outcome::NotHeld));
    }
    machine.check();
    let mut calls = 1;
    while machine.close(session(1)).reaped == Reaped::More {
        calls += 1;
    }
    assert!(calls >= LOCKS as usize / BOUND);
    assert!(machine.is_idle());
}
