use super::*;
use Outcome::{Cancelled, Granted, NotHeld, Queued, Released, Unavailable};

#[test]
fn a_cancel_that_crosses_the_grant_releases_the_lock() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.cancel(A, "1");
    assert_eq!(rig.said(), [""; 0], "answered when the lock is free, not before");
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.reply(&[Released]);
    assert_eq!(rig.said(), ["1: cancelled 1"]);
    rig.release(A, "L1");
    assert_eq!(rig.said(), ["1: released L1, held false"]);
}

#[test]
fn a_cancel_while_the_acquire_is_in_flight_is_followed_by_a_removal_and_the_slot_stays_taken() {
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    assert_eq!(rig.sent(), ["acquire m at 0 as L1"]);
    rig.cancel(A, "1");
    rig.acquire(B, ask("1", "m"));
    assert_eq!(rig.sent(), [""; 0], "one batch at a time");
    rig.reply(&[Granted { token: 1 }]);
    assert_eq!(rig.said(), [""; 0], "a grant that nobody wants is not told");
    assert_eq!(rig.sent(), ["remove L1 at 0", "acquire m at 1 as L2"]);
    rig.acquire(B, ask("2", "n"));
    rig.reply(&[Released, Granted { token: 2 }]);
    assert_eq!(
        rig.said(),
        ["1: cancelled 1", "2: granted 1 as L2, token 2, until 200 + 10000"]
    );
    assert_eq!(rig.sent(), ["acquire n at 0 as L3"], "free again");
}

#[test]
fn a_cancel_before_the_acquire_was_sent_takes_it_back() {
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    rig.cancel(A, "1");
    assert_eq!(rig.said(), ["1: cancelled 1"]);
    assert_eq!(rig.sent(), [""; 0]);
    rig.cancel(A, "1");
    assert_eq!(rig.said(), ["1: cancelled 1"], "unknown by now, and always answered");
}

#[test]
fn the_announcement_of_a_grant_may_overtake_the_reply_to_its_own_acquire() {
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    rig.sent();
    rig.events(vec![grant_event(1, 0, "L1")]);
    assert_eq!(rig.said(), ["1: granted 1 as L1, token 7, until 100 + 10000"]);
    // The late reply says what was true before.
    let mut reply = done(&[Queued { ahead: 0 }]);
    reply.events = vec![grant_event(1, 0, "L1")];
    rig.hub.batch_done(rig.now(), 0, reply);
    assert_eq!(rig.said(), [""; 0], "queued never follows granted");
    assert!(rig.metric("lockrelay_grants_total 1"));
    assert!(rig.metric("lockrelay_locks_held 1"));
    assert!(rig.metric("lockrelay_locks_waiting 0"));
}

#[test]
fn a_theft_that_overtakes_the_grant_is_told_after_it() {
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    rig.sent();
    rig.events(vec![event(1, 0, "L1", EventKind::Stolen)]);
    assert_eq!(rig.said(), [""; 0]);
    rig.reply(&[Granted { token: 1 }]);
    assert_eq!(
        rig.said(),
        ["1: granted 1 as L1, token 1, until 100 + 10000", "1: lost L1, stolen"]
    );
}

#[test]
fn an_event_twice_is_dealt_with_once() {
    let mut rig = Rig::waiting(ask("1", "m"));
    let theft = event(2, 0, "L1", EventKind::Stolen);
    rig.events(vec![grant_event(1, 0, "L1"), theft.clone()]);
    assert_eq!(rig.said().len(), 2);
    rig.events(vec![grant_event(1, 0, "L1")]);
    rig.events(vec![grant_event(1, 0, "L1"), theft]);
    assert_eq!(rig.said(), [""; 0]);
    let acknowledged = rig.hub.caller(0, SessionId::from_bytes([0; 16])).acknowledged;
    assert_eq!(acknowledged, 2, "what was acknowledged stays so");
}

