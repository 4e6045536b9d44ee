//! Whole session layers, driver included, on stores that misbehave when told to. Tokio's clock is paused: it jumps to the
//! next timer when nothing else is left to do, so that a test of a minute takes a moment, and a wait measures itself.

mod faults;
mod moves;
mod ordinary;
mod store;

use crate::defaults::{Durations, OUTBOX_MESSAGES};
use crate::metrics::Metrics;
use crate::session::clock::TokioClock;
use crate::session::{Command, Connection, Outgoing, Refused, Sessions, StartError};
use crate::store::LockStore;
use lockrelay_protocol::{Acquire, CloseCode, LockId, Mode, MutexName, RequestId, ServerMessage};
use std::sync::Arc;
use std::time::Duration;
use store::Moody;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// One relay.
struct Relay {
    sessions: Sessions,
    metrics: Metrics,
}

impl Relay {
    async fn start(store: &Arc<Moody>) -> Self {
        Self::try_start(store).await.expect("the store is fit")
    }

    async fn try_start(store: &Arc<Moody>) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let store = Arc::clone(store) as Arc<dyn LockStore>;
        let clock = Box::new(TokioClock::new());
        let sessions = Sessions::start_with_clock(store, Durations::default(), metrics.clone(), clock).await?;
        Ok(Self { sessions, metrics })
    }

    async fn connect(&self) -> Client {
        let (sender, outbox) = mpsc::channel(OUTBOX_MESSAGES);
        let connection = self.sessions.admit(0, sender).await.expect("admitted");
        Client {
            connection: Some(connection),
            outbox,
            start: Instant::now(),
            valid_until: 0,
        }
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|found| found == line)
    }
}

/// A client that answers heartbeats while it is being listened to.
struct Client {
    connection: Option<Connection>,
    outbox: mpsc::Receiver<Outgoing>,
    start: Instant,
    /// Until when it may believe, by its own clock.
    valid_until: u64,
}

impl Client {
    fn t(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    async fn say(&self, command: Command) {
        self.connection.as_ref().expect("connected").send(command).await;
    }

    async fn acquire(&self, id: &str, mutex: &str) {
        self.acquire_with(id, mutex, |_| {}).await;
    }

    async fn acquire_with(&self, id: &str, mutex: &str, change: impl FnOnce(&mut Acquire)) {
        let mut acquire = Acquire {
            request_id: RequestId::new(id).unwrap(),
            mutex: MutexName::new(mutex).unwrap(),
            mode: Mode::Exclusive,
            wait_millis: None,
            max_hold_millis: None,
            if_available: false,
            steal: false,
            metadata: None,
        };
        change(&mut acquire);
        let max_hold_millis = acquire.max_hold_millis;
        self.say(Command::Acquire {
            t: self.t(),
            acquire,
            max_hold_millis,
        })
        .await;
    }

    async fn release(&self, lock_id: &LockId) {
        let lock_id = lock_id.clone();
        self.say(Command::Release { t: self.t(), lock_id }).await;
    }

    /// The next thing that is said, heartbeats apart. Within ten minutes of the paused clock.
    async fn next(&mut self) -> Outgoing {
        let said = tokio::time::timeout(Duration::from_secs(600), self.listen()).await;
        said.expect("something is said")
    }

    async fn listen(&mut self) -> Outgoing {
        loop {
            let outgoing = self.outbox.recv().await.expect("the session layer lives");
            match &outgoing {
                Outgoing::Message(ServerMessage::Heartbeat { echo, valid_millis }) => {
                    self.valid_until = self.valid_until.max(echo + valid_millis);
                    self.say(Command::Ack { t: self.t() }).await;
                    continue;
                }
                Outgoing::Message(ServerMessage::Granted { echo, valid_millis, .. }) => {
                    self.valid_until = self.valid_until.max(echo + valid_millis);
                }
                _ => {}
            }
            return outgoing;
        }
    }

    async fn message(&mut self) -> ServerMessage {
        match self.next().await {
            Outgoing::Message(message) => message,
            Outgoing::Close(code, reason) => panic!("closed with {code:?}: {reason}"),
        }
    }

    async fn granted(&mut self) -> (LockId, u64) {
        match self.message().await {
            ServerMessage::Granted {
                lock_id, fencing_token, ..
            } => (lock_id, fencing_token),
            other => panic!("not granted: {other:?}"),
        }
    }

    async fn queued(&mut self) {
        let message = self.message().await;
        assert!(matches!(message, ServerMessage::Queued { .. }), "{message:?}");
    }

    async fn released(&mut self) -> bool {
        match self.message().await {
            ServerMessage::Released { held, .. } => held,
            other => panic!("not released: {other:?}"),
        }
    }

    async fn closed(&mut self) -> CloseCode {
        match self.next().await {
            Outgoing::Close(code, _) => code,
            Outgoing::Message(message) => panic!("not closed: {message:?}"),
        }
    }

    /// Grants "m", and tells its lock id and token.
    async fn lock(&mut self, mutex: &str) -> (LockId, u64) {
        self.acquire("lock", mutex).await;
        self.granted().await
    }
}

/// How long it takes, in milliseconds.
async fn millis<T>(future: impl Future<Output = T>) -> (u64, T) {
    let start = Instant::now();
    let result = future.await;
    (u64::try_from(start.elapsed().as_millis()).unwrap(), result)
}
