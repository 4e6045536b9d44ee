//! The relay's place in one partition of the store: which session it has there, or asks for, and how long that lets it
//! believe. Pure.
//!
//! ```text
//!              opened                       lost, or another generation
//!   Opening ────────────> Open ─────────────────────────────────────────────> Opening, with nothing
//!      ^                    │
//!      │                    │ another generation that still recovers, and the lease is valid
//!      └────────────────────┴─────────────────────────────────────────> Opening, with what it holds
//! ```
//!
//! # A move
//!
//! When a store begins a new generation it may have lost writes, among them grants. Locks that are believed in are carried
//! into it: the relay opens a new session there and claims them, before the store grants anything to anybody. Until every
//! claim has been answered nothing is promised beyond the *old* session's lease: the new one says nothing about locks that
//! the store does not have yet. Once a recovery has ended, others may have been granted what this relay holds, so whoever
//! has not moved by then has lost it; its old lease was over before that, since the recovery lasts L + delta.

use super::clock::{Millis, Now};
use super::keeper::Keeper;
use crate::store::{Generation, SessionId};

#[derive(Debug)]
pub(super) struct Tenure {
    phase: Phase,
    /// Until when what moves may be believed in, on the believer's clock.
    carried: Option<Millis>,
}

#[derive(Debug)]
enum Phase {
    Opening(SessionId),
    Open(SessionId, Box<Keeper>),
}

impl Tenure {
    /// Asks for a first session.
    pub(super) fn new(id: SessionId) -> Self {
        Self {
            phase: Phase::Opening(id),
            carried: None,
        }
    }

    /// The session that it has or asks for.
    pub(super) fn id(&self) -> SessionId {
        match &self.phase {
            Phase::Opening(id) | Phase::Open(id, _) => *id,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(..))
    }

    /// Its keeper, while it is open.
    pub(super) fn keeper(&mut self) -> Option<&mut Keeper> {
        match &mut self.phase {
            Phase::Open(_, keeper) => Some(keeper),
            Phase::Opening(_) => None,
        }
    }

    /// Until when the relay may believe, on the believer's clock; `None` if there is nothing to believe in.
    pub(super) fn lease_until(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Open(_, keeper) => Some(self.carried.unwrap_or_else(|| keeper.lease_until())),
            Phase::Opening(_) => self.carried,
        }
    }

    /// When the new session's own lease ends, which during a move may be sooner than what is carried.
    pub(super) fn is_over(&self, now: Now) -> bool {
        let own = match &self.phase {
            Phase::Open(_, keeper) => keeper.lease_until(),
            Phase::Opening(_) => Millis::MAX,
        };
        now.believer >= self.carried.map_or(own, |carried| carried.min(own))
    }

    /// The earliest instant at which [`Tenure::is_over`] will hold, if nothing happens before.
    pub(super) fn over_at(&self) -> Option<Millis> {
        match (&self.phase, self.carried) {
            (Phase::Open(_, keeper), carried) => Some(keeper.lease_until().min(carried.unwrap_or(Millis::MAX))),
            (Phase::Opening(_), carried) => carried,
        }
    }

    /// Whether what is held can be carried into this generation, which is not the session's.
    pub(super) fn may_move(&self, now: Now, generation: Generation) -> bool {
        generation.recovering && self.is_open() && !self.is_over(now)
    }

    /// Asks for another session, into which everything moves.
    pub(super) fn begin_move(&mut self, id: SessionId) {
        self.carried = self.over_at();
        self.phase = Phase::Opening(id);
    }

    /// Asks for another session, with nothing.
    pub(super) fn begin_anew(&mut self, id: SessionId) {
        *self = Self::new(id);
    }

    /// Asks once more, by another name, for the session that it did not get.
    pub(super) fn ask_again(&mut self, id: SessionId) {
        self.phase = Phase::Opening(id);
    }

    /// The session that was asked for is open. Returns whether everything can move into it: only while the store recovers.
    pub(super) fn opened(&mut self, keeper: Keeper, generation: Generation) -> Moved {
        let moved = match self.carried {
            None => Moved::Nothing,
            Some(_) if generation.recovering => Moved::Everything,
            Some(_) => Moved::TooLate,
        };
        self.phase = Phase::Open(self.id(), Box::new(keeper));
        moved
    }

    /// Whether claims are still to be answered.
    pub(super) fn is_moving(&self) -> bool {
        self.carried.is_some()
    }

    /// Every claim has been answered: the new session's lease holds.
    pub(super) fn moved(&mut self) {
        self.carried = None;
    }
}

/// What a new session begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// There was nothing to carry.
    Nothing,
    /// What is held is to be claimed now.
    Everything,
    /// The store grants already: what was carried is lost.
    TooLate,
}
