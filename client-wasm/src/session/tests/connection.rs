use super::*;
use crate::session::GREETING_WAIT;

fn connects(outputs: &[Output]) -> Vec<usize> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Connect { url, .. } => Some(*url),
            _ => None,
        })
        .collect()
}

fn closes(outputs: &[Output]) -> Vec<u16> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::CloseSocket { code, .. } => Some(*code),
            _ => None,
        })
        .collect()
}

fn states(outputs: &[Output]) -> Vec<ConnectionState> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::StateChanged(state) => Some(*state),
            _ => None,
        })
        .collect()
}

#[test]
fn connected_is_when_a_relay_has_answered() {
    let mut rig = Rig::new();
    assert_eq!(connects(&rig.outputs()), [0]);
    let epoch = rig.epoch();
    rig.input(Input::SocketOpened { epoch, token: None });
    assert_eq!(states(&rig.outputs()), []);
    assert_eq!(rig.session.state(), ConnectionState::Connecting);
    rig.open();
    assert_eq!(states(&rig.outputs()), [ConnectionState::Connected]);
}

#[test]
fn after_a_loss_the_next_url_is_tried_within_the_backoff() {
    let mut rig = Rig::connected();
    rig.pass(60_000);
    rig.cut(Some(CloseCode::GoingAway.as_u16()));
    assert_eq!(states(&rig.outputs()), [ConnectionState::Reconnecting]);
    rig.pass(100);
    assert_eq!(connects(&rig.outputs()), [1], "the first wait is at most 100 ms");
    rig.cut(None);
    rig.pass(200);
    assert_eq!(connects(&rig.outputs()), [0]);
    rig.open();
    assert_eq!(states(&rig.outputs()), [ConnectionState::Connected]);
}

#[test]
fn the_backoff_begins_anew_only_after_a_connection_that_was_stable() {
    let mut attempts = [0; 2];
    for (index, stable) in [(0, 0), (1, 6_000)] {
        let mut rig = Rig::connected();
        let start = rig.now;
        while rig.now < start + 300_000 {
            rig.pass(stable);
            rig.cut(None);
            rig.outputs();
            while connects(&rig.outputs()).is_empty() {
                rig.pass(1);
            }
            attempts[index] += 1;
            rig.open();
        }
    }
    // Unstable: 5 s at most, 2.5 s on average, between attempts. Stable: 6 s and about 50 ms.
    assert!((60..300).contains(&attempts[0]), "{attempts:?}");
    assert!((45..=50).contains(&attempts[1]), "{attempts:?}");
}

#[test]
fn a_relay_that_does_not_greet_is_given_up() {
    let mut rig = Rig::new();
    rig.outputs();
    rig.pass(GREETING_WAIT);
    assert_eq!(closes(&rig.outputs()), [CloseCode::Silent.as_u16()]);
    let mut rig = Rig::new();
    let epoch = rig.epoch();
    rig.input(Input::SocketOpened { epoch, token: None });
    rig.outputs();
    rig.pass(GREETING_WAIT);
    assert_eq!(closes(&rig.outputs()), [CloseCode::Silent.as_u16()]);
}

#[test]
fn a_relay_that_owes_an_answer_and_is_silent_for_a_lease_is_given_up() {
    let mut rig = Rig::connected();
    rig.pass(3_600_000);
    assert_eq!(rig.outputs(), [], "it owes nothing to a client that wants nothing");
    let lock = rig.hold(options("m"), "x");
    rig.pass(LEASE - 1);
    assert_eq!(rig.outputs(), []);
    rig.pass(1);
    let outputs = rig.outputs();
    assert_eq!(ends(&outputs), [(lock, ReleaseReason::LeaseExpired)]);
    assert_eq!(closes(&outputs), [CloseCode::Silent.as_u16()]);
    assert_eq!(confirmations(&outputs), [lock], "release() never hangs");
}

#[test]
fn a_release_into_a_silent_connection_settles_within_a_lease() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.pass(5_000);
    rig.input(Input::Release { lock });
    rig.outputs();
    rig.pass(LEASE);
    assert_eq!(confirmations(&rig.outputs()), [lock]);
}

