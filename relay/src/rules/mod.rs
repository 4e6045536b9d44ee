//! Who may lock what.
//!
//! The relay asks an [`Authorizer`] about every `acquire`, in the task of the connection that sent it. Nothing is allowed
//! unless an authorizer says so: the one that is used by default, a [`RuleList`] without rules, allows nothing.
//!
//! An authorizer judges a request by what it asks for and by where it comes from. It deliberately learns nothing about
//! who holds or waits, so that a refusal tells nobody anything about others.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | the trait, what it is asked and what it answers |
//! | `list.rs` | the rules of the configuration file: globs on the mutex, the first that matches decides |

mod list;

pub use list::{Allow, BadGlob, Rule, RuleList};

use async_trait::async_trait;
use lockrelay_protocol::{Mode, MutexName};

/// What a request wants to do with the mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Wait for it like everybody else, or take it if it is free.
    Acquire,
    /// Take it from whoever holds it.
    Steal,
}

/// A request, as an [`Authorizer`] sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ask<'a> {
    /// What is to be locked.
    pub mutex: &'a MutexName,
    /// Who else may hold it at the same time.
    pub mode: Mode,
    /// Whether it waits its turn.
    pub action: Action,
    /// The `Origin` header of the connection's handshake. Browsers always send it and pages cannot change it; other
    /// clients send what they like.
    pub origin: Option<&'a str>,
    /// How long the request would wait, in milliseconds; `None` without a limit.
    pub wait_millis: Option<u64>,
    /// How long the lock would be held at most, in milliseconds; `None` without a limit.
    pub max_hold_millis: Option<u64>,
}

impl<'a> Ask<'a> {
    /// An ordinary exclusive request without limits, from nowhere; for tests of an authorizer.
    #[must_use]
    pub const fn of(mutex: &'a MutexName) -> Self {
        Self {
            mutex,
            mode: Mode::Exclusive,
            action: Action::Acquire,
            origin: None,
            wait_millis: None,
            max_hold_millis: None,
        }
    }
}

/// The answer of an [`Authorizer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request goes to the store.
    Allow {
        /// The longest that the lock may be held, in milliseconds, whatever the request says. `None`: what it says holds.
        max_hold_millis: Option<u64>,
    },
    /// The request is answered with `UNAUTHORIZED`.
    Deny {
        /// Why, for a person. Sent to the client: say nothing in it that the client may not know.
        message: String,
    },
}

/// Decides who may lock what.
///
/// # Panics
/// A panic in an authorizer closes the connection that asked, with code 1011, and no other.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the request may go on. Messages of the connection wait for the answer, so answer within milliseconds: a
    /// client that is kept waiting for longer than its lease loses its locks.
    async fn authorize(&self, ask: &Ask<'_>) -> Decision;
}
