//! One ordered set of all that is to happen at some time, on the taker's clock.

use super::ConnKey;
use super::entry::EntryKey;
use crate::session::clock::Millis;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The time of an entry's stage is over.
    Entry(EntryKey),
    /// The connection's next heartbeat is due.
    Heartbeat(ConnKey),
    /// The connection may have been silent for F.
    Silence(ConnKey),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Millis, Timer)>,
}

impl Timers {
    /// Moves a timer from where `slot` says to `at`, or stops it.
    pub(super) fn set(&mut self, slot: &mut Option<Millis>, timer: Timer, at: Option<Millis>) {
        if let Some(old) = std::mem::replace(slot, at) {
            self.set.remove(&(old, timer));
        }
        if let Some(at) = at {
            self.set.insert((at, timer));
        }
    }

    /// Takes one that is due out of the set. Its owner's slot still names the time.
    pub(super) fn pop(&mut self, now: Millis) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, timer)| timer)
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.set.first().map(|(at, _)| *at)
    }
}
