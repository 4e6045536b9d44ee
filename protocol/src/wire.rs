//! Text frame to message and back, by `serde_json`. The browser has a codec of its own; both pass the golden files.

use crate::MAX_SAFE_INTEGER;
use crate::code::ErrorCode;
use crate::limits::{MAX_AGENT_BYTES, MAX_METADATA_BYTES, MAX_TOKEN_BYTES};
use crate::message::{Acquire, ClientMessage, ServerMessage};
use crate::name::{LockId, RequestId};
use serde::Deserialize;

/// Why a text frame is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not a JSON object with a string `type`: the peer speaks another protocol, and the connection is closed.
    #[error("not a JSON object with a string \"type\": {0}")]
    NotAMessage(String),
    /// A type that this version does not know. Answered with an error; the connection goes on.
    #[error("unknown message type {kind:?}; this side speaks {}", crate::SUBPROTOCOL)]
    UnknownType {
        /// The type, cut to 64 characters.
        kind: String,
    },
    /// A known type with a missing, mistyped or out-of-range field. Answered with an error; the connection goes on.
    #[error("bad \"{kind}\": {problem}")]
    BadField {
        /// The message type.
        kind: String,
        /// What is wrong, and what is allowed.
        problem: String,
        /// The request that the message named, where it did so validly.
        request_id: Option<RequestId>,
        /// The lock that the message named, where it did so validly.
        lock_id: Option<LockId>,
    },
}

impl WireError {
    /// The `error` message that answers this, or `None` where the connection is closed instead.
    pub fn answer(&self) -> Option<ServerMessage> {
        let (code, request_id, lock_id) = match self {
            Self::NotAMessage(_) => return None,
            Self::UnknownType { .. } => (ErrorCode::ProtocolError, None, None),
            Self::BadField {
                request_id, lock_id, ..
            } => (ErrorCode::InvalidArgument, request_id.clone(), lock_id.clone()),
        };
        Some(ServerMessage::Error {
            code,
            message: self.to_string(),
            request_id,
            lock_id,
            retry_after_millis: None,
        })
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

const CLIENT_TYPES: &[&str] = &["hello", "acquire", "cancel", "release", "ack", "token"];
const SERVER_TYPES: &[&str] = &[
    "welcome",
    "queued",
    "granted",
    "unavailable",
    "timeout",
    "cancelled",
    "released",
    "lost",
    "heartbeat",
    "error",
];

fn decode<'a, M: Deserialize<'a>>(text: &'a str, types: &[&str]) -> Result<M, WireError> {
    // The common case parses once; the envelope is looked at only to say precisely what is wrong.
    let problem = match serde_json::from_str(text) {
        Ok(message) => return Ok(message),
        Err(problem) => problem.to_string(),
    };
    let kind = match serde_json::from_str::<Envelope<'_>>(text) {
        Ok(envelope) => envelope.kind,
        Err(problem) => return Err(WireError::NotAMessage(problem.to_string())),
    };
    if !types.contains(&kind.as_ref()) {
        return Err(WireError::UnknownType {
            kind: kind.chars().take(64).collect(),
        });
    }
    Err(bad_field(text, &kind, problem))
}

fn bad_field(text: &str, kind: &str, problem: String) -> WireError {
    #[derive(Default)]
    struct Ids(Option<String>, Option<String>);
    let ids = serde_json::from_str::<serde_json::Value>(text).map_or_else(
        |_| Ids::default(),
        |value| Ids(field(&value, "requestId"), field(&value, "lockId")),
    );
    WireError::BadField {
        kind: kind.to_owned(),
        problem,
        request_id: ids.0.and_then(|id| RequestId::new(&id).ok()),
        lock_id: ids.1.and_then(|id| LockId::new(&id).ok()),
    }
}

fn field(value: &serde_json::Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

impl ClientMessage {
    /// Parses one text frame from a client.
    ///
    /// # Errors
    /// [`WireError`]: not a message, an unknown type, or a bad field; it says which, and whether a request is concerned.
    pub fn from_json(text: &str) -> Result<Self, WireError> {
        let message: Self = decode(text, CLIENT_TYPES)?;
        match out_of_range(&message) {
            None => Ok(message),
            Some((kind, problem)) => Err(bad_field(text, kind, problem)),
        }
    }

    /// The text frame.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a message has only string keys")
    }
}

/// The ranges that the types alone do not say.
fn out_of_range(message: &ClientMessage) -> Option<(&'static str, String)> {
    let too_great = |name: &str, value: u64| {
        (value > MAX_SAFE_INTEGER).then(|| format!("{name} is {value}; at most {MAX_SAFE_INTEGER} (2^53 - 1)"))
    };
    let too_long = |name: &str, value: &str, max: usize| {
        (value.len() > max).then(|| format!("{name} is {} bytes long; at most {max} bytes of UTF-8", value.len()))
    };
    match message {
        ClientMessage::Hello { t, agent, token } => too_great("t", *t)
            .or_else(|| too_long("agent", agent.as_deref()?, MAX_AGENT_BYTES))
            .or_else(|| too_long("token", token.as_deref()?, MAX_TOKEN_BYTES))
            .map(|problem| ("hello", problem)),
        ClientMessage::Acquire { t, acquire } => too_great("t", *t)
            .or_else(|| acquire_out_of_range(acquire))
            .map(|problem| ("acquire", problem)),
        ClientMessage::Token { t, token } => too_great("t", *t)
            .or_else(|| too_long("token", token, MAX_TOKEN_BYTES))
            .map(|problem| ("token", problem)),
        ClientMessage::Cancel { t, .. } => too_great("t", *t).map(|problem| ("cancel", problem)),
        ClientMessage::Release { t, .. } => too_great("t", *t).map(|problem| ("release", problem)),
        ClientMessage::Ack { t } => too_great("t", *t).map(|problem| ("ack", problem)),
    }
}

fn acquire_out_of_range(acquire: &Acquire) -> Option<String> {
    for (name, value) in [
        ("waitMillis", acquire.wait_millis),
        ("maxHoldMillis", acquire.max_hold_millis),
    ] {
        if let Some(value) = value.filter(|value| *value > MAX_SAFE_INTEGER) {
            return Some(format!(
                "{name} is {value}; at most {MAX_SAFE_INTEGER} (2^53 - 1), or leave it out for no limit"
            ));
        }
    }
    if acquire.max_hold_millis == Some(0) {
        return Some("maxHoldMillis is 0; at least 1, or leave it out for no limit".to_owned());
    }
    if acquire.steal && acquire.if_available {
        return Some("steal and ifAvailable exclude each other".to_owned());
    }
    let metadata = acquire.metadata.as_deref()?;
    (metadata.len() > MAX_METADATA_BYTES).then(|| {
        format!(
            "metadata is {} bytes long; at most {MAX_METADATA_BYTES} bytes of UTF-8",
            metadata.len()
        )
    })
}

impl ServerMessage {
    /// Parses one text frame from a relay.
    ///
    /// # Errors
    /// [`WireError`]: not a message, an unknown type, or a bad field.
    pub fn from_json(text: &str) -> Result<Self, WireError> {
        decode(text, SERVER_TYPES)
    }

    /// The text frame.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a message has only string keys")
    }
}
