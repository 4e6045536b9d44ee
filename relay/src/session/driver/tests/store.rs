//! A memory store that misbehaves when told to.

use crate::store::memory::MemoryStore;
use crate::store::{
    Answer, Batch, BatchReply, Caller, Entry, Hint, LockStore, Op, Opened, Partition, ReapReply, Reaped, Renewal,
    SessionId, Slot, StoreError,
};
use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// One memory store per partition, and moods.
pub(super) struct Moody {
    pub(super) inner: Vec<MemoryStore>,
    mood: Mutex<Mood>,
    /// So many announcements are still to be lost.
    pub(super) losing: Arc<AtomicUsize>,
    /// Announcements are lost.
    pub(super) mute: AtomicBool,
    /// Only calls about this partition suffer from the mood; all by default.
    pub(super) only: AtomicU16,
    /// Every session that was opened, in order.
    pub(super) sessions: Mutex<Vec<SessionId>>,
    /// Batches with claims are carried out, and not answered.
    pub(super) claims_unanswered: AtomicBool,
    /// Slipped into the next batch, without the caller's knowledge.
    pub(super) stray: Mutex<Option<Op>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    /// Nothing reaches it.
    Down,
    /// Everything reaches it, and no answer comes back.
    Deaf,
    /// Nothing reaches it, and callers wait for ever.
    Hanging,
    /// Calls panic.
    Broken,
    /// It has no memory for anything but removals.
    Full,
    /// It refuses to be used.
    Unfit,
}

impl Moody {
    pub(super) fn new() -> Arc<Self> {
        Self::with_partitions(1)
    }

    pub(super) fn with_partitions(partitions: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: (0..partitions).map(|_| MemoryStore::starting_after(0)).collect(),
            mood: Mutex::new(Mood::Good),
            losing: Arc::default(),
            mute: AtomicBool::new(false),
            only: AtomicU16::new(u16::MAX),
            sessions: Mutex::new(Vec::new()),
            claims_unanswered: AtomicBool::new(false),
            stray: Mutex::new(None),
        })
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(super) fn session(&self, n: usize) -> SessionId {
        self.sessions.lock().unwrap()[n]
    }

    fn of(&self, partition: Partition) -> &MemoryStore {
        &self.inner[usize::from(partition.0)]
    }

    async fn call<T>(
        &self,
        partition: Partition,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let only = self.only.load(Ordering::Relaxed);
        let mood = if only == u16::MAX || only == partition.0 {
            self.mood.lock().unwrap().clone()
        } else {
            Mood::Good
        };
        let down = || StoreError::Unavailable("down".to_owned());
        // A round trip of its own, so that calls and messages cross.
        tokio::time::sleep(Duration::from_millis(1)).await;
        match mood {
            Mood::Good | Mood::Full => call.await,
            Mood::Down => Err(down()),
            Mood::Deaf => {
                let _ = call.await;
                Err(down())
            }
            Mood::Hanging => std::future::pending().await,
            Mood::Broken => panic!("a store call panics, as this test wants it"),
            Mood::Unfit => Err(StoreError::Unfit(
                "maxmemory-policy is allkeys-lru; set noeviction".to_owned(),
            )),
        }
    }

    /// Sessions that are in the store now, and how many entries each has.
    pub(super) async fn left(&self, partition: usize) -> Vec<(SessionId, usize)> {
        let store = &self.inner[partition];
        let stranger = SessionId::random();
        let opened = store.open(Partition(0), stranger, 0, 0).await.unwrap();
        let caller = Caller {
            session: stranger,
            generation: opened.generation.number,
            highest_token: 0,
            acknowledged: 0,
        };
        let Answer::Done(renewal) = store.renew(Partition(0), &caller).await.unwrap() else {
            panic!("the stranger's session was just opened");
        };
        let mut left = Vec::new();
        for (session, _) in renewal.counters.into_iter().filter(|(session, _)| *session != stranger) {
            let (entries, _) = store.list(Partition(0), session, Slot(0)).await.unwrap();
            left.push((session, entries.len()));
        }
        let reply = store.close(Partition(0), stranger).await.unwrap();
        assert_eq!(reply.reaped, Reaped::Gone);
        left
    }
}

#[async_trait]
impl LockStore for Moody {
    fn partitions(&self) -> u16 {
        u16::try_from(self.inner.len()).unwrap()
    }

    async fn open(
        &self,
        partition: Partition,
        session: SessionId,
        seen: u64,
        highest_token: u64,
    ) -> Result<Opened, StoreError> {
        let call = self.of(partition).open(Partition(0), session, seen, highest_token);
        let answer = self.call(partition, call).await?;
        if partition.0 == 0 {
            self.sessions.lock().unwrap().push(session);
        }
        Ok(answer)
    }

    async fn execute(
        &self,
        partition: Partition,
        caller: &Caller,
        batch: &Batch,
    ) -> Result<Answer<BatchReply>, StoreError> {
        let frees = batch.ops.iter().all(|op| matches!(op, Op::Remove { .. }));
        if !frees && *self.mood.lock().unwrap() == Mood::Full {
            return Err(StoreError::Full("used_memory is above maxmemory".to_owned()));
        }
        let mut batch = batch.clone();
        let stray = self.stray.lock().unwrap().take();
        let slipped_in = stray.is_some();
        batch.ops.extend(stray);
        let call = self.of(partition).execute(Partition(0), caller, &batch);
        let mut answer = self.call(partition, call).await?;
        let claims = batch.ops.iter().any(|op| matches!(op, Op::Reassert(_)));
        if claims && self.claims_unanswered.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the answer was lost".to_owned()));
        }
        if let (true, Answer::Done(reply)) = (slipped_in, &mut answer) {
            reply.outcomes.pop();
        }
        Ok(answer)
    }

    async fn renew(&self, partition: Partition, caller: &Caller) -> Result<Answer<Renewal>, StoreError> {
        self.call(partition, self.of(partition).renew(Partition(0), caller))
            .await
    }

    async fn reap(
        &self,
        partition: Partition,
        caller: &Caller,
        dead: SessionId,
        counter: u64,
    ) -> Result<Answer<ReapReply>, StoreError> {
        let call = self.of(partition).reap(Partition(0), caller, dead, counter);
        self.call(partition, call).await
    }

    async fn close(&self, partition: Partition, session: SessionId) -> Result<ReapReply, StoreError> {
        self.call(partition, self.of(partition).close(Partition(0), session))
            .await
    }

    async fn end_recovery(&self, partition: Partition, caller: &Caller) -> Result<Answer<()>, StoreError> {
        self.call(partition, self.of(partition).end_recovery(Partition(0), caller))
            .await
    }

    async fn list(
        &self,
        partition: Partition,
        session: SessionId,
        from: Slot,
    ) -> Result<(Vec<Entry>, Option<Slot>), StoreError> {
        self.call(partition, self.of(partition).list(Partition(0), session, from))
            .await
    }

    fn hints(&self, partition: Partition, session: SessionId) -> mpsc::Receiver<Hint> {
        if self.mute.load(Ordering::Relaxed) {
            return mpsc::channel(1).1;
        }
        let mut hints = self.of(partition).hints(Partition(0), session);
        let (sender, receiver) = mpsc::channel(64);
        let losing = Arc::clone(&self.losing);
        tokio::spawn(async move {
            while let Some(hint) = hints.recv().await {
                let fewer = |left: usize| left.checked_sub(1);
                let lost = losing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok();
                if !lost && sender.send(hint).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}
