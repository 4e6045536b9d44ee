//! The phases of the connection: connecting, greeting, ready, and back again.

use super::types::{ConnectionState, Failure, Millis, Output};
use super::{CONNECTION_WAIT, GREETING_WAIT, STABLE_AFTER, Session};
use lockrelay_protocol::{ClientMessage, CloseCode, ErrorCode, ReleaseReason};

/// Where the connection is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// A socket is being opened, since `since`.
    Connecting { since: Millis },
    /// It is open and `hello` is sent. Requests may follow at once.
    Greeting,
    /// The relay has answered, at `since`.
    Ready { since: Millis },
    /// Waiting for the next attempt.
    Backoff { until: Millis },
    /// The page is in the back/forward cache.
    Hidden,
    /// For good. Later requests are rejected with this.
    Closed(Failure),
}

impl Phase {
    /// Whether messages can be sent and received.
    pub(super) const fn has_socket(&self) -> bool {
        matches!(self, Self::Greeting | Self::Ready { .. })
    }

    /// Whether a relay has answered on this connection.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}

impl Session {
    pub(super) fn connect(&mut self) {
        self.epoch += 1;
        self.phase = Phase::Connecting { since: self.now };
        self.silence_limit = GREETING_WAIT;
        self.outputs.push_back(Output::Connect {
            epoch: self.epoch,
            url: self.url,
        });
    }

    pub(super) fn socket_opened(&mut self, token: Option<String>) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.phase = Phase::Greeting;
        self.heard_at = self.now;
        self.valid_until = 0;
        let hello = ClientMessage::Hello {
            t: self.now,
            agent: Some(self.config.agent.clone()),
            token,
        };
        self.send(hello);
        self.send_unsent();
    }

    pub(super) fn welcomed(&mut self, lease_millis: Millis) {
        if self.phase == Phase::Greeting {
            self.phase = Phase::Ready { since: self.now };
            self.silence_limit = lease_millis;
            self.set_state(ConnectionState::Connected);
        }
    }

    pub(super) fn socket_closed(&mut self, code: Option<u16>, reason: &str) {
        if matches!(
            self.phase,
            Phase::Connecting { .. } | Phase::Greeting | Phase::Ready { .. }
        ) {
            // 1000 is the client's own word; from the other side it is some proxy's, and worth another attempt.
            let code = code
                .and_then(CloseCode::from_u16)
                .filter(|code| *code != CloseCode::Normal);
            match code.filter(|code| !code.may_reconnect()) {
                None => self.disconnected(),
                Some(code) => self.closed_for_good(code, reason),
            }
        }
    }

    /// Ends the socket from this side; another attempt follows.
    pub(super) fn drop_socket(&mut self, code: u16, reason: &'static str) {
        if matches!(
            self.phase,
            Phase::Connecting { .. } | Phase::Greeting | Phase::Ready { .. }
        ) {
            self.outputs.push_back(Output::CloseSocket {
                epoch: self.epoch,
                code,
                reason,
            });
            self.disconnected();
        }
    }

    fn disconnected(&mut self) {
        match self.phase {
            Phase::Ready { since } => {
                self.apart_since = self.now;
                if self.now >= since + STABLE_AFTER {
                    self.backoff.reset();
                }
            }
            Phase::Hidden | Phase::Closed(_) => return,
            Phase::Connecting { .. } | Phase::Greeting | Phase::Backoff { .. } => {}
        }
        self.phase = Phase::Backoff {
            until: self.now + self.backoff.next(),
        };
        self.url = (self.url + 1) % self.config.urls;
        self.forget_connection(ReleaseReason::ConnectionLost);
        if self.state == ConnectionState::Connected {
            self.set_state(ConnectionState::Reconnecting);
        }
    }

    /// What belonged to the connection ended with it: locks first, so that their owners hear it before anything newer.
    fn forget_connection(&mut self, reason: ReleaseReason) {
        // Whatever the old socket still says is about the past.
        self.epoch += 1;
        self.end_locks(reason);
        self.confirm_all();
        self.withdrawn.clear();
        for pending in &mut self.pending {
            pending.id = None;
        }
    }

