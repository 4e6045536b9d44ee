//! Text frames to messages and back, by `JSON.parse`, `JSON.stringify` and property reads: a third of the size of a codec
//! that brings its own parser. Tested against the same golden frames as the relay's.

use js_sys::{JSON, Object, Reflect};
use lockrelay_protocol::{
    Acquire, ClientMessage, ConnectionId, ErrorCode, LockId, MAX_SAFE_INTEGER, Mode, NameError, ReleaseReason,
    RequestId, ServerMessage,
};
use wasm_bindgen::JsValue;

/// What a frame from the relay is.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// A message.
    Message(ServerMessage),
    /// A message of a type that this version does not know: to be ignored.
    Unknown,
    /// No message of this protocol; with what is wrong.
    Bad(&'static str),
}

/// Reads a text frame.
#[must_use]
pub fn decode(text: &str) -> Frame {
    let Ok(value) = JSON::parse(text) else {
        return Frame::Bad("not JSON");
    };
    if !value.is_object() {
        return Frame::Bad("not a JSON object");
    }
    let fields = Fields(value);
    let Some(kind) = fields.text("type") else {
        return Frame::Bad("without a type");
    };
    match message(&kind, &fields) {
        Ok(Some(message)) => Frame::Message(message),
        Ok(None) => Frame::Unknown,
        Err(Missing(field)) => Frame::Bad(field),
    }
}

