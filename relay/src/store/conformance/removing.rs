//! Release and cancel, which are one operation: the relay may not know yet which of the two it will be.

use super::Stores;
use super::harness::{Relay, Ticket};
use crate::store::{Admission, Op, Outcome, Slot, random_lock_id};
use lockrelay_protocol::Mode;

/// Only the holder's own session, by the right slot and the right lock id, releases; all else changes nothing.
pub async fn release_by_a_non_holder_is_not_held(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    assert_eq!(b.remove(&held).await, Outcome::NotHeld, "another session");
    let own = b.exclusive("own").await;
    assert_eq!(own.slot, held.slot);
    assert_eq!(
        b.remove(&held).await,
        Outcome::NotHeld,
        "another session that uses the slot"
    );
    let wrong_id = Ticket {
        lock_id: random_lock_id(),
        ..held.clone()
    };
    assert_eq!(a.remove(&wrong_id).await, Outcome::NotHeld, "a wrong lock id");
    let wrong_slot = Ticket {
        slot: Slot(7),
        ..held.clone()
    };
    assert_eq!(a.remove(&wrong_slot).await, Outcome::NotHeld, "a wrong slot");
    assert!(!b.finds_free("m").await && !a.finds_free("own").await);
    assert_eq!(a.remove(&held).await, Outcome::Released);
    assert_eq!(a.remove(&held).await, Outcome::NotHeld, "a second time");
    assert!(b.finds_free("m").await);
}

/// A late release of an entry that is gone does not touch the one that uses its slot now.
pub async fn old_lock_id_is_not_held_after_its_slot_is_used_again(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let old = a.exclusive("m").await;
    a.remove(&old).await;
    let mut request = a.request("m", Mode::Exclusive, Admission::Queue);
    request.slot = old.slot;
    let new = a.send(request).await;
    assert!(new.token() > old.token());
    assert_eq!(a.remove(&old).await, Outcome::NotHeld);
    assert!(!b.finds_free("m").await);
    assert_eq!(a.remove(&new).await, Outcome::Released);
}

/// A cancel of a waiter that was granted meanwhile, unknown to its relay, releases the lock: no grant is left that nobody
/// knows of.
pub async fn cancel_that_meets_a_grant_releases_it(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    let waiting = b.exclusive("m").await;
    let behind = a.exclusive("m").await;
    a.remove(&held).await;
    // B has not heard of its grant.
    assert_eq!(b.heard, []);
    assert_eq!(b.remove(&waiting).await, Outcome::Released);
    assert!(b.grant_of(&waiting).is_some(), "the reply says that it was granted");
    assert!(a.was_granted(&behind).await);
    a.remove(&behind).await;
    assert!(b.finds_free("m").await);
}

/// A waiter that was cancelled hears nothing more, and its place is closed.
pub async fn cancelled_waiter_is_never_granted(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    let waiting = b.exclusive("m").await;
    assert_eq!(b.remove(&waiting).await, Outcome::Cancelled);
    assert_eq!(b.remove(&waiting).await, Outcome::NotHeld);
    a.remove(&held).await;
    assert_eq!(b.news().await, []);
    assert!(b.finds_free("m").await);
}

/// Waiters may leave from the head, the middle and the end of the queue; the others keep their order.
pub async fn removal_of_a_waiter_in_the_middle_changes_no_order(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let mut holder = a.exclusive("m").await;
    let waiting = b.ask_many(vec!["m".to_owned(); 9], Mode::Exclusive).await;
    let leaving = [4, 0, 8, 3, 1];
    let ops: Vec<Op> = leaving.iter().map(|place| waiting[*place].removal()).collect();
    let reply = b.run(ops).await;
    assert_eq!(reply.outcomes, [Outcome::Cancelled; 5]);
    a.remove(&holder).await;
    for place in [2, 5, 6, 7] {
        assert!(b.was_granted(&waiting[place]).await, "{place}");
        assert_eq!(b.heard.last().map(|event| event.slot), Some(waiting[place].slot));
        holder = waiting[place].clone();
        b.remove(&holder).await;
    }
    assert!(a.finds_free("m").await);
}
