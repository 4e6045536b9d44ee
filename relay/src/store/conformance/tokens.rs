//! Fencing tokens.

use super::Stores;
use super::harness::Relay;
use crate::store::{Admission, Outcome};
use lockrelay_protocol::Mode;

/// Each grant gets the previous token of the partition + 1: of whatever mutex, at once or after a wait, to whomever.
pub async fn tokens_rise_over_mutexes_and_sessions(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let start = a.caller.highest_token;
    let first = a.exclusive("m").await;
    assert_eq!(first.token(), start + 1);
    assert_eq!(b.shared("n").await.token(), start + 2);
    let waiting = b.exclusive("m").await;
    a.remove(&first).await;
    assert!(b.was_granted(&waiting).await);
    assert_eq!(b.grant_of(&waiting), Some(start + 3));
    b.remove(&waiting).await;
    let refused = a.ask("n", Mode::Exclusive, Admission::IfAvailable).await;
    assert_eq!(refused.outcome, Outcome::Unavailable);
    assert_eq!(a.exclusive("m").await.token(), start + 4, "a refusal uses no token");
    assert_eq!(b.renew().await.highest_token, start + 4);
}

/// A mutex leaves nothing behind when it is free, and yet its tokens go on rising.
pub async fn tokens_rise_after_the_end_of_a_session(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let token = a.exclusive("m").await.token();
    let waiting = b.exclusive("m").await;
    b.reap_all(a.session).await;
    assert!(b.was_granted(&waiting).await);
    assert_eq!(b.grant_of(&waiting), Some(token + 1));
    b.close().await;
    let mut c = Relay::open(&stores.here).await;
    assert_eq!(c.caller.highest_token, token + 1, "told at the opening");
    assert_eq!(c.exclusive("m").await.token(), token + 2);
}

/// No token is given that is not above all that any caller has seen.
pub async fn highest_token_of_a_caller_lifts_the_counter(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let start = a.caller.highest_token;
    a.caller.highest_token = start + 1_000;
    assert_eq!(a.exclusive("batch").await.token(), start + 1_001);
    a.caller.highest_token = start + 2_000;
    a.renew().await;
    assert_eq!(b.exclusive("renewal").await.token(), start + 2_001);
    a.caller.highest_token = start + 10;
    assert_eq!(a.exclusive("lower").await.token(), start + 2_002);
    let opened = b
        .store
        .open(
            super::harness::PARTITION,
            crate::store::SessionId::random(),
            0,
            start + 3_000,
        )
        .await
        .expect("the store takes sessions");
    assert_eq!(opened.highest_token, start + 3_000);
    assert_eq!(b.exclusive("opening").await.token(), start + 3_001);
}

/// Tokens are integers below 2^53, and none of their digits gets lost on the way, in any reply or event.
pub async fn tokens_keep_53_bits(stores: Stores) {
    let (mut a, mut b) = (Relay::open(&stores.here).await, Relay::open(&stores.there).await);
    let high = (1 << 53) - 11;
    a.caller.highest_token = high;
    let held = a.exclusive("m").await;
    assert_eq!(held.token(), high + 1);
    let waiting = b.exclusive("m").await;
    a.remove(&held).await;
    let renewal = b.renew().await;
    assert_eq!(b.grant_of(&waiting), Some(high + 2));
    assert_eq!(renewal.highest_token, high + 2);
    assert_eq!(b.list(b.session).await[0].token, Some(high + 2));
    assert_eq!(a.exclusive("n").await.token(), high + 3);
    let c = Relay::open(&stores.there).await;
    assert_eq!(c.caller.highest_token, high + 3);
}