/// The field that is missing or of the wrong type.
struct Missing(&'static str);

struct Fields(JsValue);

impl Fields {
    fn get(&self, name: &str) -> JsValue {
        Reflect::get(&self.0, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).as_string()
    }

    fn id<T>(&self, name: &'static str, new: impl FnOnce(&str) -> Result<T, NameError>) -> Result<T, Missing> {
        self.text(name).and_then(|text| new(&text).ok()).ok_or(Missing(name))
    }

    fn optional_id<T>(
        &self,
        name: &'static str,
        new: impl FnOnce(&str) -> Result<T, NameError>,
    ) -> Result<Option<T>, Missing> {
        if self.get(name).is_undefined() {
            Ok(None)
        } else {
            self.id(name, new).map(Some)
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "checked to be a whole number of 0 to 2^53 - 1, which both types hold exactly"
    )]
    fn whole(&self, name: &'static str) -> Result<u64, Missing> {
        match self.get(name).as_f64() {
            Some(number) if number >= 0.0 && number <= MAX_SAFE_INTEGER as f64 && number.fract() == 0.0 => {
                Ok(number as u64)
            }
            _ => Err(Missing(name)),
        }
    }
}

fn message(kind: &str, fields: &Fields) -> Result<Option<ServerMessage>, Missing> {
    let request_id = || fields.id("requestId", RequestId::new);
    let lock_id = || fields.id("lockId", LockId::new);
    Ok(Some(match kind {
        "welcome" => ServerMessage::Welcome {
            connection_id: fields.id("connectionId", ConnectionId::new)?,
            agent: fields.text("agent").ok_or(Missing("agent"))?,
            lease_millis: fields.whole("leaseMillis")?,
        },
        "queued" => ServerMessage::Queued {
            request_id: request_id()?,
            ahead: fields.whole("ahead")?,
        },
        "granted" => ServerMessage::Granted {
            request_id: request_id()?,
            lock_id: lock_id()?,
            fencing_token: fields.whole("fencingToken")?,
            mode: fields
                .text("mode")
                .and_then(|mode| Mode::from_text(&mode))
                .ok_or(Missing("mode"))?,
            echo: fields.whole("echo")?,
            valid_millis: fields.whole("validMillis")?,
        },
        "unavailable" => ServerMessage::Unavailable {
            request_id: request_id()?,
        },
        "timeout" => ServerMessage::Timeout {
            request_id: request_id()?,
        },
        "cancelled" => ServerMessage::Cancelled {
            request_id: request_id()?,
        },
        "released" => ServerMessage::Released {
            lock_id: lock_id()?,
            held: fields.get("held").as_bool().ok_or(Missing("held"))?,
        },
        "lost" => ServerMessage::Lost {
            lock_id: lock_id()?,
            reason: fields
                .text("reason")
                .and_then(|reason| ReleaseReason::from_text(&reason))
                .ok_or(Missing("reason"))?,
        },
        "heartbeat" => ServerMessage::Heartbeat {
            echo: fields.whole("echo")?,
            valid_millis: fields.whole("validMillis")?,
        },
        "error" => ServerMessage::Error {
            code: fields
                .text("code")
                .and_then(|code| ErrorCode::from_text(&code))
                .ok_or(Missing("code"))?,
            message: fields.text("message").ok_or(Missing("message"))?,
            request_id: fields.optional_id("requestId", RequestId::new)?,
            lock_id: fields.optional_id("lockId", LockId::new)?,
            retry_after_millis: match fields.get("retryAfterMillis").is_undefined() {
                true => None,
                false => Some(fields.whole("retryAfterMillis")?),
            },
        },
        _ => return Ok(None),
    }))
}

struct Writer(Object);

impl Writer {
    fn new(kind: &str, t: u64) -> Self {
        let writer = Self(Object::new());
        writer.text("type", kind);
        writer.whole("t", t);
        writer
    }

    fn set(&self, name: &str, value: &JsValue) {
        Reflect::set(&self.0, &JsValue::from_str(name), value).expect("a fresh object takes properties");
    }

    fn text(&self, name: &str, value: &str) {
        self.set(name, &JsValue::from_str(value));
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 2^53 - 1, which an f64 holds exactly")]
    fn whole(&self, name: &str, value: u64) {
        self.set(name, &JsValue::from_f64(value as f64));
    }

    fn finish(self) -> String {
        JSON::stringify(&self.0)
            .ok()
            .and_then(|text| text.as_string())
            .expect("a flat object of texts and numbers is JSON")
    }
}

/// Writes a text frame.
#[must_use]
pub fn encode(message: &ClientMessage) -> String {
    let kind = match message {
        ClientMessage::Hello { .. } => "hello",
        ClientMessage::Acquire { .. } => "acquire",
        ClientMessage::Cancel { .. } => "cancel",
        ClientMessage::Release { .. } => "release",
        ClientMessage::Ack { .. } => "ack",
        ClientMessage::Token { .. } => "token",
    };
    let writer = Writer::new(kind, message.t());
    match message {
        ClientMessage::Hello { agent, token, .. } => {
            if let Some(agent) = agent {
                writer.text("agent", agent);
            }
            if let Some(token) = token {
                writer.text("token", token);
            }
        }
        ClientMessage::Acquire { acquire, .. } => encode_acquire(&writer, acquire),
        ClientMessage::Cancel { request_id, .. } => writer.text("requestId", request_id.as_str()),
        ClientMessage::Release { lock_id, .. } => writer.text("lockId", lock_id.as_str()),
        ClientMessage::Ack { .. } => {}
        ClientMessage::Token { token, .. } => writer.text("token", token),
    }
    writer.finish()
}

fn encode_acquire(writer: &Writer, acquire: &Acquire) {
    writer.text("requestId", acquire.request_id.as_str());
    writer.text("mutex", acquire.mutex.as_str());
    writer.text("mode", acquire.mode.as_str());
    for (name, value) in [
        ("waitMillis", acquire.wait_millis),
        ("maxHoldMillis", acquire.max_hold_millis),
    ] {
        if let Some(value) = value {
            writer.whole(name, value);
        }
    }
    for (name, value) in [("ifAvailable", acquire.if_available), ("steal", acquire.steal)] {
        if value {
            writer.set(name, &JsValue::TRUE);
        }
    }
    if let Some(metadata) = &acquire.metadata {
        writer.text("metadata", metadata);
    }
}
