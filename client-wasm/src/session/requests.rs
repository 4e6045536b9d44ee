//! Calls that wait for their lock.

use super::connection::Phase;
use super::locks::Lock;
use super::types::{AcquireOptions, Failure, Grant, LockKey, Millis, Output, RequestKey};
use super::{CONNECTION_WAIT, Session};
use lockrelay_protocol::{Acquire, ClientMessage, ErrorCode, LockId, Mode, RequestId};

/// A call without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    key: RequestKey,
    options: AcquireOptions,
    called_at: Millis,
    /// Its request id on the present connection, once it is sent there.
    pub(super) id: Option<u64>,
}

impl Pending {
    /// When its own limit ends. A limit of 0 means one look, and a look takes a round trip.
    fn wait_until(&self) -> Option<Millis> {
        let wait = match self.options.wait_millis? {
            0 => CONNECTION_WAIT,
            wait => wait,
        };
        Some(self.called_at.saturating_add(wait))
    }
}

impl Session {
    pub(super) fn acquire(&mut self, key: RequestKey, options: AcquireOptions) {
        if let Phase::Closed(failure) = &self.phase {
            let failure = failure.clone();
            self.outputs.push_back(Output::Rejected { request: key, failure });
            return;
        }
        self.pending.push(Pending {
            key,
            options,
            called_at: self.now,
            id: None,
        });
        self.send_unsent();
    }

    /// Sends every request that the present connection does not know, in the order of the calls.
    pub(super) fn send_unsent(&mut self) {
        if !self.phase.has_socket() {
            return;
        }
        for index in 0..self.pending.len() {
            if self.pending[index].id.is_none() {
                self.send_request(index);
            }
        }
    }

    fn send_request(&mut self, index: usize) {
        let id = self.next_request;
        let Ok(request_id) = RequestId::new(&id.to_string()) else {
            return;
        };
        self.next_request += 1;
        let t = self.now;
        let pending = &self.pending[index];
        let AcquireOptions {
            mutex,
            mode,
            wait_millis,
            max_hold_millis,
            if_available,
            steal,
            metadata,
        } = pending.options.clone();
        let acquire = Acquire {
            request_id,
            mutex,
            mode,
            wait_millis: pending.wait_until().map(|until| until.saturating_sub(t)),
            max_hold_millis,
            // One look only; but a thief's one look is a theft.
            if_available: if_available || (wait_millis == Some(0) && !steal),
            steal,
            metadata,
        };
        // `send` looks at what is owed, so the id is noted afterwards.
        self.send(ClientMessage::Acquire { t, acquire });
        self.pending[index].id = Some(id);
    }

    /// When a request gives up, as things stand.
    pub(super) fn give_up_at(&self, pending: &Pending) -> Option<Millis> {
        [pending.wait_until(), self.connection_deadline(pending.called_at)]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn latch_requests(&mut self) {
        let mut index = 0;
        while index < self.pending.len() {
            if self.give_up_at(&self.pending[index]).is_none_or(|end| self.now < end) {
                index += 1;
                continue;
            }
            let pending = self.pending.remove(index);
            let failure = if self.phase.is_ready() {
                timed_out()
            } else {
                Failure::new(
                    ErrorCode::ClientNotConnected,
                    "no relay answered in time; check the URL and the network, or try again",
                )
            };
            self.withdraw(&pending);
            self.outputs.push_back(Output::Rejected {
                request: pending.key,
                failure,
            });
        }
    }

    pub(super) fn abort(&mut self, key: RequestKey) {
        if let Some(index) = self.pending.iter().position(|pending| pending.key == key) {
            let pending = self.pending.remove(index);
            self.withdraw(&pending);
        }
    }

    /// Tells the relay that nobody waits any more. A grant that is under way already is released there.
    fn withdraw(&mut self, pending: &Pending) {
        let Some(id) = pending.id else { return };
        let Ok(request_id) = RequestId::new(&id.to_string()) else {
            return;
        };
        let t = self.now;
        self.send(ClientMessage::Cancel { t, request_id });
        self.withdrawn.push(id);
    }

    pub(super) fn withdraw_all(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            self.withdraw(&pending);
            self.pending.push(Pending { id: None, ..pending });
        }
    }

    pub(super) fn reject_all(&mut self, failure: &Failure) {
        for pending in std::mem::take(&mut self.pending) {
            self.outputs.push_back(Output::Rejected {
                request: pending.key,
                failure: failure.clone(),
            });
        }
    }

    pub(super) fn queued(&mut self, id: &RequestId, ahead: u64) {
        if let Some(index) = self.position(id) {
            let request = self.pending[index].key;
            self.outputs.push_back(Output::Queued { request, ahead });
        }
    }

