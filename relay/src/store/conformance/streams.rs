//! What may be sent twice, and what is told until it is acknowledged.

use super::Stores;
use super::harness::{PARTITION, Relay};
use crate::store::{Admission, EventKind, Hint, Op, Outcome, StoreError};
use lockrelay_protocol::Mode;
use std::time::Duration;
use tokio::sync::mpsc;

/// A batch that is sent again, because its answer was lost, gets the answer that it got, whatever happened since.
pub async fn repeated_batch_changes_nothing_and_answers_the_same(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    let requests = [
        b.request("m", Mode::Exclusive, Admission::Queue),
        b.request("n", Mode::Shared, Admission::Queue),
        b.request("m", Mode::Shared, Admission::IfAvailable),
    ];
    let first = b.run(requests.iter().cloned().map(Op::Acquire).collect()).await;
    assert_eq!(first.outcomes[0], Outcome::Queued { ahead: 0 });
    assert_eq!(first.outcomes[2], Outcome::Unavailable);
    a.remove(&held).await;
    let before = b.list(b.session).await;
    let again = b.repeat().await;
    assert_eq!(again.outcomes, first.outcomes, "though the waiter holds now");
    assert_eq!(b.heard.len(), 1, "which an event tells");
    let again = b.repeat().await;
    assert_eq!(
        (again.outcomes, again.events),
        (first.outcomes, vec![]),
        "it is acknowledged now"
    );
    assert_eq!(b.list(b.session).await, before);
    assert_eq!(b.renew().await.entries, 2);
    let token = before[0].token.expect("the waiter holds");
    assert_eq!(a.exclusive("other").await.token(), token + 1, "no token was used");
}

/// A removal that is sent again does not touch whoever got the mutex, or the slot, meanwhile.
pub async fn repeated_batch_hands_nothing_on_twice(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = a.exclusive("m").await;
    let waiting = b.ask_many(vec!["m".to_owned(); 3], Mode::Exclusive).await;
    let mut request = a.request("n", Mode::Exclusive, Admission::Queue);
    request.slot = held.slot;
    let first = a.run(vec![held.removal(), Op::Acquire(request)]).await;
    assert_eq!(first.outcomes[0], Outcome::Released);
    for _ in 0..3 {
        assert_eq!(a.repeat().await.outcomes, first.outcomes);
    }
    b.news().await;
    assert!(b.grant_of(&waiting[0]).is_some());
    assert_eq!(b.grant_of(&waiting[1]), None);
    assert!(!b.finds_free("n").await);
}

/// A copy of an older batch, late on its way, is not carried out.
pub async fn older_batch_is_refused(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let ticket = a.exclusive("m").await;
    let old = a.last.clone();
    a.remove(&ticket).await;
    let answer = a.execute(&old).await;
    assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    assert!(b.finds_free("m").await);
    assert_eq!(
        a.repeat().await.outcomes,
        [Outcome::Released],
        "the last batch is known still"
    );
    a.exclusive("m").await.token();
}

/// Every reply carries what is not acknowledged, and an acknowledgement ends that for good.
pub async fn events_come_again_until_acknowledged(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let held = [a.exclusive("m").await, a.exclusive("n").await];
    let waiting = [b.exclusive("m").await, b.exclusive("n").await];
    a.remove(&held[0]).await;
    a.remove(&held[1]).await;
    let first = b.renewal().await.events;
    let numbers: Vec<u64> = first.iter().map(|event| event.number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(
        [&first[0].lock_id, &first[1].lock_id],
        [&waiting[0].lock_id, &waiting[1].lock_id]
    );
    assert_eq!(b.renewal().await.events, first, "again in a renewal");
    b.caller.acknowledged = 1;
    assert_eq!(b.renewal().await.events, first[1..]);
    b.caller.acknowledged = 0;
    assert_eq!(
        b.renewal().await.events,
        first[1..],
        "an acknowledgement cannot be taken back"
    );
    b.caller.acknowledged = 2;
    assert_eq!(b.renewal().await.events, []);
}

/// Numbers go on by one whatever was acknowledged, and though entries come and go.
pub async fn events_are_numbered_without_gaps(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    for round in 0..10 {
        let held = a.exclusive("m").await;
        let waiting = b.exclusive("m").await;
        let cancelled = b.exclusive("m").await;
        b.remove(&cancelled).await;
        a.remove(&held).await;
        let thief = a.steal("m").await;
        if round % 2 == 0 {
            b.news().await;
        }
        b.remove(&waiting).await;
        assert!(a.was_granted(&thief).await);
        a.remove(&thief).await;
    }
    // The harness checks that numbers follow one another. B heard a grant and a theft each round, A a grant.
    assert_eq!((a.heard.len(), b.heard.len()), (10, 20));
}

/// What one relay does to another's entries reaches it without any call of its own; and comes with its next reply too.
pub async fn events_arrive_as_hints(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let mut hints = stores.there.hints(PARTITION, b.session);
    assert_eq!(next(&mut hints).await, Hint::Renew, "once the subscription stands");
    let held = a.exclusive("m").await;
    let waiting = b.exclusive("m").await;
    a.remove(&held).await;
    let Hint::Event(event) = next(&mut hints).await else {
        panic!("not an event")
    };
    assert_eq!(
        (event.number, event.slot, &event.lock_id),
        (1, waiting.slot, &waiting.lock_id)
    );
    a.steal("m").await;
    let Hint::Event(theft) = next(&mut hints).await else {
        panic!("not an event")
    };
    assert_eq!((theft.number, theft.kind), (2, EventKind::Stolen));
    assert_eq!(b.news().await, [event, theft], "the stream has them still");
}

/// What a relay's own batch does to its own entries stands in the reply.
pub async fn own_removal_tells_in_its_own_reply(stores: Stores) {
    let mut a = Relay::open(&stores.here).await;
    let held = a.exclusive("m").await;
    let waiting = a.exclusive("m").await;
    let reply = a.run(vec![held.removal()]).await;
    assert_eq!(reply.outcomes, [Outcome::Released]);
    assert_eq!(reply.events.len(), 1);
    assert_eq!(a.grant_of(&waiting), Some(held.token() + 1));
}

/// The next hint. The time limit only makes a failure of one that never comes.
async fn next(hints: &mut mpsc::Receiver<Hint>) -> Hint {
    tokio::time::timeout(Duration::from_secs(10), hints.recv())
        .await
        .expect("a hint comes")
        .expect("the store goes on hinting")
}