#[test]
fn garbage_closes_the_socket_and_reconnects() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    let epoch = rig.epoch();
    rig.input(Input::BadMessage {
        epoch,
        problem: "not JSON".into(),
    });
    let outputs = rig.outputs();
    assert_eq!(closes(&outputs), [CloseCode::Protocol.as_u16()]);
    assert_eq!(ends(&outputs), [(lock, ReleaseReason::ConnectionLost)]);
    rig.pass(200);
    assert_eq!(connects(&rig.outputs()), [1]);
}

#[test]
fn close_codes_that_cannot_be_cured_end_the_client() {
    for (code, error) in [
        (CloseCode::Unauthorized, ErrorCode::Unauthorized),
        (CloseCode::Protocol, ErrorCode::ProtocolError),
        (CloseCode::TooLarge, ErrorCode::ProtocolError),
        (CloseCode::NotText, ErrorCode::ProtocolError),
    ] {
        let mut rig = Rig::connected();
        let lock = rig.hold(options("a"), "x");
        rig.acquire(options("b"));
        rig.outputs();
        rig.cut(Some(code.as_u16()));
        let outputs = rig.outputs();
        assert_eq!(ends(&outputs), [(lock, ReleaseReason::ConnectionLost)]);
        assert_eq!(rejection(&outputs), error);
        assert_eq!(states(&outputs), [ConnectionState::Closed]);
        rig.acquire(options("c"));
        assert_eq!(rejection(&rig.outputs()), error, "later calls too");
        rig.pass(60_000);
        assert_eq!(rig.outputs(), []);
    }
}

#[test]
fn every_other_close_code_reconnects() {
    for code in [
        None,
        Some(1000),
        Some(1006),
        Some(1001),
        Some(1011),
        Some(4001),
        Some(4003),
        Some(4004),
        Some(4999),
    ] {
        let mut rig = Rig::connected();
        rig.cut(code);
        rig.pass(200);
        assert_eq!(connects(&rig.outputs()), [1], "{code:?}");
    }
}

#[test]
fn close_releases_everything_and_rejects_what_is_pending_and_what_comes() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("a"), "x");
    rig.acquire(options("b"));
    rig.outputs();
    rig.input(Input::Close);
    let outputs = rig.outputs();
    assert_eq!(ends(&outputs), [(lock, ReleaseReason::ClientClosed)]);
    assert_eq!(sent(&outputs), [release(1_000, "x"), cancel(1_000, 2)]);
    assert_eq!(closes(&outputs), [1000]);
    assert_eq!(confirmations(&outputs), [lock]);
    assert_eq!(rejection(&outputs), ErrorCode::ClientClosed);
    rig.input(Input::Close);
    assert_eq!(rig.outputs(), []);
    rig.acquire(options("c"));
    assert_eq!(rejection(&rig.outputs()), ErrorCode::ClientClosed);
    assert_eq!(rig.session.deadline(), None, "no timer keeps the page busy");
}

#[test]
fn a_page_that_is_left_gives_everything_back_and_reconnects_on_return() {
    let mut rig = Rig::connected();
    let lock = rig.hold(options("m"), "x");
    rig.acquire(AcquireOptions {
        wait_millis: None,
        ..options("n")
    });
    rig.outputs();
    rig.input(Input::PageHidden);
    let outputs = rig.outputs();
    assert_eq!(ends(&outputs), [(lock, ReleaseReason::ConnectionLost)]);
    assert_eq!(sent(&outputs), [release(1_000, "x")]);
    assert_eq!(closes(&outputs).len(), 1);
    rig.pass(3_600_000);
    assert_eq!(rig.outputs(), [], "the page sleeps");
    rig.input(Input::PageShown);
    assert_eq!(connects(&rig.outputs()).len(), 1);
    rig.open();
    let sent = rig.sent();
    assert!(
        matches!(&sent[1], ClientMessage::Acquire { acquire, .. } if acquire.mutex.as_str() == "n"),
        "{sent:?}"
    );
    rig.input(Input::PageShown);
    assert_eq!(rig.outputs(), [], "a page that was never left is only loaded");
}

#[test]
fn a_new_token_is_sent_on_the_live_connection() {
    let mut rig = Rig::connected();
    rig.input(Input::TokenReplaced("new".into()));
    assert_eq!(
        rig.sent(),
        [ClientMessage::Token {
            t: 1_000,
            token: "new".into()
        }]
    );
}
