//! How long things last: every duration of the relay with its default and the reason for it, and the ratios between them
//! that keep a lock from being believed in by two.
//!
//! All are configuration, so that tests can run them shorter, with the ratios kept, or much longer, to show that an event
//! and not a timer did the work.

use serde::Deserialize;

/// Messages that a connection may have waiting to be written. A client that lets more pile up is cut off with
/// [`CloseCode::TooSlow`](lockrelay_protocol::CloseCode::TooSlow). Wide enough for a page that asks for a thousand locks in
/// one go; the queue takes memory only as it fills.
pub const OUTBOX_MESSAGES: usize = 2_048;

/// Messages of one connection that may wait for the hub. A client that sends more has its socket read no further until the
/// hub has caught up.
pub const INBOX_MESSAGES: usize = 64;

/// First pause before a store call that failed is made again, in milliseconds. Short, because locks end with the lease.
pub const RETRY_FIRST_MILLIS: u64 = 50;

/// Longest pause between two attempts at a store call, in milliseconds. A third of the default renewal interval, so that a
/// store that is back is noticed well within the lease.
pub const RETRY_GREATEST_MILLIS: u64 = 1_000;

/// The relay's durations, in milliseconds. [`Durations::default`] gives each with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Durations {
    /// L: how long the relay's session in the store lasts without a renewal. Another relay ends it L + delta after its last
    /// sign of life; the relay itself stops believing L - delta after it sent its last renewal.
    pub relay_lease_millis: u64,
    /// How often the relay renews its session.
    pub renew_every_millis: u64,
    /// delta: how far two clocks may drift apart over one lease.
    pub delta_millis: u64,
    /// C: how long a client may believe in its locks after its last message that the relay acknowledged.
    pub client_lease_millis: u64,
    /// F: how long a client that holds or waits may be silent before its locks are freed. At least C.
    pub silence_millis: u64,
    /// How often connections that hold or wait get a heartbeat.
    pub heartbeat_millis: u64,
    /// How often a relay that has waiters looks for grants whose announcement was lost. Such a look renews the session too.
    pub pull_every_millis: u64,
    /// How long a client may take for its `hello`.
    pub hello_millis: u64,
    /// How often a connection without locks and requests gets a WebSocket ping.
    pub idle_ping_millis: u64,
    /// How long a store call may take before it counts as unanswered and is made again.
    pub store_timeout_millis: u64,
    /// How long a clean stop waits for clients to answer that they know of the end of their locks.
    pub drain_millis: u64,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            // A crashed relay's locks move on within L + renew + delta, about 16 s.
            relay_lease_millis: 12_000,
            // L/4: three renewals may fail before the lease is in danger.
            renew_every_millis: 3_000,
            // 4 % of L: far above what clock crystals drift (0.01 %), and above how clocks are slewed (0.05 %).
            delta_millis: 500,
            // A page may block its main thread for this long less the heartbeat interval and the way, and what the relay's
            // own lease has left: 4.5 s at worst.
            client_lease_millis: 10_000,
            // C and a second more, so that a client's clock that runs a little slow ends its belief first.
            silence_millis: 11_000,
            // C/5: four heartbeats may be lost or late.
            heartbeat_millis: 2_000,
            // A lost announcement delays a hand-off by a second at most, for one command per second.
            pull_every_millis: 1_000,
            // A slow phone on a bad network opens a connection and sends one message in this time.
            hello_millis: 5_000,
            // Below the minute after which many proxies cut idle connections.
            idle_ping_millis: 30_000,
            // Shorter than the renewal interval, so that one lost packet does not cost two renewals.
            store_timeout_millis: 2_000,
            // F: after it nobody believes any more, whoever did not answer.
            drain_millis: 11_000,
        }
    }
}

/// Durations that contradict one another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadDurations(String);

