//! Every flow of messages in `protocol/src/message.rs`.

use super::support::{Server, anything, long};
use lockrelay::Relay;
use lockrelay::defaults::Durations;
use lockrelay::rules::{Allow, Rule};
use lockrelay_protocol::{ClientMessage, ErrorCode, Mode, ReleaseReason, RequestId, ServerMessage};

#[tokio::test]
async fn a_lock_is_granted_and_released_once() {
    let server = Server::open().await;
    let mut client = server.client().await;
    client.ask("r1", "order:1", |_| {}).await;
    let lock = match client.next().await {
        ServerMessage::Granted {
            request_id,
            lock_id,
            fencing_token,
            mode,
            echo,
            valid_millis,
        } => {
            assert_eq!(request_id.as_str(), "r1");
            assert_eq!(mode, Mode::Exclusive);
            assert!(fencing_token > 0);
            assert_eq!(echo, client.t, "the grant echoes the latest clock that the client sent");
            assert!(
                valid_millis > 0 && valid_millis <= long().client_lease_millis,
                "{valid_millis}"
            );
            lock_id
        }
        other => panic!("{other:?}"),
    };
    assert!(client.release(&lock).await);
    assert!(!client.release(&lock).await, "a second release frees nothing");
}

#[tokio::test]
async fn waiters_are_served_in_the_order_in_which_they_came() {
    let server = Server::open().await;
    let (mut a, mut b, mut c) = (server.client().await, server.client().await, server.client().await);
    let (lock_a, token_a) = a.acquire("m").await;
    assert_eq!(b.wait_for("b", "m").await, 0);
    assert_eq!(c.wait_for("c", "m").await, 1);
    assert!(a.release(&lock_a).await);
    let (lock_b, token_b) = b.granted("b").await;
    // Nothing is under way to c: its next message answers its own question.
    c.sync().await;
    assert!(b.release(&lock_b).await);
    let (_, token_c) = c.granted("c").await;
    assert!(token_a < token_b && token_b < token_c, "{token_a} {token_b} {token_c}");
}

#[tokio::test]
async fn shared_requests_hold_together_and_exclusive_ones_alone() {
    let server = Server::open().await;
    let (mut a, mut b, mut c) = (server.client().await, server.client().await, server.client().await);
    a.ask("a", "m", |acquire| acquire.mode = Mode::Shared).await;
    let (lock_a, _) = a.granted("a").await;
    b.ask("b", "m", |acquire| acquire.mode = Mode::Shared).await;
    let (lock_b, _) = b.granted("b").await;
    c.wait_for("c", "m").await;
    a.release(&lock_a).await;
    c.sync().await;
    b.release(&lock_b).await;
    c.granted("c").await;
}

#[tokio::test]
async fn if_available_does_not_wait() {
    let server = Server::open().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    let (lock, _) = a.acquire("m").await;
    b.ask("b", "m", |acquire| acquire.if_available = true).await;
    let request_id = RequestId::new("b").unwrap();
    assert_eq!(b.next().await, ServerMessage::Unavailable { request_id });
    a.release(&lock).await;
    b.ask("b2", "m", |acquire| acquire.if_available = true).await;
    b.granted("b2").await;
}

#[tokio::test]
async fn a_request_that_waited_too_long_is_withdrawn() {
    let server = Server::open().await;
    let (mut a, mut b, mut c) = (server.client().await, server.client().await, server.client().await);
    let (lock, _) = a.acquire("m").await;
    b.ask("b", "m", |acquire| acquire.wait_millis = Some(0)).await;
    b.queued("b").await;
    c.wait_for("c", "m").await;
    let request_id = RequestId::new("b").unwrap();
    assert_eq!(b.next().await, ServerMessage::Timeout { request_id });
    a.release(&lock).await;
    c.granted("c").await;
}

#[tokio::test]
async fn a_cancelled_request_delays_nobody() {
    let server = Server::open().await;
    let (mut a, mut b, mut c) = (server.client().await, server.client().await, server.client().await);
    let (lock, _) = a.acquire("m").await;
    b.wait_for("b", "m").await;
    c.wait_for("c", "m").await;
    let request_id = RequestId::new("b").unwrap();
    let t = b.tick();
    b.send(&ClientMessage::Cancel {
        t,
        request_id: request_id.clone(),
    })
    .await;
    assert_eq!(b.next().await, ServerMessage::Cancelled { request_id });
    a.release(&lock).await;
    c.granted("c").await;
}

#[tokio::test]
async fn cancelling_a_granted_request_releases_its_lock() {
    let server = Server::open().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.ask("a", "m", |_| {}).await;
    let (lock, _) = a.granted("a").await;
    b.wait_for("b", "m").await;
    let request_id = RequestId::new("a").unwrap();
    let t = a.tick();
    a.send(&ClientMessage::Cancel {
        t,
        request_id: request_id.clone(),
    })
    .await;
    assert_eq!(a.next().await, ServerMessage::Cancelled { request_id });
    b.granted("b").await;
    assert!(!a.release(&lock).await);
}

#[tokio::test]
async fn a_lock_ends_after_its_max_hold_and_goes_on_at_the_answer() {
    let server = Server::open().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.ask("a", "m", |acquire| acquire.max_hold_millis = Some(20)).await;
    let (lock, _) = a.granted("a").await;
    b.ask("b", "m", |_| {}).await;
    b.queued("b").await;
    let reason = ReleaseReason::MaxHold;
    let lock_id = lock.clone();
    assert_eq!(a.next().await, ServerMessage::Lost { lock_id, reason });
    // The client still believes until it has read that: b gets nothing before a's answer.
    b.sync().await;
    a.release(&lock).await;
    b.granted("b").await;
}

