//! A relay session: its counter, its end, and the store's generations.

use super::Stores;
use super::harness::{PARTITION, Relay, mutex};
use crate::store::{Admission, Answer, Batch, Generation, Op, Outcome, Reaped, SessionId};
use lockrelay_protocol::Mode;

/// A renewal tells how many entries the session has, a hand-off leaves that unchanged; and it raises the counter, which
/// the other sessions see.
pub async fn renewal_counts_entries_and_raises_the_counter(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let before = b
        .counter_of(a.session)
        .await
        .expect("a session is told of before it renews");
    let held = a.exclusive("m").await;
    let waiting = b.exclusive("m").await;
    assert_eq!(b.renew().await.entries, 1, "it waits");
    assert_eq!(b.counter_of(a.session).await, Some(before), "batches raise no counter");
    assert_eq!(a.renew().await.entries, 1);
    a.remove(&held).await;
    assert_eq!(a.renew().await.entries, 0);
    assert!(b.counter_of(a.session).await > Some(before));
    assert_eq!(b.renew().await.entries, 1, "it holds");
    b.remove(&waiting).await;
    let renewal = b.renew().await;
    assert_eq!(renewal.entries, 0);
    assert!(!renewal.recovering);
    let mut sessions: Vec<SessionId> = renewal.counters.iter().map(|(id, _)| *id).collect();
    sessions.sort();
    let mut both = [a.session, b.session];
    both.sort();
    assert_eq!(sessions, both);
}

/// An `open` whose answer was lost is sent again: the session keeps what it has.
pub async fn opening_twice_is_one_session(stores: Stores) {
    let mut a = Relay::open(&stores.here).await;
    let held = a.exclusive("m").await;
    let opened = stores.there.open(PARTITION, a.session, 0, 0).await.expect("it is open");
    assert_eq!(opened.highest_token, held.token());
    assert_eq!(opened.generation.number, a.caller.generation);
    assert!(!opened.generation.recovering);
    let renewal = a.renew().await;
    assert_eq!((renewal.entries, renewal.counters.len()), (1, 1));
    assert_eq!(a.remove(&held).await, Outcome::Released);
}

/// However a session ends, each of its locks goes to the next in line, and its waiters leave the queues.
pub async fn end_of_a_session_hands_on_each_of_its_locks(stores: Stores) {
    for reaped in [true, false] {
        let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
        let names: Vec<String> = (0..5).map(|n| format!("m{n}")).collect();
        for ticket in a.ask_many(names.clone(), Mode::Exclusive).await {
            ticket.token();
        }
        let in_between = a.ask_many(names.clone(), Mode::Exclusive).await;
        assert!(in_between.iter().all(|ticket| ticket.is_queued()));
        let waiting = b.ask_many(names.clone(), Mode::Exclusive).await;
        b.shared("other").await.token();
        let exclusive = a.exclusive("other").await;
        assert!(exclusive.is_queued());
        let behind = b.shared("other").await;
        assert!(behind.is_queued());
        if reaped {
            b.reap_all(a.session).await;
        } else {
            a.close().await;
        }
        b.news().await;
        let tokens: Vec<Option<u64>> = waiting.iter().map(|ticket| b.grant_of(ticket)).collect();
        assert!(tokens.iter().all(Option::is_some), "{tokens:?}");
        assert!(tokens.is_sorted(), "freed in the order of their slots");
        assert!(b.grant_of(&behind).is_some(), "a waiter's end hands on too");
        b.close().await;
    }
}

/// A session whose counter is not what the reaper saw lives, and is left alone.
pub async fn reap_spares_a_session_that_lives(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    let seen = b.counter_of(a.session).await.expect("it is open");
    a.renew().await;
    assert_eq!(b.reap(a.session, seen).await, Reaped::Alive);
    assert_eq!(
        b.reap(a.session, seen + 2).await,
        Reaped::Alive,
        "a counter that is yet to come"
    );
    assert!(!b.finds_free("m").await);
    let waiting = a.exclusive("m").await;
    a.remove(&held).await;
    assert!(a.was_granted(&waiting).await);
    assert_eq!(b.reap(a.session, b.caller.acknowledged + 1_000).await, Reaped::Alive);
}

/// One that stands still goes with all it has; a reap that is sent again, or of nobody, finds it gone.
pub async fn reap_ends_a_session_that_stands_still(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    a.renew().await;
    a.exclusive("m").await.token();
    let seen = b.counter_of(a.session).await.expect("it is open");
    assert_eq!(b.reap(a.session, seen).await, Reaped::Gone);
    assert_eq!(b.reap(a.session, seen).await, Reaped::Gone);
    assert_eq!(b.reap(SessionId::random(), 1).await, Reaped::Gone);
    assert_eq!(b.counter_of(a.session).await, None);
    assert_eq!(b.list(a.session).await, []);
    assert!(b.finds_free("m").await);
}

/// A relay that was reaped while it slept learns it from whatever call it makes, and none of them writes anything.
pub async fn reaped_session_is_told_so_and_writes_nothing(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let token = a.exclusive("m").await.token();
    let last = a.last.clone();
    b.reap_all(a.session).await;
    let request = a.request("free", Mode::Exclusive, Admission::Queue);
    a.caller.highest_token = token + 1_000;
    let batch = Batch {
        seq: last.seq + 1,
        ops: vec![Op::Acquire(request)],
    };
    assert_eq!(a.execute(&batch).await, Ok(Answer::NoSession));
    assert_eq!(a.execute(&last).await, Ok(Answer::NoSession), "not even a repetition");
    assert_eq!(a.store.renew(PARTITION, &a.caller).await, Ok(Answer::NoSession));
    let counter = b.counter_of(b.session).await.expect("its own");
    assert_eq!(
        a.store.reap(PARTITION, &a.caller, b.session, counter).await,
        Ok(Answer::NoSession)
    );
    assert_eq!(a.store.end_recovery(PARTITION, &a.caller).await, Ok(Answer::NoSession));
    assert!(b.finds_free("free").await && b.finds_free("m").await);
    assert_eq!(b.counter_of(a.session).await, None);
    assert_eq!(b.exclusive("m").await.token(), token + 3, "the counter was not lifted");
}

