//! The client's state machine, sans-IO: [`Session::handle`] takes what happened and when, [`Session::poll_output`] gives what
//! is to be done. No socket, no clock, no randomness but a seed; so every race has a test in virtual time.
//!
//! | file | what it holds |
//! |---|---|
//! | [`types`] | inputs, outputs, options |
//! | `connection` | the phases of the connection, and the silence that ends one |
//! | `requests` | calls that wait for their lock |
//! | `locks` | delivered locks, and how each ends |
//! | [`ratchet`] | the clock that decides what may be believed |
//! | `backoff` | waits between connections |
//!
//! # What holds after every call of `handle`
//!
//! - What the clock says comes first: leases, limits and waits that are over are over before the input is looked at. So a
//!   grant that was received too late is never delivered, and a loss is told before anything newer.
//! - A lock belongs to the connection that it came by. When that one ends, each of its locks has ended.
//! - For each request at most one of `Granted`, `Unavailable`, `Rejected`; for each lock one `LockEnded`, then one
//!   `ReleaseConfirmed`.
//! - No grant is left that nobody knows of: one whose request was withdrawn is released by the relay (`cancel`), any other
//!   one that cannot be delivered by the client (`release`).

mod backoff;
mod connection;
mod locks;
pub mod ratchet;
mod requests;
pub mod types;

#[cfg(test)]
mod tests;

pub use ratchet::Ratchet;
pub use types::{AcquireOptions, Config, ConnectionState, Failure, Grant, Input, LockKey, Millis, Output, RequestKey};

use backoff::Backoff;
use connection::Phase;
use lockrelay_protocol::{ClientMessage, ServerMessage};
use locks::Lock;
use requests::Pending;
use std::collections::VecDeque;

/// How long a call waits for its lock where it does not say, in milliseconds.
pub const DEFAULT_WAIT: Millis = 2_000;

/// How long a call waits in each spell without a connection, in milliseconds. Long enough for a reconnect to another relay,
/// short enough for a person who clicked.
pub const CONNECTION_WAIT: Millis = 2_000;

/// How long a relay may take to answer `hello`, in milliseconds. Afterwards it tells its own lease, which takes over.
pub const GREETING_WAIT: Millis = 10_000;

/// How long a connection must have been good for the backoff to begin anew, in milliseconds.
const STABLE_AFTER: Millis = 5_000;

/// The client's state machine.
#[derive(Debug)]
pub struct Session {
    config: Config,
    phase: Phase,
    state: ConnectionState,
    epoch: u64,
    url: usize,
    backoff: Backoff,
    /// Since when no relay answers.
    apart_since: Millis,
    /// When the connection's last message arrived; for silence.
    heard_at: Millis,
    /// How long the relay may be silent while it owes something.
    silence_limit: Millis,
    /// Until when the connection's locks may be believed in.
    valid_until: Millis,
    now: Millis,
    /// In the order of the calls.
    pending: Vec<Pending>,
    /// Request ids that were cancelled and not yet confirmed: their grants are ignored.
    withdrawn: Vec<u64>,
    locks: Vec<Lock>,
    next_request: u64,
    next_lock: u64,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session that connects at once: the first output is a [`Output::Connect`].
    #[must_use]
    pub fn new(now: Millis, config: Config) -> Self {
        let backoff = Backoff::new(config.seed);
        let mut session = Self {
            config,
            phase: Phase::Backoff { until: now },
            state: ConnectionState::Connecting,
            epoch: 0,
            url: 0,
            backoff,
            apart_since: now,
            heard_at: now,
            silence_limit: GREETING_WAIT,
            valid_until: 0,
            now,
            pending: Vec::new(),
            withdrawn: Vec::new(),
            locks: Vec::new(),
            next_request: 1,
            next_lock: 1,
            outputs: VecDeque::new(),
        };
        session.connect();
        session
    }

