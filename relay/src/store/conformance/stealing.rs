//! Theft: the thief is next, the holders' relays are told, and the mutex changes hands when the last holder is removed.

use super::Stores;
use super::harness::{Relay, mutex};
use crate::store::{Admission, EventKind, Op, Outcome};
use lockrelay_protocol::Mode;

/// Where nobody holds there is nothing to steal.
pub async fn theft_of_a_free_mutex_is_a_grant(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let thief = a.steal("m").await;
    thief.token();
    assert_eq!(a.news().await, []);
    assert!(!b.finds_free("m").await);
}

/// The thief passes those who wait, the holder is told once, and keeps the lock until it is removed.
pub async fn thief_is_next_and_each_holder_is_told_once(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    let waiting = b.exclusive("m").await;
    let thief = b.steal("m").await;
    assert_eq!(thief.outcome, Outcome::Queued { ahead: 0 });
    a.news().await;
    b.news().await;
    assert_eq!(a.thefts_of(&held), 1);
    assert_eq!((b.grant_of(&thief), b.grant_of(&waiting)), (None, None));
    assert_eq!(a.remove(&held).await, Outcome::Released);
    assert!(b.was_granted(&thief).await);
    assert_eq!(b.grant_of(&waiting), None);
    b.remove(&thief).await;
    assert!(b.was_granted(&waiting).await);
    a.news().await;
    assert_eq!(a.thefts_of(&held), 1, "told once");
}

/// Of several holders each is told, the longest holder first, and the thief waits for the last; one of its own session
/// too.
pub async fn thief_waits_for_the_last_holder(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let (one, two, three) = (a.shared("m").await, b.shared("m").await, a.shared("m").await);
    let thief = a.steal("m").await;
    assert_eq!(thief.outcome, Outcome::Queued { ahead: 0 });
    b.news().await;
    assert_eq!(b.thefts_of(&two), 1);
    let told: Vec<_> = a.heard.iter().map(|event| (event.slot, event.kind)).collect();
    assert_eq!(told, [(one.slot, EventKind::Stolen), (three.slot, EventKind::Stolen)]);
    for (relay, holder) in [(&mut b, two), (&mut a, one)] {
        assert_eq!(relay.remove(&holder).await, Outcome::Released);
    }
    assert!(!a.was_granted(&thief).await, "one holder is left");
    a.remove(&three).await;
    assert!(a.was_granted(&thief).await);
}

/// A theft tells those who hold when it comes. Those who knew already hear nothing again, and those who are granted
/// afterwards are not its victims.
pub async fn second_theft_tells_only_those_granted_since(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    let first_thief = b.steal("m").await;
    let second_thief = b.steal("m").await;
    assert_eq!(second_thief.outcome, Outcome::Queued { ahead: 0 });
    a.news().await;
    assert_eq!(a.thefts_of(&held), 1);
    a.remove(&held).await;
    assert!(b.was_granted(&second_thief).await, "the last thief is at the head");
    b.run(vec![Op::Settle { mutex: mutex("m") }]).await;
    b.news().await;
    assert_eq!(
        b.thefts_of(&second_thief),
        0,
        "the first thief, who waits, stole from another"
    );
    let third_thief = a.steal("m").await;
    b.news().await;
    assert_eq!(b.thefts_of(&second_thief), 1);
    b.remove(&second_thief).await;
    assert!(a.was_granted(&third_thief).await);
    a.remove(&third_thief).await;
    assert!(b.was_granted(&first_thief).await);
}

/// Once the thief has given up, a shared request may join the robbed holder. A next thief steals from the new one alone.
pub async fn theft_ends_with_its_thief(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.shared("m").await;
    let thief = b.steal("m").await;
    let behind = b.shared("m").await;
    assert!(behind.is_queued());
    assert_eq!(b.remove(&thief).await, Outcome::Cancelled);
    assert!(b.was_granted(&behind).await);
    assert_eq!(b.thefts_of(&behind), 0);
    let next_thief = b.steal("m").await;
    assert!(next_thief.is_queued());
    a.news().await;
    b.news().await;
    assert_eq!((a.thefts_of(&held), b.thefts_of(&behind)), (1, 1));
}

/// A shared theft makes no sense.
pub async fn shared_theft_is_refused(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let refused = a.ask("m", Mode::Shared, Admission::Steal).await;
    assert_eq!(refused.outcome, Outcome::Refused);
    let held = b.exclusive("m").await;
    held.token();
    let refused = a.ask("m", Mode::Shared, Admission::Steal).await;
    assert_eq!(refused.outcome, Outcome::Refused);
    assert_eq!(b.news().await, []);
    assert_eq!(a.renew().await.entries, 0);
}
