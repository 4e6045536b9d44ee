//! Locks of an older generation that are carried into a new one.

use super::Stores;
use super::harness::{PARTITION, Relay, Ticket, mutex};
use crate::store::{Admission, Answer, BOUND, Batch, Claim, EventKind, LockStore, Op, Outcome, Reaped, Slot};
use lockrelay_protocol::Mode;
use std::sync::Arc;

/// A claim of a lock that the store need not know.
fn claim(relay: &mut Relay, name: &str, mode: Mode, token: u64) -> Claim {
    let request = relay.request(name, mode, Admission::Queue);
    Claim {
        slot: request.slot,
        lock_id: request.lock_id,
        mutex: request.mutex,
        mode,
        token,
        metadata: Some("of old".to_owned()),
    }
}

/// The claim of what was granted to another session of the same relay.
fn claim_of(relay: &mut Relay, name: &str, ticket: &Ticket) -> Claim {
    Claim {
        lock_id: ticket.lock_id.clone(),
        ..claim(relay, name, Mode::Exclusive, ticket.token())
    }
}

fn ticket_of(claim: &Claim) -> Ticket {
    Ticket {
        slot: claim.slot,
        lock_id: claim.lock_id.clone(),
        outcome: Outcome::Granted { token: claim.token },
    }
}

/// Begins the generation after `seen`, or after the first, in which two relays have a session each.
async fn next_generation(stores: &Stores, seen: u64) -> (Relay, Relay) {
    let here = Relay::open_after(&stores.here, seen.max(1) + 1).await;
    let there = Relay::open_after(&stores.there, here.caller.generation).await;
    assert_eq!(here.caller.generation, there.caller.generation);
    (here, there)
}

async fn end_recovery(relay: &Relay) {
    let store: &Arc<dyn LockStore> = &relay.store;
    assert_eq!(store.end_recovery(PARTITION, &relay.caller).await, Ok(Answer::Done(())));
}

/// What is claimed is held, with its own token; whoever waits for it gets it when it is released, with a higher one.
pub async fn claimed_lock_is_held(stores: Stores) {
    let (mut a, mut b) = next_generation(&stores, 0).await;
    let token = a.caller.highest_token + 5_000;
    let held = claim(&mut a, "m", Mode::Exclusive, token);
    assert_eq!(a.one(Op::Reassert(held.clone())).await, Outcome::Granted { token });
    let (first, second) = (b.exclusive("m").await, a.exclusive("m").await);
    assert!(first.is_queued() && second.is_queued());
    end_recovery(&a).await;
    b.run(vec![Op::Settle { mutex: mutex("m") }]).await;
    assert!(!b.was_granted(&first).await, "it is held");
    let listed = b.list(a.session).await;
    assert_eq!(listed[0].token, Some(token));
    assert_eq!(listed[0].metadata.as_deref(), Some("of old"));
    assert_eq!(a.one(ticket_of(&held).removal()).await, Outcome::Released);
    assert!(b.was_granted(&first).await && !a.was_granted(&second).await);
    assert!(b.grant_of(&first) > Some(token), "the counter is never below a claim");
}

/// Once the store grants again, a claim comes too late, and nothing is kept of it.
pub async fn claim_after_the_recovery_is_lost(stores: Stores) {
    let (mut a, mut b) = next_generation(&stores, 0).await;
    end_recovery(&b).await;
    let late = claim(&mut a, "m", Mode::Exclusive, 7);
    assert_eq!(a.one(Op::Reassert(late)).await, Outcome::Lost);
    assert_eq!(a.list(a.session).await, []);
    assert!(b.finds_free("m").await);
    assert_eq!(a.renew().await.entries, 0);
}

/// The store may remember the very lock, of the relay's session before: it is one lock, not two.
pub async fn claim_replaces_the_same_lock_of_an_older_session(stores: Stores) {
    let mut old = Relay::open(&stores.here).await;
    let ticket = old.exclusive("m").await;
    let behind = old.exclusive("m").await;
    assert!(behind.is_queued());
    let (mut a, mut b) = next_generation(&stores, old.caller.generation).await;
    let again = claim_of(&mut a, "m", &ticket);
    let token = ticket.token();
    assert_eq!(a.one(Op::Reassert(again.clone())).await, Outcome::Granted { token });
    old.close().await;
    end_recovery(&b).await;
    let waiting = b.exclusive("m").await;
    assert!(waiting.is_queued(), "the end of the old session frees nothing of it");
    a.one(ticket_of(&again).removal()).await;
    assert!(b.was_granted(&waiting).await, "and its waiters are gone with it");
}

