//! The agent's numbers, in prometheus' default registry.

use std::sync::LazyLock;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, core::Collector};

/// Metrics of the reconcilers of this process.
pub struct Metrics {
    /// Reconciles by kind and result.
    pub reconciles: IntCounterVec,
    /// Their durations by kind.
    pub durations: HistogramVec,
    /// Objects waiting to be reconciled, by kind.
    pub queue_depth: IntGaugeVec,
    /// Failures by kind and category.
    pub errors: IntCounterVec,
    /// Writes to the API by kind.
    pub writes: IntCounterVec,
    /// Drift repaired, by what was repaired.
    pub repairs: IntCounterVec,
}

/// The one set of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    reconciles: counter("clusterctl_reconcile_total", "Reconciles by kind and result.", &["kind", "result"]),
    durations: durations(),
    queue_depth: registered(IntGaugeVec::new(
        Opts::new("clusterctl_reconcile_queue_depth", "Objects waiting to be reconciled."),
        &["kind"],
    )),
    errors: counter(
        "clusterctl_reconcile_errors_total",
        "Failed reconciles by kind and category.",
        &["kind", "category"],
    ),
    writes: counter("clusterctl_agent_writes_total", "Writes of the agent to the API by kind.", &["kind"]),
    repairs: counter("clusterctl_agent_repairs_total", "Drift repaired on the host.", &["what"]),
});

fn durations() -> HistogramVec {
    let buckets = vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0];
    registered(HistogramVec::new(
        HistogramOpts::new("clusterctl_reconcile_duration_seconds", "Duration of a reconcile.").buckets(buckets),
        &["kind"],
    ))
}

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(IntCounterVec::new(Opts::new(name, help), labels))
}

fn registered<C: Collector + Clone + 'static>(made: prometheus::Result<C>) -> C {
    let collector = made.expect("a valid metric");
    // Another crate of the same process may have a metric of this name; ours then counts unseen, which harms nobody.
    let _ = prometheus::register(Box::new(collector.clone()));
    collector
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_metric_is_valid() {
        super::METRICS.queue_depth.with_label_values(&["Port"]).set(0);
        super::METRICS.reconciles.with_label_values(&["Port", "ok"]).inc();
        super::METRICS.durations.with_label_values(&["Port"]).observe(0.1);
        super::METRICS.errors.with_label_values(&["Port", "ApiUnavailable"]).inc();
        super::METRICS.writes.with_label_values(&["Port"]).inc();
        super::METRICS.repairs.with_label_values(&["tap"]).inc();
    }
}
