//! Command line and environment. What a text means is decided in [`super::Config::set`], for all sources alike.

use super::{Config, ConfigError, Key, file};
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Gives web pages distributed locks, over a WebSocket, in Redis or in memory.
///
/// Every option can also be given as a variable LOCKRELAY_NAME or in the file of --config; the command line goes before
/// variables, variables before the file. Who may lock what is said in the file: without a rule that allows it,
/// every lock is denied.
#[derive(Debug, Parser)]
#[command(name = "lockrelay", version)]
pub struct Args {
    /// Address to listen on, HOST:PORT; port 0 takes a free one [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDRESS", env = "LOCKRELAY_LISTEN")]
    listen: Option<String>,

    /// Keep locks in this Redis, redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]; without it they live in memory
    #[arg(long, value_name = "URL", env = "LOCKRELAY_REDIS", hide_env_values = true)]
    redis: Option<String>,

    /// Start at once on a Redis without data, for tests and throw-away servers only
    #[arg(long, value_name = "true|false", env = "LOCKRELAY_ASSUME_FIRST_START")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    assume_first_start: Option<String>,

    /// TOML file with options, durations and rules
    #[arg(long, value_name = "FILE", env = "LOCKRELAY_CONFIG")]
    config: Option<PathBuf>,

    /// Serve the files of this folder at /
    #[arg(long, value_name = "DIR", env = "LOCKRELAY_WWW")]
    www: Option<String>,

    /// Serve the demo's shop under /demo/
    #[arg(long, value_name = "true|false", env = "LOCKRELAY_DEMO")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    demo: Option<String>,

    /// What to log: error, warn, info, debug, trace, or TARGET=LEVEL,.. [default: info]
    #[arg(long, value_name = "FILTER", env = "LOCKRELAY_LOG")]
    log: Option<String>,

    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "LOCKRELAY_LOG_FORMAT")]
    log_format: Option<String>,

    /// Leases, heartbeats and limits in milliseconds, NAME=MILLISECONDS,.. (names as in the file)
    #[arg(
        long,
        value_name = "NAME=MILLISECONDS",
        env = "LOCKRELAY_DURATIONS",
        value_delimiter = ','
    )]
    durations: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// The command line itself is wrong, or asks for the help or the version; clap's own text.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// An option is.
    #[error("{0}")]
    Config(#[from] ConfigError),
}

impl Config {
    /// From the process's arguments (the first is the program's name), its environment, and the file that they name.
    ///
    /// # Errors
    /// [`ArgsError`]; where it is about the configuration, with the place and what is allowed there.
    pub fn from_args<I>(args: I) -> Result<Self, ArgsError>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        let matches = Args::command().try_get_matches_from(args)?;
        let args = Args::from_arg_matches(&matches)?;
        let place = |name: &str| match matches.value_source(name) {
            Some(ValueSource::EnvVariable) => format!("LOCKRELAY_{}", name.to_uppercase()),
            _ => format!("--{}", name.replace('_', "-")),
        };

        let mut config = Self::default();
        if let Some(path) = &args.config {
            config.read_file(path, &place("config"))?;
        }
        for key in Key::ALL {
            // A variable that is set to nothing counts as not set, as it does in most shells' idioms.
            let unset = matches.value_source(key.as_str()) == Some(ValueSource::EnvVariable);
            let Some(text) = args.get(*key).filter(|text| !(unset && text.is_empty())) else {
                continue;
            };
            config.set(*key, text).map_err(|problem| ConfigError {
                place: place(key.as_str()),
                problem,
            })?;
        }
        for text in args.durations.iter().filter(|text| !text.is_empty()) {
            config.set_duration_text(text).map_err(|problem| ConfigError {
                place: place("durations"),
                problem,
            })?;
        }
        config.check()?;
        Ok(config)
    }

    fn read_file(&mut self, path: &Path, place: &str) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            place: place.to_owned(),
            problem: format!("cannot read {name:?}: {error}"),
        })?;
        file::apply(self, &text, &name)
    }

    fn set_duration_text(&mut self, text: &str) -> Result<(), String> {
        let allowed = "allowed: NAME=MILLISECONDS, as in heartbeat_millis=2000";
        let (name, millis) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} has no value; {allowed}"))?;
        let millis = millis
            .trim()
            .parse()
            .map_err(|_| format!("{text:?} is not a number of milliseconds; {allowed}"))?;
        self.set_duration(name.trim(), millis)
    }

    /// What no option can say alone.
    fn check(&self) -> Result<(), ConfigError> {
        let broken = |place: &str, problem: String| ConfigError {
            place: place.to_owned(),
            problem,
        };
        self.durations
            .validate()
            .map_err(|problem| broken("durations", problem.to_string()))?;
        match &self.www {
            Some(www) if !www.is_dir() => Err(broken("www", format!("{:?} is not a folder", www.display()))),
            _ => Ok(()),
        }
    }
}

impl Args {
    fn get(&self, key: Key) -> Option<&str> {
        match key {
            Key::Listen => self.listen.as_deref(),
            Key::Redis => self.redis.as_deref(),
            Key::AssumeFirstStart => self.assume_first_start.as_deref(),
            Key::Www => self.www.as_deref(),
            Key::Demo => self.demo.as_deref(),
            Key::Log => self.log.as_deref(),
            Key::LogFormat => self.log_format.as_deref(),
        }
    }
}
