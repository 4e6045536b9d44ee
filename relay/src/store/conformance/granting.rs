//! Who holds, who waits, who is next.

use super::Stores;
use super::harness::Relay;
use crate::store::{Admission, Op, Outcome};
use lockrelay_protocol::Mode::{Exclusive, Shared};

/// A mutex has one exclusive holder; it changes hands when that one lets go.
pub async fn one_holder(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let first = a.exclusive("m").await;
    first.token();
    let second = b.exclusive("m").await;
    assert_eq!(second.outcome, Outcome::Queued { ahead: 0 });
    assert!(!b.was_granted(&second).await, "it is held");
    let other = b.exclusive("other").await;
    other.token();
    assert_eq!(a.remove(&first).await, Outcome::Released);
    assert!(b.was_granted(&second).await);
}

/// First come, first served, whoever's relay asked, also for several waiters of one session.
pub async fn waiters_are_served_in_order_over_sessions(stores: Stores) {
    let mut relays = [
        Relay::open(&stores.here).await,
        Relay::open(&stores.there).await,
        Relay::open(&stores.here).await,
    ];
    let mut holder = relays[0].exclusive("m").await;
    let mut holding = 0;
    let order = [2, 1, 1, 0, 2, 0, 1];
    let mut waiting = Vec::new();
    for relay in order {
        waiting.push((relay, relays[relay].exclusive("m").await));
    }
    for (relay, ticket) in waiting {
        assert!(ticket.is_queued());
        assert!(!relays[relay].was_granted(&ticket).await, "before its turn");
        relays[holding].remove(&holder).await;
        assert!(relays[relay].was_granted(&ticket).await, "at its turn");
        (holding, holder) = (relay, ticket);
    }
    relays[holding].remove(&holder).await;
    assert!(relays[1].finds_free("m").await);
}

/// Shared requests hold together; an exclusive one waits for the last of them.
pub async fn shared_joins_shared(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let (one, two, three) = (a.shared("m").await, b.shared("m").await, a.shared("m").await);
    assert!(one.token() < two.token() && two.token() < three.token());
    let exclusive = b.exclusive("m").await;
    assert_eq!(exclusive.outcome, Outcome::Queued { ahead: 0 });
    a.remove(&one).await;
    b.remove(&two).await;
    assert!(!b.was_granted(&exclusive).await, "one shared holder is left");
    a.remove(&three).await;
    assert!(b.was_granted(&exclusive).await);
    assert!(a.shared("m").await.is_queued(), "it is held exclusively now");
}

/// A shared request that comes after a waiting exclusive one waits behind it, though only shared ones hold.
pub async fn shared_never_passes_a_waiting_exclusive(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let holder = a.shared("m").await;
    holder.token();
    let exclusive = b.exclusive("m").await;
    assert!(exclusive.is_queued());
    let late = a.shared("m").await;
    assert_eq!(late.outcome, Outcome::Queued { ahead: 1 });
    let refused = a.ask("m", Shared, Admission::IfAvailable).await;
    assert_eq!(refused.outcome, Outcome::Unavailable);
    a.remove(&holder).await;
    assert!(b.was_granted(&exclusive).await);
    assert!(!a.was_granted(&late).await);
    b.remove(&exclusive).await;
    assert!(a.was_granted(&late).await);
}

/// When the exclusive request at the head goes, the shared ones behind it join the shared holder at once.
pub async fn cancelled_exclusive_head_lets_shared_ones_join(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    a.shared("m").await.token();
    let head = b.exclusive("m").await;
    let (behind, too) = (a.shared("m").await, b.shared("m").await);
    let last = a.exclusive("m").await;
    assert_eq!(b.remove(&head).await, Outcome::Cancelled);
    assert!(a.was_granted(&behind).await);
    assert!(b.was_granted(&too).await);
    assert!(!a.was_granted(&last).await);
}

/// The shared waiters at the head are granted in one step, up to the next exclusive one.
pub async fn shared_ones_at_the_head_are_granted_together(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let holder = a.exclusive("m").await;
    let (one, two) = (a.shared("m").await, b.shared("m").await);
    let exclusive = a.exclusive("m").await;
    let late = b.shared("m").await;
    a.remove(&holder).await;
    assert!(a.was_granted(&one).await && b.was_granted(&two).await);
    assert!(!a.was_granted(&exclusive).await && !b.was_granted(&late).await);
}

/// A zero wait is granted or refused, and a refused one leaves nothing: no entry, no place in the queue.
pub async fn zero_wait_is_refused_and_keeps_nothing(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.ask("m", Exclusive, Admission::IfAvailable).await;
    held.token();
    for mode in [Exclusive, Shared] {
        let refused = b.ask("m", mode, Admission::IfAvailable).await;
        assert_eq!(refused.outcome, Outcome::Unavailable);
        assert_eq!(b.remove(&refused).await, Outcome::NotHeld);
    }
    assert_eq!(b.renew().await.entries, 0);
    a.remove(&held).await;
    assert_eq!(b.news().await, []);
    assert!(b.finds_free("m").await);
}

/// A zero wait is refused when somebody waits, even if the mode would allow it to join the holders.
pub async fn zero_wait_does_not_pass_a_waiter(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    a.shared("m").await.token();
    let joins = b.ask("m", Shared, Admission::IfAvailable).await;
    joins.token();
    let waiting = a.exclusive("m").await;
    assert!(waiting.is_queued());
    let refused = b.ask("m", Shared, Admission::IfAvailable).await;
    assert_eq!(refused.outcome, Outcome::Unavailable);
}