    /// The call that was sent with this id on the present connection.
    fn take_pending(&mut self, id: &RequestId) -> Option<Pending> {
        let index = self.position(id)?;
        Some(self.pending.remove(index))
    }

    fn position(&self, id: &RequestId) -> Option<usize> {
        let number: u64 = id.as_str().parse().ok()?;
        self.pending.iter().position(|pending| pending.id == Some(number))
    }

    pub(super) fn granted(
        &mut self,
        id: &RequestId,
        lock_id: LockId,
        fencing_token: u64,
        mode: Mode,
        echo: Millis,
        valid_millis: Millis,
    ) {
        let Some(mut pending) = self.take_pending(id) else {
            let withdrawn = id
                .as_str()
                .parse()
                .is_ok_and(|number: u64| self.withdrawn.contains(&number));
            let delivered = self.locks.iter().any(|lock| lock.id == lock_id);
            if !withdrawn && !delivered {
                // Nobody here asked for it, so nobody would ever give it back.
                self.send_release(lock_id);
            }
            return;
        };
        self.prolong(echo, valid_millis);
        if self.now >= self.valid_until {
            // The promise is over already: the relay may have given the mutex to somebody else. The request goes to the
            // end of the queue, within its limit.
            self.send_release(lock_id);
            pending.id = None;
            self.pending.push(pending);
            self.send_unsent();
            return;
        }
        let lock = LockKey(self.next_lock);
        self.next_lock += 1;
        // Counted from now, later than the relay's own count began: the earlier of the two ends it.
        let hold_until = pending
            .options
            .max_hold_millis
            .map(|hold| self.now.saturating_add(hold));
        self.locks.push(Lock {
            key: lock,
            id: lock_id.clone(),
            hold_until,
            ended: false,
        });
        let grant = Grant {
            mutex: pending.options.mutex,
            lock_id,
            fencing_token,
            mode,
        };
        self.outputs.push_back(Output::Granted {
            request: pending.key,
            lock,
            grant,
        });
    }

    pub(super) fn unavailable(&mut self, id: &RequestId) {
        if let Some(pending) = self.take_pending(id) {
            let request = pending.key;
            self.outputs.push_back(if pending.options.if_available {
                Output::Unavailable { request }
            } else {
                Output::Rejected {
                    request,
                    failure: timed_out(),
                }
            });
        }
    }

    pub(super) fn timed_out_by_relay(&mut self, id: &RequestId) {
        self.refused(id, timed_out());
    }

    pub(super) fn refused(&mut self, id: &RequestId, failure: Failure) {
        if let Some(pending) = self.take_pending(id) {
            self.outputs.push_back(Output::Rejected {
                request: pending.key,
                failure,
            });
        } else {
            self.cancelled(id);
        }
    }

    pub(super) fn cancelled(&mut self, id: &RequestId) {
        if let Ok(number) = id.as_str().parse::<u64>() {
            self.withdrawn.retain(|withdrawn| *withdrawn != number);
        }
    }
}

fn timed_out() -> Failure {
    Failure::new(
        ErrorCode::LockTimeout,
        "the lock was not granted within acquisitionTimeoutMillis; try again, or wait longer",
    )
}

#[cfg(test)]
mod tests {
    use super::super::types::{Config, Input};
    use super::*;
    use lockrelay_protocol::{MutexName, ServerMessage};

    #[test]
    fn a_call_that_waits_is_told_how_many_are_ahead_and_one_that_was_withdrawn_is_not() {
        let config = Config {
            urls: 1,
            agent: "test".to_owned(),
            seed: 1,
        };
        let mut session = Session::new(0, config);
        let request = RequestKey(7);
        let options = AcquireOptions::new(MutexName::new("a").unwrap());
        session.handle(0, Input::Acquire { request, options });
        session.handle(1, Input::SocketOpened { epoch: 1, token: None });
        let outputs: Vec<_> = std::iter::from_fn(|| session.poll_output()).collect();
        let sent = outputs.iter().find_map(|output| match output {
            Output::Send {
                message: ClientMessage::Acquire { acquire, .. },
                ..
            } => Some(acquire.request_id.clone()),
            _ => None,
        });
        let queued = Input::Message {
            epoch: 1,
            message: ServerMessage::Queued {
                request_id: sent.expect("the request was sent"),
                ahead: 3,
            },
        };

        session.handle(2, queued.clone());
        assert_eq!(session.poll_output(), Some(Output::Queued { request, ahead: 3 }));

        session.handle(3, Input::Abort { request });
        while session.poll_output().is_some() {}
        session.handle(4, queued);
        assert_eq!(session.poll_output(), None);
    }
}
