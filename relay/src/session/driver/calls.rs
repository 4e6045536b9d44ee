//! The driver's calls to the store: each in a task of its own, timed, counted, and made again where that is safe without
//! asking anybody.

use crate::defaults::{Durations, RETRY_FIRST_MILLIS};
use crate::metrics::{Metrics, StoreCall};
use crate::session::clock::{Clock, Now};
use crate::session::handle::Drained;
use crate::session::hub::Hub;
use crate::session::keeper::{Due, backoff};
use crate::store::{
    Answer, Batch, BatchReply, Caller, Entry, Hint, LockStore, Op, Opened, ReapReply, Reaped, Renewal, SessionId, Slot,
    StoreError,
};
use futures_util::FutureExt;
use lockrelay_protocol::MutexName;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The clock, read by the driver and, at the moment of sending, by calls.
#[derive(Clone)]
pub(super) struct SharedClock(Arc<Mutex<Box<dyn Clock>>>);

impl SharedClock {
    pub(super) fn new(clock: Box<dyn Clock>) -> Self {
        Self(Arc::new(Mutex::new(clock)))
    }

    pub(super) fn now(&self) -> Now {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now()
    }
}

/// What became of a call.
pub(super) enum Done {
    Opened {
        id: SessionId,
        partition: usize,
        /// When it was asked: the lease counts from here.
        sent: Now,
        answer: Result<Opened, StoreError>,
    },
    Executed {
        id: SessionId,
        partition: usize,
        answer: Result<Answer<BatchReply>, StoreError>,
    },
    Renewed {
        id: SessionId,
        partition: usize,
        /// When it was sent: the lease counts from here.
        sent: Now,
        answer: Result<Answer<Renewal>, StoreError>,
    },
    Reaped {
        id: SessionId,
        partition: usize,
        dead: SessionId,
        answer: Result<Answer<ReapReply>, StoreError>,
    },
    RecoveryEnded {
        id: SessionId,
        partition: usize,
        answer: Result<Answer<()>, StoreError>,
    },
    Listed {
        id: SessionId,
        partition: usize,
        answer: Result<(Vec<Entry>, Option<Slot>), StoreError>,
    },
    /// An old session of this relay is out of the store.
    OldClosed {
        partition: usize,
        unsettled: Vec<MutexName>,
    },
    /// The call was dropped with its session.
    Dropped,
}

pub(super) struct Calls {
    context: Context,
    under_way: JoinSet<Done>,
    /// Those that put old sessions out of the store.
    closers: JoinSet<Done>,
    partitions: Vec<OfPartition>,
}

#[derive(Default)]
struct OfPartition {
    /// Ends the calls of the present session.
    dropped: CancellationToken,
    failed_opens: u32,
}

#[derive(Clone)]
struct Context {
    store: Arc<dyn LockStore>,
    durations: Durations,
    metrics: Metrics,
    clock: SharedClock,
}

impl Context {
    /// One attempt at a call: timed, counted, never hanging, never panicking.
    async fn attempt<T>(
        &self,
        call: StoreCall,
        future: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let limit = Duration::from_millis(self.durations.store_timeout_millis);
        let answer = match tokio::time::timeout(limit, AssertUnwindSafe(future).catch_unwind()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Unavailable("the call panicked".to_owned())),
            Err(_) => Err(StoreError::Unavailable(format!(
                "no answer within {} ms",
                limit.as_millis()
            ))),
        };
        self.metrics.store_called(call, start.elapsed());
        if let Err(error) = &answer {
            tracing::debug!(call = call.as_str(), %error, "store call failed");
        }
        answer
    }

    /// The same batch until its outcome is known: nothing newer of this session may go before.
    async fn execute(&self, partition: usize, caller: Caller, batch: &Batch) -> Result<Answer<BatchReply>, StoreError> {
        let mut failures = 0;
        loop {
            self.metrics.batch_size.observe(batch.ops.len() as f64);
            let call = self.store.execute(Hub::partition(partition), &caller, batch);
            match self.attempt(StoreCall::Execute, call).await {
                Err(StoreError::Unavailable(_) | StoreError::Unfit(_)) => {}
                Ok(Answer::Done(reply)) if reply.outcomes.len() != batch.ops.len() => {
                    let (got, wanted) = (reply.outcomes.len(), batch.ops.len());
                    tracing::error!(got, wanted, "the store answered another batch");
                }
                Err(StoreError::Full(problem)) => {
                    // What is sent again at once would be refused again.
                    let again = |op: &Op| matches!(op, Op::Settle { .. } | Op::Reassert(_));
                    if batch.ops.iter().any(again) {
                        tokio::time::sleep(Duration::from_millis(RETRY_FIRST_MILLIS)).await;
                    }
                    return Err(StoreError::Full(problem));
                }
                answer => return answer,
            }
            failures += 1;
            tokio::time::sleep(Duration::from_millis(backoff(failures))).await;
        }
    }

    /// Ends a session of this relay in one partition.
    async fn close(&self, partition: usize, id: SessionId) -> Vec<MutexName> {
        let mut unsettled = Vec::new();
        let mut failures = 0;
        loop {
            let call = self.store.close(Hub::partition(partition), id);
            match self.attempt(StoreCall::Close, call).await {
                Ok(reply) => {
                    unsettled.extend(reply.unsettled);
                    if reply.reaped != Reaped::More {
                        return unsettled;
                    }
                    failures = 0;
                }
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(Duration::from_millis(backoff(failures))).await;
                }
            }
        }
    }
}

