//! Stable codes: what went wrong with a request, why a connection was closed, why a lock ended.

macro_rules! text_codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All values, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text on the wire and in the public API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value with this text, if there is one.
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        #[cfg(feature = "json")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        #[cfg(feature = "json")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::from_text(&text).ok_or_else(|| {
                    let all: Vec<_> = Self::ALL.iter().map(|code| code.as_str()).collect();
                    serde::de::Error::custom(format_args!("{text:?} is none of {}", all.join(", ")))
                })
            }
        }
    };
}

pub(crate) use text_codes;

text_codes! {
    /// What went wrong, in the client's public API and in the relay's `error` message.
    ErrorCode {
        /// The lock was not granted within the acquisition time-out. Try again, or wait longer.
        LockTimeout = "LOCK_TIMEOUT",
        /// No relay answered within the limit, because there was no connection to one.
        ClientNotConnected = "CLIENT_NOT_CONNECTED",
        /// No rule of the relay allows this.
        Unauthorized = "UNAUTHORIZED",
        /// An argument is of the wrong type or outside its range; the message names it.
        InvalidArgument = "INVALID_ARGUMENT",
        /// A limit of the relay was reached. Wait for `retryAfterMillis`, where it is given, before trying again.
        LimitExceeded = "LIMIT_EXCEEDED",
        /// The lock was lost while the callback of `withLock` ran.
        LockLost = "LOCK_LOST",
        /// The client was closed.
        ClientClosed = "CLIENT_CLOSED",
        /// The relay cannot reach its store, or the store is recovering. Nothing was granted.
        StoreUnavailable = "STORE_UNAVAILABLE",
        /// The two sides do not understand each other: a version or an implementation is wrong.
        ProtocolError = "PROTOCOL_ERROR",
    }
}

text_codes! {
    /// Why a lock ended. Every reason but `released` and `client_closed` means that it was *lost*.
    ReleaseReason {
        /// Its owner released it.
        Released = "released",
        /// The connection that it belonged to ended.
        ConnectionLost = "connection_lost",
        /// The client's lease ran out before the relay prolonged it.
        LeaseExpired = "lease_expired",
        /// It was held for as long as its `maxHoldTimeMillis` allowed.
        MaxHold = "max_hold",
        /// Another client took it with `steal`.
        Stolen = "stolen",
        /// An operator took it back, or the token that it was acquired with ended.
        Revoked = "revoked",
        /// The relay can no longer vouch for the lock: it lost its session in the store, or the store lost data.
        StoreLost = "store_lost",
        /// The relay was shut down.
        RelayShutdown = "relay_shutdown",
        /// Its owner closed the client.
        ClientClosed = "client_closed",
    }
}

impl ReleaseReason {
    /// Whether the lock ended against its owner's will.
    pub const fn is_lost(self) -> bool {
        !matches!(self, Self::Released | Self::ClientClosed)
    }
}

/// Why a WebSocket was closed. 1xxx are RFC 6455's own; 4xxx are Lockrelay's.
///
/// Whatever the code, the connection's locks end with it. [`CloseCode::may_reconnect`] says what the client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The client closed, and is done.
    Normal = 1000,
    /// The relay is shutting down, or the page is navigating away: reconnect, elsewhere if there is an elsewhere.
    GoingAway = 1001,
    /// A frame that is not text.
    NotText = 1003,
    /// A frame over [`MAX_FRAME_BYTES`](crate::limits::MAX_FRAME_BYTES).
    TooLarge = 1009,
    /// A failure inside the relay. It ends this connection alone.
    Internal = 1011,
    /// Not JSON, not an object, or a message before `hello`: the peer speaks another protocol.
    Protocol = 4000,
    /// No `hello` within the relay's limit.
    HelloTimeout = 4001,
    /// The token was refused. Reconnecting with the same one is useless.
    Unauthorized = 4002,
    /// No acknowledgement within the relay's limit F. The connection's locks are freed.
    Silent = 4003,
    /// The relay lost its session in the store, and every lock with it.
    StoreLost = 4004,
    /// The client did not read what it was sent.
    TooSlow = 4005,
    /// A limit on connections was reached.
    LimitExceeded = 4006,
    /// The connection was revoked by an operator.
    Revoked = 4007,
}

impl CloseCode {
    /// All values, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Normal,
        Self::GoingAway,
        Self::NotText,
        Self::TooLarge,
        Self::Internal,
        Self::Protocol,
        Self::HelloTimeout,
        Self::Unauthorized,
        Self::Silent,
        Self::StoreLost,
        Self::TooSlow,
        Self::LimitExceeded,
        Self::Revoked,
    ];

    /// The number in the close frame.
    pub const fn as_u16(self) -> u16 {
        self as u16
    }

    /// The value with this number, if it is one of ours.
    pub fn from_u16(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_u16() == number)
    }

    /// Whether a client that was closed with this code tries again with the same arguments. Where it does not, pending
    /// and later requests are rejected.
    pub const fn may_reconnect(self) -> bool {
        !matches!(
            self,
            Self::Normal | Self::NotText | Self::TooLarge | Self::Protocol | Self::Unauthorized
        )
    }
}
