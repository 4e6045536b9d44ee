//! No call touches more than [`BOUND`] entries. What that cuts short is gone on with, and nothing is lost by it.

use super::Stores;
use super::harness::{PARTITION, Relay, mutex};
use crate::store::{Admission, Answer, BOUND, Batch, EventKind, Op, Outcome, Reaped, StoreError};
use lockrelay_protocol::Mode;

/// More than two bounds, and no multiple of one.
const MANY: usize = 1_200;

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("m{n}"))
}

/// A batch has at most [`BOUND`] operations.
pub async fn oversized_batch_is_refused(stores: Stores) {
    let mut a = Relay::open(&stores.here).await;
    let mut ops: Vec<Op> = names(BOUND + 1)
        .map(|name| Op::Acquire(a.request(&name, Mode::Exclusive, Admission::Queue)))
        .collect();
    let batch = Batch {
        seq: 1,
        ops: ops.clone(),
    };
    let answer = a.execute(&batch).await;
    assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    assert_eq!(a.renew().await.entries, 0);
    ops.pop();
    a.run(ops).await;
    assert_eq!(a.renew().await.entries, BOUND as u64);
}

/// The end of a session with many locks takes several calls, between which others may go on where one stopped.
pub async fn reap_is_bounded_and_ends_with_nothing_left(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let mut c = Relay::open(&stores.here).await;
    for ticket in a.ask_many(names(MANY), Mode::Exclusive).await {
        ticket.token();
    }
    let waiting = b.ask_many(names(MANY).step_by(100), Mode::Exclusive).await;
    let counter = b.counter_of(a.session).await.expect("it is open");
    assert_eq!(b.reap(a.session, counter).await, Reaped::More);
    let left = b.list(a.session).await.len();
    assert!(left >= MANY - BOUND, "{left} entries are left");
    assert_eq!(
        b.counter_of(a.session).await,
        Some(counter),
        "others see that there is something left to do"
    );
    assert!(
        a.store.open(PARTITION, a.session, 0, 0).await.is_err(),
        "it is dead already"
    );
    assert_eq!(a.store.renew(PARTITION, &a.caller).await, Ok(Answer::NoSession));
    let batch = Batch {
        seq: a.last.seq + 1,
        ops: Vec::new(),
    };
    assert_eq!(a.execute(&batch).await, Ok(Answer::NoSession));
    c.reap_all(a.session).await;
    assert_eq!(b.counter_of(a.session).await, None);
    assert_eq!(b.list(a.session).await, []);
    b.news().await;
    assert!(waiting.iter().all(|ticket| b.grant_of(ticket).is_some()));
    assert_eq!(b.close().await, []);
    for ticket in c.ask_many(names(MANY), Mode::Exclusive).await {
        ticket.token();
    }
    c.close().await;
}

/// While a dead session still has entries, its waiters are passed over and removed, and its holders keep their mutexes
/// until their turn comes.
pub async fn waiters_of_dead_sessions_are_skipped(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let mut dead = Relay::open(&stores.here).await;
    dead.ask_many(names(BOUND + 100), Mode::Exclusive).await;
    let held = a.exclusive("m").await;
    let gone = [dead.exclusive("m").await, dead.shared("m").await];
    let last = dead.exclusive("last").await;
    last.token();
    assert!(gone.iter().all(|ticket| ticket.is_queued()));
    let waiting = b.exclusive("m").await;
    let counter = b.counter_of(dead.session).await.expect("it is open");
    assert_eq!(b.reap(dead.session, counter).await, Reaped::More);
    assert_eq!(a.remove(&held).await, Outcome::Released);
    assert!(b.was_granted(&waiting).await);
    let left = b.list(dead.session).await;
    assert!(
        left.iter().all(|entry| entry.mutex != mutex("m")),
        "the skipped are removed"
    );
    assert!(left.iter().any(|entry| entry.mutex == mutex("last")));
    assert!(!b.finds_free("last").await);
    b.reap_all(dead.session).await;
    assert!(b.finds_free("last").await);
}

/// The shared waiters behind a released exclusive lock are more than one call may grant: the rest is granted by `Settle`.
pub async fn more_shared_waiters_than_the_bound_are_all_granted(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    let waiting = b.ask_many(vec!["m".to_owned(); MANY], Mode::Shared).await;
    let exclusive = a.exclusive("m").await;
    let reply = a.run(vec![held.removal()]).await;
    assert_eq!(reply.unsettled, [mutex("m")]);
    let late = a.shared("m").await;
    assert!(late.is_queued(), "behind those who are still to be granted");
    let before = b.news().await.len();
    assert!(before <= BOUND, "{before} granted by one call");
    a.settle(reply.unsettled).await;
    b.news().await;
    let tokens: Vec<Option<u64>> = waiting.iter().map(|ticket| b.grant_of(ticket)).collect();
    assert!(tokens.iter().all(Option::is_some));
    assert!(tokens.is_sorted(), "in the order of the queue");
    assert!(!a.was_granted(&exclusive).await && !a.was_granted(&late).await);
    let unsettled = b.close().await;
    a.settle(unsettled).await;
    assert!(a.was_granted(&exclusive).await);
}

/// A theft from more holders than one call may tell goes on by `Settle`, and tells each once.
pub async fn more_holders_than_the_bound_are_all_told_of_a_theft(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let holders = b.ask_many(vec!["m".to_owned(); MANY], Mode::Shared).await;
    let request = a.request("m", Mode::Exclusive, Admission::Steal);
    let thief = Op::Remove {
        slot: request.slot,
        lock_id: request.lock_id.clone(),
    };
    let reply = a.run(vec![Op::Acquire(request)]).await;
    assert_eq!(reply.outcomes, [Outcome::Queued { ahead: 0 }]);
    assert_eq!(reply.unsettled, [mutex("m")]);
    assert!(b.news().await.len() <= BOUND, "told by one call");
    a.settle(reply.unsettled).await;
    b.news().await;
    assert!(b.heard.iter().all(|event| event.kind == EventKind::Stolen));
    assert!(holders.iter().all(|holder| b.thefts_of(holder) == 1));
    let unsettled = b.close().await;
    a.settle(unsettled).await;
    a.news().await;
    assert_eq!(a.heard.len(), 1, "the thief holds");
    assert_eq!(a.one(thief).await, Outcome::Released);
}

/// A session with many entries is listed page by page; empty slots in between are no matter.
pub async fn list_comes_in_pages(stores: Stores) {
    let (mut a, b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let count = MANY + BOUND;
    let tickets = a.ask_many(names(count), Mode::Shared).await;
    let (gone, kept): (Vec<_>, Vec<_>) = tickets
        .iter()
        .enumerate()
        .partition(|(n, _)| n % 3 == 0 || (BOUND - 5..2 * BOUND + 5).contains(n));
    for chunk in gone.chunks(BOUND) {
        a.run(chunk.iter().map(|(_, ticket)| ticket.removal()).collect()).await;
    }
    let listed = b.list(a.session).await;
    let expected: Vec<_> = kept.iter().map(|(_, ticket)| (ticket.slot, &ticket.lock_id)).collect();
    let listed: Vec<_> = listed.iter().map(|entry| (entry.slot, &entry.lock_id)).collect();
    assert_eq!(listed, expected);
    let (rest, _) = b
        .store
        .list(PARTITION, a.session, tickets[count - 1].slot)
        .await
        .expect("a list is answered");
    assert!(rest.len() <= 1, "only slots from there on");
}
