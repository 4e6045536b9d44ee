//! The rules of the configuration file.

use super::{Action, Ask, Authorizer, Decision};
use async_trait::async_trait;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Whom a [`Rule`] allows to lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Allow {
    /// Every connection.
    Anyone,
    /// No connection.
    Nobody,
}

impl Allow {
    /// All values, in the order of the documentation.
    pub const ALL: &'static [Self] = &[Self::Anyone, Self::Nobody];

    /// The text in the configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Nobody => "nobody",
        }
    }

    /// The value with this text, if there is one.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|allow| allow.as_str() == text)
    }
}

/// One rule: which mutexes it is about, and what it allows there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// A glob over the whole mutex name: `*` any bytes (also `/`), `?` any one byte, `[a-z]` one byte of a class,
    /// `{a,b}` either, `\` takes the next character literally. Upper and lower case differ.
    pub mutex: String,
    /// Who may lock.
    pub allow: Allow,
    /// Whether those who may lock may also steal.
    pub steal: bool,
}

/// A glob that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mutex = {glob:?} is not a glob: {problem}")]
pub struct BadGlob {
    /// Which rule, counted from 0.
    pub index: usize,
    /// Its glob.
    pub glob: String,
    /// What is wrong.
    pub problem: String,
}

/// Rules in order: the first whose glob matches the mutex decides, and a mutex that none matches is denied.
#[derive(Clone, Debug, Default)]
pub struct RuleList {
    globs: GlobSet,
    rules: Vec<Rule>,
}

impl RuleList {
    /// Compiles the rules.
    ///
    /// # Errors
    /// [`BadGlob`], the first of them.
    pub fn new(rules: Vec<Rule>) -> Result<Self, BadGlob> {
        let bad = |index: usize, rule: &Rule, error: &globset::Error| BadGlob {
            index,
            glob: rule.mutex.clone(),
            problem: error.kind().to_string(),
        };
        let mut set = GlobSetBuilder::new();
        for (index, rule) in rules.iter().enumerate() {
            // Mutex names are no paths: `*` matches a slash, and a backslash escapes on every system.
            let glob = GlobBuilder::new(&rule.mutex)
                .literal_separator(false)
                .backslash_escape(true)
                .build()
                .map_err(|error| bad(index, rule, &error))?;
            // Compiled alone as well, so that an error names its rule.
            GlobSet::builder()
                .add(glob.clone())
                .build()
                .map_err(|error| bad(index, rule, &error))?;
            set.add(glob);
        }
        let globs = set.build().map_err(|error| BadGlob {
            index: 0,
            glob: rules.first().map(|rule| rule.mutex.clone()).unwrap_or_default(),
            problem: error.to_string(),
        })?;
        Ok(Self { globs, rules })
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What the rules say. No clock, no network: the same answer each time.
    #[must_use]
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        let first = self.globs.matches(ask.mutex.as_str()).into_iter().min();
        let rule = first.map(|index| &self.rules[index]);
        let denied = |what: &str| Decision::Deny {
            message: format!(
                "no rule of the relay allows this connection to {what} {:?}",
                ask.mutex.as_str()
            ),
        };
        match (rule.map(|rule| (rule.allow, rule.steal)), ask.action) {
            (Some((Allow::Anyone, _)), Action::Acquire) | (Some((Allow::Anyone, true)), Action::Steal) => {
                Decision::Allow { max_hold_millis: None }
            }
            (_, Action::Acquire) => denied("lock"),
            (_, Action::Steal) => denied("steal"),
        }
    }
}

#[async_trait]
impl Authorizer for RuleList {
    async fn authorize(&self, ask: &Ask<'_>) -> Decision {
        self.decide(ask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockrelay_protocol::MutexName;

    fn rule(mutex: &str, allow: Allow, steal: bool) -> Rule {
        let mutex = mutex.to_owned();
        Rule { mutex, allow, steal }
    }

    fn allows(rules: &[Rule], mutex: &str, action: Action) -> bool {
        let rules = RuleList::new(rules.to_vec()).unwrap();
        let mutex = MutexName::new(mutex).unwrap();
        let mut ask = Ask::of(&mutex);
        ask.action = action;
        matches!(rules.decide(&ask), Decision::Allow { .. })
    }

    #[test]
    fn what_no_rule_matches_is_denied() {
        assert!(!allows(&[], "demo-1", Action::Acquire));
        let demo = [rule("demo-*", Allow::Anyone, false)];
        assert!(allows(&demo, "demo-1", Action::Acquire));
        for other in ["demo", "Demo-1", " demo-1", "x-demo-1", "order:1"] {
            assert!(!allows(&demo, other, Action::Acquire), "{other}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = [
            rule("order:secret", Allow::Nobody, true),
            rule("order:*", Allow::Anyone, false),
            rule("*", Allow::Nobody, false),
        ];
        assert!(!allows(&rules, "order:secret", Action::Acquire));
        assert!(allows(&rules, "order:1", Action::Acquire));
        assert!(!allows(&rules, "invoice:1", Action::Acquire));
    }

    #[test]
    fn stealing_needs_a_rule_that_says_so_and_allows_locking() {
        let rules = [
            rule("a", Allow::Anyone, true),
            rule("b", Allow::Anyone, false),
            rule("c", Allow::Nobody, true),
        ];
        assert!(allows(&rules, "a", Action::Steal));
        assert!(!allows(&rules, "b", Action::Steal));
        assert!(!allows(&rules, "c", Action::Steal));
    }

    #[test]
    fn a_glob_is_over_the_whole_name_which_is_no_path() {
        let matches = |glob: &str, mutex: &str| allows(&[rule(glob, Allow::Anyone, false)], mutex, Action::Acquire);
        assert!(matches("a/*", "a/b/c"));
        assert!(matches("user:{1,2}", "user:2"));
        assert!(!matches("user:{1,2}", "user:3"));
        assert!(matches("[a-c]1", "b1"));
        assert!(matches(r"\*", "*"));
        assert!(!matches(r"\*", "a"));
        assert!(matches("买*", "买家 1"));
        assert!(matches("a?", "ab"));
    }

    #[test]
    fn a_denial_names_the_request_and_nothing_else() {
        let mutex = MutexName::new("order:1").unwrap();
        let rules = RuleList::new(vec![rule("order:*", Allow::Nobody, false)]).unwrap();
        assert_eq!(
            rules.decide(&Ask::of(&mutex)),
            Decision::Deny {
                message: "no rule of the relay allows this connection to lock \"order:1\"".to_owned()
            }
        );
    }

    #[test]
    fn a_bad_glob_is_named() {
        let rules = vec![rule("ok", Allow::Anyone, false), rule("a[", Allow::Anyone, false)];
        let bad = RuleList::new(rules).unwrap_err();
        assert_eq!((bad.index, bad.glob.as_str()), (1, "a["));
        assert!(bad.to_string().starts_with("mutex = \"a[\" is not a glob: "), "{bad}");
    }
}
