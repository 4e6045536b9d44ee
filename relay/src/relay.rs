//! [`Relay`]: a store, rules and a session put together, ready to be mounted.

use crate::defaults::Durations;
use crate::demo::{MemoryScratch, Scratch, Shop};
use crate::metrics::Metrics;
use crate::routes;
use crate::rules::{Authorizer, BadGlob, Rule, RuleList};
use crate::session::{Drained, Sessions, StartError};
use crate::store::LockStore;
use crate::store::memory::MemoryStore;
use axum::Router;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the last bytes of a connection may take, once its locks are freed or given up.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// What all connections and routes share.
pub(crate) struct Shared {
    pub(crate) sessions: Sessions,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) durations: Durations,
    pub(crate) metrics: Metrics,
    /// Cancelled when the relay begins to shut down: no new connection is admitted, and event streams end.
    pub(crate) closing: CancellationToken,
    /// The connections' tasks.
    pub(crate) tasks: TaskTracker,
}

/// A running relay. It serves nothing by itself: mount its [`router`](Relay::router). Dropping it without
/// [`shutdown`](Relay::shutdown) leaves its session in the store until other relays reap it.
pub struct Relay {
    shared: Arc<Shared>,
    www: Option<PathBuf>,
    demo: Option<Arc<dyn Scratch>>,
}

impl Relay {
    /// Begins to set one up: by default on a memory store, with no rule, so that every lock is denied.
    pub fn builder() -> RelayBuilder {
        RelayBuilder {
            store: None,
            authorizer: Arc::new(RuleList::default()),
            durations: Durations::default(),
            www: None,
            demo: None,
        }
    }

    /// The routes: `/v1/locks`, `/healthz`, `/readyz`, `/metrics`, and what else was asked for. Merge it into an
    /// application, or serve it as it is.
    pub fn router(&self) -> Router {
        let shop = self
            .demo
            .as_ref()
            .map(|scratch| Shop::new(Arc::clone(scratch), self.shared.closing.clone()));
        routes::router(Arc::clone(&self.shared), shop, self.www.as_deref())
    }

    /// As [`Relay::router`], for those who never shut down cleanly.
    pub fn into_router(self) -> Router {
        self.router()
    }

    /// Admits no more connections, tells those that there are, frees their locks and leaves the store. Returns when all of
    /// that is done, at the latest after [`Durations::drain_millis`] and some seconds.
    pub async fn shutdown(&self) {
        self.shared.closing.cancel();
        let limit = Duration::from_millis(self.shared.durations.drain_millis);
        if self.shared.sessions.shutdown(limit).await == Drained::Left {
            tracing::warn!(
                "not everything is freed: other relays free the rest when nobody can believe in it any more"
            );
        }
        self.shared.tasks.close();
        let waited = tokio::time::timeout(LAST_BYTES, self.shared.tasks.wait()).await;
        if waited.is_err() {
            tracing::warn!("some connections did not read their last messages in time");
        }
    }

    /// Completes as soon as [`Relay::shutdown`] begins, for whoever serves the router to stop accepting.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.closing.clone().cancelled_owned()
    }
}

/// Sets up a [`Relay`].
#[must_use = "a builder does nothing until it is built"]
pub struct RelayBuilder {
    store: Option<Arc<dyn LockStore>>,
    authorizer: Arc<dyn Authorizer>,
    durations: Durations,
    www: Option<PathBuf>,
    demo: Option<Arc<dyn Scratch>>,
}

impl RelayBuilder {
    /// Where the locks live. Default: in the memory of this relay.
    pub fn store(mut self, store: Arc<dyn LockStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Who decides about requests. Default: a list without rules, which denies all.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = authorizer;
        self
    }

    /// Lets these rules decide about requests.
    ///
    /// # Errors
    /// [`BadGlob`] of the first rule that has one.
    pub fn rules(self, rules: Vec<Rule>) -> Result<Self, BadGlob> {
        Ok(self.authorizer(Arc::new(RuleList::new(rules)?)))
    }

    /// Leases, heartbeats and limits.
    pub fn durations(mut self, durations: Durations) -> Self {
        self.durations = durations;
        self
    }

    /// Serves the files of this folder wherever no route is.
    pub fn www(mut self, folder: impl Into<PathBuf>) -> Self {
        self.www = Some(folder.into());
        self
    }

    /// Serves the demo's shop in this process's memory.
    pub fn demo(self) -> Self {
        self.demo_on(Arc::new(MemoryScratch::default()))
    }

    /// Serves the demo's shop with its things in this scratch, which several relays may share.
    pub fn demo_on(mut self, scratch: Arc<dyn Scratch>) -> Self {
        self.demo = Some(scratch);
        self
    }

    /// Opens the relay's session in the store. If the store does not answer, the relay is built all the same, is not ready,
    /// and keeps trying.
    ///
    /// # Errors
    /// [`StartError`], if durations contradict one another or the store refuses to be used as it is configured.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn build(self) -> Result<Relay, StartError> {
        let metrics = Metrics::new();
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryStore::new()));
        let sessions = Sessions::start(store, self.durations.clone(), metrics.clone()).await?;
        let shared = Arc::new(Shared {
            sessions,
            authorizer: self.authorizer,
            durations: self.durations,
            metrics,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        Ok(Relay {
            shared,
            www: self.www,
            demo: self.demo,
        })
    }
}
