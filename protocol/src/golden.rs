//! The golden frames of `protocol/golden/`, each beside the message that it means.
//!
//! Every codec (this crate's and the browser's) is tested against this table, so the two cannot drift apart. A frame, its
//! section in `PROTOCOL.md` and the type change in one commit.

use crate::{
    Acquire, ClientMessage, ConnectionId, ErrorCode, LockId, Mode, MutexName, ReleaseReason, RequestId, ServerMessage,
};

/// One frame: the name of its file, its text without the final line break, and what it means.
pub type Golden<M> = (&'static str, &'static str, M);

macro_rules! golden {
    ($file:literal, $message:expr) => {
        (
            $file,
            include_str!(concat!("../golden/", $file, ".json")).trim_ascii_end(),
            $message,
        )
    };
}

fn request(id: &str) -> RequestId {
    RequestId::new(id).expect("a golden id is valid")
}

fn lock(id: &str) -> LockId {
    LockId::new(id).expect("a golden id is valid")
}

fn acquire(request_id: &str, mutex: &str) -> Acquire {
    Acquire {
        request_id: request(request_id),
        mutex: MutexName::new(mutex).expect("a golden name is valid"),
        mode: Mode::Exclusive,
        wait_millis: None,
        max_hold_millis: None,
        if_available: false,
        steal: false,
        metadata: None,
    }
}

const LOCK: &str = "Zr8gq5yYTnC2hJmVx0pD4w";

/// Every message that a client sends, with and without its optional fields.
#[must_use]
pub fn client() -> Vec<Golden<ClientMessage>> {
    vec![
        golden!(
            "client-hello",
            ClientMessage::Hello {
                t: 0,
                agent: Some("lockrelay-js/0.1.0".into()),
                token: Some("eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl".into()),
            }
        ),
        golden!(
            "client-hello-minimal",
            ClientMessage::Hello {
                t: 1500,
                agent: None,
                token: None
            }
        ),
        golden!(
            "client-acquire",
            ClientMessage::Acquire {
                t: 1512,
                acquire: Acquire {
                    wait_millis: Some(2000),
                    max_hold_millis: Some(30_000),
                    metadata: Some("checkout of basket 7".into()),
                    ..acquire("1", "inventory-item-123")
                },
            }
        ),
        golden!(
            "client-acquire-shared-without-limit",
            ClientMessage::Acquire {
                t: 1513,
                acquire: Acquire {
                    mode: Mode::Shared,
                    ..acquire("2", "カタログ: {all} \"quoted\" \\ 🛒")
                },
            }
        ),
        golden!(
            "client-acquire-if-available",
            ClientMessage::Acquire {
                t: 1514,
                acquire: Acquire {
                    wait_millis: Some(0),
                    if_available: true,
                    ..acquire("3", "report")
                },
            }
        ),
        golden!(
            "client-acquire-steal",
            ClientMessage::Acquire {
                t: crate::MAX_SAFE_INTEGER,
                acquire: Acquire {
                    steal: true,
                    ..acquire("4", "report")
                },
            }
        ),
        golden!(
            "client-cancel",
            ClientMessage::Cancel {
                t: 1600,
                request_id: request("2")
            }
        ),
        golden!(
            "client-release",
            ClientMessage::Release {
                t: 1700,
                lock_id: lock(LOCK)
            }
        ),
        golden!("client-ack", ClientMessage::Ack { t: 3512 }),
        golden!(
            "client-token",
            ClientMessage::Token {
                t: 4000,
                token: "eyJhbGciOi.eyJzdWIiOi.bmV3ZXI".into()
            }
        ),
    ]
}

fn error(code: ErrorCode, message: &str) -> (ErrorCode, String) {
    (code, message.to_owned())
}

/// Every message that a relay sends, with and without its optional fields.
#[must_use]
pub fn server() -> Vec<Golden<ServerMessage>> {
    let failure =
        |(code, message), request_id: Option<&str>, lock_id: Option<&str>, retry_after_millis| ServerMessage::Error {
            code,
            message,
            request_id: request_id.map(request),
            lock_id: lock_id.map(lock),
            retry_after_millis,
        };
    vec![
        golden!(
            "server-welcome",
            ServerMessage::Welcome {
                connection_id: ConnectionId::new("c-1f0a").expect("a golden id is valid"),
                agent: "lockrelay/0.1.0".into(),
                lease_millis: 10_000,
            }
        ),
        golden!(
            "server-queued",
            ServerMessage::Queued {
                request_id: request("1"),
                ahead: 2
            }
        ),
        golden!(
            "server-granted",
            ServerMessage::Granted {
                request_id: request("1"),
                lock_id: lock(LOCK),
                fencing_token: 1_795_449_600_000_001,
                mode: Mode::Exclusive,
                echo: 1512,
                valid_millis: 10_000,
            }
        ),
        golden!(
            "server-granted-greatest-token",
            ServerMessage::Granted {
                request_id: request("2"),
                lock_id: lock("Q1mW6s7dR8uTzv0aBcDeFg"),
                fencing_token: crate::MAX_SAFE_INTEGER,
                mode: Mode::Shared,
                echo: 0,
                valid_millis: 0,
            }
        ),
        golden!(
            "server-unavailable",
            ServerMessage::Unavailable {
                request_id: request("3")
            }
        ),
        golden!(
            "server-timeout",
            ServerMessage::Timeout {
                request_id: request("1")
            }
        ),
        golden!(
            "server-cancelled",
            ServerMessage::Cancelled {
                request_id: request("2")
            }
        ),
        golden!(
            "server-released",
            ServerMessage::Released {
                lock_id: lock(LOCK),
                held: true
            }
        ),
        golden!(
            "server-released-not-held",
            ServerMessage::Released {
                lock_id: lock(LOCK),
                held: false
            }
        ),
        golden!(
            "server-lost",
            ServerMessage::Lost {
                lock_id: lock(LOCK),
                reason: ReleaseReason::MaxHold
            }
        ),
        golden!(
            "server-heartbeat",
            ServerMessage::Heartbeat {
                echo: 1700,
                valid_millis: 9250
            }
        ),
        golden!(
            "server-error",
            failure(
                error(ErrorCode::Unauthorized, "no rule allows acquire of mutex \"report\""),
                Some("3"),
                None,
                None
            )
        ),
        golden!(
            "server-error-minimal",
            failure(
                error(
                    ErrorCode::ProtocolError,
                    "unknown message type \"subscribe\"; this side speaks lockrelay.v1"
                ),
                None,
                None,
                None
            )
        ),
        golden!(
            "server-error-limit",
            failure(
                error(ErrorCode::LimitExceeded, "100 requests wait on this connection already"),
                Some("5"),
                None,
                Some(1000)
            )
        ),
        golden!(
            "server-error-lock",
            failure(
                error(ErrorCode::InvalidArgument, "bad \"release\": missing field `t`"),
                None,
                Some(LOCK),
                None
            )
        ),
    ]
}
