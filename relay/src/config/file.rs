//! The TOML file. Walked by hand and not by serde, so that every error can name its line, its key and what is allowed.

use super::{Config, ConfigError, Key, unknown};
use crate::rules::{Allow, Rule, RuleList};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const RULE_KEYS: &[&str] = &["mutex", "allow", "steal"];

/// Where errors are: the file's name and text.
struct Place<'a> {
    name: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn error(&self, at: usize, problem: impl Into<String>) -> ConfigError {
        let line = self.text.as_bytes()[..at.min(self.text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        ConfigError {
            place: format!("{}:{line}", self.name),
            problem: problem.into(),
        }
    }
}

/// Applies the file's text to `config`. `name` is what errors call the file.
pub(super) fn apply(config: &mut Config, text: &str, name: &str) -> Result<(), ConfigError> {
    let place = Place { name, text };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        place.error(at, format!("not TOML: {}", error.message()))
    })?;
    for (key, value) in table.get_ref() {
        let at = key.span().start;
        let known = Key::ALL.iter().find(|known| known.as_str() == key.get_ref());
        match (key.get_ref().as_ref(), known) {
            ("durations", _) => durations(config, &place, value)?,
            ("rule", _) => config.rules = rules(&place, value)?,
            (_, Some(known)) => option(config, *known, value).map_err(|problem| place.error(at, problem))?,
            (other, None) => {
                let mut allowed: Vec<_> = Key::ALL.iter().map(|key| key.as_str()).collect();
                allowed.extend(["[durations]", "[[rule]]"]);
                return Err(place.error(at, unknown("key", other, &allowed)));
            }
        }
    }
    Ok(())
}

fn option(config: &mut Config, key: Key, value: &Spanned<DeValue<'_>>) -> Result<(), String> {
    let name = key.as_str();
    let text = match value.get_ref() {
        DeValue::Boolean(flag) if key.is_flag() => flag.to_string(),
        DeValue::String(text) if !key.is_flag() => text.to_string(),
        other => {
            let allowed = if key.is_flag() {
                "true, false"
            } else {
                "a text in quotes"
            };
            return Err(wrong_type(name, other, allowed));
        }
    };
    config.set(key, &text).map_err(|problem| format!("{name} = {problem}"))
}

fn wrong_type(name: &str, value: &DeValue<'_>, allowed: &str) -> String {
    format!("{name} is of type {}; allowed: {allowed}", value.type_str())
}

fn durations(config: &mut Config, place: &Place<'_>, value: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
    let Some(table) = value.get_ref().as_table() else {
        let problem = wrong_type("durations", value.get_ref(), "a table, [durations]");
        return Err(place.error(value.span().start, problem));
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let allowed = "a whole number of milliseconds, 0 or more";
        let millis = match value.get_ref() {
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_| format!("{name} = {} is out of range; allowed: {allowed}", integer.as_str())),
            other => Err(wrong_type(name, other, allowed)),
        };
        millis
            .and_then(|millis| config.set_duration(name, millis))
            .map_err(|problem| place.error(key.span().start, problem))?;
    }
    Ok(())
}

fn rules(place: &Place<'_>, value: &Spanned<DeValue<'_>>) -> Result<Vec<Rule>, ConfigError> {
    let Some(array) = value.get_ref().as_array() else {
        let problem = wrong_type("rule", value.get_ref(), "one or more tables, each headed [[rule]]");
        return Err(place.error(value.span().start, problem));
    };
    let rules: Vec<_> = array.iter().map(|value| rule(place, value)).collect::<Result<_, _>>()?;
    // Compiled here once for the error alone, which then has a line.
    RuleList::new(rules.clone()).map_err(|bad| {
        let at = array.get(bad.index).and_then(glob_at).unwrap_or(value.span().start);
        place.error(at, bad.to_string())
    })?;
    Ok(rules)
}

/// Where the glob of a rule stands.
fn glob_at(rule: &Spanned<DeValue<'_>>) -> Option<usize> {
    let table = rule.get_ref().as_table()?;
    let (key, _) = table.iter().find(|(key, _)| key.get_ref() == "mutex")?;
    Some(key.span().start)
}

fn rule(place: &Place<'_>, value: &Spanned<DeValue<'_>>) -> Result<Rule, ConfigError> {
    let at = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        return Err(place.error(at, wrong_type("rule", value.get_ref(), "a table")));
    };
    let (mut mutex, mut allow, mut steal) = (None, None, false);
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let refuse = |problem: String| place.error(key.span().start, problem);
        match (name, value.get_ref()) {
            ("mutex", DeValue::String(glob)) => mutex = Some(glob.to_string()),
            ("mutex", other) => return Err(refuse(wrong_type(name, other, "a glob in quotes, as in \"demo-*\""))),
            ("allow", DeValue::String(text)) if Allow::from_text(text).is_some() => allow = Allow::from_text(text),
            ("allow", DeValue::String(text)) => {
                return Err(refuse(format!(
                    "allow = {text:?} is neither; allowed: {}",
                    allow_texts()
                )));
            }
            ("allow", other) => return Err(refuse(wrong_type(name, other, &allow_texts()))),
            ("steal", DeValue::Boolean(flag)) => steal = *flag,
            ("steal", other) => return Err(refuse(wrong_type(name, other, "true, false"))),
            (other, _) => return Err(refuse(unknown("key of a [[rule]]", other, RULE_KEYS))),
        }
    }
    let mutex =
        mutex.ok_or_else(|| place.error(at, "this [[rule]] has no mutex; allowed: a glob, as in \"demo-*\""))?;
    let allow =
        allow.ok_or_else(|| place.error(at, format!("this [[rule]] has no allow; allowed: {}", allow_texts())))?;
    Ok(Rule { mutex, allow, steal })
}

