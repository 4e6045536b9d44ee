//! Keeps the relay's session in one partition of the store: its own lease, its peers', recovery and orphans. Pure: it says
//! which call is due, is told what came of it, and reads no clock.
//!
//! # The rules
//!
//! - The own lease runs from when a renewal was SENT, on the believer's clock, for L - delta. Whatever delays the reply only
//!   shortens it.
//! - A peer is dead when its counter has stood still for L + delta on the taker's clock, counted from the RECEIPT of the
//!   reply that first showed the value, and a renewal that was SENT after that has shown it once more. That renewal counts
//!   only where enough replicas have it: in a split brain the side without them reaps nobody. The reap compares the counter
//!   again, so a peer that lives after all is safe.
//! - A recovering store is let out of it by whoever has itself seen it recovering for L + delta.
//! - One renewal at a time. With waiters a renewal is also the look for grants whose announcement was lost.

use super::clock::{Millis, Now};
use crate::defaults::{Durations, RETRY_FIRST_MILLIS, RETRY_GREATEST_MILLIS};
use crate::store::{Generation, Reaped, Renewal, SessionId, Slot};
use std::collections::HashMap;

/// A call that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Renew the session.
    Renew,
    /// End a session whose counter stood still.
    Reap { dead: SessionId, counter: u64 },
    /// Let the store grant again.
    EndRecovery,
    /// List the session's entries from a slot on.
    List { from: Slot },
}

/// How long to wait before the next attempt after `failures` in a row, in milliseconds.
pub(super) fn backoff(failures: u32) -> Millis {
    RETRY_FIRST_MILLIS
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(RETRY_GREATEST_MILLIS)
}

/// A call that is made again until it succeeds: not before a time, and one at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    under_way: bool,
    failures: u32,
    not_before: Millis,
}

impl Attempt {
    fn is_due(&self, now: Now) -> bool {
        !self.under_way && now.taker >= self.not_before
    }

