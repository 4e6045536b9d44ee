//! What the driver does with what became of a store call.

use super::Driver;
use super::calls::Done;
use crate::session::clock::Now;
use crate::session::handle::StartError;
use crate::session::keeper::Keeper;
use crate::session::tenure::{Moved, Tenure};
use crate::store::{Answer, BatchReply, Generation, Opened, SessionId, StoreError};
use tokio_stream::wrappers::ReceiverStream;

impl Driver {
    /// A store call has ended.
    pub(super) fn done(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Opened {
                id,
                partition,
                sent,
                answer,
            } => self.opened(now, partition, id, sent, answer),
            Done::OldClosed { partition, unsettled } => self.hub.settle(partition, unsettled),
            Done::Executed { id, partition, answer } if self.is(partition, id) => self.executed(now, partition, answer),
            Done::Renewed {
                id,
                partition,
                sent,
                answer,
            } if self.is(partition, id) => match answer {
                Ok(Answer::Done(renewal)) => {
                    let known = self.hub.known(partition);
                    self.hub.saw_token(partition, renewal.highest_token);
                    if self.keeper(partition, |keeper| keeper.renewed(sent, now, &renewal, known)) == Some(true) {
                        self.hub.recovered(partition);
                    }
                    self.share_lease(partition);
                    self.hub.events(now, partition, renewal.events);
                }
                Ok(Answer::NoSession) => self.lose_session(now, partition, "it is gone from the store"),
                Ok(Answer::NewGeneration(generation)) => self.new_generation(now, partition, generation),
                Err(_) => {
                    self.keeper(partition, |keeper| keeper.renewal_failed(now));
                }
            },
            Done::Reaped {
                id,
                partition,
                dead,
                answer,
            } if self.is(partition, id) => {
                let answer = self.unless_lost(now, partition, answer);
                let reaped = answer.as_ref().map(|reply| &reply.reaped);
                self.keeper(partition, |keeper| keeper.reaped(now, dead, reaped));
                self.hub
                    .settle(partition, answer.map(|reply| reply.unsettled).unwrap_or_default());
            }
            Done::RecoveryEnded { id, partition, answer } if self.is(partition, id) => {
                let answered = self.unless_lost(now, partition, answer).is_some();
                if self.keeper(partition, |keeper| keeper.recovery_ended(now, answered)) == Some(true) {
                    self.hub.recovered(partition);
                }
            }
            Done::Listed { id, partition, answer } if self.is(partition, id) => {
                let (entries, next) = match answer {
                    Ok((entries, next)) => (entries, Some(next)),
                    Err(_) => (Vec::new(), None),
                };
                self.keeper(partition, |keeper| keeper.listed(now, next));
                self.hub.listed(partition, entries);
            }
            // Of a session that was lost meanwhile.
            Done::Executed { .. }
            | Done::Renewed { .. }
            | Done::Reaped { .. }
            | Done::RecoveryEnded { .. }
            | Done::Listed { .. }
            | Done::Dropped => {}
        }
        self.flush(now);
    }

    fn executed(&mut self, now: Now, partition: usize, answer: Result<Answer<BatchReply>, StoreError>) {
        match answer {
            Ok(Answer::Done(reply)) => {
                self.hub.batch_done(now, partition, reply);
                self.share_lease(partition);
            }
            Ok(Answer::NoSession) => self.lose_session(now, partition, "it is gone from the store"),
            Ok(Answer::NewGeneration(generation)) => self.new_generation(now, partition, generation),
            Err(StoreError::Full(problem)) => {
                tracing::warn!(problem, "the store is full");
                self.hub.batch_full(now, partition);
            }
            // Numbers or slots are out of step with the store's: a new session begins at one.
            Err(StoreError::Refused(problem)) => {
                tracing::error!(problem, "the store refused a batch");
                self.lose_session(now, partition, "the store refused a batch of it");
            }
            // The calls repeat themselves until an answer comes; this one was given up with its session.
            Err(StoreError::Unavailable(_) | StoreError::Unfit(_)) => {}
        }
    }

    /// The answer, unless there is none, or it says that the session is lost.
    fn unless_lost<T>(&mut self, now: Now, partition: usize, answer: Result<Answer<T>, StoreError>) -> Option<T> {
        match answer {
            Ok(Answer::Done(done)) => Some(done),
            Ok(Answer::NoSession) => {
                self.lose_session(now, partition, "it is gone from the store");
                None
            }
            Ok(Answer::NewGeneration(generation)) => {
                self.new_generation(now, partition, generation);
                None
            }
            Err(_) => None,
        }
    }

    fn opened(&mut self, now: Now, partition: usize, id: SessionId, sent: Now, answer: Result<Opened, StoreError>) {
        if self.tenures[partition].id() != id || self.tenures[partition].is_open() {
            return;
        }
        let opened = match answer {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(partition, %error, "no session in the store yet");
                if let Some(first) = self.first.take() {
                    let _ = first.send(match error {
                        StoreError::Unfit(problem) => Err(StartError::Unfit(problem)),
                        StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Refused(_) => Ok(()),
                    });
                }
                self.tenures[partition].ask_again(SessionId::random());
                self.open(partition);
                return;
            }
        };
        tracing::info!(session = %id, partition, "session opened in the store");
        self.calls.opened(partition);
        let keeper = Keeper::opened(&self.durations, id, sent, now, opened.generation);
        match self.tenures[partition].opened(keeper, opened.generation) {
            Moved::Nothing => self.hub.session_opened(partition, &opened),
            // Another one begins: what this one would have carried is nobody's any more.
            Moved::TooLate => {
                self.lose_session(now, partition, "the store grants again, and did not wait for its locks");
                return;
            }
            Moved::Everything => {
                self.hub.move_out(now, partition);
                self.hub.session_opened(partition, &opened);
            }
        }
        self.share_lease(partition);
        let hints = self.calls.hints(partition, id);
        self.hints.insert(partition, ReceiverStream::new(hints));
        if self.tenures.iter().all(Tenure::is_open)
            && let Some(first) = self.first.take()
        {
            let _ = first.send(Ok(()));
        }
    }

    /// The store is in another generation than the session: it was restarted, failed over, or lost data. As long as it grants
    /// nothing, and the relay's own lease is valid, all that it has is put into the new one.
    fn new_generation(&mut self, now: Now, partition: usize, generation: Generation) {
        self.hub.saw_generation(partition, generation);
        if !self.tenures[partition].may_move(now, generation) {
            self.lose_session(now, partition, "the store lost data or was restarted");
            return;
        }
        let id = self.tenures[partition].id();
        let generation = generation.number;
        tracing::warn!(session = %id, partition, generation, "the store may have lost data: locks move into a new session");
        self.tenures[partition].begin_move(SessionId::random());
        self.replace(partition, id);
    }

    /// The session of a partition is over: all clients that have anything of it are told, the old session is ended in the
    /// store, and a new one is asked for.
    pub(super) fn lose_session(&mut self, now: Now, partition: usize, why: &str) {
        let id = self.tenures[partition].id();
        tracing::error!(session = %id, partition, why, "session lost: every lock of this relay there ends");
        self.hub.session_lost(now, partition);
        self.flush(now);
        self.tenures[partition].begin_anew(SessionId::random());
        // Nobody believes in its locks any more: what was promised was within the lease, or is covered by the recovery of a
        // new generation.
        self.replace(partition, id);
    }

    fn replace(&mut self, partition: usize, old: SessionId) {
        self.calls.drop_session(partition);
        self.hints.remove(&partition);
        self.calls.close_old(partition, old);
        self.open(partition);
    }
}