/// The same entry in a new batch (the relay gave the last one up) gets its present state: the same grant, or its wait.
pub async fn same_entry_again_gets_its_present_state(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let request = a.request("m", Exclusive, Admission::Queue);
    let granted = a.send(request.clone()).await;
    let again = a.send(request).await;
    assert_eq!(again.token(), granted.token());

    let request = b.request("m", Exclusive, Admission::Queue);
    assert!(b.send(request.clone()).await.is_queued());
    assert!(b.send(request.clone()).await.is_queued());
    assert_eq!((a.renew().await.entries, b.renew().await.entries), (1, 1));
    assert_eq!(a.remove(&granted).await, Outcome::Released);

    let now = b.send(request).await;
    assert_eq!(b.grant_of(&now), Some(now.token()), "the event says the same");
    assert!(now.token() > granted.token());
    assert_eq!(b.remove(&now).await, Outcome::Released);
    assert!(a.finds_free("m").await, "nobody was in the queue twice");
}

/// An `Acquire` into a slot that has another entry does nothing, and leaves that entry alone.
pub async fn taken_slot_is_refused(stores: Stores) {
    let mut a = Relay::open(&stores.here).await;
    let held = a.exclusive("m").await;
    let mut request = a.request("other", Exclusive, Admission::Queue);
    request.slot = held.slot;
    let refused = a.send(request).await;
    assert_eq!(refused.outcome, Outcome::Refused);
    assert_eq!(a.remove(&refused).await, Outcome::NotHeld);
    assert!(a.finds_free("other").await);
    assert_eq!(a.remove(&held).await, Outcome::Released);
}

/// `ahead` counts the waiters of all relays.
pub async fn queued_tells_how_many_are_ahead(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    a.exclusive("m").await.token();
    assert_eq!(a.exclusive("m").await.outcome, Outcome::Queued { ahead: 0 });
    assert_eq!(b.shared("m").await.outcome, Outcome::Queued { ahead: 1 });
    let cancelled = b.exclusive("m").await;
    assert_eq!(cancelled.outcome, Outcome::Queued { ahead: 2 });
    b.remove(&cancelled).await;
    assert_eq!(a.shared("m").await.outcome, Outcome::Queued { ahead: 2 });
}

/// The operations of a batch see what the ones before them did.
pub async fn one_batch_is_applied_in_order(stores: Stores) {
    let mut a = Relay::open(&stores.here).await;
    let first = a.request("m", Exclusive, Admission::Queue);
    let second = a.request("m", Exclusive, Admission::Queue);
    let refused = a.request("m", Exclusive, Admission::IfAvailable);
    let mut reuse = a.request("n", Exclusive, Admission::IfAvailable);
    reuse.slot = first.slot;
    let remove = Op::Remove {
        slot: first.slot,
        lock_id: first.lock_id.clone(),
    };
    let ops = vec![
        Op::Acquire(first),
        Op::Acquire(second.clone()),
        Op::Acquire(refused),
        remove.clone(),
        remove,
        Op::Acquire(reuse),
    ];
    let reply = a.run(ops).await;
    let Outcome::Granted { token } = reply.outcomes[0] else {
        panic!("not granted: {reply:?}")
    };
    assert_eq!(
        reply.outcomes[1..],
        [
            Outcome::Queued { ahead: 0 },
            Outcome::Unavailable,
            Outcome::Released,
            Outcome::NotHeld,
            Outcome::Granted { token: token + 2 },
        ]
    );
    // The grant of the second one came of the removal, so it is an event of the same reply.
    assert_eq!(reply.events.len(), 1);
    assert_eq!(reply.events[0].lock_id, second.lock_id);
}

/// Any valid name is a mutex of its own: nothing in it is syntax to the store, and nothing of it is folded.
pub async fn mutex_names_are_any_text(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let long = "x".repeat(512);
    let nearly = format!("{}y", "x".repeat(511));
    let wide = "买".repeat(170);
    let names = [
        "m",
        "M",
        " ",
        "  ",
        " m",
        "m ",
        "{x}",
        "{",
        "}",
        "a:b",
        "a:b:c",
        ":",
        "::",
        "*",
        "?",
        "[a-z]",
        "'",
        "\"",
        "`",
        "\\",
        "\\n",
        "%",
        "%s%d%.0f",
        "$0",
        "KEYS[1]",
        "--",
        "0",
        "-1",
        "00",
        "1e3",
        "nan",
        "inf",
        "nil",
        "null",
        "true",
        "[]",
        "{}",
        "g",
        "f",
        "v",
        "ss",
        "u",
        "lockrelay:{0}",
        "é",
        "e\u{301}",
        "买家 1",
        "🔒",
        "\u{202e}x",
        "\u{feff}",
        "\u{a0}",
        "\u{10ffff}",
        &long,
        &nearly,
        &wide,
    ];
    let mut held = Vec::new();
    for name in names {
        let ticket = a.exclusive(name).await;
        assert!(matches!(ticket.outcome, Outcome::Granted { .. }), "{name:?} is free");
        held.push(ticket);
    }
    let listed = a.list(a.session).await;
    for (name, entry) in names.iter().zip(&listed) {
        assert_eq!(entry.mutex.as_str(), *name);
    }
    assert_eq!(listed.len(), names.len());
    for (name, ticket) in names.iter().zip(&held) {
        let waiter = b.exclusive(name).await;
        assert!(waiter.is_queued(), "{name:?} is held");
        assert_eq!(a.remove(ticket).await, Outcome::Released, "{name:?}");
        assert!(b.was_granted(&waiter).await, "{name:?} is handed on");
        assert_eq!(b.remove(&waiter).await, Outcome::Released, "{name:?}");
        assert!(a.finds_free(name).await, "{name:?} is free again");
    }
}