#[test]
fn after_a_gap_the_session_is_renewed_at_once_and_all_events_are_told_in_order() {
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    rig.acquire(A, ask("2", "n"));
    rig.sent();
    rig.reply(&[Queued { ahead: 0 }, Queued { ahead: 0 }]);
    rig.said();
    rig.events(vec![grant_event(2, 1, "L2")]);
    assert_eq!(rig.said(), ["renew 0"]);
    assert_eq!(
        rig.hub.caller(0, SessionId::from_bytes([0; 16])).acknowledged,
        0,
        "dropped, so not acknowledged"
    );
    rig.events(vec![
        grant_event(1, 0, "L1"),
        grant_event(2, 1, "L2"),
        event(3, 0, "L1", EventKind::Stolen),
    ]);
    let said = rig.said();
    assert!(said[0].starts_with("1: granted 1"), "{said:?}");
    assert!(said[1].starts_with("1: granted 2"), "{said:?}");
    assert_eq!(said[2], "1: lost L1, stolen");
}

#[test]
fn a_reply_full_of_events_is_followed_by_another_look() {
    let mut rig = Rig::new();
    let events = (1..=crate::store::BOUND as u64)
        .map(|n| grant_event(n, 9, "gone"))
        .collect();
    rig.events(events);
    assert_eq!(rig.said(), ["renew 0"]);
}

#[test]
fn an_event_about_an_earlier_entry_of_the_slot_does_not_touch_the_present_one() {
    let mut rig = Rig::waiting(ask("1", "m"));
    rig.cancel(A, "1");
    rig.sent();
    rig.reply(&[Cancelled]);
    rig.acquire(A, ask("2", "n"));
    assert_eq!(rig.sent(), ["acquire n at 0 as L2"]);
    rig.reply(&[Queued { ahead: 3 }]);
    rig.said();
    rig.events(vec![grant_event(1, 0, "L1")]);
    assert_eq!(rig.said(), [""; 0]);
}

#[test]
fn a_grant_that_is_announced_while_its_request_is_being_withdrawn_is_not_told() {
    let mut rig = Rig::waiting(ask("1", "m"));
    rig.cancel(A, "1");
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.events(vec![grant_event(1, 0, "L1")]);
    assert_eq!(rig.said(), [""; 0]);
    rig.reply(&[Released]);
    assert_eq!(rig.said(), ["1: cancelled 1"]);
    assert!(rig.metric("lockrelay_locks_held 0"));
}

#[test]
fn a_batch_that_is_answered_again_after_an_unknown_outcome_says_the_same() {
    // The store carried it out, the reply was lost, and meanwhile a renewal brought the grant.
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    rig.acquire(A, ask("2", "n"));
    rig.sent();
    rig.events(vec![grant_event(1, 0, "L1")]);
    rig.said();
    rig.release(A, "L1");
    rig.reply(&[Queued { ahead: 0 }, Granted { token: 8 }]);
    assert_eq!(rig.said(), ["1: granted 2 as L2, token 8, until 100 + 10000"]);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
}

#[test]
fn two_releases_are_answered_truthfully_and_not_before_the_lock_is_free() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.release(A, "L1");
    rig.release(A, "L1");
    assert_eq!(rig.said(), [""; 0]);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.reply(&[Released]);
    assert_eq!(rig.said(), ["1: released L1, held true", "1: released L1, held false"]);
    assert!(rig.metric("lockrelay_locks_held 0"));
    assert!(rig.metric("lockrelay_hold_seconds_count 1"));
}

#[test]
fn a_release_that_the_store_knows_nothing_of_says_so() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.release(A, "L1");
    rig.sent();
    rig.reply(&[NotHeld]);
    assert_eq!(rig.said(), ["1: released L1, held false"]);
}

#[test]
fn a_lock_is_released_by_the_connection_that_got_it_and_by_no_other() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.release(B, "L1");
    assert_eq!(rig.said(), ["2: released L1, held false"]);
    assert_eq!(rig.sent(), [""; 0]);
}

#[test]
fn a_waiting_request_cannot_be_released_by_its_lock_id() {
    let mut rig = Rig::waiting(ask("1", "m"));
    rig.release(A, "L1");
    assert_eq!(rig.said(), ["1: released L1, held false"]);
    assert_eq!(rig.sent(), [""; 0]);
}

