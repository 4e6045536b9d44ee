use super::*;

/// The acquires among what was sent.
fn acquires(messages: &[ClientMessage]) -> Vec<Acquire> {
    messages
        .iter()
        .filter_map(|message| match message {
            ClientMessage::Acquire { acquire, .. } => Some(acquire.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_request_made_before_the_connection_follows_hello_at_once() {
    let mut rig = Rig::new();
    rig.sleep(300);
    rig.acquire(options("m"));
    rig.outputs();
    let epoch = rig.epoch();
    rig.input(Input::SocketOpened {
        epoch,
        token: Some("secret".into()),
    });
    let sent = rig.sent();
    assert!(matches!(&sent[0], ClientMessage::Hello { token: Some(token), .. } if token == "secret"));
    assert_eq!(acquires(&sent)[0].wait_millis, Some(2_000));
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_grant_is_delivered_once() {
    let mut rig = Rig::connected();
    let request = rig.acquire(options("m"));
    rig.grant(1, "x");
    let grant = Grant {
        mutex: MutexName::new("m").unwrap(),
        lock_id: LockId::new("x").unwrap(),
        fencing_token: 42,
        mode: Mode::Exclusive,
    };
    let outputs = rig.outputs();
    assert_eq!(
        outputs[1..],
        [Output::Granted {
            request,
            lock: LockKey(1),
            grant
        }]
    );
    rig.grant(1, "x");
    assert_eq!(rig.outputs(), [], "neither delivered nor given back: its owner has it");
}

#[test]
fn a_time_out_of_a_queued_request_is_lock_timeout_and_withdraws_it() {
    let mut rig = Rig::connected();
    rig.acquire(options("m"));
    rig.receive(ServerMessage::Queued {
        request_id: request_id(1),
        ahead: 3,
    });
    rig.outputs();
    rig.pass(1_999);
    assert_eq!(rig.outputs(), []);
    rig.pass(1);
    let outputs = rig.outputs();
    assert_eq!(sent(&outputs), [cancel(3_000, 1)]);
    assert_eq!(rejection(&outputs), ErrorCode::LockTimeout);
}

#[test]
fn a_grant_that_arrives_after_the_limit_is_not_delivered_though_no_timer_ran() {
    let mut rig = Rig::connected();
    rig.acquire(options("m"));
    rig.outputs();
    rig.sleep(2_000);
    rig.grant(1, "x");
    let outputs = rig.outputs();
    assert_eq!(rejection(&outputs), ErrorCode::LockTimeout);
    assert_eq!(
        sent(&outputs),
        [cancel(3_000, 1)],
        "the relay releases what it granted to a cancelled request"
    );
    rig.receive(ServerMessage::Cancelled {
        request_id: request_id(1),
    });
    assert_eq!(rig.outputs(), []);
}

#[test]
fn a_grant_for_a_withdrawn_request_is_ignored_until_the_relay_confirms() {
    let mut rig = Rig::connected();
    let request = rig.acquire(options("m"));
    rig.input(Input::Abort { request });
    assert_eq!(rig.sent()[1..], [cancel(1_000, 1)]);
    rig.grant(1, "x");
    assert_eq!(rig.outputs(), []);
}

#[test]
fn a_grant_that_nobody_asked_for_is_given_back() {
    let mut rig = Rig::connected();
    rig.grant(77, "x");
    assert_eq!(rig.sent(), [release(1_000, "x")]);
}

#[test]
fn a_grant_whose_lease_is_over_is_refused_and_the_request_queues_again() {
    let mut rig = Rig::connected();
    rig.acquire(AcquireOptions {
        wait_millis: None,
        ..options("m")
    });
    rig.outputs();
    rig.heartbeat();
    rig.outputs();
    // Silence ends the connection at the same moment as the lease; what is tested here is a grant with an older one.
    let echo = rig.now;
    rig.sleep(5_000);
    rig.receive(ServerMessage::Queued {
        request_id: request_id(1),
        ahead: 0,
    });
    rig.sleep(LEASE - 5_000);
    rig.grant_since(1, "x", echo);
    let sent = rig.sent();
    assert_eq!(sent[0], release(11_000, "x"));
    assert_eq!(
        acquires(&sent)[0].request_id,
        request_id(2),
        "a new id: the end of the queue"
    );
    rig.grant(2, "y");
    assert!(matches!(rig.outputs()[..], [Output::Granted { .. }]));
}

#[test]
fn without_a_connection_a_request_gives_up_after_two_seconds() {
    let mut rig = Rig::new();
    rig.acquire(AcquireOptions {
        wait_millis: None,
        ..options("m")
    });
    rig.outputs();
    rig.pass(1_999);
    assert_eq!(rig.outputs(), []);
    rig.pass(1);
    assert_eq!(rejection(&rig.outputs()), ErrorCode::ClientNotConnected);
}

#[test]
fn a_shorter_limit_without_a_connection_is_client_not_connected_too() {
    let mut rig = Rig::new();
    rig.acquire(AcquireOptions {
        wait_millis: Some(500),
        ..options("m")
    });
    rig.pass(500);
    assert_eq!(rejection(&rig.outputs()), ErrorCode::ClientNotConnected);
}

#[test]
fn a_request_made_late_in_a_spell_without_connection_still_waits_two_seconds() {
    let mut rig = Rig::new();
    rig.sleep(9_000);
    rig.acquire(AcquireOptions {
        wait_millis: None,
        ..options("m")
    });
    rig.pass(1_999);
    assert!(
        !rig.outputs()
            .iter()
            .any(|output| matches!(output, Output::Rejected { .. }))
    );
    rig.pass(1);
    assert_eq!(rejection(&rig.outputs()), ErrorCode::ClientNotConnected);
}

#[test]
fn each_spell_without_a_connection_counts_anew_and_the_limit_from_the_call() {
    let mut rig = Rig::connected();
    rig.acquire(AcquireOptions {
        wait_millis: Some(10_000),
        ..options("m")
    });
    for _ in 0..2 {
        rig.cut(None);
        // Open the next socket 1.9 s later, whatever the backoff did meanwhile.
        rig.pass(1_900);
        rig.outputs();
        rig.open();
        let sent = rig.sent();
        let waits = acquires(&sent)[0].wait_millis.unwrap();
        assert_eq!(waits, 10_000 - (rig.now - 1_000), "what is left of the limit");
        rig.pass(1_000);
        assert_eq!(rig.outputs(), []);
    }
    rig.pass(10_000 - (rig.now - 1_000));
    assert_eq!(rejection(&rig.outputs()), ErrorCode::LockTimeout);
}

#[test]
fn pending_requests_are_sent_again_in_their_order_with_new_ids() {
    let mut rig = Rig::connected();
    for mutex in ["a", "b", "c"] {
        rig.acquire(options(mutex));
    }
    rig.cut(Some(CloseCode::GoingAway.as_u16()));
    rig.pass(200);
    rig.outputs();
    rig.open();
    let sent: Vec<(String, String)> = acquires(&rig.sent())
        .iter()
        .map(|acquire| (acquire.request_id.to_string(), acquire.mutex.to_string()))
        .collect();
    assert_eq!(
        sent,
        [("4", "a"), ("5", "b"), ("6", "c")].map(|(id, mutex)| (id.to_owned(), mutex.to_owned()))
    );
    rig.grant(1, "old");
    let outputs = rig.outputs();
    assert_eq!(
        sent_only(&outputs),
        [release(rig.now, "old")],
        "an old id means nothing here: given back"
    );
}

fn sent_only(outputs: &[Output]) -> Vec<ClientMessage> {
    assert!(
        outputs.iter().all(|output| matches!(output, Output::Send { .. })),
        "{outputs:?}"
    );
    sent(outputs)
}

#[test]
fn zero_wait_takes_one_look_and_then_times_out() {
    let mut rig = Rig::connected();
    rig.acquire(AcquireOptions {
        wait_millis: Some(0),
        ..options("m")
    });
    let acquire = acquires(&rig.sent())[0].clone();
    assert!(acquire.if_available, "the relay looks once");
    rig.sleep(30);
    rig.receive(ServerMessage::Unavailable {
        request_id: request_id(1),
    });
    assert_eq!(rejection(&rig.outputs()), ErrorCode::LockTimeout);
}

#[test]
fn if_available_is_no_failure() {
    let mut rig = Rig::connected();
    let request = rig.acquire(AcquireOptions {
        if_available: true,
        ..options("m")
    });
    rig.outputs();
    rig.receive(ServerMessage::Unavailable {
        request_id: request_id(1),
    });
    assert_eq!(rig.outputs(), [Output::Unavailable { request }]);
}

#[test]
fn a_refusal_reaches_the_call_with_its_code_and_hint() {
    let mut rig = Rig::connected();
    let request = rig.acquire(options("m"));
    rig.outputs();
    rig.receive(ServerMessage::Error {
        code: ErrorCode::LimitExceeded,
        message: "too many".into(),
        request_id: Some(request_id(1)),
        lock_id: None,
        retry_after_millis: Some(250),
    });
    let failure = Failure {
        code: ErrorCode::LimitExceeded,
        message: "too many".into(),
        retry_after_millis: Some(250),
    };
    assert_eq!(rig.outputs(), [Output::Rejected { request, failure }]);
}

#[test]
fn no_limit_is_no_limit() {
    let mut rig = Rig::connected();
    rig.acquire(AcquireOptions {
        wait_millis: None,
        ..options("m")
    });
    assert_eq!(acquires(&rig.sent())[0].wait_millis, None);
    for _ in 0..1_000 {
        rig.pass(5_000);
        rig.heartbeat();
    }
    assert!(rig.outputs().iter().all(|output| matches!(
        output,
        Output::Send {
            message: ClientMessage::Ack { .. },
            ..
        }
    )));
}

#[test]
fn an_aborted_request_says_nothing_any_more() {
    let mut rig = Rig::new();
    let request = rig.acquire(options("m"));
    rig.outputs();
    rig.input(Input::Abort { request });
    rig.pass(1_500);
    rig.open();
    assert!(acquires(&rig.sent()).is_empty());
    rig.pass(5_000);
    assert_eq!(rig.outputs(), []);
}