/// Of two that exclude one another the one with the higher token stays, whichever is claimed first, and the other is told.
pub async fn higher_token_stays(stores: Stores) {
    let (mut a, mut b) = next_generation(&stores, 0).await;
    let base = a.caller.highest_token;
    for (n, (mode, other)) in [
        (Mode::Exclusive, Mode::Exclusive),
        (Mode::Exclusive, Mode::Shared),
        (Mode::Shared, Mode::Exclusive),
    ]
    .into_iter()
    .enumerate()
    {
        let (low, high) = (base + 10, base + 20);
        let name = format!("m{n}");
        let (early, late) = (claim(&mut a, &name, mode, low), claim(&mut b, &name, other, high));
        a.one(Op::Reassert(early.clone())).await;
        let granted = Outcome::Granted { token: high };
        assert_eq!(b.one(Op::Reassert(late.clone())).await, granted);
        let heard = a.news().await;
        let lost: Vec<_> = heard.iter().filter(|event| event.lock_id == early.lock_id).collect();
        assert!(
            matches!(lost[..], [event] if event.kind == EventKind::Lost),
            "{heard:?}"
        );
        assert_eq!(a.one(ticket_of(&early).removal()).await, Outcome::NotHeld);
        let again = claim(&mut a, &name, mode, low);
        assert_eq!(a.one(Op::Reassert(again)).await, Outcome::Lost, "the other way round");
        assert_eq!(b.list(b.session).await.len(), n + 1);
    }
    assert_eq!(b.news().await, [], "who stays hears nothing");
}

/// A holder that an old snapshot still has gives way to a later grant, even though nobody is left to be told.
pub async fn claim_displaces_a_stale_holder(stores: Stores) {
    let mut stale = Relay::open(&stores.there).await;
    let token = stale.exclusive("m").await.token();
    let (mut a, mut b) = next_generation(&stores, stale.caller.generation).await;
    let held = claim(&mut a, "m", Mode::Exclusive, token + 1);
    assert_eq!(
        a.one(Op::Reassert(held.clone())).await,
        Outcome::Granted { token: token + 1 }
    );
    end_recovery(&a).await;
    let waiting = b.exclusive("m").await;
    assert!(waiting.is_queued());
    b.reap_all(stale.session).await;
    assert!(!b.was_granted(&waiting).await);
    a.one(ticket_of(&held).removal()).await;
    assert!(b.was_granted(&waiting).await);
}

/// Shared beside shared all stay, whatever their tokens.
pub async fn shared_claims_all_stay(stores: Stores) {
    let mut old = Relay::open(&stores.there).await;
    old.shared("m").await.token();
    let (mut a, mut b) = next_generation(&stores, old.caller.generation).await;
    let mut claims = Vec::new();
    for token in [9, 3, 6] {
        claims.push(claim(&mut a, "m", Mode::Shared, token));
        let op = Op::Reassert(claims.last().expect("just pushed").clone());
        assert_eq!(a.one(op).await, Outcome::Granted { token });
    }
    end_recovery(&b).await;
    old.close().await;
    let (waiting, behind) = (b.exclusive("m").await, b.shared("m").await);
    assert!(waiting.is_queued() && behind.is_queued());
    for claim in &claims {
        assert!(!b.was_granted(&waiting).await);
        a.one(ticket_of(claim).removal()).await;
    }
    assert!(b.was_granted(&waiting).await);
}