#[test]
fn the_same_request_again_is_answered_with_its_present_state() {
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    rig.acquire(A, ask("1", "m"));
    assert_eq!(rig.sent(), ["acquire m at 0 as L1"]);
    rig.acquire(A, ask("1", "m"));
    assert_eq!(rig.said(), [""; 0], "the answer is on its way");
    rig.reply(&[Queued { ahead: 4 }]);
    rig.acquire(A, ask("1", "m"));
    assert_eq!(rig.said(), ["1: queued 1 behind 4", "1: queued 1 behind 4"]);
    rig.events(vec![grant_event(1, 0, "L1")]);
    rig.millis = 1_000;
    rig.acquire(A, ask("1", "m"));
    assert_eq!(
        rig.said(),
        [
            "1: granted 1 as L1, token 7, until 100 + 10000",
            "1: granted 1 as L1, token 7, until 1000 + 10000"
        ]
    );
    assert!(rig.metric("lockrelay_grants_total 1"));
    rig.acquire(A, ask("1", "other"));
    assert_eq!(rig.said(), ["1: error INVALID_ARGUMENT"], "and the lock stays");
    rig.release(A, "L1");
    rig.acquire(A, ask("1", "m"));
    assert_eq!(rig.said(), ["1: error INVALID_ARGUMENT"], "being withdrawn");
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.reply(&[Released]);
    rig.acquire(A, ask("1", "m"));
    assert_eq!(rig.sent(), ["acquire m at 0 as L2"], "a new request");
}

#[test]
fn the_same_request_id_on_another_connection_is_another_request() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.acquire(B, ask("1", "m"));
    assert_eq!(rig.sent(), ["acquire m at 1 as L2"]);
    rig.cancel(B, "1");
    rig.reply(&[Queued { ahead: 0 }]);
    assert_eq!(rig.sent(), ["remove L2 at 1"]);
}

#[test]
fn unavailable_keeps_nothing() {
    let mut rig = Rig::new();
    let mut acquire = ask("1", "m");
    acquire.if_available = true;
    rig.acquire(A, acquire.clone());
    rig.sent();
    rig.reply(&[Unavailable]);
    assert_eq!(rig.said(), ["1: unavailable 1"]);
    rig.acquire(A, acquire);
    assert_eq!(rig.sent(), ["acquire m at 0 as L2"]);
}

#[test]
fn a_full_store_fails_the_requests_and_still_frees() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.acquire(A, ask("2", "n"));
    rig.release(A, "L1");
    assert_eq!(rig.sent(), ["acquire n at 1 as L2", "remove L1 at 0"]);
    rig.acquire(A, ask("3", "o"));
    rig.hub.settle(0, vec![MutexName::new("x").unwrap()]);
    rig.hub.batch_full(rig.now(), 0);
    assert_eq!(rig.said(), ["1: error STORE_UNAVAILABLE 2"]);
    // L2 as well: an attempt before this one may have been carried out without our knowing.
    assert_eq!(rig.sent(), ["remove L2 at 1", "remove L1 at 0"]);
    rig.reply(&[NotHeld, Released]);
    assert_eq!(rig.said(), ["1: released L1, held true"]);
    assert_eq!(rig.sent(), ["acquire o at 0 as L3", "settle x"]);
}

#[test]
fn what_a_bound_cut_short_is_settled_once() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.release(A, "L1");
    rig.sent();
    let mut reply = done(&[Released]);
    reply.unsettled = vec![MutexName::new("m").unwrap(), MutexName::new("m").unwrap()];
    rig.hub.batch_done(rig.now(), 0, reply);
    assert_eq!(rig.sent(), ["settle m"]);
    rig.hub.settle(0, vec![MutexName::new("m").unwrap()]);
    rig.reply(&[Outcome::Settled]);
    assert_eq!(
        rig.sent(),
        ["settle m"],
        "news that came while the first was on its way"
    );
}

#[test]
fn after_a_recovery_every_mutex_with_own_waiters_is_settled_in_flight_ones_included() {
    let mut rig = Rig::waiting(ask("1", "m"));
    rig.acquire(B, ask("1", "m"));
    rig.acquire(B, ask("2", "n"));
    assert_eq!(rig.sent().len(), 2);
    rig.hub.recovered(0);
    rig.reply(&[Queued { ahead: 1 }, Queued { ahead: 0 }]);
    assert_eq!(rig.sent(), ["settle m", "settle n"]);
}

