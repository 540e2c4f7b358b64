//! The agent's own numbers, in prometheus' default registry; those of its reconciles are the control loops'.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, Opts};

/// What the agent counts.
pub struct Metrics {
    /// Writes to the API by kind.
    pub writes: IntCounterVec,
    /// Drift repaired, by what was repaired.
    pub repairs: IntCounterVec,
}

/// The one set of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    writes: counter("clusterctl_agent_writes_total", "Writes of the agent to the API by kind.", &["kind"]),
    repairs: counter("clusterctl_agent_repairs_total", "Drift repaired on the host.", &["what"]),
});

#[expect(
    clippy::expect_used,
    reason = "a metric's name and labels are constants; a wrong one must fail the first test"
)]
fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counter = IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric");
    prometheus::register(Box::new(counter.clone())).expect("a metric of a name of its own");
    counter
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_metric_is_valid() {
        super::METRICS.writes.with_label_values(&["Port"]).inc();
        super::METRICS.repairs.with_label_values(&["tap"]).inc();
    }
}