impl Durations {
    /// Checks the ratios that the promises of a lock rest on.
    ///
    /// # Errors
    /// [`BadDurations`] with a message that names the fields, their values, and what is allowed.
    pub fn validate(&self) -> Result<(), BadDurations> {
        let at_least_1 = [
            ("relay_lease_millis", self.relay_lease_millis),
            ("renew_every_millis", self.renew_every_millis),
            ("client_lease_millis", self.client_lease_millis),
            ("silence_millis", self.silence_millis),
            ("heartbeat_millis", self.heartbeat_millis),
            ("pull_every_millis", self.pull_every_millis),
            ("hello_millis", self.hello_millis),
            ("idle_ping_millis", self.idle_ping_millis),
            ("store_timeout_millis", self.store_timeout_millis),
        ];
        if let Some((name, _)) = at_least_1.into_iter().find(|(_, value)| *value == 0) {
            return Err(BadDurations(format!("{name} is 0; at least 1")));
        }
        let all = [("delta_millis", self.delta_millis), ("drain_millis", self.drain_millis)];
        if let Some((name, value)) = at_least_1.into_iter().chain(all).find(|(_, value)| *value > GREATEST) {
            return Err(BadDurations(format!("{name} is {value}; at most {GREATEST} (a day)")));
        }
        if self.silence_millis < self.client_lease_millis {
            return Err(BadDurations(format!(
                "silence_millis is {}, less than client_lease_millis, {}: a lock would be freed while its client still \
                 believes in it; make it at least as long",
                self.silence_millis, self.client_lease_millis
            )));
        }
        if self.renew_every_millis.saturating_add(self.delta_millis) >= self.relay_lease_millis {
            return Err(BadDurations(format!(
                "renew_every_millis, {}, and delta_millis, {}, together reach relay_lease_millis, {}: the relay's lease \
                 would end before it is renewed; a quarter of the lease is a good interval",
                self.renew_every_millis, self.delta_millis, self.relay_lease_millis
            )));
        }
        if self.heartbeat_millis > self.client_lease_millis {
            return Err(BadDurations(format!(
                "heartbeat_millis is {}, more than client_lease_millis, {}: every lock would be lost before its first \
                 heartbeat; a fifth of the lease is a good interval",
                self.heartbeat_millis, self.client_lease_millis
            )));
        }
        Ok(())
    }

    /// How long the relay may believe in its session, from the sending of a renewal: L - delta.
    pub(crate) const fn own_lease(&self) -> u64 {
        self.relay_lease_millis - self.delta_millis
    }

    /// How long another relay's counter stands still before that relay is taken for dead, and how long a recovering store
    /// is watched before it grants again: L + delta.
    pub(crate) const fn standstill(&self) -> u64 {
        self.relay_lease_millis + self.delta_millis
    }
}

/// Greatest duration in milliseconds, a day: sums of a few of them stay far from any integer's end.
const GREATEST: u64 = 24 * 60 * 60 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_their_own_rules() {
        assert_eq!(Durations::default().validate(), Ok(()));
    }

    #[test]
    fn all_at_a_minute_is_allowed_so_that_a_test_shows_that_no_timer_was_needed() {
        let minute = Durations {
            relay_lease_millis: 60_000,
            renew_every_millis: 15_000,
            client_lease_millis: 60_000,
            silence_millis: 60_000,
            heartbeat_millis: 60_000,
            pull_every_millis: 60_000,
            ..Durations::default()
        };
        assert_eq!(minute.validate(), Ok(()));
    }

    #[test]
    fn broken_ratios_are_refused_with_the_names_of_the_fields() {
        let base = Durations::default;
        let cases = [
            (
                Durations {
                    silence_millis: 9_999,
                    ..base()
                },
                vec!["silence_millis", "client_lease_millis"],
            ),
            (
                Durations {
                    renew_every_millis: 11_500,
                    ..base()
                },
                vec!["renew_every_millis", "relay_lease_millis"],
            ),
            (
                Durations {
                    delta_millis: 9_000,
                    ..base()
                },
                vec!["delta_millis", "relay_lease_millis"],
            ),
            (
                Durations {
                    heartbeat_millis: 10_001,
                    ..base()
                },
                vec!["heartbeat_millis", "client_lease_millis"],
            ),
            (
                Durations {
                    pull_every_millis: 0,
                    ..base()
                },
                vec!["pull_every_millis", "at least 1"],
            ),
            (
                Durations {
                    hello_millis: u64::MAX,
                    ..base()
                },
                vec!["hello_millis", "at most"],
            ),
            (
                Durations {
                    delta_millis: u64::MAX,
                    ..base()
                },
                vec!["delta_millis", "at most"],
            ),
        ];
        for (durations, words) in cases {
            let message = durations.validate().unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "{message:?} lacks {word:?}");
            }
        }
    }
}
