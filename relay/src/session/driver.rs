//! The one task that owns hub and keepers, calls the store and keeps the time. It decides nothing that they can decide: it
//! hands in what happened, and carries out what they say.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | the loop, and what clients and time bring |
//! | [`calls`] | calls to the store |
//! | [`replies`] | what came of them |
//!
//! The relay has a session of its own in each partition ([`Tenure`]): where one is lost, the others go on.
//!
//! Store calls run in tasks of their own, so that one that panics, or hangs, ends neither the hub nor a connection. Calls of
//! a session that was lost are dropped; a reply that comes late is not listened to.

use super::clock::{Clock, Millis, Now};
use super::handle::{Command, Drained, End, Outgoing, Refused, StartError};
use super::hub::{ConnKey, Hub, Output};
use super::keeper::{Due, Keeper};
use super::tenure::Tenure;
use crate::defaults::Durations;
use crate::metrics::Metrics;
use crate::store::{Hint, LockStore, SessionId, random_lock_id};
use calls::{Calls, SharedClock};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, StreamMap};
use tokio_util::sync::CancellationToken;

mod calls;
mod replies;

#[cfg(test)]
mod tests;

/// What reaches the driver from [`super::handle`].
#[derive(Debug)]
pub(super) enum Envelope {
    Connect {
        conn: ConnKey,
        t: u64,
        outbox: mpsc::Sender<Outgoing>,
        closing: OwnedPermit<Outgoing>,
        cut: CancellationToken,
        answer: oneshot::Sender<Result<(), Refused>>,
    },
    Command {
        conn: ConnKey,
        command: Command,
        /// Given back when the command has been dealt with.
        place: OwnedSemaphorePermit,
    },
    Ended {
        conn: ConnKey,
        how: End,
    },
    Shutdown {
        limit: Duration,
        done: oneshot::Sender<Drained>,
    },
}

pub(super) struct Setup {
    pub(super) store: Arc<dyn LockStore>,
    pub(super) durations: Durations,
    pub(super) metrics: Metrics,
    pub(super) clock: Box<dyn Clock>,
    pub(super) inbox: mpsc::UnboundedReceiver<Envelope>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) first: oneshot::Sender<Result<(), StartError>>,
}

/// What is dealt with before the clock is looked at again. Bounded, so that a flood of messages delays no heartbeat.
const AT_ONCE: usize = 256;

pub(super) async fn run(setup: Setup) {
    let clock = SharedClock::new(setup.clock);
    let partitions = setup.store.partitions().max(1);
    let mut driver = Driver {
        hub: Hub::new(
            setup.durations.clone(),
            setup.metrics.clone(),
            partitions,
            Box::new(random_lock_id),
        ),
        calls: Calls::new(
            setup.store,
            setup.durations.clone(),
            setup.metrics,
            clock.clone(),
            partitions,
        ),
        durations: setup.durations,
        clock,
        tenures: (0..partitions).map(|_| Tenure::new(SessionId::random())).collect(),
        hints: StreamMap::new(),
        outlets: HashMap::new(),
        ready: setup.ready,
        first: Some(setup.first),
        drain: None,
    };
    let mut inbox = setup.inbox;
    for partition in 0..driver.tenures.len() {
        driver.open(partition);
    }
    loop {
        // What clients said comes before what time brings about: after a pause of the process their acknowledgements are
        // already there.
        for _ in 0..AT_ONCE {
            match inbox.try_recv() {
                Ok(envelope) => driver.envelope(envelope),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return,
            }
        }
        while let Some(done) = driver.calls.try_next() {
            driver.done(done);
        }
        if driver.step() {
            return driver.finish().await;
        }
        let wake = driver.wake();
        tokio::select! {
            envelope = inbox.recv() => match envelope {
                Some(envelope) => driver.envelope(envelope),
                None => return,
            },
            Some(done) = driver.calls.next() => driver.done(done),
            Some((partition, hint)) = driver.hints.next(), if !driver.hints.is_empty() => driver.hint(partition, hint),
            () = tokio::time::sleep(wake) => {}
        }
    }
}

struct Driver {
    hub: Hub,
    calls: Calls,
    durations: Durations,
    clock: SharedClock,
    /// One for each partition.
    tenures: Vec<Tenure>,
    hints: StreamMap<usize, ReceiverStream<Hint>>,
    outlets: HashMap<ConnKey, Outlet>,
    ready: watch::Sender<bool>,
    first: Option<oneshot::Sender<Result<(), StartError>>>,
    drain: Option<Drain>,
}

/// The way to a client.
struct Outlet {
    outbox: mpsc::Sender<Outgoing>,
    closing: OwnedPermit<Outgoing>,
    cut: CancellationToken,
}

struct Drain {
    until: Millis,
    done: Vec<oneshot::Sender<Drained>>,
}

impl Driver {
    /// Asks for the session that the tenure names.
    fn open(&mut self, partition: usize) {
        let id = self.tenures[partition].id();
        self.calls.open(partition, id, self.hub.seen(partition));
    }

    fn envelope(&mut self, envelope: Envelope) {
        let now = self.clock.now();
        match envelope {
            Envelope::Connect {
                conn,
                t,
                outbox,
                closing,
                cut,
                answer,
            } => {
                if self.drain.is_some() {
                    let _ = answer.send(Err(Refused::ShuttingDown));
                    return;
                }
                self.outlets.insert(conn, Outlet { outbox, closing, cut });
                self.hub.connected(now, conn, t);
                // Whoever asked is gone meanwhile: its guard tells so next.
                let _ = answer.send(Ok(()));
            }
            Envelope::Command { conn, command, place } => {
                self.hub.command(now, conn, command);
                drop(place);
            }
            Envelope::Ended { conn, how } => {
                self.outlets.remove(&conn);
                self.hub.ended(now, conn, how);
            }
            Envelope::Shutdown { limit, done } => {
                let limit = Millis::try_from(limit.as_millis()).unwrap_or(Millis::MAX);
                let until = now.taker.saturating_add(limit);
                match &mut self.drain {
                    Some(drain) => {
                        drain.until = drain.until.min(until);
                        drain.done.push(done);
                    }
                    None => {
                        self.drain = Some(Drain {
                            until,
                            done: vec![done],
                        });
                        self.hub.shut_down(now);
                    }
                }
            }
        }
        self.flush(now);
    }

