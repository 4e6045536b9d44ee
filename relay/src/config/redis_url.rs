//! A Redis URL that keeps its password to itself.

use std::fmt;

/// Where a Redis is. Printed and logged without its user and password; [`RedisUrl::with_password`] has them.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Takes `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` or `redis+unix:///PATH`.
    ///
    /// # Errors
    /// What is allowed, if it is something else. The text itself is not repeated, because a password may stand in it.
    pub fn new(text: &str) -> Result<Self, String> {
        let after = ["redis://", "redis+unix://", "unix://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        if after.is_none_or(str::is_empty) {
            return Err(
                "\"***\" is not a Redis URL; allowed: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or redis+unix:///PATH"
                    .to_owned(),
            );
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole URL. Not for logs.
    #[must_use]
    pub fn with_password(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").expect("checked by new");
        // A socket's URL has its password in the query.
        let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
        match rest.rsplit_once('@') {
            Some((_, host)) => write!(f, "{scheme}://***@{host}"),
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_printed() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
            ("redis://:secret@db:6379", "redis://***@db:6379"),
            ("redis://me:secret@more@db", "redis://***@db"),
            (
                "redis+unix:///run/redis.sock?pass=secret",
                "redis+unix:///run/redis.sock",
            ),
        ] {
            let url = RedisUrl::new(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(url.with_password(), text);
        }
        let refused = RedisUrl::new("reddis://:secret@db").unwrap_err();
        assert!(!refused.contains("secret"), "{refused}");
        assert!(RedisUrl::new("redis://").is_err());
    }
}