#[tokio::test]
async fn a_theft_is_told_and_takes_effect_at_the_answer() {
    let server = Server::open().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    let (lock, _) = a.acquire("m").await;
    b.ask("b", "m", |acquire| acquire.steal = true).await;
    b.queued("b").await;
    let reason = ReleaseReason::Stolen;
    let lock_id = lock.clone();
    assert_eq!(a.next().await, ServerMessage::Lost { lock_id, reason });
    b.sync().await;
    a.release(&lock).await;
    b.granted("b").await;
}

#[tokio::test]
async fn what_no_rule_allows_is_denied_for_that_request_only() {
    let rule = |mutex: &str, steal| Rule {
        mutex: mutex.to_owned(),
        allow: Allow::Anyone,
        steal,
    };
    let rules = vec![rule("demo-*", false)];
    let server = Server::start(Relay::builder().rules(rules).unwrap().durations(long())).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.acquire("demo-1").await;
    b.ask("r1", "order:1", |_| {}).await;
    let text = "no rule of the relay allows this connection to lock \"order:1\"".to_owned();
    assert_eq!(b.error().await, (ErrorCode::Unauthorized, text, Some("r1".to_owned())));
    b.ask("r2", "demo-1", |acquire| acquire.steal = true).await;
    let (code, text, request) = b.error().await;
    assert_eq!((code, request.as_deref()), (ErrorCode::Unauthorized, Some("r2")));
    assert!(text.contains("steal"), "{text}");
    b.acquire("demo-2").await;
    a.sync().await;
}

#[tokio::test]
async fn without_rules_everything_is_denied() {
    let server = Server::start(Relay::builder()).await;
    let mut client = server.client().await;
    client.ask("r1", "demo-1", |_| {}).await;
    assert_eq!(client.error().await.0, ErrorCode::Unauthorized);
}

#[tokio::test]
async fn a_holder_gets_heartbeats_that_echo_its_clock() {
    let durations = Durations {
        heartbeat_millis: 50,
        ..Durations::default()
    };
    let builder = Relay::builder().rules(anything(false)).unwrap();
    let server = Server::start(builder.durations(durations.clone())).await;
    let mut client = server.client().await;
    client.acquire("m").await;
    for message in [
        |t| ClientMessage::Ack { t },
        |t| ClientMessage::Token {
            t,
            token: "new".to_owned(),
        },
    ] {
        let t = client.tick();
        client.send(&message(t)).await;
        loop {
            match client.next().await {
                ServerMessage::Heartbeat { echo, valid_millis } => {
                    assert!(valid_millis > 0 && valid_millis <= durations.client_lease_millis);
                    if echo == t {
                        break;
                    }
                    assert!(echo < t);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_unknown_types_answered() {
    let server = Server::open().await;
    let mut client = server.stranger().await;
    client.send_text(r#"{"type":"hello","t":1,"colour":"blue"}"#).await;
    assert!(matches!(client.next().await, ServerMessage::Welcome { .. }));
    client.send_text(r#"{"type":"dance","t":2}"#).await;
    let (code, text, _) = client.error().await;
    assert_eq!(code, ErrorCode::ProtocolError);
    assert!(text.contains("dance"), "{text}");
    client
        .send_text(r#"{"type":"acquire","t":3,"requestId":"r1","mutex":"m","waitMillis":0,"colour":{"a":[1]}}"#)
        .await;
    client.granted("r1").await;
}

#[tokio::test]
async fn a_second_hello_is_an_error_and_nothing_else() {
    let server = Server::open().await;
    let mut client = server.client().await;
    client.send_text(r#"{"type":"hello","t":1}"#).await;
    assert_eq!(client.error().await.0, ErrorCode::ProtocolError);
    client.acquire("m").await;
}

#[tokio::test]
async fn limits_are_for_the_request_that_breaks_them() {
    let server = Server::open().await;
    let mut client = server.client().await;
    let acquire = |request: &str, mutex: &str, rest: &str| {
        format!(r#"{{"type":"acquire","t":1,"requestId":"{request}","mutex":"{mutex}"{rest}}}"#)
    };
    client.send_text(&acquire("longest", &"a".repeat(512), "")).await;
    client.granted("longest").await;
    let metadata = format!(r#","metadata":"{}""#, "x".repeat(1025));
    for (request, mutex, rest, text) in [
        ("too-long", "a".repeat(513), "", "513 bytes"),
        ("empty", String::new(), "", "is empty"),
        ("control", "a\\u0000".to_owned(), "", "U+0000"),
        ("metadata", "m".to_owned(), metadata.as_str(), "1025 bytes"),
        ("mode", "m".to_owned(), r#","mode":"both""#, "exclusive, shared"),
        ("wait", "m".to_owned(), r#","waitMillis":-1"#, "-1"),
    ] {
        client.send_text(&acquire(request, &mutex, rest)).await;
        let (code, message, named) = client.error().await;
        assert_eq!((code, named.as_deref()), (ErrorCode::InvalidArgument, Some(request)));
        assert!(message.contains(text), "{message}");
    }
    client.send_text(&acquire("after", "m", "")).await;
    client.granted("after").await;
}

#[tokio::test]
async fn many_requests_at_once_are_all_answered() {
    let server = Server::open().await;
    let mut client = server.client().await;
    for number in 0..600 {
        client.ask(&format!("r{number}"), &format!("m{number}"), |_| {}).await;
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..600 {
        match client.next().await {
            ServerMessage::Granted { request_id, .. } => assert!(seen.insert(request_id)),
            other => panic!("{other:?}"),
        }
    }
}
