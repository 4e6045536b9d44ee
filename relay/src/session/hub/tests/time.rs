use super::*;
use Outcome::{Cancelled, Granted, Queued, Released};

#[test]
fn the_relay_waits_a_second_longer_than_the_client() {
    let mut acquire = ask("1", "m");
    acquire.wait_millis = Some(500);
    let mut rig = Rig::waiting(acquire);
    rig.pass(1_499);
    assert_eq!(rig.sent(), [""; 0]);
    rig.pass(1);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    assert_eq!(rig.said(), [""; 0], "told when it has left the queue");
    rig.reply(&[Cancelled]);
    assert_eq!(rig.said(), ["1: timeout 1"]);
    assert!(rig.metric("lockrelay_locks_waiting 0"));
}

#[test]
fn a_limit_that_passes_while_the_grant_is_on_its_way_gives_the_lock_back() {
    let mut acquire = ask("1", "m");
    acquire.wait_millis = Some(500);
    let mut rig = Rig::waiting(acquire);
    rig.pass(1_500);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.events(vec![grant_event(1, 0, "L1")]);
    rig.cancel(A, "1");
    rig.reply(&[Released]);
    assert_eq!(rig.said(), ["1: cancelled 1", "1: timeout 1"]);
}

#[test]
fn a_grant_ends_the_wait_limit() {
    let mut acquire = ask("1", "m");
    acquire.wait_millis = Some(500);
    let mut rig = Rig::waiting(acquire);
    rig.events(vec![grant_event(1, 0, "L1")]);
    rig.said();
    rig.pass(1_600);
    assert_eq!(rig.said(), [""; 0]);
    assert_eq!(rig.sent(), [""; 0]);
}

#[test]
fn without_a_session_requests_wait_within_their_own_limit() {
    let mut rig = Rig::without_session();
    rig.hub.connected(rig.now(), A, 0);
    let mut short = ask("1", "m");
    short.wait_millis = Some(2_000);
    rig.acquire(A, short);
    rig.acquire(A, ask("2", "n"));
    assert_eq!(rig.sent(), [""; 0]);
    rig.pass(3_000);
    assert_eq!(rig.said(), ["1: error STORE_UNAVAILABLE 1"]);
    // No heartbeat without a lease, so no acknowledgement was due, however long it takes.
    rig.pass(60_000);
    assert_eq!(rig.said(), [""; 0]);
    rig.open(11_500);
    assert_eq!(rig.sent(), ["acquire n at 0 as L1"]);
    rig.reply(&[Granted { token: 1 }]);
    assert_eq!(rig.said(), ["1: granted 2 as L1, token 1, until 0 + 10000"]);
}

#[test]
fn a_request_whose_outcome_is_unknown_when_its_limit_passes_fails_and_is_removed() {
    let mut rig = Rig::new();
    let mut acquire = ask("1", "m");
    acquire.wait_millis = Some(0);
    rig.acquire(A, acquire);
    rig.sent();
    rig.pass(1_000);
    assert_eq!(rig.said(), ["1: error STORE_UNAVAILABLE 1"]);
    rig.reply(&[Granted { token: 1 }]);
    assert_eq!(rig.said(), [""; 0]);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.reply(&[Released]);
    assert_eq!(rig.said(), [""; 0]);
}

#[test]
fn heartbeats_go_to_connections_that_hold_or_wait_and_to_no_others() {
    let mut rig = Rig::new();
    rig.pass(60_000);
    assert_eq!(rig.said(), [""; 0]);
    rig.acquire(A, ask("1", "m"));
    rig.acquire(B, ask("1", "m"));
    rig.sent();
    rig.reply(&[Granted { token: 1 }, Queued { ahead: 0 }]);
    rig.said();
    rig.pass(1_999);
    assert_eq!(rig.said(), [""; 0]);
    rig.pass(1);
    assert_eq!(
        rig.said(),
        ["1: heartbeat until 60000 + 10000", "2: heartbeat until 60000 + 10000"]
    );
    rig.pass(100);
    rig.ack(A);
    rig.ack(B);
    rig.release(A, "L1");
    rig.sent();
    rig.reply(&[Released]);
    rig.said();
    rig.pass(1_900);
    assert_eq!(rig.said(), ["2: heartbeat until 62100 + 10000"]);
}

#[test]
fn no_promise_goes_beyond_the_relays_own_lease() {
    let mut rig = Rig::without_session();
    rig.open(9_000);
    rig.hub.connected(rig.now(), A, 0);
    rig.acquire(A, ask("1", "m"));
    rig.sent();
    rig.millis = 400;
    rig.reply(&[Granted { token: 1 }]);
    assert_eq!(rig.said(), ["1: granted 1 as L1, token 1, until 0 + 8600"]);
    rig.pass(1_600);
    assert_eq!(rig.said(), ["1: heartbeat until 0 + 7000"]);
    // A renewal that was answered.
    rig.hub.lease(0, rig.now().believer + 11_500);
    rig.ack(A);
    rig.pass(2_000);
    assert_eq!(rig.said(), ["1: heartbeat until 2000 + 9500"]);
    // An older one that was answered late takes nothing back.
    rig.hub.lease(0, rig.now().believer);
    rig.ack(A);
    rig.pass(2_000);
    assert_eq!(rig.said(), ["1: heartbeat until 4000 + 7500"]);
}