    fn hint(&mut self, partition: usize, hint: Hint) {
        let now = self.clock.now();
        match hint {
            Hint::Event(event) => self.hub.events(now, partition, vec![event]),
            Hint::Renew => self.renew_soon(partition),
        }
        self.flush(now);
    }

    fn renew_soon(&mut self, partition: usize) {
        self.keeper(partition, Keeper::renew_soon);
    }

    /// Tells the hub how long it may promise what in a partition.
    fn share_lease(&mut self, partition: usize) {
        let tenure = &mut self.tenures[partition];
        if tenure.is_open() && tenure.is_moving() && !self.hub.is_moving(partition) {
            tracing::info!(partition, "all locks are in the store's new generation");
            tenure.moved();
        }
        if let Some(until) = tenure.lease_until() {
            self.hub.lease(partition, until);
        }
    }

    /// Whether the partition's session is open and this one.
    fn is(&self, partition: usize, session: SessionId) -> bool {
        let tenure = &self.tenures[partition];
        tenure.is_open() && tenure.id() == session
    }

    fn keeper<T>(&mut self, partition: usize, f: impl FnOnce(&mut Keeper) -> T) -> Option<T> {
        self.tenures[partition].keeper().map(f)
    }

    /// Does what time, the keepers and the hub ask for. Returns whether the relay is done.
    fn step(&mut self) -> bool {
        let now = self.clock.now();
        for partition in 0..self.tenures.len() {
            if self.tenures[partition].is_over(now) {
                self.lose_session(now, partition, "its lease ran out before it could be renewed");
            }
        }
        self.hub.tick(now);
        self.flush(now);
        for (partition, tenure) in self.tenures.iter_mut().enumerate() {
            let id = tenure.id();
            let Some(keeper) = tenure.keeper() else { continue };
            while let Some(due) = keeper.due(now, self.hub.has_waiters(partition)) {
                if due == Due::Renew {
                    self.hub.begin_count(partition);
                }
                self.calls.due(due, partition, self.hub.caller(partition, id));
            }
            if let Some(batch) = self.hub.next_batch(partition) {
                self.calls.execute(partition, self.hub.caller(partition, id), batch);
            }
        }
        let ready = self.drain.is_none() && self.tenures.iter().all(Tenure::is_open);
        self.ready
            .send_if_modified(|was| std::mem::replace(was, ready) != ready);
        match &self.drain {
            Some(drain) => self.hub.is_drained() || now.taker >= drain.until,
            None => false,
        }
    }

    /// How long nothing is due.
    fn wake(&mut self) -> Duration {
        let now = self.clock.now();
        let mut wait = self
            .hub
            .deadline()
            .map_or(Millis::MAX, |at| at.saturating_sub(now.taker));
        for (partition, tenure) in self.tenures.iter_mut().enumerate() {
            if let Some(at) = tenure.over_at() {
                wait = wait.min(at.saturating_sub(now.believer));
            }
            let deadline = tenure
                .keeper()
                .and_then(|keeper| keeper.deadline(self.hub.has_waiters(partition)));
            if let Some(at) = deadline {
                wait = wait.min(at.saturating_sub(now.taker));
            }
        }
        if let Some(drain) = &self.drain {
            wait = wait.min(drain.until.saturating_sub(now.taker));
        }
        // An hour at most: timers have a greatest duration. At least a millisecond: clocks are read in whole ones.
        Duration::from_millis(wait.clamp(1, 3_600_000))
    }

    /// Carries out what the hub says.
    fn flush(&mut self, now: Now) {
        while let Some(output) = self.hub.output() {
            match output {
                Output::Send(conn, message) => {
                    let Some(outlet) = self.outlets.get(&conn) else {
                        continue;
                    };
                    match outlet.outbox.try_send(Outgoing::Message(message)) {
                        // Closed: the connection's end is on its way.
                        Ok(()) | Err(TrySendError::Closed(_)) => {}
                        Err(TrySendError::Full(_)) => self.hub.too_slow(now, conn),
                    }
                }
                Output::Close(conn, code, reason) => {
                    if let Some(outlet) = self.outlets.remove(&conn) {
                        outlet.closing.send(Outgoing::Close(code, reason.to_owned()));
                    }
                }
                Output::Cut(conn, code, reason) => {
                    if let Some(outlet) = self.outlets.remove(&conn) {
                        outlet.closing.send(Outgoing::Close(code, reason.to_owned()));
                        outlet.cut.cancel();
                    }
                }
                Output::Renew(partition) => self.renew_soon(partition),
                Output::List(partition) => {
                    self.keeper(partition, Keeper::list_soon);
                }
            }
        }
    }

    /// Takes the session out of the store, and says how it went.
    async fn finish(mut self) {
        let _ = self.ready.send(false);
        let Some(drain) = self.drain.take() else { return };
        let clean = self.hub.is_drained();
        let sessions: Vec<_> = self.tenures.iter().map(Tenure::id).collect();
        let drained = if clean {
            self.calls.close_now(&sessions).await
        } else {
            // With a lock that somebody may still believe in, the session is left to run out.
            Drained::Left
        };
        for done in drain.done {
            let _ = done.send(drained);
        }
    }
}
