//! What the relay counts, for Prometheus. One instance belongs to one relay; there are no globals, so that several relays
//! in one process do not mix.

use lockrelay_protocol::ReleaseReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;

/// The relay's metrics. Cheap to clone: all clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// `lockrelay_connections`: connections that have said hello.
    pub connections: Gauge,
    /// `lockrelay_locks_held`: locks that connections of this relay hold.
    pub locks_held: Gauge,
    /// `lockrelay_locks_waiting`: requests of this relay's connections that wait in a queue of the store.
    pub locks_waiting: Gauge,
    /// `lockrelay_grants_total`: locks granted to connections of this relay.
    pub grants: Counter,
    losses: Family<ReasonLabel, Counter>,
    wait: Histogram,
    hold: Histogram,
    store_calls: Family<CallLabel, Counter>,
    store_call_time: Family<CallLabel, Histogram, CallBuckets>,
    /// `lockrelay_batch_size`: operations that went to the store in one call.
    pub batch_size: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
}

/// What the relay asks of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCall {
    /// Enter a session.
    Open,
    /// A batch of operations.
    Execute,
    /// Renew the session.
    Renew,
    /// End another relay's dead session.
    Reap,
    /// End the own session.
    Close,
    /// Let a recovering store grant again.
    EndRecovery,
    /// List the session's entries.
    List,
}

impl StoreCall {
    /// The value of the label `call`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Execute => "execute",
            Self::Renew => "renew",
            Self::Reap => "reap",
            Self::Close => "close",
            Self::EndRecovery => "end_recovery",
            Self::List => "list",
        }
    }
}

/// From 0.1 ms, a local store's best, to 13 s, beyond the default lease.
#[derive(Clone)]
struct CallBuckets;

impl MetricConstructor<Histogram> for CallBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(seconds(0.000_1, 18))
    }
}

fn seconds(first: f64, count: u32) -> impl Iterator<Item = f64> {
    (0..count).map(move |power| first * f64::from(1_u32 << power))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("lockrelay");
        let connections = Gauge::default();
        let locks_held = Gauge::default();
        let locks_waiting = Gauge::default();
        let grants = Counter::default();
        let losses = Family::<ReasonLabel, Counter>::default();
        // From 1 ms, a round trip, to 9 minutes.
        let wait = Histogram::new(seconds(0.001, 20));
        let hold = Histogram::new(seconds(0.001, 20));
        let store_calls = Family::<CallLabel, Counter>::default();
        let store_call_time = Family::new_with_constructor(CallBuckets);
        // 1, 2, 4.. up to the greatest batch.
        let batch_size = Histogram::new((0..9).map(|power| f64::from(1_u32 << power)).chain([500.0]));
        registry.register("connections", "Connections that have said hello", connections.clone());
        registry.register(
            "locks_held",
            "Locks that connections of this relay hold",
            locks_held.clone(),
        );
        registry.register(
            "locks_waiting",
            "Requests of this relay's connections that wait in a queue of the store",
            locks_waiting.clone(),
        );
        registry.register("grants", "Locks granted to connections of this relay", grants.clone());
        registry.register(
            "losses",
            "Locks that ended against their owner's will, by reason",
            losses.clone(),
        );
        registry.register(
            "wait_seconds",
            "From the receipt of a request to its grant, in seconds",
            wait.clone(),
        );
        registry.register(
            "hold_seconds",
            "From a grant to the end of the lock, in seconds",
            hold.clone(),
        );
        registry.register(
            "store_calls",
            "Calls to the store, repetitions included",
            store_calls.clone(),
        );
        registry.register(
            "store_call_seconds",
            "How long a call to the store took, failed ones included, in seconds",
            store_call_time.clone(),
        );
        registry.register(
            "batch_size",
            "Operations that went to the store in one call",
            batch_size.clone(),
        );
        Self {
            registry: Arc::new(registry),
            connections,
            locks_held,
            locks_waiting,
            grants,
            losses,
            wait,
            hold,
            store_calls,
            store_call_time,
            batch_size,
        }
    }

    /// All metrics in the OpenMetrics text format, content type [`Metrics::CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }

    /// What [`Metrics::encode`] is to be served as.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Counts a loss in `lockrelay_losses_total{reason}`.
    pub fn lost(&self, reason: ReleaseReason) {
        self.losses
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .inc();
    }

    /// Counts a grant, and its wait in `lockrelay_wait_seconds`.
    pub fn granted(&self, wait_millis: u64) {
        self.grants.inc();
        self.wait.observe(Duration::from_millis(wait_millis).as_secs_f64());
    }

    /// Counts the end of a lock in `lockrelay_hold_seconds`.
    pub fn held(&self, hold_millis: u64) {
        self.hold.observe(Duration::from_millis(hold_millis).as_secs_f64());
    }

    /// Counts a store call in `lockrelay_store_calls_total{call}` and `lockrelay_store_call_seconds{call}`.
    pub fn store_called(&self, call: StoreCall, took: Duration) {
        let label = CallLabel { call: call.as_str() };
        self.store_calls.get_or_create(&label).inc();
        self.store_call_time.get_or_create(&label).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_shown_under_its_name_and_moves() {
        let metrics = Metrics::new();
        metrics.connections.inc();
        metrics.locks_held.inc();
        metrics.locks_waiting.inc();
        metrics.granted(1_500);
        metrics.held(250);
        metrics.lost(ReleaseReason::Stolen);
        metrics.store_called(StoreCall::Execute, Duration::from_millis(2));
        metrics.batch_size.observe(3.0);
        let text = metrics.encode();
        for line in [
            "lockrelay_connections 1",
            "lockrelay_locks_held 1",
            "lockrelay_locks_waiting 1",
            "lockrelay_grants_total 1",
            "lockrelay_losses_total{reason=\"stolen\"} 1",
            "lockrelay_wait_seconds_sum 1.5",
            "lockrelay_hold_seconds_sum 0.25",
            "lockrelay_store_calls_total{call=\"execute\"} 1",
            "lockrelay_store_call_seconds_count{call=\"execute\"} 1",
            "lockrelay_batch_size_sum 3.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
