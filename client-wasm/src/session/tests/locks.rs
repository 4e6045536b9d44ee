use super::*;

#[test]
fn release_tells_the_owner_in_the_same_call_and_is_confirmed_later() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.input(Input::Release { lock });
    let reason = ReleaseReason::Released;
    let outputs = rig.outputs();
    assert_eq!(outputs[0], Output::LockEnded { lock, reason });
    assert_eq!(sent(&outputs), [release(1_000, "x")]);
    assert!(rig.session.is_released(lock, rig.now));
    rig.input(Input::Release { lock });
    assert_eq!(rig.outputs(), [], "again: nothing new, and nothing sent");
    rig.receive(released("x", true));
    assert_eq!(rig.outputs(), [Output::ReleaseConfirmed { lock }]);
    rig.input(Input::Release { lock });
    rig.receive(released("x", false));
    assert_eq!(rig.outputs(), []);
}

#[test]
fn release_is_confirmed_at_the_latest_when_the_connection_ends() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.input(Input::Release { lock });
    rig.outputs();
    rig.cut(None);
    let outputs = rig.outputs();
    assert_eq!(confirmations(&outputs), [lock]);
    assert_eq!(ends(&outputs), []);
}

#[test]
fn every_lock_ends_with_its_connection_at_once_and_before_anything_newer() {
    let mut rig = Rig::connected();
    let locks = [rig.hold(options("a"), "x"), rig.hold(options("b"), "y")];
    rig.cut(None);
    let outputs = rig.outputs();
    assert_eq!(ends(&outputs), locks.map(|lock| (lock, ReleaseReason::ConnectionLost)));
    assert_eq!(confirmations(&outputs), locks);
    let changed = outputs
        .iter()
        .position(|output| matches!(output, Output::StateChanged(_)))
        .unwrap();
    let last_end = outputs
        .iter()
        .rposition(|output| matches!(output, Output::LockEnded { .. }))
        .unwrap();
    assert!(last_end < changed);
    for lock in locks {
        assert!(rig.session.is_released(lock, rig.now));
    }
    assert!(sent(&outputs).is_empty(), "there is nobody to tell");
}

#[test]
fn no_message_of_a_later_connection_revives_a_lock() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.cut(None);
    rig.pass(200);
    rig.open();
    rig.outputs();
    rig.heartbeat();
    assert!(rig.session.is_released(lock, rig.now));
    rig.receive(ServerMessage::Lost {
        lock_id: LockId::new("x").unwrap(),
        reason: ReleaseReason::Stolen,
    });
    let outputs = rig.outputs();
    assert_eq!(ends(&outputs), [], "told once already");
}

#[test]
fn messages_of_an_older_socket_are_ignored() {
    let mut rig = Rig::connected();
    let old = rig.epoch();
    rig.cut(None);
    rig.pass(200);
    rig.open();
    rig.outputs();
    let message = ServerMessage::Heartbeat {
        echo: rig.now,
        valid_millis: LEASE,
    };
    rig.input(Input::Message { epoch: old, message });
    rig.input(Input::SocketClosed {
        epoch: old,
        code: None,
        reason: String::new(),
    });
    rig.input(Input::SocketOpened {
        epoch: old,
        token: None,
    });
    rig.input(Input::BadMessage {
        epoch: old,
        problem: String::new(),
    });
    assert_eq!(rig.outputs(), []);
}

#[test]
fn the_lease_ends_by_the_clock_alone() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    assert!(!rig.session.is_released(lock, rig.now + LEASE - 1));
    assert!(
        rig.session.is_released(lock, rig.now + LEASE),
        "though nobody has called handle"
    );
}

#[test]
fn a_heartbeat_prolongs_from_its_echo_and_is_answered_at_once() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.sleep(4_000);
    rig.receive(ServerMessage::Heartbeat {
        echo: 3_000,
        valid_millis: LEASE,
    });
    assert_eq!(rig.sent(), [ClientMessage::Ack { t: 5_000 }]);
    assert!(!rig.session.is_released(lock, 12_999));
    assert!(rig.session.is_released(lock, 13_000));
}