    fn closed_for_good(&mut self, code: CloseCode, reason: &str) {
        let (error, what) = match code {
            CloseCode::Unauthorized => (
                ErrorCode::Unauthorized,
                "the relay refused the token; connect again with another",
            ),
            _ => (
                ErrorCode::ProtocolError,
                "the relay does not understand this client; use versions that fit together",
            ),
        };
        let mut message = String::from(what);
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(reason);
        }
        let failure = Failure::new(error, message);
        self.phase = Phase::Closed(failure.clone());
        self.forget_connection(ReleaseReason::ConnectionLost);
        self.reject_all(&failure);
        self.set_state(ConnectionState::Closed);
    }

    pub(super) fn close(&mut self) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        self.end_locks(ReleaseReason::ClientClosed);
        self.withdraw_all();
        if matches!(
            self.phase,
            Phase::Connecting { .. } | Phase::Greeting | Phase::Ready { .. }
        ) {
            let code = CloseCode::Normal.as_u16();
            self.outputs.push_back(Output::CloseSocket {
                epoch: self.epoch,
                code,
                reason: "client closed",
            });
        }
        let failure = Failure::new(
            ErrorCode::ClientClosed,
            "the client was closed; connect() makes a new one",
        );
        self.phase = Phase::Closed(failure.clone());
        self.forget_connection(ReleaseReason::ClientClosed);
        self.reject_all(&failure);
        self.set_state(ConnectionState::Closed);
    }

    pub(super) fn page_hidden(&mut self) {
        if matches!(self.phase, Phase::Closed(_) | Phase::Hidden) {
            return;
        }
        self.end_locks(ReleaseReason::ConnectionLost);
        if matches!(
            self.phase,
            Phase::Connecting { .. } | Phase::Greeting | Phase::Ready { .. }
        ) {
            let code = CloseCode::Normal.as_u16();
            self.outputs.push_back(Output::CloseSocket {
                epoch: self.epoch,
                code,
                reason: "page left",
            });
        }
        self.phase = Phase::Hidden;
        self.forget_connection(ReleaseReason::ConnectionLost);
        if self.state == ConnectionState::Connected {
            self.set_state(ConnectionState::Reconnecting);
        }
    }

    pub(super) fn page_shown(&mut self) {
        if self.phase == Phase::Hidden {
            self.apart_since = self.now;
            self.connect();
        }
    }

    /// Whether the relay owes this client an answer or heartbeats.
    pub(super) fn is_owed(&self) -> bool {
        self.phase == Phase::Greeting
            || !self.locks.is_empty()
            || !self.withdrawn.is_empty()
            || self.pending.iter().any(|pending| pending.id.is_some())
    }

    /// When the phase ends by itself.
    pub(super) fn phase_deadline(&self) -> Option<Millis> {
        match self.phase {
            Phase::Connecting { since } => Some(since + GREETING_WAIT),
            Phase::Backoff { until } => Some(until),
            // A relay heartbeats well within its client lease. One that owes something and says nothing for that long is
            // out of reach, whatever TCP still believes.
            Phase::Greeting | Phase::Ready { .. } if self.is_owed() => Some(self.heard_at + self.silence_limit),
            Phase::Greeting | Phase::Ready { .. } | Phase::Hidden | Phase::Closed(_) => None,
        }
    }

    pub(super) fn latch_phase(&mut self) {
        if self.phase_deadline().is_none_or(|deadline| self.now < deadline) {
            return;
        }
        match self.phase {
            Phase::Backoff { .. } => self.connect(),
            _ => self.drop_socket(CloseCode::Silent.as_u16(), "the relay does not answer"),
        }
    }

    /// When a request of this age gives up waiting for a relay, while none answers.
    pub(super) const fn connection_deadline(&self, called_at: Millis) -> Option<Millis> {
        if self.phase.is_ready() || matches!(self.phase, Phase::Hidden) {
            return None;
        }
        let since = if self.apart_since > called_at {
            self.apart_since
        } else {
            called_at
        };
        Some(since + CONNECTION_WAIT)
    }
}