#[test]
fn entries_that_no_connection_knows_are_removed_and_their_slots_kept_until_then() {
    let mut rig = Rig::held(ask("1", "m"));
    let listed = |slot, id: &str| crate::store::Entry {
        slot: Slot(slot),
        lock_id: lock(id),
        mutex: MutexName::new("m").unwrap(),
        mode: Mode::Exclusive,
        token: None,
        metadata: None,
    };
    rig.hub.listed(
        0,
        vec![
            listed(0, "L1"),
            listed(1, "stray"),
            listed(0, "older"),
            listed(4_000_000, "far"),
        ],
    );
    rig.acquire(B, ask("1", "n"));
    assert_eq!(
        rig.sent(),
        [
            "remove stray at 1",
            "remove older at 0",
            "remove far at 4000000",
            "acquire n at 2 as L2"
        ]
    );
    rig.reply(&[Released, NotHeld, Cancelled, Granted { token: 2 }]);
    rig.said();
    rig.acquire(B, ask("2", "o"));
    assert_eq!(rig.sent(), ["acquire o at 1 as L3"]);
    assert!(rig.metric("lockrelay_locks_held 2"));
}

#[test]
fn a_place_that_the_store_finds_taken_is_not_tried_again_before_a_list_has_shown_by_what() {
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    rig.sent();
    rig.reply(&[Outcome::Refused]);
    assert_eq!(rig.said(), ["1: error STORE_UNAVAILABLE 1", "list 0"]);
    rig.acquire(A, ask("1", "m"));
    assert_eq!(rig.sent(), ["acquire m at 1 as L2"]);
    let stray = crate::store::Entry {
        slot: Slot(0),
        lock_id: lock("stray"),
        mutex: MutexName::new("m").unwrap(),
        mode: Mode::Exclusive,
        token: None,
        metadata: None,
    };
    rig.hub.listed(0, vec![stray]);
    rig.reply(&[Queued { ahead: 0 }]);
    assert_eq!(rig.sent(), ["remove stray at 0"]);
    rig.reply(&[Released]);
    rig.acquire(A, ask("2", "n"));
    assert_eq!(rig.sent(), ["acquire n at 0 as L3"]);
}

#[test]
fn a_shared_lock_cannot_steal() {
    let mut rig = Rig::new();
    let mut acquire = ask("1", "m");
    acquire.mode = Mode::Shared;
    acquire.steal = true;
    rig.acquire(A, acquire);
    assert_eq!(rig.said(), ["1: error INVALID_ARGUMENT 1"]);
    assert_eq!(rig.sent(), [""; 0]);
}

#[test]
fn requests_in_flight_count_as_known() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.hub.begin_count(0);
    rig.acquire(A, ask("2", "n"));
    rig.sent();
    assert_eq!(rig.hub.known(0), 2);
    rig.reply(&[Granted { token: 2 }]);
    rig.release(A, "L1");
    rig.release(A, "L2");
    rig.sent();
    rig.reply(&[Released, Released]);
    assert_eq!(rig.hub.known(0), 2, "the renewal may have counted before");
    rig.hub.begin_count(0);
    assert_eq!(rig.hub.known(0), 0);
}

#[test]
fn batches_hold_at_most_the_bound_and_number_without_gaps() {
    let mut rig = Rig::new();
    for n in 0..1_200 {
        rig.acquire(A, ask(&n.to_string(), &format!("m{n}")));
    }
    let mut sizes = vec![];
    let mut seqs = vec![];
    while let Some(batch) = rig.hub.next_batch(0) {
        sizes.push(batch.ops.len());
        seqs.push(batch.seq);
        rig.reply(&vec![Granted { token: 1 }; batch.ops.len()]);
    }
    assert_eq!(sizes, [500, 500, 200]);
    assert_eq!(seqs, [1, 2, 3]);
}

#[test]
fn the_highest_token_that_was_seen_goes_with_every_call() {
    let mut rig = Rig::held(ask("1", "m"));
    let caller = |rig: &Rig| rig.hub.caller(0, SessionId::from_bytes([0; 16]));
    assert_eq!(caller(&rig).highest_token, 1);
    rig.events(vec![event(1, 5, "gone", EventKind::Granted { token: 90 })]);
    assert_eq!(caller(&rig).highest_token, 90);
    rig.hub.saw_token(0, 40);
    assert_eq!(caller(&rig).highest_token, 90);
    rig.hub.session_lost(rig.now(), 0);
    assert_eq!(rig.hub.seen(0), (1, 90), "and outlives the session");
}