impl Calls {
    pub(super) fn new(
        store: Arc<dyn LockStore>,
        durations: Durations,
        metrics: Metrics,
        clock: SharedClock,
        partitions: u16,
    ) -> Self {
        Self {
            context: Context {
                store,
                durations,
                metrics,
                clock,
            },
            under_way: JoinSet::new(),
            closers: JoinSet::new(),
            partitions: (0..partitions).map(|_| OfPartition::default()).collect(),
        }
    }

    /// Makes a call of a partition's present session.
    fn spawn(&mut self, partition: usize, call: impl Future<Output = Done> + Send + 'static) {
        let dropped = self.partitions[partition].dropped.clone();
        self.under_way
            .spawn(async move { dropped.run_until_cancelled(call).await.unwrap_or(Done::Dropped) });
    }

    /// The next call that has ended; waits for one, and for ever if there is none.
    pub(super) async fn next(&mut self) -> Option<Done> {
        loop {
            let joined = tokio::select! {
                Some(joined) = self.under_way.join_next() => joined,
                Some(joined) = self.closers.join_next() => joined,
                else => std::future::pending().await,
            };
            // An error is a call that panicked outside the store's code: there is none.
            if let Ok(done) = joined {
                return Some(done);
            }
        }
    }

    /// The next call that has ended already.
    pub(super) fn try_next(&mut self) -> Option<Done> {
        while let Some(joined) = self.under_way.try_join_next().or_else(|| self.closers.try_join_next()) {
            if let Ok(done) = joined {
                return Some(done);
            }
        }
        None
    }

    /// Asks for a session, once; after failures with a growing pause before.
    ///
    /// Each attempt has an id of its own: a session that an earlier attempt entered unnoticed may be standing still for
    /// others already, so no lease could be counted from finding it again. It runs out, and somebody reaps it.
    pub(super) fn open(&mut self, partition: usize, id: SessionId, (generation, token): (u64, u64)) {
        let context = self.context.clone();
        let failed = &mut self.partitions[partition].failed_opens;
        let pause = Duration::from_millis(if *failed == 0 { 0 } else { backoff(*failed) });
        *failed = failed.saturating_add(1);
        self.spawn(partition, async move {
            tokio::time::sleep(pause).await;
            let sent = context.clock.now();
            let call = context.store.open(Hub::partition(partition), id, generation, token);
            let answer = context.attempt(StoreCall::Open, call).await;
            Done::Opened {
                id,
                partition,
                sent,
                answer,
            }
        });
    }

    /// The session is open.
    pub(super) fn opened(&mut self, partition: usize) {
        self.partitions[partition].failed_opens = 0;
    }

    pub(super) fn hints(&self, partition: usize, id: SessionId) -> mpsc::Receiver<Hint> {
        self.context.store.hints(Hub::partition(partition), id)
    }

    pub(super) fn execute(&mut self, partition: usize, caller: Caller, batch: Batch) {
        let context = self.context.clone();
        self.spawn(partition, async move {
            let id = caller.session;
            let answer = context.execute(partition, caller, &batch).await;
            Done::Executed { id, partition, answer }
        });
    }

    /// Makes a call that a keeper wants.
    pub(super) fn due(&mut self, due: Due, partition: usize, caller: Caller) {
        let context = self.context.clone();
        let id = caller.session;
        self.spawn(partition, async move {
            let at = Hub::partition(partition);
            let store = &context.store;
            match due {
                Due::Renew => {
                    let sent = context.clock.now();
                    let answer = context.attempt(StoreCall::Renew, store.renew(at, &caller)).await;
                    Done::Renewed {
                        id,
                        partition,
                        sent,
                        answer,
                    }
                }
                Due::Reap { dead, counter } => {
                    let call = store.reap(at, &caller, dead, counter);
                    let answer = context.attempt(StoreCall::Reap, call).await;
                    Done::Reaped {
                        id,
                        partition,
                        dead,
                        answer,
                    }
                }
                Due::EndRecovery => {
                    let call = store.end_recovery(at, &caller);
                    let answer = context.attempt(StoreCall::EndRecovery, call).await;
                    Done::RecoveryEnded { id, partition, answer }
                }
                Due::List { from } => {
                    let answer = context.attempt(StoreCall::List, store.list(at, id, from)).await;
                    Done::Listed { id, partition, answer }
                }
            }
        });
    }

    /// Stops all calls of a partition's present session. What they ask for may still reach the store, which then knows no
    /// such session any more, or ends it next.
    pub(super) fn drop_session(&mut self, partition: usize) {
        std::mem::take(&mut self.partitions[partition].dropped).cancel();
    }

    /// Puts an old session out of the store, for as long as it takes.
    pub(super) fn close_old(&mut self, partition: usize, id: SessionId) {
        let context = self.context.clone();
        self.closers.spawn(async move {
            let unsettled = context.close(partition, id).await;
            Done::OldClosed { partition, unsettled }
        });
    }

    /// Puts the sessions, one for each partition, and old ones that are still on their way, out of the store, in the time
    /// that a few calls take.
    pub(super) async fn close_now(mut self, sessions: &[SessionId]) -> Drained {
        for (partition, id) in sessions.iter().enumerate() {
            self.drop_session(partition);
            self.close_old(partition, *id);
        }
        let limit = Duration::from_millis(self.context.durations.store_timeout_millis.saturating_mul(3));
        let all = async { while self.closers.join_next().await.is_some() {} };
        match tokio::time::timeout(limit, all).await {
            Ok(()) => Drained::Clean,
            Err(_) => Drained::Left,
        }
    }
}
