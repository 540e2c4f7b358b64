//! The numbers of all loops of this process, by kind, in prometheus' default registry.

use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

/// Upper bounds in seconds: a look at what is in order takes a millisecond, an image build minutes.
const BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

pub(crate) struct Metrics {
    /// Reconciles by kind and result, `ok` or `error`.
    pub(crate) reconciles: IntCounterVec,
    /// Failed ones by kind and the failure's category.
    pub(crate) errors: IntCounterVec,
    /// Their durations by kind.
    pub(crate) durations: HistogramVec,
    /// Those under way by kind.
    pub(crate) active: IntGaugeVec,
    /// Objects that wait for one, by kind.
    pub(crate) queue_depth: IntGaugeVec,
}

/// The one set of this process.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    reconciles: registered(IntCounterVec::new(
        Opts::new("clusterctl_reconcile_total", "Reconciles by kind and result."),
        &["kind", "result"],
    )),
    errors: registered(IntCounterVec::new(
        Opts::new("clusterctl_reconcile_errors_total", "Failed reconciles by kind and category."),
        &["kind", "category"],
    )),
    durations: registered(HistogramVec::new(
        HistogramOpts::new("clusterctl_reconcile_duration_seconds", "Time one reconcile took, in seconds.")
            .buckets(BUCKETS.to_vec()),
        &["kind"],
    )),
    active: registered(IntGaugeVec::new(
        Opts::new("clusterctl_reconcile_active", "Reconciles under way, by kind."),
        &["kind"],
    )),
    queue_depth: registered(IntGaugeVec::new(
        Opts::new("clusterctl_reconcile_queue_depth", "Objects waiting to be reconciled, by kind."),
        &["kind"],
    )),
});

#[expect(
    clippy::expect_used,
    reason = "a metric's name and labels are constants; a wrong one must fail the first test"
)]
fn registered<C: Collector + Clone + 'static>(made: prometheus::Result<C>) -> C {
    let collector = made.expect("a valid metric");
    prometheus::register(Box::new(collector.clone())).expect("a metric of a name of its own");
    collector
}
