use super::*;
use Outcome::{Cancelled, Granted, Queued, Released};

#[test]
fn the_end_of_a_connection_hands_on_each_of_its_locks_at_once() {
    for (how, lost) in [(End::CloseFrame, false), (End::TcpEnded, true)] {
        let mut rig = Rig::held(ask("1", "m"));
        rig.acquire(A, ask("2", "n"));
        rig.sent();
        rig.reply(&[Queued { ahead: 0 }]);
        rig.acquire(A, ask("3", "o"));
        rig.said();
        rig.hub.ended(rig.now(), A, how);
        assert_eq!(
            rig.sent(),
            ["remove L1 at 0", "remove L2 at 1"],
            "what was never sent is taken back"
        );
        rig.reply(&[Released, Cancelled]);
        assert_eq!(rig.said(), [""; 0]);
        assert_eq!(rig.metric("lockrelay_losses_total{reason=\"connection_lost\"} 1"), lost);
        assert!(rig.metric("lockrelay_connections 1"));
        assert!(rig.metric("lockrelay_locks_held 0"));
        assert!(rig.metric("lockrelay_locks_waiting 0"));
        assert_eq!(rig.hub.deadline(), None, "no timer is left of it");
    }
}

#[test]
fn an_acquire_in_flight_when_its_connection_ends_is_removed_after_its_outcome() {
    let mut rig = Rig::new();
    rig.acquire(A, ask("1", "m"));
    rig.sent();
    rig.hub.ended(rig.now(), A, End::TcpEnded);
    rig.acquire(B, ask("1", "m"));
    rig.reply(&[Granted { token: 1 }]);
    assert_eq!(
        rig.sent(),
        ["remove L1 at 0", "acquire m at 1 as L2"],
        "and its slot is not used before"
    );
    rig.reply(&[Released, Granted { token: 2 }]);
    assert_eq!(rig.said(), ["2: granted 1 as L2, token 2, until 200 + 10000"]);
}

#[test]
fn what_comes_from_a_connection_that_is_gone_is_ignored() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.hub.ended(rig.now(), A, End::TcpEnded);
    rig.acquire(A, ask("2", "m"));
    rig.release(A, "L1");
    rig.cancel(A, "1");
    rig.hub.ended(rig.now(), A, End::CloseFrame);
    rig.hub.too_slow(rig.now(), A);
    assert_eq!(rig.said(), [""; 0]);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    assert!(rig.metric("lockrelay_connections 1"));
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_what_it_holds_freed_at_f() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.acquire(A, ask("2", "n"));
    rig.sent();
    rig.reply(&[Queued { ahead: 0 }]);
    rig.said();
    rig.pass(1_000);
    rig.hub.too_slow(rig.now(), A);
    rig.hub.too_slow(rig.now(), A);
    assert_eq!(rig.said(), ["1: cut 4005"]);
    assert_eq!(
        rig.sent(),
        ["remove L2 at 1"],
        "it was never told of a grant that it waits for"
    );
    rig.reply(&[Cancelled]);
    // No acknowledgement counts any more, for none is echoed.
    rig.ack(A);
    rig.acquire(A, ask("3", "o"));
    rig.pass(9_999);
    assert_eq!(rig.sent(), [""; 0]);
    assert_eq!(rig.said(), [""; 0], "no heartbeat either");
    rig.pass(1);
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    assert!(rig.metric("lockrelay_losses_total{reason=\"lease_expired\"} 1"));
}

#[test]
fn a_relay_that_gives_up_on_a_connection_frees_at_the_answer_at_its_end_or_at_f() {
    let closing = || {
        let mut rig = Rig::held(ask("1", "m"));
        rig.hub.ended(rig.now(), A, End::RelayClosed);
        assert_eq!(rig.sent(), [""; 0]);
        rig
    };
    let mut rig = closing();
    rig.release(A, "L1");
    assert_eq!(rig.sent(), ["remove L1 at 0"], "at the answer");
    rig.reply(&[Released]);
    assert!(rig.metric("lockrelay_connections 1"));
    let mut rig = closing();
    rig.hub.ended(rig.now(), A, End::TcpEnded);
    assert_eq!(rig.sent(), ["remove L1 at 0"], "at its end");
    let mut rig = closing();
    rig.pass(10_999);
    assert_eq!(rig.sent(), [""; 0]);
    rig.pass(1);
    assert_eq!(rig.sent(), ["remove L1 at 0"], "at F");
}

#[test]
fn a_connection_without_locks_that_the_relay_gives_up_on_is_forgotten() {
    let mut rig = Rig::new();
    rig.hub.ended(rig.now(), A, End::RelayClosed);
    assert!(rig.metric("lockrelay_connections 1"));
    assert_eq!(rig.hub.deadline(), None);
}

