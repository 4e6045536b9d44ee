//! The one task that owns hub and keeper, calls the store and keeps the time.

use super::clock::Clock;
use super::handle::{Command, Drained, End, Outgoing, Refused, StartError};
use super::hub::ConnKey;
use crate::defaults::Durations;
use crate::metrics::Metrics;
use crate::store::LockStore;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What reaches the driver from [`super::handle`].
#[allow(dead_code, reason = "read by the driver's loop, which follows")]
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

#[allow(dead_code, reason = "read by the driver's loop, which follows")]
pub(super) struct Setup {
    pub(super) store: Arc<dyn LockStore>,
    pub(super) durations: Durations,
    pub(super) metrics: Metrics,
    pub(super) clock: Box<dyn Clock>,
    pub(super) inbox: mpsc::UnboundedReceiver<Envelope>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) first: oneshot::Sender<Result<(), StartError>>,
}

pub(super) async fn run(setup: Setup) {
    let mut inbox = setup.inbox;
    let _ = setup.first.send(Ok(()));
    while let Some(envelope) = inbox.recv().await {
        drop(envelope);
    }
}
