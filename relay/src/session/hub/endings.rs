//! How things end: connections, by whoever's decision, and entries, whatever their stage.

use super::{
    CloseCode, ConnKey, Desk, End, EntryKey, Hub, Now, Output, Owed, Phase, Place, ReleaseReason, ServerMessage, Stage,
    Timer, Todo,
};

impl Hub {
    /// A connection is over.
    pub(in crate::session) fn ended(&mut self, now: Now, conn: ConnKey, how: End) {
        match how {
            // The owner is gone of its own will: no loss.
            End::CloseFrame => self.forget(now, conn, None),
            End::TcpEnded => self.forget(now, conn, Some(ReleaseReason::ConnectionLost)),
            End::RelayClosed => self.closing(now, conn),
        }
    }

    /// A client does not read what it is sent: its outbox is full.
    pub(in crate::session) fn too_slow(&mut self, now: Now, conn: ConnKey) {
        if self.is_open(conn) {
            let reason = "too much is waiting to be read";
            self.outputs.push_back(Output::Cut(conn, CloseCode::TooSlow, reason));
            self.closing(now, conn);
        }
    }

    /// The relay is going to stop: tells every holder, closes every connection. What is held is freed at its client's
    /// answer, at the connection's end, or at F.
    pub(in crate::session) fn shut_down(&mut self, now: Now) {
        for conn in self.conns_in_order() {
            if !self.is_open(conn) {
                continue;
            }
            for key in self.entries_of(conn) {
                self.lose(now, key, ReleaseReason::RelayShutdown);
            }
            self.close(conn, CloseCode::GoingAway, "the relay is shutting down");
            self.closing(now, conn);
        }
    }

    /// Whether nothing is left, neither here nor on its way to the store.
    pub(in crate::session) fn is_drained(&self) -> bool {
        let quiet = |desk: &Desk| desk.lease_until.is_none() || desk.is_quiet();
        self.entries.is_empty() && self.desks.iter().all(quiet)
    }

    /// The relay gives up on a connection whose client may still believe in what it holds.
    pub(super) fn closing(&mut self, now: Now, conn: ConnKey) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.phase = Phase::Closing;
        self.timers.set(&mut state.heartbeat, Timer::Heartbeat(conn), None);
        for key in self.entries_of(conn) {
            // It was never told of a grant that it waits for.
            if self.entries.get(&key).is_some_and(|entry| entry.stage.waits()) {
                self.remove(now, key, Owed::default());
            }
        }
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        if state.held == 0 {
            self.forget(now, conn, None);
        } else {
            let until = state.acknowledged_at.saturating_add(self.durations.silence_millis);
            self.timers.set(&mut state.silence, Timer::Silence(conn), Some(until));
        }
    }

    /// The client of a connection can believe in nothing any more: frees all that it has. What it still holds is counted as
    /// lost for `reason`, if there is one.
    pub(super) fn forget(&mut self, now: Now, conn: ConnKey, reason: Option<ReleaseReason>) {
        let keys = self.entries_of(conn);
        let Some(mut state) = self.conns.remove(&conn) else {
            return;
        };
        self.metrics.connections.dec();
        self.timers.set(&mut state.heartbeat, Timer::Heartbeat(conn), None);
        self.timers.set(&mut state.silence, Timer::Silence(conn), None);
        for key in keys {
            let lost = self
                .entries
                .get(&key)
                .is_some_and(|entry| matches!(entry.stage, Stage::Held { lost: None, .. }));
            if let (true, Some(reason)) = (lost, reason) {
                self.metrics.lost(reason);
            }
            self.remove(now, key, Owed::default());
        }
    }

    /// Takes a lock from its holder: told first, freed at the answer or F after. What waits is withdrawn.
    ///
    /// An operator's revocation will come in here, too.
    pub(super) fn lose(&mut self, now: Now, key: EntryKey, reason: ReleaseReason) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        match &mut entry.stage {
            Stage::Held { lost: Some(_), .. } | Stage::Removing(_) => {}
            Stage::Held { lost, .. } => {
                *lost = Some(reason);
                // The client's belief that predates the telling ends F after the telling at the latest: it rests on
                // acknowledgements that were received before. What prolongs it later reaches the client after the `lost`.
                let until = now.taker.saturating_add(self.durations.silence_millis);
                self.timers.set(&mut entry.timer, Timer::Entry(key), Some(until));
                self.metrics.lost(reason);
                self.tell_loss(key, reason);
            }
            Stage::Asked { .. } | Stage::Waiting { .. } => self.remove(now, key, Owed::default()),
        }
    }

    /// Ends an entry, whatever its stage. `owed` is told when the store has removed it.
    pub(super) fn remove(&mut self, now: Now, key: EntryKey, owed: Owed) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if let Stage::Removing(already) = &mut entry.stage {
            already.cancelled = already.cancelled.saturating_add(owed.cancelled);
            already.released = already.released.saturating_add(owed.released);
            return;
        }
        let desk = &mut self.desks[entry.partition];
        match &entry.place {
            Place::Unsent(number) => {
                desk.withdraw(*number);
                self.finish(now, key, owed, false);
            }
            Place::Sent { .. } => {
                desk.push(Todo::Remove(key));
                self.set_stage(now, key, Stage::Removing(owed));
                if let Some(entry) = self.entries.get_mut(&key) {
                    self.timers.set(&mut entry.timer, Timer::Entry(key), None);
                }
            }
        }
    }

    /// An entry is gone from the store, or was never there. `held`: the removal freed a lock.
    pub(super) fn finish(&mut self, now: Now, key: EntryKey, owed: Owed, held: bool) {
        self.set_stage(now, key, Stage::Removing(owed));
        let Some(mut entry) = self.entries.remove(&key) else {
            return;
        };
        self.timers.set(&mut entry.timer, Timer::Entry(key), None);
        let request_id = entry.acquire.request_id;
        if let Place::Sent { slot, lock_id } = entry.place {
            self.desks[entry.partition].vacate(slot);
            self.locks.remove(&lock_id);
            for nth in 0..owed.released {
                let held = held && owed.by_release && nth == 0;
                let lock_id = lock_id.clone();
                self.send(entry.conn, ServerMessage::Released { lock_id, held });
            }
        }
        for _ in 0..owed.cancelled {
            let request_id = request_id.clone();
            self.send(entry.conn, ServerMessage::Cancelled { request_id });
        }
        if owed.timeout {
            let request_id = request_id.clone();
            self.send(entry.conn, ServerMessage::Timeout { request_id });
        }
        if let Some(conn) = self.conns.get_mut(&entry.conn) {
            conn.requests.remove(&request_id);
            if conn.requests.is_empty() {
                self.unwatch(entry.conn);
            }
        }
    }
}
