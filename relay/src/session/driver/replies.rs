//! What the driver does with what became of a store call.

use super::calls::Done;
use super::{Driver, Phase};
use crate::session::clock::Now;
use crate::session::handle::StartError;
use crate::session::keeper::Keeper;
use crate::store::{Answer, BatchReply, Opened, SessionId, StoreError};
use tokio_stream::wrappers::ReceiverStream;

impl Driver {
    /// A store call has ended.
    pub(super) fn done(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Opened { id, answers } => self.opened(now, id, answers),
            Done::OldClosed { unsettled } => {
                for (partition, mutexes) in unsettled {
                    self.hub.settle(partition, mutexes);
                }
            }
            Done::Executed { id, partition, answer } if self.is(id) => self.executed(now, partition, answer),
            Done::Renewed {
                id,
                partition,
                sent,
                answer,
            } if self.is(id) => match answer {
                Ok(Answer::Done(renewal)) => {
                    let known = self.hub.known(partition);
                    self.hub.saw_token(partition, renewal.highest_token);
                    if self.keeper(partition, |keeper| keeper.renewed(sent, now, &renewal, known)) == Some(true) {
                        self.hub.recovered(partition);
                    }
                    self.share_lease();
                    self.hub.events(now, partition, renewal.events);
                }
                Ok(Answer::NoSession) => self.lose_session(now, "it is gone from the store"),
                Ok(Answer::NewGeneration(generation)) => {
                    self.hub.saw_generation(partition, generation);
                    self.lose_session(now, "the store lost data or was restarted");
                }
                Err(_) => {
                    self.keeper(partition, |keeper| keeper.renewal_failed(now));
                }
            },
            Done::Reaped {
                id,
                partition,
                dead,
                answer,
            } if self.is(id) => {
                let answer = self.unless_lost(now, partition, answer);
                let reaped = answer.as_ref().map(|reply| &reply.reaped);
                self.keeper(partition, |keeper| keeper.reaped(now, dead, reaped));
                self.hub
                    .settle(partition, answer.map(|reply| reply.unsettled).unwrap_or_default());
            }
            Done::RecoveryEnded { id, partition, answer } if self.is(id) => {
                let answered = self.unless_lost(now, partition, answer).is_some();
                if self.keeper(partition, |keeper| keeper.recovery_ended(now, answered)) == Some(true) {
                    self.hub.recovered(partition);
                }
            }
            Done::Listed { id, partition, answer } if self.is(id) => {
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
            | Done::Listed { .. } => {}
        }
        self.flush(now);
    }

    fn executed(&mut self, now: Now, partition: usize, answer: Result<Answer<BatchReply>, StoreError>) {
        match answer {
            Ok(Answer::Done(reply)) => self.hub.batch_done(now, partition, reply),
            Ok(Answer::NoSession) => self.lose_session(now, "it is gone from the store"),
            Ok(Answer::NewGeneration(generation)) => {
                self.hub.saw_generation(partition, generation);
                self.lose_session(now, "the store lost data or was restarted");
            }
            Err(StoreError::Full(problem)) => {
                tracing::warn!(problem, "the store is full");
                self.hub.batch_full(now, partition);
            }
            // Numbers or slots are out of step with the store's: a new session begins at one.
            Err(StoreError::Refused(problem)) => {
                tracing::error!(problem, "the store refused a batch");
                self.lose_session(now, "the store refused a batch of it");
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
                self.lose_session(now, "it is gone from the store");
                None
            }
            Ok(Answer::NewGeneration(generation)) => {
                self.hub.saw_generation(partition, generation);
                self.lose_session(now, "the store lost data or was restarted");
                None
            }
            Err(_) => None,
        }
    }

    fn opened(&mut self, now: Now, id: SessionId, answers: Result<Vec<(Now, Opened)>, StoreError>) {
        if !matches!(self.phase, Phase::Opening(opening) if opening == id) {
            return;
        }
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, "no session in the store yet");
                if let Some(first) = self.first.take() {
                    let _ = first.send(match error {
                        StoreError::Unfit(problem) => Err(StartError::Unfit(problem)),
                        StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Refused(_) => Ok(()),
                    });
                }
                self.open();
                return;
            }
        };
        tracing::info!(session = %id, "session opened in the store");
        self.calls.opened();
        let opened: Vec<Opened> = answers.iter().map(|(_, opened)| *opened).collect();
        self.hub.session_opened(&opened);
        let keepers = answers
            .iter()
            .map(|(sent, opened)| Keeper::opened(&self.durations, id, *sent, now, opened.generation));
        self.phase = Phase::Open {
            id,
            keepers: keepers.collect(),
        };
        self.share_lease();
        for partition in 0..self.partitions {
            let hints = self.calls.hints(partition, id);
            self.hints.insert(partition, ReceiverStream::new(hints));
        }
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(()));
        }
    }

    /// The session is over: all clients are told, the old session is ended in the store, and a new one is asked for.
    pub(super) fn lose_session(&mut self, now: Now, why: &str) {
        let Phase::Open { id, .. } = self.phase else { return };
        tracing::error!(session = %id, why, "session lost: every lock of this relay ends");
        self.hub.session_lost(now);
        self.flush(now);
        self.calls.drop_session();
        self.hints.clear();
        // Nobody believes in its locks any more: what was promised was within the lease, or is covered by the recovery of a
        // new generation.
        self.calls.close_old(id, self.partitions);
        self.open();
    }
}