/// Waiters are enqueued again in their order, and served in it; a claim that comes after them does not disturb it.
pub async fn waiters_keep_their_order_beside_claims(stores: Stores) {
    let (mut a, mut b) = next_generation(&stores, 0).await;
    let first = a.exclusive("m").await;
    let second = b.exclusive("m").await;
    let held = claim(&mut a, "m", Mode::Exclusive, 5);
    a.one(Op::Reassert(held.clone())).await;
    let third = a.exclusive("m").await;
    assert_eq!(
        (a.news().await, b.news().await),
        (vec![], vec![]),
        "nothing is granted yet"
    );
    a.one(ticket_of(&held).removal()).await;
    assert!(!a.was_granted(&first).await, "not even what is free");
    end_recovery(&a).await;
    a.run(vec![Op::Settle { mutex: mutex("m") }]).await;
    for (relay, ticket) in [(&mut a, &first), (&mut b, &second)] {
        assert!(relay.was_granted(ticket).await);
        relay.remove(ticket).await;
    }
    assert!(a.was_granted(&third).await);
}

/// A theft that was asked for before the claim reaches the claimed lock.
pub async fn theft_before_a_claim_tells_its_holder(stores: Stores) {
    let (mut a, mut b) = next_generation(&stores, 0).await;
    let thief = b.steal("m").await;
    assert!(thief.is_queued());
    let held = claim(&mut a, "m", Mode::Exclusive, 5);
    a.one(Op::Reassert(held.clone())).await;
    a.news().await;
    assert_eq!(a.thefts_of(&ticket_of(&held)), 1);
    end_recovery(&b).await;
    a.one(ticket_of(&held).removal()).await;
    assert!(b.was_granted(&thief).await);
}

/// Sent twice, in the same batch number or in another, a claim is one lock; a slot that is taken refuses it.
pub async fn repeated_claim_changes_nothing(stores: Stores) {
    let (mut a, mut b) = next_generation(&stores, 0).await;
    let held = claim(&mut a, "m", Mode::Exclusive, 5);
    let granted = Outcome::Granted { token: 5 };
    assert_eq!(a.one(Op::Reassert(held.clone())).await, granted);
    assert_eq!(a.repeat().await.outcomes, [granted]);
    assert_eq!(a.one(Op::Reassert(held.clone())).await, granted);
    let other = Claim {
        slot: held.slot,
        ..claim(&mut a, "n", Mode::Exclusive, 6)
    };
    assert_eq!(a.one(Op::Reassert(other)).await, Outcome::Refused);
    assert_eq!(a.renew().await.entries, 1);
    end_recovery(&a).await;
    assert_eq!(a.one(Op::Reassert(held.clone())).await, granted, "it is there");
    assert!(b.finds_free("n").await && !b.finds_free("m").await);
}

/// A claim in another generation than the store's changes nothing.
pub async fn claim_of_another_generation_gets_nothing(stores: Stores) {
    let (mut a, mut b) = next_generation(&stores, 0).await;
    let (c, _) = next_generation(&stores, a.caller.generation).await;
    let held = claim(&mut a, "m", Mode::Exclusive, 5);
    let batch = Batch {
        seq: 1,
        ops: vec![Op::Reassert(held)],
    };
    assert!(matches!(a.execute(&batch).await, Ok(Answer::NewGeneration(found)) if found.number == c.caller.generation));
    b = Relay::open_after(&b.store, c.caller.generation).await;
    end_recovery(&b).await;
    assert!(b.finds_free("m").await);
}

/// As many shared locks as one call may touch give way to a later exclusive one; beyond that the claim is the one to go.
pub async fn claim_displaces_no_more_than_the_bound(stores: Stores) {
    let (mut a, mut b) = next_generation(&stores, 0).await;
    for (name, holders) in [("few", BOUND), ("many", BOUND + 1)] {
        let claims: Vec<_> = (0..holders).map(|_| claim(&mut a, name, Mode::Shared, 5)).collect();
        for chunk in claims.chunks(BOUND) {
            a.run(chunk.iter().cloned().map(Op::Reassert).collect()).await;
        }
        let later = claim(&mut b, name, Mode::Exclusive, 6);
        let outcome = b.one(Op::Reassert(later)).await;
        if holders > BOUND {
            assert_eq!(outcome, Outcome::Lost);
        } else {
            assert_eq!(outcome, Outcome::Granted { token: 6 });
            assert_eq!(b.reap(a.session, u64::MAX).await, Reaped::Alive);
            assert_eq!(a.renew().await.entries, 0);
        }
    }
    assert_eq!(a.renew().await.entries, BOUND as u64 + 1);
    assert_eq!(a.list(a.session).await[0].slot, Slot(BOUND as u32));
}
