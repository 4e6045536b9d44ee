//! What time alone brings about: heartbeats, the end of a client that is silent, limits on waiting and holding.

use super::{Conn, ConnKey, Hub, Now, Output, Owed, Phase, Place, Stage, Timer};
use crate::session::clock::Millis;
use crate::session::hub::entry::EntryKey;
use lockrelay_protocol::{CloseCode, ReleaseReason, ServerMessage};
use std::collections::BTreeSet;

impl Hub {
    /// When [`Hub::tick`] is due, on the taker's clock.
    pub(in crate::session) fn deadline(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// Does all that is due.
    pub(in crate::session) fn tick(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop(now.taker) {
            match timer {
                Timer::Entry(key) => self.entry_due(now, key),
                Timer::Heartbeat(conn) => self.heartbeat(now, conn),
                Timer::Silence(conn) => self.silence(now, conn),
            }
        }
    }

    /// For how long a client may believe from now on in what it has in a partition, and 0 if the relay itself may not.
    pub(super) fn valid_millis(&self, now: Now, partition: usize) -> Millis {
        let until = self.desks[partition].lease_until;
        let left = until.map_or(0, |until| until.saturating_sub(now.believer));
        self.durations.client_lease_millis.min(left)
    }

    /// The connection has an entry now: it gets heartbeats, and has to answer them.
    pub(super) fn watch(&mut self, now: Now, conn: ConnKey) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        if state.heartbeat.is_none() {
            let at = now.taker.saturating_add(self.durations.heartbeat_millis);
            self.timers.set(&mut state.heartbeat, Timer::Heartbeat(conn), Some(at));
        }
        if state.silence.is_none() {
            let at = now.taker.saturating_add(self.durations.silence_millis);
            self.timers.set(&mut state.silence, Timer::Silence(conn), Some(at));
        }
    }

    /// The connection has no entry any more.
    pub(super) fn unwatch(&mut self, conn: ConnKey) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        self.timers.set(&mut state.heartbeat, Timer::Heartbeat(conn), None);
        self.timers.set(&mut state.silence, Timer::Silence(conn), None);
        if state.phase == Phase::Closing {
            self.conns.remove(&conn);
            self.metrics.connections.dec();
        }
    }

    fn heartbeat(&mut self, now: Now, conn: ConnKey) {
        let here: BTreeSet<usize> = self
            .entries_of(conn)
            .iter()
            .map(|key| self.entries[key].partition)
            .collect();
        let valid_millis = here.iter().map(|partition| self.valid_millis(now, *partition)).min();
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let at = now.taker.saturating_add(self.durations.heartbeat_millis);
        self.timers.set(&mut state.heartbeat, Timer::Heartbeat(conn), Some(at));
        // Without a lease of its own the relay has nothing to promise.
        if let Some(valid_millis) = valid_millis.filter(|valid| *valid > 0) {
            state.owes_ack = true;
            for partition in here {
                state.tell(partition);
            }
            let echo = state.echo;
            self.outputs
                .push_back(Output::Send(conn, ServerMessage::Heartbeat { echo, valid_millis }));
        }
    }

    /// Its timer was set when it could be due at the earliest; acknowledgements move it on only here.
    fn silence(&mut self, now: Now, conn: ConnKey) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let due = state.acknowledged_at.saturating_add(self.durations.silence_millis);
        let later = if due > now.taker {
            Some(due)
        } else if may_be_silent(state) {
            Some(now.taker.saturating_add(self.durations.heartbeat_millis.max(1)))
        } else {
            None
        };
        if later.is_some() {
            self.timers.set(&mut state.silence, Timer::Silence(conn), later);
            return;
        }
        if state.phase == Phase::Open {
            self.close(conn, CloseCode::Silent, "no acknowledgement in time");
        }
        self.forget(now, conn, Some(ReleaseReason::LeaseExpired));
    }

    fn entry_due(&mut self, now: Now, key: EntryKey) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.timer = None;
        match entry.stage {
            Stage::Asked { .. } => {
                // Either the store was not there for as long as the request may wait, or its answer is still unknown.
                let problem = match entry.place {
                    Place::Unsent(_) => "the relay has no session in its store",
                    Place::Sent { .. } => "the store has not answered",
                };
                self.fail(key, problem);
                self.remove(now, key, Owed::default());
            }
            Stage::Waiting { .. } => {
                let owed = Owed {
                    timeout: true,
                    ..Owed::default()
                };
                self.remove(now, key, owed);
            }
            Stage::Held { lost: None, .. } => self.lose(now, key, ReleaseReason::MaxHold),
            Stage::Held { lost: Some(_), .. } => self.remove(now, key, Owed::default()),
            Stage::Removing(_) => {}
        }
    }
}

/// A client that holds nothing and was sent no heartbeat has no reason to speak.
fn may_be_silent(conn: &Conn) -> bool {
    conn.phase == Phase::Open && conn.held == 0 && !conn.owes_ack
}
