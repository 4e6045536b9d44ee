//! One relay: hub and keeper, wired as the driver wires them, but with every call to the store in two halves that the
//! scheduler moves: its arrival there, and its reply's arrival here.

use super::client::{Client, Word};
use super::{PARTITION, Rng, Seen, now as at_once};
use crate::defaults::Durations;
use crate::metrics::Metrics;
use crate::session::clock::{Millis, Now};
use crate::session::handle::Outgoing;
use crate::session::hub::{ConnKey, Hub, Output};
use crate::session::keeper::{Due, Keeper};
use crate::session::tenure::{Moved, Tenure};
use crate::store::memory::MemoryStore;
use crate::store::{
    Answer, Batch, BatchReply, Caller, Entry, Event, Generation, Hint, LockStore, ReapReply, Reaped, Renewal,
    SessionId, Slot, random_lock_id,
};
use lockrelay_protocol::LockId;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc;

pub(super) struct Relay {
    store: Arc<MemoryStore>,
    hub: Hub,
    tenure: Tenure,
    hints: mpsc::Receiver<Hint>,
    announced: Vec<Event>,
    calls: Vec<Call>,
    /// Until then it does nothing at all.
    pub(super) frozen_until: Millis,
    /// Until then no reply of the store arrives.
    pub(super) late_until: Millis,
    /// Meanwhile nothing reaches the store.
    pub(super) cut_off: Range<Millis>,
}

struct Call {
    what: What,
    sent: Now,
    reply: Option<Reply>,
}

enum What {
    Batch(Caller, Batch),
    Due(Caller, Due),
}

enum Reply {
    Batch(Answer<BatchReply>),
    Renewal(Answer<Renewal>),
    Reap(SessionId, Answer<ReapReply>),
    Ended(Answer<()>),
    List(Vec<Entry>, Option<Slot>),
}

const DURATIONS: fn() -> Durations = Durations::default;

/// The two clocks have nothing in common but their pace.
fn both(now: Millis) -> Now {
    Now {
        believer: 77_000_000 + now,
        taker: now,
    }
}

impl Relay {
    pub(super) fn new(store: Arc<MemoryStore>) -> Self {
        let hub = Hub::new(DURATIONS(), Metrics::new(), 1, Box::new(random_lock_id));
        let session = SessionId::random();
        let hints = store.hints(PARTITION, session);
        Self {
            store,
            hub,
            tenure: Tenure::new(session),
            hints,
            announced: Vec::new(),
            calls: Vec::new(),
            frozen_until: 0,
            late_until: 0,
            cut_off: 0..0,
        }
    }

    fn keeper(&mut self) -> &mut Keeper {
        self.tenure.keeper().expect("a session is opened at once")
    }

    /// Opens the session that the tenure asks for.
    pub(super) fn open(&mut self, now: Millis, clients: &mut [Client], seen: &mut Seen) {
        let id = self.tenure.id();
        let (generation, token) = self.hub.seen(0);
        let opened = at_once(self.store.open(PARTITION, id, generation, token)).unwrap();
        let keeper = Keeper::opened(&DURATIONS(), id, both(now), both(now), opened.generation);
        self.hints = self.store.hints(PARTITION, id);
        self.announced.clear();
        self.calls.clear();
        match self.tenure.opened(keeper, opened.generation) {
            Moved::TooLate => return self.lose_session(now, clients, seen),
            Moved::Everything => self.hub.move_out(both(now), 0),
            Moved::Nothing => {}
        }
        self.hub.session_opened(0, &opened);
        self.share_lease();
    }

    fn share_lease(&mut self) {
        if self.tenure.is_moving() && !self.hub.is_moving(0) {
            self.tenure.moved();
        }
        let until = self.tenure.lease_until().expect("a session is open");
        self.hub.lease(0, until);
    }

    fn lose_session(&mut self, now: Millis, clients: &mut [Client], seen: &mut Seen) {
        seen.sessions_lost += 1;
        let old = self.tenure.id();
        self.hub.session_lost(both(now), 0);
        self.flush(both(now), clients);
        self.close(old);
        self.tenure.begin_anew(SessionId::random());
        self.open(now, clients, seen);
    }

