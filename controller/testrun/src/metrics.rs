//! What Prometheus sees of test runs, built from the objects at every scrape: a deleted run is gone from the next one.

use crds::TestRun;
use crds::testrun::RunPhase;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};
use std::cmp::Reverse;
use std::sync::{Arc, Mutex, Once};

const PHASES: [RunPhase; 6] =
    [RunPhase::Pending, RunPhase::Running, RunPhase::Passed, RunPhase::Failed, RunPhase::Errored, RunPhase::TimedOut];

/// Where the exported runs come from, and how many of the newest are exported.
static SOURCE: Mutex<Option<(Store<TestRun>, usize)>> = Mutex::new(None);

/// Exports the newest `most` runs of `runs` through the default registry.
pub fn publish(runs: Store<TestRun>, most: usize) {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| match Gauges::new() {
        Ok(gauges) => {
            if let Err(error) = prometheus::register(Box::new(gauges)) {
                tracing::warn!(%error, "test metrics are not exported");
            }
        }
        Err(error) => tracing::warn!(%error, "test metrics are not exported"),
    });
    set(Some((runs, most)));
}

/// Exports nothing any more.
pub fn withdraw() {
    set(None);
}

fn set(source: Option<(Store<TestRun>, usize)>) {
    if let Ok(mut current) = SOURCE.lock() {
        *current = source;
    }
}

struct Gauges {
    phase: GaugeVec,
    step: GaugeVec,
    metric: GaugeVec,
    /// One scrape at a time: the gauges are emptied and filled.
    scrape: Mutex<()>,
}

impl Gauges {
    fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            GaugeVec::new(Opts::new(format!("clusterctl_testrun_{name}"), help), labels)
        };
        let run = ["namespace", "testrun"];
        Ok(Self {
            phase: gauge("phase", "1 for the phase a test run is in, 0 for the others.", &[run[0], run[1], "phase"])?,
            step: gauge("step_duration_seconds", "How long a step of a test run took.", &[run[0], run[1], "step"])?,
            metric: gauge("metric", "A number measured by a test run.", &[run[0], run[1], "metric", "unit"])?,
            scrape: Mutex::new(()),
        })
    }

    fn fill(&self, mut runs: Vec<Arc<TestRun>>, most: usize) -> Vec<MetricFamily> {
        let _one = self.scrape.lock();
        runs.sort_by_key(|run| (Reverse(run.creation_timestamp()), run.namespace(), run.name_any()));
        self.phase.reset();
        self.step.reset();
        self.metric.reset();
        for run in runs.iter().take(most) {
            self.add(run);
        }
        let all = [&self.phase, &self.step, &self.metric];
        all.iter().flat_map(|gauge| gauge.collect()).collect()
    }

    fn add(&self, run: &TestRun) {
        let (namespace, name) = (run.namespace().unwrap_or_default(), run.name_any());
        let current = run.status.as_ref().map(|status| status.phase);
        for phase in PHASES {
            let is = f64::from(u8::from(phase == current.unwrap_or_default()));
            let word = format!("{phase:?}");
            let labels = [namespace.as_str(), &name, &word];
            self.phase.with_label_values(&labels).set(is);
        }
        for step in run.status.iter().flat_map(|status| &status.steps) {
            if let Some(seconds) = step.duration_seconds {
                let labels = [namespace.as_str(), &name, &step.name];
                self.step.with_label_values(&labels).set(seconds);
            }
        }
        for metric in run.status.iter().flat_map(|status| &status.metrics) {
            let labels = [namespace.as_str(), &name, &metric.name, &metric.unit];
            self.metric.with_label_values(&labels).set(metric.value);
        }
    }
}

impl Collector for Gauges {
    fn desc(&self) -> Vec<&Desc> {
        let all = [&self.phase, &self.step, &self.metric];
        all.into_iter().flat_map(|gauge| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let source = SOURCE.lock().ok().and_then(|source| source.clone());
        match source {
            Some((runs, most)) => self.fill(runs.state(), most),
            None => self.fill(Vec::new(), 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder, TextEncoder};
    use serde_json::json;

    fn run(name: &str, day: u32, phase: &str) -> Arc<TestRun> {
        let value = json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "TestRun",
            "metadata": {"name": name, "namespace": "default",
                "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
            "spec": {"steps": [{"name": "boot", "exec": {"node": "n", "command": ["true"]}}]},
            "status": {"phase": phase,
                "steps": [{"name": "boot", "phase": "Passed", "durationSeconds": 2.5}],
                "metrics": [{"name": "gap", "value": 1.5, "unit": "seconds", "step": "boot"}]},
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn the_newest_runs_are_exported_and_deleted_ones_vanish() {
        let gauges = Gauges::new().unwrap();
        let text = |runs, most| {
            let mut bytes = Vec::new();
            let families = gauges.fill(runs, most);
            TextEncoder::new().encode(&families, &mut bytes).unwrap();
            let mut lines: Vec<_> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            lines.join("\n")
        };
        let both = text(vec![run("old", 1, "Failed"), run("new", 2, "Passed")], 1);
        insta::assert_snapshot!(both);
        let none = text(vec![run("old", 1, "Failed")], 5);
        assert!(none.contains("old") && !none.contains("new"));
    }
}
