//! Limits that both sides know. The relay enforces them; the client checks them first, so that an honest page gets its
//! error without a round trip.

/// Longest mutex name, in bytes of UTF-8. The shortest is 1 byte.
pub const MAX_MUTEX_NAME_BYTES: usize = 512;

/// Longest frame in either direction, in bytes. A longer one ends the connection with
/// [`CloseCode::TooLarge`](crate::CloseCode::TooLarge).
pub const MAX_FRAME_BYTES: usize = 16 * 1024;

/// Longest metadata of one request, in bytes of UTF-8.
pub const MAX_METADATA_BYTES: usize = 1024;

/// Longest request id, in bytes of UTF-8.
pub const MAX_REQUEST_ID_BYTES: usize = 64;

/// Longest lock id, in bytes. The relay's are 22 bytes today; ids are opaque.
pub const MAX_LOCK_ID_BYTES: usize = 64;

/// Longest token in `hello` and `token`, in bytes. Leaves room in the frame for the rest of the message.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Longest name of the client software in `hello`, in bytes of UTF-8.
pub const MAX_AGENT_BYTES: usize = 128;

/// How much longer the relay waits than the client asked for, in milliseconds. The client's clock decides the time-out;
/// the relay's is a safety net behind it, and must not answer first.
pub const RELAY_WAIT_GRACE_MILLIS: u64 = 1_000;