    fn new_generation(&mut self, now: Millis, generation: Generation, clients: &mut [Client], seen: &mut Seen) {
        self.hub.saw_generation(0, generation);
        if !self.tenure.may_move(both(now), generation) {
            return self.lose_session(now, clients, seen);
        }
        seen.moves += 1;
        let old = self.tenure.id();
        self.tenure.begin_move(SessionId::random());
        self.close(old);
        self.open(now, clients, seen);
    }

    fn close(&self, session: SessionId) {
        while at_once(self.store.close(PARTITION, session)).unwrap().reaped == Reaped::More {}
    }

    /// What a connection holds, as far as the hub knows.
    pub(super) fn held_by(&self, conn: ConnKey) -> Vec<LockId> {
        let held = self.hub.held().into_iter().filter(|(holder, _)| *holder == conn);
        let mut ids: Vec<_> = held.map(|(_, lock_id)| lock_id).collect();
        ids.sort_unstable();
        ids
    }

    /// How many locks the relay holds, as far as the hub and the store know.
    pub(super) fn counts(&self) -> (usize, usize) {
        let (entries, next) = at_once(self.store.list(PARTITION, self.tenure.id(), Slot(0))).unwrap();
        assert_eq!(next, None);
        let granted = entries.iter().filter(|entry| entry.token.is_some()).count();
        (self.hub.held().len(), granted)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.hub.is_drained()
    }

    pub(super) fn hear(&mut self, now: Millis, conn: ConnKey, word: Word) {
        match word {
            Word::Hello(t) => self.hub.connected(both(now), conn, t),
            Word::Say(command) => self.hub.command(both(now), conn, command),
            Word::Ended(how) => self.hub.ended(both(now), conn, how),
        }
    }

    pub(super) fn overflow(&mut self, now: Millis, conn: ConnKey) {
        if now >= self.frozen_until {
            self.hub.too_slow(both(now), conn);
        }
    }

    /// What the driver does in each round.
    pub(super) fn pump(&mut self, now: Millis, clients: &mut [Client], seen: &mut Seen) {
        if now < self.frozen_until {
            return;
        }
        if self.tenure.is_over(both(now)) {
            self.lose_session(now, clients, seen);
        }
        self.hub.tick(both(now));
        self.flush(both(now), clients);
        let caller = self.hub.caller(0, self.tenure.id());
        let waiters = self.hub.has_waiters(0);
        while let Some(due) = self.keeper().due(both(now), waiters) {
            if due == Due::Renew {
                self.hub.begin_count(0);
            }
            self.call(now, What::Due(caller, due));
        }
        if let Some(batch) = self.hub.next_batch(0) {
            self.call(now, What::Batch(caller, batch));
        }
        while let Ok(hint) = self.hints.try_recv() {
            match hint {
                Hint::Event(event) => self.announced.push(event),
                Hint::Renew => self.keeper().renew_soon(),
            }
        }
    }

    fn call(&mut self, now: Millis, what: What) {
        let sent = both(now);
        self.calls.push(Call {
            what,
            sent,
            reply: None,
        });
    }

    fn flush(&mut self, _now: Now, clients: &mut [Client]) {
        while let Some(output) = self.hub.output() {
            let (conn, outgoing) = match output {
                Output::Send(conn, message) => (conn, Outgoing::Message(message)),
                Output::Close(conn, code, reason) | Output::Cut(conn, code, reason) => {
                    (conn, Outgoing::Close(code, reason.to_owned()))
                }
                Output::Renew(_) => {
                    self.keeper().renew_soon();
                    continue;
                }
                Output::List(_) => panic!("the store has an entry that nobody knows"),
            };
            if let Some(client) = clients.iter_mut().find(|client| client.conn == conn) {
                client.from_relay.push_back(outgoing);
            }
        }
    }

    /// One of the calls on its way reaches the store.
    pub(super) fn carry_out(&mut self, rng: &mut Rng, now: Millis) {
        let waiting: Vec<_> = (0..self.calls.len())
            .filter(|n| self.calls[*n].reply.is_none())
            .collect();
        if waiting.is_empty() || self.cut_off.contains(&now) {
            return;
        }
        let call = &mut self.calls[waiting[rng.below(waiting.len())]];
        let store = &self.store;
        call.reply = Some(match &call.what {
            What::Batch(caller, batch) => Reply::Batch(at_once(store.execute(PARTITION, caller, batch)).unwrap()),
            What::Due(caller, due) => match *due {
                Due::Renew => Reply::Renewal(at_once(store.renew(PARTITION, caller)).unwrap()),
                Due::Reap { dead, counter } => {
                    Reply::Reap(dead, at_once(store.reap(PARTITION, caller, dead, counter)).unwrap())
                }
                Due::EndRecovery => Reply::Ended(at_once(store.end_recovery(PARTITION, caller)).unwrap()),
                Due::List { from } => {
                    let (entries, next) = at_once(store.list(PARTITION, self.tenure.id(), from)).unwrap();
                    Reply::List(entries, next)
                }
            },
        });
    }