#[test]
fn an_older_or_shorter_promise_takes_nothing_back() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.receive(ServerMessage::Heartbeat {
        echo: 200,
        valid_millis: LEASE,
    });
    rig.receive(ServerMessage::Heartbeat {
        echo: 1_000,
        valid_millis: 10,
    });
    assert!(!rig.session.is_released(lock, 10_999));
}

#[test]
fn an_echo_from_the_future_is_not_believed() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.receive(ServerMessage::Heartbeat {
        echo: 1_000_000,
        valid_millis: LEASE,
    });
    assert!(rig.session.is_released(lock, 11_000));
}

#[test]
fn a_lease_that_ran_out_is_latched_before_the_heartbeat_that_came_too_late() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.receive(ServerMessage::Heartbeat {
        echo: 500,
        valid_millis: LEASE,
    });
    rig.outputs();
    // The page is blocked; the relay's next promise would have covered this moment, but nobody knew of it in time.
    rig.sleep(LEASE);
    rig.receive(ServerMessage::Heartbeat {
        echo: 9_000,
        valid_millis: LEASE,
    });
    let outputs = rig.outputs();
    assert_eq!(
        outputs[0],
        Output::LockEnded {
            lock,
            reason: ReleaseReason::LeaseExpired
        }
    );
    assert_eq!(sent(&outputs)[0], release(11_000, "x"), "the relay may free it");
    assert!(rig.session.is_released(lock, rig.now));
    assert_eq!(ends(&outputs).len(), 1);
}

#[test]
fn every_lock_of_a_lease_that_ran_out_is_told_once() {
    let mut rig = Rig::connected();
    let locks = [rig.hold(options("a"), "x"), rig.hold(options("b"), "y")];
    rig.pass(60_000);
    assert_eq!(
        ends(&rig.outputs()),
        locks.map(|lock| (lock, ReleaseReason::LeaseExpired))
    );
}

#[test]
fn max_hold_ends_by_the_clients_own_clock() {
    let mut rig = Rig::connected();
    let lock = rig.hold(
        AcquireOptions {
            max_hold_millis: Some(700),
            ..options("m")
        },
        "x",
    );
    assert!(rig.session.is_released(lock, 1_700));
    rig.pass(700);
    let outputs = rig.outputs();
    assert_eq!(ends(&outputs), [(lock, ReleaseReason::MaxHold)]);
    assert_eq!(sent(&outputs), [release(1_700, "x")]);
    rig.receive(ServerMessage::Lost {
        lock_id: LockId::new("x").unwrap(),
        reason: ReleaseReason::MaxHold,
    });
    assert_eq!(rig.outputs(), [], "the relay says the same, later");
}

#[test]
fn lost_is_told_and_answered_with_a_release() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.receive(ServerMessage::Lost {
        lock_id: LockId::new("x").unwrap(),
        reason: ReleaseReason::Stolen,
    });
    let outputs = rig.outputs();
    assert_eq!(
        outputs[0],
        Output::LockEnded {
            lock,
            reason: ReleaseReason::Stolen
        }
    );
    assert_eq!(sent(&outputs), [release(1_000, "x")]);
    rig.input(Input::Release { lock });
    assert_eq!(rig.outputs(), []);
    rig.receive(released("x", true));
    assert_eq!(rig.outputs(), [Output::ReleaseConfirmed { lock }]);
}

#[test]
fn an_error_about_a_release_settles_it() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.input(Input::Release { lock });
    rig.outputs();
    rig.receive(ServerMessage::Error {
        code: ErrorCode::InvalidArgument,
        message: String::new(),
        request_id: None,
        lock_id: Some(LockId::new("x").unwrap()),
        retry_after_millis: None,
    });
    assert_eq!(rig.outputs(), [Output::ReleaseConfirmed { lock }]);
}