#[test]
fn without_a_lease_of_its_own_the_relay_neither_heartbeats_nor_grants() {
    let mut rig = Rig::without_session();
    rig.open(1_000);
    rig.hub.connected(rig.now(), A, 0);
    rig.acquire(A, ask("1", "m"));
    rig.acquire(A, ask("2", "n"));
    rig.sent();
    rig.reply(&[Queued { ahead: 0 }, Queued { ahead: 0 }]);
    rig.said();
    rig.millis = 1_000;
    rig.events(vec![grant_event(1, 0, "L1")]);
    assert_eq!(rig.said(), ["1: error STORE_UNAVAILABLE 1"]);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.pass(1_000);
    assert_eq!(rig.said(), [""; 0]);
    assert!(rig.metric("lockrelay_grants_total 0"));
}

#[test]
fn max_hold_is_told_and_freed_at_the_clients_answer() {
    let mut acquire = ask("1", "m");
    acquire.max_hold_millis = Some(1_000);
    let mut rig = Rig::held(acquire);
    rig.pass(999);
    assert_eq!(rig.said(), [""; 0]);
    rig.pass(1);
    assert_eq!(rig.said(), ["1: lost L1, max_hold"]);
    assert_eq!(rig.sent(), [""; 0], "told first");
    rig.pass(5);
    rig.release(A, "L1");
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.reply(&[Released]);
    assert_eq!(rig.said(), ["1: released L1, held true"]);
    assert!(rig.metric("lockrelay_losses_total{reason=\"max_hold\"} 1"));
}

#[test]
fn what_a_silent_client_holds_is_freed_at_f_after_its_last_acknowledgement_and_never_sooner() {
    for stolen in [false, true] {
        let mut acquire = ask("1", "m");
        acquire.max_hold_millis = (!stolen).then_some(5_000);
        let mut rig = Rig::held(acquire);
        rig.pass(3_000);
        // The last that is heard of it.
        rig.ack(A);
        rig.pass(2_000);
        if stolen {
            rig.events(vec![event(1, 0, "L1", EventKind::Stolen)]);
        }
        let said = rig.said();
        assert!(
            said.contains(&format!("1: lost L1, {}", if stolen { "stolen" } else { "max_hold" })),
            "{said:?}"
        );
        rig.pass(8_999);
        assert_eq!(rig.sent(), [""; 0], "F after 3,000 is 14,000");
        assert!(!rig.said().iter().any(|said| said.contains("close")));
        rig.pass(1);
        assert_eq!(rig.said().last().unwrap(), "1: close 4003");
        assert_eq!(rig.sent(), ["remove L1 at 0"]);
    }
}

#[test]
fn a_client_that_lives_but_never_answers_lost_keeps_the_lock_for_f_at_most() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.pass(100);
    rig.events(vec![event(1, 0, "L1", EventKind::Stolen)]);
    for _ in 0..10 {
        rig.pass(1_000);
        rig.ack(A);
    }
    rig.pass(999);
    assert_eq!(rig.sent(), [""; 0]);
    rig.pass(1);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    rig.release(A, "L1");
    rig.said();
    rig.reply(&[Released]);
    // It was freed, but not by this release.
    assert_eq!(rig.said(), ["1: released L1, held false"]);
    rig.release(A, "L1");
    assert_eq!(rig.said(), ["1: released L1, held false"]);
    assert!(rig.metric("lockrelay_losses_total{reason=\"stolen\"} 1"));
}

#[test]
fn a_silent_holder_is_closed_at_f_and_an_idle_connection_never() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.acquire(A, ask("2", "n"));
    rig.sent();
    rig.reply(&[Queued { ahead: 0 }]);
    rig.said();
    rig.pass(10_999);
    assert!(rig.said().iter().all(|said| said.contains("heartbeat")));
    rig.pass(1);
    assert_eq!(rig.said(), ["1: close 4003"]);
    assert_eq!(rig.sent(), ["remove L1 at 0", "remove L2 at 1"]);
    assert!(rig.metric("lockrelay_losses_total{reason=\"lease_expired\"} 1"));
    assert!(rig.metric("lockrelay_connections 1"));
    rig.reply(&[Released, Cancelled]);
    rig.pass(100_000);
    assert_eq!(rig.said(), [""; 0], "B has nothing and may be silent");
    assert!(rig.metric("lockrelay_connections 1"));
}

#[test]
fn every_message_counts_as_an_acknowledgement() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.pass(10_000);
    rig.cancel(A, "unknown");
    rig.pass(10_000);
    rig.release(A, "unknown");
    rig.pass(10_999);
    assert!(!rig.said().iter().any(|said| said.contains("close")));
    rig.pass(1);
    assert!(rig.said().contains(&"1: close 4003".to_owned()));
}

#[test]
fn a_clients_clock_that_goes_back_prolongs_nothing() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.say(A, Command::Ack { t: 900 });
    rig.say(A, Command::Ack { t: 800 });
    rig.pass(2_000);
    assert_eq!(rig.said(), ["1: heartbeat until 900 + 10000"]);
}

#[test]
fn timers_do_not_pile_up() {
    let mut rig = Rig::new();
    for n in 0..10_000 {
        let mut acquire = ask(&n.to_string(), "m");
        acquire.wait_millis = Some(3_600_000);
        acquire.max_hold_millis = Some(3_600_000);
        rig.acquire(A, acquire);
        rig.sent();
        rig.reply(&[Granted { token: 1 }]);
        rig.release(A, &format!("L{}", n + 1));
        rig.sent();
        rig.reply(&[Released]);
        rig.said();
    }
    assert_eq!(rig.hub.deadline(), None);
}
