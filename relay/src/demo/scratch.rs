//! Where the shop keeps its things. No rule of Lockrelay holds here: a scratch promises neither atomicity over two calls
//! nor that anything is kept.

use async_trait::async_trait;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// How many entries a log keeps.
pub(super) const HISTORY: usize = 2_000;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Rises with every entry, in the order of [`Entry::order_of`].
    pub id: String,
    /// What was appended.
    pub text: Arc<str>,
}

impl Entry {
    /// What ids are compared by: `MILLISECONDS-NUMBER`, as Redis streams have them. `None`: the text is no id.
    #[must_use]
    pub fn order_of(id: &str) -> Option<(u64, u64)> {
        let (millis, number) = id.split_once('-')?;
        Some((millis.parse().ok()?, number.parse().ok()?))
    }
}

/// The scratch did not answer, or what is in it makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the demo's scratch store failed: {0}")]
pub struct ScratchError(pub String);

/// A few values and one log, shared by whoever uses the same scratch.
#[async_trait]
pub trait Scratch: Send + Sync + 'static {
    /// The number of this name, 0 if there is none.
    ///
    /// # Errors
    /// [`ScratchError`].
    async fn get(&self, name: &str) -> Result<i64, ScratchError>;

    /// Writes the number of this name.
    ///
    /// # Errors
    /// [`ScratchError`].
    async fn set(&self, name: &str, value: i64) -> Result<(), ScratchError>;

    /// Adds 1 to the number of this name, and tells the sum.
    ///
    /// # Errors
    /// [`ScratchError`].
    async fn increment(&self, name: &str) -> Result<i64, ScratchError>;

    /// Appends to the log. The entry's id has the time, in milliseconds since 1970, by the one clock that all users of the
    /// scratch share.
    ///
    /// # Errors
    /// [`ScratchError`].
    async fn append(&self, text: &str) -> Result<(), ScratchError>;

    /// What is still in the log, oldest first: at most the last 2,000.
    ///
    /// # Errors
    /// [`ScratchError`].
    async fn log(&self) -> Result<Vec<Entry>, ScratchError>;

    /// Entries that are appended from now on. Ends, or reports that it lagged, when the reader was too slow.
    fn follow(&self) -> broadcast::Receiver<Entry>;
}

/// A scratch in this process.
pub struct MemoryScratch {
    state: Mutex<State>,
    news: broadcast::Sender<Entry>,
}

#[derive(Default)]
struct State {
    numbers: HashMap<String, i64>,
    log: VecDeque<Entry>,
    last: (u64, u64),
}

impl Default for MemoryScratch {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            news: broadcast::channel(HISTORY).0,
        }
    }
}

impl MemoryScratch {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics between two writes of it, so a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Scratch for MemoryScratch {
    async fn get(&self, name: &str) -> Result<i64, ScratchError> {
        Ok(self.state().numbers.get(name).copied().unwrap_or_default())
    }

    async fn set(&self, name: &str, value: i64) -> Result<(), ScratchError> {
        self.state().numbers.insert(name.to_owned(), value);
        Ok(())
    }

    async fn increment(&self, name: &str) -> Result<i64, ScratchError> {
        let mut state = self.state();
        let number = state.numbers.entry(name.to_owned()).or_default();
        *number += 1;
        Ok(*number)
    }

    async fn append(&self, text: &str) -> Result<(), ScratchError> {
        let mut state = self.state();
        // As in Redis: the number goes on where the clock does not.
        let now = super::shop::wall_clock_millis();
        state.last = if now > state.last.0 {
            (now, 0)
        } else {
            (state.last.0, state.last.1 + 1)
        };
        let entry = Entry {
            id: format!("{}-{}", state.last.0, state.last.1),
            text: Arc::from(text),
        };
        if state.log.len() == HISTORY {
            state.log.pop_front();
        }
        state.log.push_back(entry.clone());
        // Sent under the lock, so that news are in the log's order. Nobody listening is no failure.
        let _ = self.news.send(entry);
        Ok(())
    }

    async fn log(&self) -> Result<Vec<Entry>, ScratchError> {
        Ok(self.state().log.iter().cloned().collect())
    }

    fn follow(&self) -> broadcast::Receiver<Entry> {
        self.news.subscribe()
    }
}
