//! Delivered locks, and how each ends: once, in order, and for a reason.

use super::Session;
use super::types::{LockKey, Millis, Output};
use lockrelay_protocol::{ClientMessage, LockId, ReleaseReason};

/// A lock that was delivered on the present connection and is not yet confirmed as gone.
#[derive(Debug)]
pub(super) struct Lock {
    pub(super) key: LockKey,
    pub(super) id: LockId,
    /// When its maximum hold time ends.
    pub(super) hold_until: Option<Millis>,
    /// Its owner was told that it is over; what is missing is the relay's confirmation.
    pub(super) ended: bool,
}

impl Session {
    /// Believes the relay for so long after the moment when the client itself sent `echo`.
    ///
    /// Each promise stays true once it was made, so the greatest counts; a late or overtaken one cannot shorten or revive.
    pub(super) fn prolong(&mut self, echo: Millis, valid_millis: Millis) {
        // An echo from the future was never sent: nothing may be believed longer on account of it.
        self.valid_until = self.valid_until.max(echo.min(self.now).saturating_add(valid_millis));
    }

    /// When the lock ends by the clock; `None` if it has ended.
    pub(super) fn ends_at(&self, lock: &Lock) -> Option<Millis> {
        (!lock.ended).then(|| {
            lock.hold_until
                .map_or(self.valid_until, |hold| hold.min(self.valid_until))
        })
    }

    pub(super) fn latch_locks(&mut self) {
        for index in 0..self.locks.len() {
            let lock = &self.locks[index];
            if self.ends_at(lock).is_some_and(|end| self.now >= end) {
                let by_lease = self.now >= self.valid_until;
                self.end(
                    index,
                    if by_lease {
                        ReleaseReason::LeaseExpired
                    } else {
                        ReleaseReason::MaxHold
                    },
                );
            }
        }
    }

    /// Tells the owner, then the relay.
    fn end(&mut self, index: usize, reason: ReleaseReason) {
        let lock = &mut self.locks[index];
        if lock.ended {
            return;
        }
        lock.ended = true;
        let (key, id) = (lock.key, lock.id.clone());
        self.outputs.push_back(Output::LockEnded { lock: key, reason });
        self.send_release(id);
    }

    pub(super) fn send_release(&mut self, lock_id: LockId) {
        let t = self.now;
        self.send(ClientMessage::Release { t, lock_id });
    }

    pub(super) fn release(&mut self, key: LockKey) {
        if let Some(index) = self.locks.iter().position(|lock| lock.key == key) {
            self.end(index, ReleaseReason::Released);
        }
    }

    pub(super) fn lost(&mut self, id: &LockId, reason: ReleaseReason) {
        if let Some(index) = self.locks.iter().position(|lock| lock.id == *id) {
            self.end(index, reason);
        }
    }

    pub(super) fn confirmed(&mut self, id: &LockId) {
        if let Some(index) = self.locks.iter().position(|lock| lock.id == *id && lock.ended) {
            let lock = self.locks.remove(index).key;
            self.outputs.push_back(Output::ReleaseConfirmed { lock });
        }
    }

    pub(super) fn end_locks(&mut self, reason: ReleaseReason) {
        for index in 0..self.locks.len() {
            self.end(index, reason);
        }
    }

    /// The connection is over, and with it every need to confirm.
    pub(super) fn confirm_all(&mut self) {
        for lock in std::mem::take(&mut self.locks) {
            self.outputs.push_back(Output::ReleaseConfirmed { lock: lock.key });
        }
    }
}
