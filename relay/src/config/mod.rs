//! How a relay is set up: built-in defaults, then the TOML file, then `LOCKRELAY_*` variables, then the command line. Each
//! source overrides the one before it, option by option; durations too, name by name.
//!
//! Every option has one name in three spellings: `log_format` in the file, `LOCKRELAY_LOG_FORMAT` in the environment,
//! `--log-format` on the command line. Only rules are the file's alone, because a rule is more than a word.
//!
//! What is wrong stops the start with one line that says where, what, and what is allowed. A key that is not known is
//! wrong too: a relay that ignored `alow = "nobody"` would be open.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | [`Config`], and what each option accepts |
//! | `args.rs` | command line and environment, by clap |
//! | `file.rs` | the TOML file, with the line of each key |
//! | `redis_url.rs` | a URL that does not print its password |

mod args;
mod file;
mod redis_url;

pub use args::{Args, ArgsError};
pub use redis_url::RedisUrl;

use crate::defaults::Durations;
use crate::rules::Rule;
use std::path::PathBuf;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Everything that the binary can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Address to listen on, `HOST:PORT`. Port 0 takes a free one.
    pub listen: String,
    /// Where the locks live. `None`: in memory, for this relay alone.
    pub redis: Option<RedisUrl>,
    /// Starts at once on a Redis without data. For tests and throw-away servers only.
    pub assume_first_start: bool,
    /// Folder whose files are served at `/`.
    pub www: Option<PathBuf>,
    /// Whether the demo's service is served under `/demo/`.
    pub demo: bool,
    /// What is logged, as in `info` or `lockrelay=debug,warn`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Leases, heartbeats and limits, in milliseconds.
    pub durations: Durations,
    /// Who may lock what; see [`crate::rules`].
    pub rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8787".to_owned(),
            redis: None,
            assume_first_start: false,
            www: None,
            demo: false,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            durations: Durations::default(),
            rules: Vec::new(),
        }
    }
}

/// What is wrong with the configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// `FILE:LINE`, `LOCKRELAY_NAME` or `--name`.
    pub place: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// The options that every source has, by their name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Listen,
    Redis,
    AssumeFirstStart,
    Www,
    Demo,
    Log,
    LogFormat,
}

impl Key {
    const ALL: &'static [Self] = &[
        Self::Listen,
        Self::Redis,
        Self::AssumeFirstStart,
        Self::Www,
        Self::Demo,
        Self::Log,
        Self::LogFormat,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Redis => "redis",
            Self::AssumeFirstStart => "assume_first_start",
            Self::Www => "www",
            Self::Demo => "demo",
            Self::Log => "log",
            Self::LogFormat => "log_format",
        }
    }

    const fn is_flag(self) -> bool {
        matches!(self, Self::AssumeFirstStart | Self::Demo)
    }
}

impl Config {
    /// Sets one option from its text. The error says what is allowed.
    fn set(&mut self, key: Key, text: &str) -> Result<(), String> {
        match key {
            Key::Listen => self.listen = listen(text)?,
            Key::Redis => self.redis = Some(RedisUrl::new(text)?),
            Key::AssumeFirstStart => self.assume_first_start = flag(text)?,
            Key::Www if text.is_empty() => return Err("\"\" is no folder; allowed: the path of a folder".to_owned()),
            Key::Www => self.www = Some(PathBuf::from(text)),
            Key::Demo => self.demo = flag(text)?,
            Key::Log => {
                tracing_subscriber::EnvFilter::try_new(text).map_err(|problem| {
                    format!(
                        "{text:?} is not a filter ({problem}); allowed: error, warn, info, debug, trace, or \
                         TARGET=LEVEL, separated by commas"
                    )
                })?;
                text.clone_into(&mut self.log);
            }
            Key::LogFormat => {
                self.log_format = match text {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(format!("{text:?} is not a log format; allowed: \"text\", \"json\"")),
                }
            }
        }
        Ok(())
    }

    /// Sets one duration. The error says what is allowed.
    fn set_duration(&mut self, name: &str, millis: u64) -> Result<(), String> {
        let Some(field) = duration(&mut self.durations, name) else {
            return Err(unknown("duration", name, DURATIONS));
        };
        *field = millis;
        Ok(())
    }
}

macro_rules! durations {
    ($($name:ident),+) => {
        /// The names of all durations.
        const DURATIONS: &[&str] = &[$(stringify!($name)),+];

        /// The duration of this name.
        fn duration<'a>(durations: &'a mut Durations, name: &str) -> Option<&'a mut u64> {
            match name {
                $(stringify!($name) => Some(&mut durations.$name),)+
                _ => None,
            }
        }
    };
}

durations!(
    relay_lease_millis,
    renew_every_millis,
    delta_millis,
    client_lease_millis,
    silence_millis,
    heartbeat_millis,
    pull_every_millis,
    hello_millis,
    idle_ping_millis,
    store_timeout_millis,
    drain_millis
);

fn listen(text: &str) -> Result<String, String> {
    let allowed = "allowed: HOST:PORT, as in 127.0.0.1:8787 or [::1]:8787; port 0 takes a free one";
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(format!("{text:?} is not an address; {allowed}"));
    }
    Ok(text.to_owned())
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither; allowed: true, false")),
    }
}

/// Refuses a name, with the nearest one that exists, if it is near, and all of them.
fn unknown(what: &str, name: &str, allowed: &[&str]) -> String {
    let nearest = allowed
        .iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, candidate)| format!("; did you mean \"{candidate}\"?"))
        .unwrap_or_default();
    let separator = if nearest.is_empty() { ";" } else { "" };
    format!(
        "unknown {what} {name:?}{nearest}{separator} allowed: {}",
        allowed.join(", ")
    )
}

/// How many letters have to change, come or go (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_has_a_name() {
        let mut durations = Durations::default();
        for name in DURATIONS {
            *duration(&mut durations, name).unwrap() = 77;
        }
        let shown = format!("{durations:?}");
        assert_eq!(shown.matches("77").count(), DURATIONS.len());
        assert_eq!(shown.matches(':').count(), DURATIONS.len(), "{shown}");
    }

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