    /// One of the replies on their way arrives, or is lost.
    pub(super) fn take_reply(&mut self, rng: &mut Rng, now: Millis, clients: &mut [Client], seen: &mut Seen) {
        let ready: Vec<_> = (0..self.calls.len())
            .filter(|n| self.calls[*n].reply.is_some())
            .collect();
        if ready.is_empty() || now < self.frozen_until.max(self.late_until) {
            return;
        }
        let n = ready[rng.below(ready.len())];
        if rng.once_in(8) {
            seen.replies_lost += 1;
            self.unanswered(n, both(now));
            return;
        }
        let call = self.calls.remove(n);
        self.answered(call, now, clients, seen);
    }

    pub(super) fn take_reply_surely(&mut self, now: Millis, clients: &mut [Client], seen: &mut Seen) {
        if let Some(n) = self.calls.iter().position(|call| call.reply.is_some()) {
            let call = self.calls.remove(n);
            self.answered(call, now, clients, seen);
        }
    }

    fn unanswered(&mut self, n: usize, now: Now) {
        if let What::Batch(..) = self.calls[n].what {
            // Its outcome is unknown: the same batch again.
            self.calls[n].reply = None;
            return;
        }
        match self.calls.remove(n).what {
            What::Batch(..) => {}
            What::Due(_, Due::Renew) => self.keeper().renewal_failed(now),
            What::Due(_, Due::Reap { dead, .. }) => self.keeper().reaped(now, dead, None),
            What::Due(_, Due::EndRecovery) => {
                self.keeper().recovery_ended(now, false);
            }
            What::Due(_, Due::List { .. }) => self.keeper().listed(now, None),
        }
    }

    fn answered(&mut self, call: Call, now: Millis, clients: &mut [Client], seen: &mut Seen) {
        let at = both(now);
        match call.reply.expect("it was ready") {
            Reply::Batch(Answer::Done(reply)) => {
                self.hub.batch_done(at, 0, reply);
                self.share_lease();
            }
            Reply::Renewal(Answer::Done(renewal)) => {
                self.hub.saw_token(0, renewal.highest_token);
                let known = self.hub.known(0);
                if self.keeper().renewed(call.sent, at, &renewal, known) {
                    self.hub.recovered(0);
                }
                self.share_lease();
                self.hub.events(at, 0, renewal.events);
            }
            Reply::Reap(dead, Answer::Done(reply)) => {
                self.keeper().reaped(at, dead, Some(&reply.reaped));
                self.hub.settle(0, reply.unsettled);
            }
            Reply::Ended(Answer::Done(())) => {
                if self.keeper().recovery_ended(at, true) {
                    self.hub.recovered(0);
                }
            }
            Reply::List(entries, next) => {
                self.keeper().listed(at, Some(next));
                self.hub.listed(0, entries);
            }
            Reply::Batch(Answer::NewGeneration(generation))
            | Reply::Renewal(Answer::NewGeneration(generation))
            | Reply::Reap(_, Answer::NewGeneration(generation))
            | Reply::Ended(Answer::NewGeneration(generation)) => self.new_generation(now, generation, clients, seen),
            Reply::Batch(Answer::NoSession)
            | Reply::Renewal(Answer::NoSession)
            | Reply::Reap(_, Answer::NoSession)
            | Reply::Ended(Answer::NoSession) => self.lose_session(now, clients, seen),
        }
    }

    /// One of the announcements arrives, perhaps twice, or is lost.
    pub(super) fn take_hint(&mut self, rng: &mut Rng, now: Millis) {
        if self.announced.is_empty() || now < self.frozen_until {
            return;
        }
        let n = rng.below(self.announced.len());
        let event = match rng.below(4) {
            0 => self.announced[n].clone(),
            1 => {
                self.announced.remove(n);
                return;
            }
            _ => self.announced.remove(n),
        };
        self.hub.events(both(now), 0, vec![event]);
    }
}