/// A clean end: nothing is left of the session, and closing again is no harm.
pub async fn closed_session_leaves_nothing(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    a.exclusive("m").await.token();
    a.shared("n").await.token();
    b.shared("n").await.token();
    let id = a.session;
    let caller = a.caller;
    a.close().await;
    let again = stores.here.close(PARTITION, id).await.expect("a close is answered");
    assert_eq!(again.reaped, Reaped::Gone);
    assert_eq!(stores.here.renew(PARTITION, &caller).await, Ok(Answer::NoSession));
    assert_eq!(b.counter_of(id).await, None);
    assert_eq!(b.list(id).await, []);
    assert!(b.finds_free("m").await);
    assert!(!b.finds_free("n").await, "others keep what they hold");
}

/// A caller that lives in an older generation is told of this one, and changes nothing.
pub async fn caller_of_another_generation_gets_nothing(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let generation = Generation {
        number: a.caller.generation,
        recovering: false,
    };
    let request = a.request("m", Mode::Exclusive, Admission::Queue);
    let batch = Batch {
        seq: 1,
        ops: vec![Op::Acquire(request)],
    };
    let mut old = a.caller;
    old.generation -= 1;
    assert_eq!(
        a.store.execute(PARTITION, &old, &batch).await,
        Ok(Answer::NewGeneration(generation))
    );
    assert_eq!(
        a.store.renew(PARTITION, &old).await,
        Ok(Answer::NewGeneration(generation))
    );
    let counter = b.counter_of(b.session).await.expect("its own");
    assert_eq!(
        a.store.reap(PARTITION, &old, b.session, counter).await,
        Ok(Answer::NewGeneration(generation))
    );
    assert!(b.finds_free("m").await);
    assert_eq!(a.renew().await.entries, 0);
}

/// A caller that has seen a newer generation shows that the store lost data. It takes the next one, and grants nothing in
/// it until it is told that all old leases have run out.
pub async fn recovering_store_grants_nothing_until_told(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    held.token();
    b.caller.generation += 5;
    let recovering = Generation {
        number: b.caller.generation + 1,
        recovering: true,
    };
    for relay in [&b, &a] {
        assert_eq!(
            relay.store.renew(PARTITION, &relay.caller).await,
            Ok(Answer::NewGeneration(recovering))
        );
    }
    let (mut c, mut d) = (
        Relay::open_after(&stores.here, 1).await,
        Relay::open_after(&stores.there, recovering.number).await,
    );
    assert_eq!(
        (c.caller.generation, d.caller.generation),
        (recovering.number, recovering.number)
    );
    assert!(c.renew().await.recovering);
    for mode in [Mode::Exclusive, Mode::Shared] {
        let refused = c.ask("free", mode, Admission::IfAvailable).await;
        assert_eq!(refused.outcome, Outcome::Unavailable);
    }
    let (waiting, thief) = (c.exclusive("free").await, d.steal("free").await);
    let behind = d.exclusive("m").await;
    assert!(waiting.is_queued() && thief.is_queued() && behind.is_queued());
    c.reap_all(a.session).await;
    c.run(vec![Op::Settle { mutex: mutex("free") }]).await;
    assert_eq!((c.news().await, d.news().await), (vec![], vec![]));

    assert_eq!(c.store.end_recovery(PARTITION, &c.caller).await, Ok(Answer::Done(())));
    assert_eq!(d.store.end_recovery(PARTITION, &d.caller).await, Ok(Answer::Done(())));
    assert!(!d.renew().await.recovering);
    let settle = ["free", "m"].map(|name| Op::Settle { mutex: mutex(name) });
    c.run(settle.to_vec()).await;
    assert!(d.was_granted(&thief).await && d.was_granted(&behind).await);
    assert!(d.grant_of(&behind) > Some(held.token()));
    assert!(!c.was_granted(&waiting).await);
    d.remove(&thief).await;
    assert!(c.was_granted(&waiting).await);
    c.exclusive("new").await.token();
}

/// A list tells everything that a relay or an operator wants to know of an entry.
pub async fn list_tells_all_of_an_entry(stores: Stores) {
    let (mut a, b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    assert_eq!(b.list(a.session).await, []);
    let texts = ["", "{\"user\":\"é\"}", "买\n\t\u{0}\"'\\ %s {x}", &"é".repeat(512)];
    let mut expected = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        for mode in [Mode::Exclusive, Mode::Shared] {
            let mut request = a.request(&format!("m{n}"), mode, Admission::Queue);
            request.metadata = (mode == Mode::Exclusive).then(|| (*text).to_owned());
            let ticket = a.send(request.clone()).await;
            let token = (mode == Mode::Exclusive).then(|| ticket.token());
            expected.push((request, token));
        }
    }
    let listed = b.list(a.session).await;
    assert_eq!(listed.len(), expected.len());
    for (entry, (request, token)) in listed.into_iter().zip(expected) {
        assert_eq!((entry.slot, entry.lock_id), (request.slot, request.lock_id));
        assert_eq!((entry.mutex, entry.mode), (request.mutex, request.mode));
        assert_eq!((entry.token, entry.metadata), (token, request.metadata));
    }
}