fn allow_texts() -> String {
    let texts: Vec<_> = Allow::ALL.iter().map(|allow| format!("{:?}", allow.as_str())).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        apply(&mut config, text, "relay.toml").map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            r#"
                listen = "[::1]:0"
                redis = "redis://db"
                assume_first_start = true
                www = "www"
                demo = true
                log = "warn"
                log_format = "json"
                durations.heartbeat_millis = 1_500
                [[rule]]
                mutex = "demo-*"
                allow = "anyone"
                [[rule]]
                mutex = "*"
                allow = "nobody"
                steal = true
            "#,
        )
        .unwrap();
        let default = Config::default();
        let heartbeat_millis = 1_500;
        let rule = |mutex: &str, allow, steal| Rule {
            mutex: mutex.to_owned(),
            allow,
            steal,
        };
        assert_eq!(
            config,
            Config {
                listen: "[::1]:0".to_owned(),
                redis: Some(crate::config::RedisUrl::new("redis://db").unwrap()),
                assume_first_start: true,
                www: Some("www".into()),
                demo: true,
                log: "warn".to_owned(),
                log_format: crate::config::LogFormat::Json,
                durations: crate::defaults::Durations {
                    heartbeat_millis,
                    ..default.durations
                },
                rules: vec![rule("demo-*", Allow::Anyone, false), rule("*", Allow::Nobody, true)],
            }
        );
    }

    #[test]
    fn an_error_names_file_line_key_and_what_is_allowed() {
        let cases = [
            (
                "\nlisen = \"x\"",
                "relay.toml:2: unknown key \"lisen\"; did you mean \"listen\"? allowed: listen, redis, ",
            ),
            (
                "colour = 1",
                "relay.toml:1: unknown key \"colour\"; allowed: listen, redis, ",
            ),
            (
                "demo = \"yes\"",
                "relay.toml:1: demo is of type string; allowed: true, false",
            ),
            (
                "listen = 8787",
                "relay.toml:1: listen is of type integer; allowed: a text in quotes",
            ),
            (
                "listen = \"8787\"",
                "relay.toml:1: listen = \"8787\" is not an address; allowed: HOST:PORT",
            ),
            (
                "listen = \":99999\"",
                "relay.toml:1: listen = \":99999\" is not an address; allowed: HOST:PORT",
            ),
            (
                "log_format = \"xml\"",
                "relay.toml:1: log_format = \"xml\" is not a log format; allowed: \"text\", \"json\"",
            ),
            ("log = \"a=b=c\"", "relay.toml:1: log = \"a=b=c\" is not a filter "),
            (
                "redis = \"http://:pw@db\"",
                "relay.toml:1: redis = \"***\" is not a Redis URL; allowed: redis://",
            ),
            (
                "[durations]\nheartbeats_millis = 1",
                "relay.toml:2: unknown duration \"heartbeats_millis\"; did you mean \"heartbeat_millis\"? allowed: ",
            ),
            (
                "[durations]\nheartbeat_millis = \"1s\"",
                "relay.toml:2: heartbeat_millis is of type string; allowed: a whole number of milliseconds",
            ),
            (
                "[durations]\nheartbeat_millis = -1",
                "relay.toml:2: heartbeat_millis = -1 is out of range; allowed: a whole number",
            ),
            (
                "durations = 5",
                "relay.toml:1: durations is of type integer; allowed: a table, [durations]",
            ),
            (
                "[rule]\nmutex = \"*\"",
                "relay.toml:1: rule is of type table; allowed: one or more tables, each headed [[rule]]",
            ),
            (
                "[[rule]]\nallow = \"anyone\"",
                "relay.toml:1: this [[rule]] has no mutex; allowed: a glob",
            ),
            (
                "demo = true\n[[rule]]\nmutex = \"*\"",
                "relay.toml:2: this [[rule]] has no allow; allowed: \"anyone\", \"nobody\"",
            ),
            (
                "[[rule]]\nmutex = \"*\"\nallow = \"all\"",
                "relay.toml:3: allow = \"all\" is neither; allowed: \"anyone\", \"nobody\"",
            ),
            (
                "[[rule]]\nmutex = 1",
                "relay.toml:2: mutex is of type integer; allowed: a glob in quotes",
            ),
            (
                "[[rule]]\nmutex = \"*\"\nalow = \"nobody\"",
                "relay.toml:3: unknown key of a [[rule]] \"alow\"; did you mean \"allow\"? allowed: mutex, allow, steal",
            ),
            (
                "[[rule]]\nallow = \"anyone\"\nsteal = 1\nmutex = \"*\"",
                "relay.toml:3: steal is of type integer; allowed: true, false",
            ),
            (
                "[[rule]]\nmutex=\"*\"\nallow=\"nobody\"\n[[rule]]\nallow = \"anyone\"\nmutex = \"a[\"",
                "relay.toml:6: mutex = \"a[\" is not a glob: ",
            ),
            ("demo = true\ndemo = false", "relay.toml:2: not TOML: duplicate key"),
            ("demo =", "relay.toml:1: not TOML: "),
        ];
        for (text, start) in cases {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with(start),
                "{text:?} gives {error:?}, which should start with {start:?}"
            );
            assert!(!error.contains('\n'), "{error}");
            assert!(!error.contains("pw"), "{error}");
        }
    }
}
