//! Names and ids as types: validated once where they enter, and never confused with one another.

use crate::limits::{MAX_LOCK_ID_BYTES, MAX_MUTEX_NAME_BYTES, MAX_REQUEST_ID_BYTES};
use std::fmt;
use std::sync::Arc;

/// Why a name or an id was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty.
    #[error("is empty; give it 1 to {max} bytes of UTF-8")]
    Empty {
        /// Greatest length in bytes.
        max: usize,
    },
    /// Over its limit.
    #[error("is {length} bytes long; at most {max} bytes of UTF-8 are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// Greatest length in bytes.
        max: usize,
    },
    /// Has a control character (Unicode category Cc), which no operator could see in a log.
    #[error("has the control character U+{code:04X} at byte {at}; control characters are not allowed")]
    ControlCharacter {
        /// The character's code point.
        code: u32,
        /// Its offset in bytes.
        at: usize,
    },
}

fn check(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { max });
    }
    if text.len() > max {
        return Err(NameError::TooLong {
            length: text.len(),
            max,
        });
    }
    match text.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, character)) => Err(NameError::ControlCharacter {
            code: character as u32,
            at,
        }),
        None => Ok(()),
    }
}

macro_rules! text_names {
    ($($(#[$doc:meta])* $name:ident, $max:expr;)+) => {$(
        $(#[$doc])*
        ///
        /// Cheap to clone: the text is shared.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates `text`.
            ///
            /// # Errors
            /// [`NameError`] if it is empty, too long, or has a control character.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text, $max)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        #[cfg(feature = "json")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        #[cfg(feature = "json")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

text_names! {
    /// The name of a mutex: what the lock protects. 1 to 512 bytes of UTF-8 without control characters.
    ///
    /// Names are compared byte by byte: no case folding, no Unicode normalisation.
    MutexName, MAX_MUTEX_NAME_BYTES;

    /// The id of one request, chosen by the client and unique on its connection. 1 to 64 bytes.
    RequestId, MAX_REQUEST_ID_BYTES;

    /// The id of one grant, made by the relay: unguessable, never reused. 1 to 64 bytes.
    LockId, MAX_LOCK_ID_BYTES;

    /// The id of a connection, for logs and support. Not a secret, and good for nothing else. 1 to 64 bytes.
    ConnectionId, MAX_LOCK_ID_BYTES;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_1_to_512_bytes_of_utf8_without_control_characters() {
        assert_eq!(MutexName::new(""), Err(NameError::Empty { max: 512 }));
        assert!(MutexName::new(&"a".repeat(512)).is_ok());
        assert_eq!(
            MutexName::new(&"a".repeat(513)),
            Err(NameError::TooLong { length: 513, max: 512 })
        );
        // 256 two-byte characters fit; one more byte does not: the limit counts bytes, not characters.
        assert!(MutexName::new(&"é".repeat(256)).is_ok());
        assert!(MutexName::new(&format!("{}a", "é".repeat(256))).is_err());
        for (text, code, at) in [("a\0", 0, 1), ("\n", 10, 0), ("é\u{85}", 0x85, 2), ("a\u{7f}", 0x7f, 1)] {
            assert_eq!(
                MutexName::new(text),
                Err(NameError::ControlCharacter { code, at }),
                "{text:?}"
            );
        }
        for text in ["user:{x}/*..", "买家 1", " leading space", "e\u{301}"] {
            assert!(MutexName::new(text).is_ok(), "{text:?}");
        }
    }
}
