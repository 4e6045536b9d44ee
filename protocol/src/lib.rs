//! The wire contract between the Lockrelay client and the relay.
//!
//! Both halves compile this crate, so a message can only change for both at once. It holds types, limits and codes, and
//! deliberately neither a clock, nor a socket, nor a decision: what to do about a message is said in `PROTOCOL.md` and
//! done in the relay's `session` and the client's `session`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`message`] | every message in both directions |
//! | [`name`] | names and ids as types: validated once, never confused |
//! | [`limits`] | how long, how large, how many |
//! | [`code`] | error codes, close codes, release reasons |
//! | `golden` (feature `golden`) | every message beside its frame, for the tests of every codec |
//! | [`wire`] (feature `json`) | text frame to message and back, with errors that say what to change |

pub mod code;
#[cfg(feature = "golden")]
pub mod golden;
pub mod limits;
pub mod message;
pub mod name;
#[cfg(feature = "json")]
pub mod wire;

pub use code::{CloseCode, ErrorCode, ReleaseReason};
pub use message::{Acquire, ClientMessage, Mode, ServerMessage};
pub use name::{ConnectionId, LockId, MutexName, NameError, RequestId};

/// The WebSocket subprotocol. A relay answers no other, and a client accepts no other.
pub const SUBPROTOCOL: &str = "lockrelay.v1";

/// The path at which a relay serves the protocol.
pub const PATH: &str = "/v1/locks";

/// Greatest integer that JavaScript holds exactly (2^53 - 1). Times, durations and fencing tokens stay within it.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