#[test]
fn a_lost_session_tells_every_lock_in_order_then_closes_every_connection() {
    let mut rig = Rig::new();
    for id in ["1", "2", "3", "4"] {
        rig.acquire(A, ask(id, id));
    }
    rig.acquire(B, ask("1", "5"));
    rig.sent();
    let granted = Granted { token: 1 };
    rig.reply(&[granted, granted, Queued { ahead: 0 }, granted, granted]);
    // The second is being taken away already; told once is enough.
    rig.events(vec![event(1, 1, "L2", EventKind::Stolen)]);
    rig.release(A, "L4");
    rig.said();
    rig.hub.session_lost(rig.now(), 0);
    assert_eq!(
        rig.said(),
        [
            "1: lost L1, store_lost",
            "1: close 4004",
            "2: lost L5, store_lost",
            "2: close 4004"
        ]
    );
    assert!(rig.metric("lockrelay_losses_total{reason=\"store_lost\"} 2"));
    assert!(rig.metric("lockrelay_locks_held 0"));
    assert!(rig.metric("lockrelay_locks_waiting 0"));
    assert!(rig.metric("lockrelay_connections 0"));
    assert_eq!(rig.sent(), [""; 0]);
    assert_eq!(rig.hub.deadline(), None);
    // Late news of the old session, and of connections that do not know yet.
    rig.reply(&[Released]);
    rig.hub.ended(rig.now(), A, End::TcpEnded);
    rig.release(B, "L5");
    assert_eq!(rig.said(), [""; 0]);
    // Whoever comes now waits for the next session, which starts with fresh slots, events and batches.
    let c = ConnKey(3);
    rig.hub.connected(rig.now(), c, 0);
    rig.acquire(c, ask("1", "m"));
    assert_eq!(rig.sent(), [""; 0]);
    rig.open(11_500);
    let batch = rig.hub.next_batch(0).unwrap();
    assert_eq!(batch.seq, 1);
    let session = SessionId::from_bytes([0; 16]);
    assert_eq!(rig.hub.caller(0, session).acknowledged, 0);
    assert!(matches!(&batch.ops[0], Op::Acquire(request) if request.slot == Slot(0)));
    rig.reply(&[Granted { token: 9 }]);
    assert_eq!(rig.said(), ["3: granted 1 as L6, token 9, until 0 + 10000"]);
}

#[test]
fn a_shutdown_tells_holders_closes_everybody_and_frees_at_their_answers() {
    let mut rig = Rig::held(ask("1", "m"));
    rig.acquire(A, ask("2", "n"));
    rig.acquire(B, ask("1", "m"));
    rig.sent();
    rig.reply(&[Queued { ahead: 0 }, Queued { ahead: 0 }]);
    rig.said();
    rig.hub.shut_down(rig.now());
    assert_eq!(
        rig.said(),
        ["1: lost L1, relay_shutdown", "1: close 1001", "2: close 1001"]
    );
    assert_eq!(
        rig.sent(),
        ["remove L2 at 1", "remove L3 at 2"],
        "nobody waits any more"
    );
    assert!(!rig.hub.is_drained());
    rig.reply(&[Cancelled, Cancelled]);
    assert!(!rig.hub.is_drained());
    rig.release(A, "L1");
    assert_eq!(rig.sent(), ["remove L1 at 0"]);
    assert!(!rig.hub.is_drained(), "the store has not confirmed");
    rig.reply(&[Released]);
    assert!(rig.hub.is_drained());
    assert_eq!(rig.said(), [""; 0], "nothing follows the close");
    assert!(rig.metric("lockrelay_losses_total{reason=\"relay_shutdown\"} 1"));
    assert!(rig.metric("lockrelay_connections 0"));
}

#[test]
fn ten_thousand_waiters_are_fine() {
    let mut rig = Rig::new();
    for n in 0..10_000 {
        rig.acquire(A, ask(&n.to_string(), "m"));
    }
    while let Some(batch) = rig.hub.next_batch(0) {
        rig.reply(&vec![Queued { ahead: 1 }; batch.ops.len()]);
    }
    rig.said();
    assert!(rig.metric("lockrelay_locks_waiting 10000"));
    for n in 1..=10_000_u64 {
        let slot = u32::try_from(n - 1).unwrap();
        rig.events(vec![grant_event(n, slot, &format!("L{n}"))]);
        rig.release(A, &format!("L{n}"));
        rig.sent();
        rig.reply(&[Released]);
    }
    assert_eq!(rig.said().len(), 20_000);
    assert!(rig.hub.is_drained());
}