    fn failed(&mut self, now: Now) {
        self.under_way = false;
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.taker.saturating_add(backoff(self.failures));
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    counter: u64,
    /// When a reply that showed this value was first received.
    since: Millis,
    /// A renewal that was sent when it had stood still for long enough has shown the same value.
    confirmed: bool,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Keeper {
    own: SessionId,
    own_lease: Millis,
    standstill: Millis,
    renew_every: Millis,
    pull_every: Millis,
    lease_until: Millis,
    renewed_at: Millis,
    renew_now: bool,
    renewing: Attempt,
    peers: HashMap<SessionId, Peer>,
    reaping: Attempt,
    /// Since when the store has been seen recovering.
    recovering: Option<Millis>,
    ending: Attempt,
    /// Renewals in a row that counted more entries than the relay knows.
    mismatches: u8,
    list_from: Option<Slot>,
    listing: Attempt,
}

impl Keeper {
    /// A session was opened by a call that was sent at `sent` and answered at `now`. It is alive from then on as if it had
    /// been renewed.
    pub(super) fn opened(durations: &Durations, own: SessionId, sent: Now, now: Now, generation: Generation) -> Self {
        Self {
            own,
            own_lease: durations.own_lease(),
            standstill: durations.standstill(),
            renew_every: durations.renew_every_millis,
            pull_every: durations.pull_every_millis.min(durations.renew_every_millis),
            lease_until: sent.believer.saturating_add(durations.own_lease()),
            renewed_at: sent.taker,
            renew_now: false,
            renewing: Attempt::default(),
            peers: HashMap::new(),
            reaping: Attempt::default(),
            recovering: generation.recovering.then_some(now.taker),
            ending: Attempt::default(),
            mismatches: 0,
            list_from: None,
            listing: Attempt::default(),
        }
    }

    /// Until when the relay may believe in its session, on the believer's clock.
    pub(super) fn lease_until(&self) -> Millis {
        self.lease_until
    }

    /// Renew as soon as possible: something may have been missed. While a renewal is under way, another follows it, for
    /// that one may have looked too early.
    pub(super) fn renew_soon(&mut self) {
        self.renew_now = true;
    }

    /// List the session's entries: the store has one that the relay does not know.
    pub(super) fn list_soon(&mut self) {
        self.list_from.get_or_insert(Slot(0));
    }

    fn next_renewal(&self, waiters: bool) -> Millis {
        let every = if waiters { self.pull_every } else { self.renew_every };
        let regular = self.renewed_at.saturating_add(every);
        let wanted = if self.renew_now { 0 } else { regular };
        let confirmation = self.still().filter(|(_, peer)| !peer.confirmed);
        let confirmation = confirmation.map_or(Millis::MAX, |(_, peer)| peer.since.saturating_add(self.standstill));
        wanted.min(confirmation).max(self.renewing.not_before)
    }

    /// The next call that is due, if any. It counts as under way until its result is told.
    pub(super) fn due(&mut self, now: Now, waiters: bool) -> Option<Due> {
        if self.renewing.is_due(now) && now.taker >= self.next_renewal(waiters) {
            self.renewing.under_way = true;
            self.renew_now = false;
            self.renewed_at = now.taker;
            return Some(Due::Renew);
        }
        if self.reaping.is_due(now)
            && let Some((dead, peer)) = self.still().filter(|(_, peer)| peer.confirmed)
        {
            self.reaping.under_way = true;
            return Some(Due::Reap {
                dead,
                counter: peer.counter,
            });
        }
        if let Some(since) = self.recovering
            && self.ending.is_due(now)
            && now.taker >= since.saturating_add(self.standstill)
        {
            self.ending.under_way = true;
            return Some(Due::EndRecovery);
        }
        if let Some(from) = self.list_from
            && self.listing.is_due(now)
        {
            self.listing.under_way = true;
            return Some(Due::List { from });
        }
        None
    }

    /// The peer whose counter has stood still for longest.
    fn still(&self) -> Option<(SessionId, Peer)> {
        let oldest = self.peers.iter().min_by_key(|(id, peer)| (peer.since, **id));
        oldest.map(|(id, peer)| (*id, *peer))
    }

    /// When [`Keeper::due`] will have something, on the taker's clock, if nothing else happens before.
    pub(super) fn deadline(&self, waiters: bool) -> Option<Millis> {
        let renewal = (!self.renewing.under_way).then(|| self.next_renewal(waiters));
        let reap = self
            .still()
            .filter(|(_, peer)| peer.confirmed && !self.reaping.under_way);
        let reap = reap.map(|_| self.reaping.not_before);
        let recovery = self.recovering.filter(|_| !self.ending.under_way);
        let recovery = recovery.map(|since| since.saturating_add(self.standstill).max(self.ending.not_before));
        let list = self.list_from.filter(|_| !self.listing.under_way);
        let list = list.map(|_| self.listing.not_before);
        [renewal, reap, recovery, list].into_iter().flatten().min()
    }

    /// A renewal that was sent at `sent` was answered. `known` is the most entries that it can rightly have counted.
    /// Returns whether the store grants again after a recovery.
    pub(super) fn renewed(&mut self, sent: Now, now: Now, renewal: &Renewal, known: u64) -> bool {
        self.renewing.succeeded();
        self.lease_until = self.lease_until.max(sent.believer.saturating_add(self.own_lease));
        self.peers_seen(sent, now, &renewal.counters);
        // An acquire or a removal on its way is in `known`, so a surplus can only be what nobody knows. Twice, because a
        // renewal may have overtaken the reply that would have explained it.
        self.mismatches = if renewal.entries > known {
            self.mismatches + 1
        } else {
            0
        };
        if self.mismatches >= 2 {
            self.mismatches = 0;
            self.list_soon();
        }
        if renewal.recovering {
            self.recovering.get_or_insert(now.taker);
            return false;
        }
        self.recovering.take().is_some()
    }

    fn peers_seen(&mut self, sent: Now, now: Now, counters: &[(SessionId, u64)]) {
        let mut peers = HashMap::with_capacity(counters.len());
        for (id, counter) in counters.iter().filter(|(id, _)| *id != self.own) {
            let peer = match self.peers.get(id) {
                Some(peer) if peer.counter == *counter => Peer {
                    confirmed: peer.confirmed || sent.taker >= peer.since.saturating_add(self.standstill),
                    ..*peer
                },
                _ => Peer {
                    counter: *counter,
                    since: now.taker,
                    confirmed: false,
                },
            };
            peers.insert(*id, peer);
        }
        self.peers = peers;
    }

    /// A renewal was not answered.
    pub(super) fn renewal_failed(&mut self, now: Now) {
        self.renewing.failed(now);
        // Due again after the pause, not after a whole interval.
        self.renew_now = true;
    }

    /// A reap was answered, or not (`None`).
    pub(super) fn reaped(&mut self, now: Now, dead: SessionId, answer: Option<&Reaped>) {
        match answer {
            None => self.reaping.failed(now),
            // Its next counter is news.
            Some(Reaped::Gone | Reaped::Alive) => {
                self.reaping.succeeded();
                self.peers.remove(&dead);
            }
            Some(Reaped::More) => self.reaping.succeeded(),
        }
    }

    /// The end of a recovery was answered, or not. Returns whether the store grants again.
    pub(super) fn recovery_ended(&mut self, now: Now, answered: bool) -> bool {
        if !answered {
            self.ending.failed(now);
            return false;
        }
        self.ending.succeeded();
        self.recovering.take().is_some()
    }

    /// A part of the list was answered, with where to go on, or not (`None`).
    pub(super) fn listed(&mut self, now: Now, answer: Option<Option<Slot>>) {
        match answer {
            None => self.listing.failed(now),
            Some(next) => {
                self.listing.succeeded();
                self.list_from = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: SessionId = SessionId::from_bytes([1; 16]);
    const PEER: SessionId = SessionId::from_bytes([2; 16]);

    fn at(millis: Millis) -> Now {
        Now {
            believer: 7_000_000 + millis,
            taker: millis,
        }
    }

    fn keeper() -> Keeper {
        opened(false)
    }

    fn opened(recovering: bool) -> Keeper {
        let generation = Generation { number: 1, recovering };
        Keeper::opened(&Durations::default(), OWN, at(0), at(5), generation)
    }

    fn renewal(peer: u64) -> Renewal {
        Renewal {
            counters: vec![(OWN, 1), (PEER, peer)],
            events: vec![],
            entries: 0,
            recovering: false,
            highest_token: 0,
        }
    }

    #[test]
    fn the_lease_runs_from_when_the_renewal_was_sent() {
        let mut keeper = keeper();
        assert_eq!(keeper.lease_until(), 7_000_000 + 11_500);
        // The reply took 8 s; the lease is counted from before that.
        assert!(!keeper.renewed(at(3_000), at(11_000), &renewal(1), 0));
        assert_eq!(keeper.lease_until(), 7_000_000 + 3_000 + 11_500);
    }

    #[test]
    fn renewals_are_due_each_interval_and_more_often_with_waiters_and_one_at_a_time() {
        let mut keeper = keeper();
        assert_eq!(keeper.due(at(2_999), false), None);
        assert_eq!(keeper.deadline(false), Some(3_000));
        assert_eq!(keeper.deadline(true), Some(1_000));
        assert_eq!(keeper.due(at(1_000), true), Some(Due::Renew));
        assert_eq!(keeper.due(at(9_000), true), None, "one is under way");
        keeper.renewed(at(1_000), at(1_010), &renewal(1), 0);
        assert_eq!(keeper.deadline(true), Some(2_000));
    }

    #[test]
    fn what_is_missed_while_a_renewal_is_under_way_is_looked_for_by_another() {
        let mut keeper = keeper();
        keeper.renew_soon();
        assert_eq!(keeper.due(at(10), false), Some(Due::Renew));
        keeper.renew_soon();
        assert_eq!(keeper.due(at(11), false), None);
        keeper.renewed(at(10), at(12), &renewal(1), 0);
        assert_eq!(keeper.due(at(12), false), Some(Due::Renew));
        keeper.renewed(at(12), at(13), &renewal(1), 0);
        assert_eq!(keeper.due(at(13), false), None);
    }

    #[test]
    fn a_failed_renewal_is_made_again_with_growing_pauses() {
        let mut keeper = keeper();
        let mut now = 3_000;
        let mut pauses = vec![];
        for _ in 0..7 {
            assert_eq!(keeper.due(at(now), false), Some(Due::Renew));
            keeper.renewal_failed(at(now));
            let next = keeper.deadline(false).unwrap();
            pauses.push(next - now);
            assert_eq!(keeper.due(at(next - 1), false), None);
            now = next;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(keeper.lease_until(), 7_000_000 + 11_500, "failures prolong nothing");
    }

    #[test]
    fn a_peer_is_dead_after_standing_still_for_l_and_delta_from_the_receipt_of_its_last_value() {
        let mut keeper = keeper();
        keeper.due(at(3_000), false);
        // Sent at 3,000, received at 3,700: the standstill counts from there.
        keeper.renewed(at(3_000), at(3_700), &renewal(9), 0);
        for n in 2..6 {
            assert_eq!(keeper.due(at(n * 3_000), false), Some(Due::Renew));
            keeper.renewed(at(n * 3_000), at(n * 3_000 + 10), &renewal(9), 0);
        }
        assert_eq!(keeper.due(at(3_700 + 12_499), false), None);
        assert_eq!(keeper.deadline(false), Some(3_700 + 12_500));
        assert_eq!(keeper.due(at(16_200), false), Some(Due::Renew), "its confirmation");
        assert_eq!(keeper.due(at(16_200), false), None);
        keeper.renewed(at(16_200), at(16_200), &renewal(9), 0);
        let reap = Some(Due::Reap { dead: PEER, counter: 9 });
        assert_eq!(keeper.due(at(16_200), false), reap);
        assert_eq!(keeper.due(at(16_201), false), None, "under way");
        keeper.reaped(at(16_210), PEER, Some(&Reaped::More));
        assert_eq!(keeper.due(at(16_210), false), reap);
        keeper.reaped(at(16_220), PEER, None);
        assert_eq!(keeper.due(at(16_269), false), None, "not answered: after a pause");
        assert_eq!(keeper.due(at(16_270), false), reap);
        keeper.reaped(at(16_280), PEER, Some(&Reaped::Gone));
        assert_eq!(keeper.due(at(17_000), false), None);
    }

    #[test]
    fn nobody_is_reaped_before_a_renewal_sent_after_the_standstill_has_succeeded() {
        let mut keeper = keeper();
        keeper.due(at(3_000), false);
        keeper.renewed(at(3_000), at(3_010), &renewal(9), 0);
        // From 15,510 on it has stood still for long enough. A renewal sent before that confirms nothing, though it is
        // answered after it.
        assert_eq!(keeper.due(at(15_500), false), Some(Due::Renew));
        keeper.renewed(at(15_500), at(15_600), &renewal(9), 0);
        assert_eq!(keeper.due(at(15_600), false), Some(Due::Renew));
        // Too few replicas have it.
        keeper.renewal_failed(at(15_700));
        assert_eq!(keeper.due(at(15_750), false), Some(Due::Renew));
        assert_eq!(keeper.due(at(15_760), false), None);
        keeper.renewed(at(15_750), at(15_770), &renewal(9), 0);
        assert_eq!(
            keeper.due(at(15_770), false),
            Some(Due::Reap { dead: PEER, counter: 9 })
        );
    }

    #[test]
    fn a_peer_whose_counter_moves_lives() {
        let mut keeper = keeper();
        for n in 1..20 {
            assert_eq!(keeper.due(at(n * 3_000), false), Some(Due::Renew));
            keeper.renewed(at(n * 3_000), at(n * 3_000 + 10), &renewal(n / 4), 0);
        }
        // It stood still for four renewals at a time: 12 s, and a delta is missing.
        assert_eq!(keeper.due(at(59_000), false), None);
        // Alive after all: counted anew.
        keeper.reaped(at(59_000), PEER, Some(&Reaped::Alive));
        assert!(keeper.peers.is_empty());
    }

    #[test]
    fn a_recovering_store_is_watched_for_l_and_delta_before_it_grants_again() {
        let mut keeper = opened(true);
        keeper.due(at(3_000), false);
        let recovering = Renewal {
            recovering: true,
            ..renewal(1)
        };
        assert!(!keeper.renewed(at(3_000), at(3_010), &recovering, 0));
        assert_eq!(keeper.due(at(5 + 12_499), false), Some(Due::Renew));
        assert_eq!(keeper.due(at(5 + 12_499), false), None);
        assert_eq!(keeper.due(at(5 + 12_500), false), Some(Due::EndRecovery));
        assert!(!keeper.recovery_ended(at(12_600), false));
        assert_eq!(keeper.due(at(12_650), false), Some(Due::EndRecovery));
        assert!(keeper.recovery_ended(at(12_660), true));
        assert!(!keeper.renewed(at(12_504), at(12_700), &renewal(1), 0), "told once");
    }

    #[test]
    fn another_relay_may_have_ended_the_recovery() {
        let mut keeper = opened(true);
        assert!(keeper.renewed(at(3_000), at(3_010), &renewal(1), 0));
        assert!(!keeper.renewed(at(6_000), at(6_010), &renewal(1), 0));
    }

    #[test]
    fn two_counts_in_a_row_above_what_is_known_make_the_relay_list_its_entries() {
        let mut keeper = keeper();
        let mut count = |entries, known| {
            keeper.renewed(at(100), at(101), &Renewal { entries, ..renewal(1) }, known);
            keeper.list_from.is_some()
        };
        assert!(!count(3, 2));
        assert!(!count(3, 3), "explained meanwhile");
        assert!(!count(3, 2));
        assert!(!count(1, 2), "fewer is a removal on its way");
        assert!(!count(3, 2));
        assert!(count(3, 2));
        assert_eq!(keeper.due(at(102), false), Some(Due::List { from: Slot(0) }));
        keeper.listed(at(103), None);
        assert_eq!(keeper.due(at(153), false), Some(Due::List { from: Slot(0) }));
        keeper.listed(at(154), Some(Some(Slot(500))));
        assert_eq!(keeper.due(at(154), false), Some(Due::List { from: Slot(500) }));
        keeper.listed(at(155), Some(None));
        assert_eq!(keeper.due(at(155), false), None);
    }
}