    /// Something happened at `now`, a reading of the believer's clock ([`Ratchet`]).
    pub fn handle(&mut self, now: Millis, input: Input) {
        self.now = self.now.max(now);
        self.latch();
        match input {
            Input::Acquire { request, options } => self.acquire(request, options),
            Input::Abort { request } => self.abort(request),
            Input::Release { lock } => self.release(lock),
            Input::Close => self.close(),
            Input::PageHidden => self.page_hidden(),
            Input::PageShown => self.page_shown(),
            Input::SocketOpened { epoch, token } if epoch == self.epoch => self.socket_opened(token),
            Input::Message { epoch, message } if epoch == self.epoch && self.phase.has_socket() => {
                self.message(message)
            }
            Input::BadMessage { epoch, .. } if epoch == self.epoch => {
                self.drop_socket(
                    lockrelay_protocol::CloseCode::Protocol.as_u16(),
                    "not a lockrelay message",
                );
            }
            Input::SocketClosed { epoch, code, reason } if epoch == self.epoch => self.socket_closed(code, &reason),
            Input::TokenReplaced(token) => {
                let t = self.now;
                self.send(ClientMessage::Token { t, token });
            }
            Input::SocketOpened { .. }
            | Input::Message { .. }
            | Input::BadMessage { .. }
            | Input::SocketClosed { .. }
            | Input::Timer => {}
        }
    }

    /// The next thing to do, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Session::handle`] with [`Input::Timer`], if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let requests = self.pending.iter().filter_map(|pending| self.give_up_at(pending));
        let locks = self.locks.iter().filter_map(|lock| self.ends_at(lock));
        requests.chain(locks).chain(self.phase_deadline()).min()
    }

    /// Whether the lock is over, from the clock alone: true the instant its lease or its maximum hold time ends, even if
    /// nobody has called [`Session::handle`] since.
    #[must_use]
    pub fn is_released(&self, lock: LockKey, now: Millis) -> bool {
        let now = self.now.max(now);
        !self
            .locks
            .iter()
            .any(|held| held.key == lock && self.ends_at(held).is_some_and(|end| now < end))
    }

    /// The connection's state.
    #[must_use]
    pub const fn state(&self) -> ConnectionState {
        self.state
    }

    /// Everything that the clock alone decides, before anything newer.
    fn latch(&mut self) {
        self.latch_locks();
        self.latch_requests();
        self.latch_phase();
    }

    fn message(&mut self, message: ServerMessage) {
        self.heard_at = self.now;
        match message {
            ServerMessage::Welcome { lease_millis, .. } => self.welcomed(lease_millis),
            ServerMessage::Heartbeat { echo, valid_millis } => {
                self.prolong(echo, valid_millis);
                let t = self.now;
                self.send(ClientMessage::Ack { t });
            }
            ServerMessage::Granted {
                request_id,
                lock_id,
                fencing_token,
                mode,
                echo,
                valid_millis,
            } => {
                self.granted(&request_id, lock_id, fencing_token, mode, echo, valid_millis);
            }
            ServerMessage::Queued { request_id, ahead } => self.queued(&request_id, ahead),
            ServerMessage::Unavailable { request_id } => self.unavailable(&request_id),
            ServerMessage::Timeout { request_id } => self.timed_out_by_relay(&request_id),
            ServerMessage::Cancelled { request_id } => self.cancelled(&request_id),
            ServerMessage::Released { lock_id, .. } => self.confirmed(&lock_id),
            ServerMessage::Lost { lock_id, reason } => self.lost(&lock_id, reason),
            ServerMessage::Error {
                code,
                message,
                request_id,
                lock_id,
                retry_after_millis,
            } => {
                let failure = Failure {
                    code,
                    message,
                    retry_after_millis,
                };
                if let Some(request_id) = request_id {
                    self.refused(&request_id, failure);
                }
                if let Some(lock_id) = lock_id {
                    self.confirmed(&lock_id);
                }
            }
        }
    }

    /// Sends on the present socket; without one there is nobody to tell, and the connection's end said it all.
    fn send(&mut self, message: ClientMessage) {
        if self.phase.has_socket() {
            // The first message after a silence in which nothing was owed starts the wait for an answer.
            if !self.is_owed() {
                self.heard_at = self.now;
            }
            self.outputs.push_back(Output::Send {
                epoch: self.epoch,
                message,
            });
        }
    }

    fn set_state(&mut self, state: ConnectionState) {
        if self.state != state {
            self.state = state;
            self.outputs.push_back(Output::StateChanged(state));
        }
    }
}
