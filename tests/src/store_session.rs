//! A relay as its store sees it, for tests of what only a real server can do: one session and its batch numbers.

use lockrelay::store::{
    Admission, Answer, Batch, BatchReply, Caller, LockStore, Op, Outcome, Partition, Reaped, Renewal, Request,
    SessionId, Slot, StoreError, random_lock_id,
};
use lockrelay_protocol::{Mode, MutexName};

/// The one partition there is.
pub const PARTITION: Partition = Partition(0);

/// A session in a store.
#[derive(Debug)]
pub struct StoreSession<S> {
    /// The store it is in.
    pub store: S,
    /// What its calls say.
    pub caller: Caller,
    /// Whether the store was recovering when it came.
    pub recovering: bool,
    /// The last batch that it sent.
    pub last: Batch,
    next_slot: u32,
}

impl<S: LockStore> StoreSession<S> {
    /// Opens one that has seen this generation and this token.
    ///
    /// # Errors
    /// As [`LockStore::open`].
    pub async fn try_open(store: S, seen: u64, highest_token: u64) -> Result<Self, StoreError> {
        let session = SessionId::random();
        let opened = store.open(PARTITION, session, seen, highest_token).await?;
        Ok(Self {
            store,
            caller: Caller {
                session,
                generation: opened.generation.number,
                highest_token: opened.highest_token,
                acknowledged: 0,
            },
            recovering: opened.generation.recovering,
            last: Batch { seq: 0, ops: vec![] },
            next_slot: 0,
        })
    }

    /// Opens one that has seen nothing.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn open(store: S) -> Self {
        Self::try_open(store, 0, 0).await.expect("the store takes sessions")
    }

    /// A request for a slot that was never used.
    ///
    /// # Panics
    /// If the name is not valid.
    pub fn request(&mut self, mutex: &str, mode: Mode, admission: Admission) -> Request {
        self.next_slot += 1;
        Request {
            slot: Slot(self.next_slot - 1),
            lock_id: random_lock_id(),
            mutex: MutexName::new(mutex).expect("a valid name"),
            mode,
            admission,
            metadata: None,
        }
    }

    /// Uses its slots from the first one again; all must be free.
    pub fn restart_slots(&mut self) {
        self.next_slot = 0;
    }

    /// Sends a new batch.
    ///
    /// # Errors
    /// As [`LockStore::execute`].
    pub async fn execute(&mut self, ops: Vec<Op>) -> Result<Answer<BatchReply>, StoreError> {
        self.last = Batch {
            seq: self.last.seq + 1,
            ops,
        };
        self.repeat().await
    }

    /// Sends the last batch again.
    ///
    /// # Errors
    /// As [`LockStore::execute`].
    pub async fn repeat(&mut self) -> Result<Answer<BatchReply>, StoreError> {
        let answer = self.store.execute(PARTITION, &self.caller, &self.last).await?;
        if let Answer::Done(reply) = &answer
            && let Some(last) = reply.events.last()
        {
            self.caller.acknowledged = last.number;
        }
        Ok(answer)
    }

    /// Sends a new batch that must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn run(&mut self, ops: Vec<Op>) -> BatchReply {
        match self.execute(ops).await {
            Ok(Answer::Done(reply)) => reply,
            other => panic!("not done: {other:?}"),
        }
    }

    /// Asks for an exclusive lock, and waits in the queue if need be.
    pub async fn exclusive(&mut self, mutex: &str) -> (Op, Outcome) {
        let request = self.request(mutex, Mode::Exclusive, Admission::Queue);
        let removal = Op::Remove {
            slot: request.slot,
            lock_id: request.lock_id.clone(),
        };
        (removal, self.run(vec![Op::Acquire(request)]).await.outcomes[0])
    }

    /// Raises the counter.
    ///
    /// # Panics
    /// If the session is not there.
    pub async fn renew(&mut self) -> Renewal {
        match self.store.renew(PARTITION, &self.caller).await {
            Ok(Answer::Done(renewal)) => {
                if let Some(last) = renewal.events.last() {
                    self.caller.acknowledged = last.number;
                }
                renewal
            }
            other => panic!("not done: {other:?}"),
        }
    }

    /// Ends another session wholly. Returns how many calls that took.
    ///
    /// # Panics
    /// If the other one lives.
    pub async fn reap(&mut self, dead: SessionId) -> usize {
        let counter = self.renew().await.counters;
        let counter = counter.iter().find(|(id, _)| *id == dead).expect("it is there").1;
        for calls in 1.. {
            match self.store.reap(PARTITION, &self.caller, dead, counter).await {
                Ok(Answer::Done(reply)) if reply.reaped == Reaped::Gone => return calls,
                Ok(Answer::Done(reply)) if reply.reaped == Reaped::More => {}
                other => panic!("not done: {other:?}"),
            }
        }
        unreachable!("the loop ends only by returning")
    }

    /// Ends the session.
    ///
    /// # Panics
    /// If the store does not answer.
    pub async fn close(self) {
        while self
            .store
            .close(PARTITION, self.caller.session)
            .await
            .expect("it answers")
            .reaped
            == Reaped::More
        {}
    }
}
