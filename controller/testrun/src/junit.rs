//! A run as JUnit XML: the run is the suite, each step a case.
//!
//! `Failed` and `TimedOut` become failures (what is tested is at fault), `Errored` an error (the test is), `Skipped` skipped.

use crds::TestRun;
use crds::testrun::{RunPhase, StepPhase, StepStatus};
use kube::ResourceExt;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// Renders the run. A run that is under way renders too: what has not ended is an error.
#[must_use]
pub fn render(run: &TestRun) -> String {
    let status = run.status.clone().unwrap_or_default();
    let name = format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any());
    let mut suite = TestSuite::new(run.name_any());
    suite.set_time(seconds(status.duration_seconds));
    suite.add_property(Property::new("phase", format!("{:?}", status.phase)));
    suite.add_property(Property::new("message", &status.message));
    if let Some(start) = status.started_at {
        suite.add_property(Property::new("startedAt", start.to_string()));
    }
    for metric in &status.metrics {
        let value = format!("{} {}", metric.value, metric.unit);
        suite.add_property(Property::new(format!("metric.{}", metric.name), value));
    }
    for step in &status.steps {
        suite.add_test_case(case(step, &name));
    }
    if status.steps.is_empty() && status.phase != RunPhase::Passed {
        let mut ended = TestCaseStatus::non_success(NonSuccessKind::Error);
        ended.set_message(format!("{:?}: {}", status.phase, status.message));
        suite.add_test_case(TestCase::new("run", ended));
    }
    let mut report = Report::new(name);
    report.set_time(seconds(status.duration_seconds));
    report.add_test_suite(suite);
    // Only a broken writer fails, and this one is a String.
    report.to_string().unwrap_or_default()
}

fn case(step: &StepStatus, class: &str) -> TestCase {
    let mut ended = match step.phase {
        StepPhase::Passed => TestCaseStatus::success(),
        StepPhase::Skipped => TestCaseStatus::skipped(),
        StepPhase::Failed | StepPhase::TimedOut => TestCaseStatus::non_success(NonSuccessKind::Failure),
        StepPhase::Errored | StepPhase::Pending | StepPhase::Running => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
    };
    if step.phase != StepPhase::Passed {
        ended.set_message(&step.message);
        ended.set_type(format!("{:?}", step.phase));
    }
    let mut case = TestCase::new(&step.name, ended);
    case.set_classname(class);
    case.set_time(seconds(step.duration_seconds));
    if let Some(output) = &step.output {
        case.set_system_out(output);
    }
    case
}

fn seconds(value: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(value.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_errors_are_told_apart() {
        insta::assert_snapshot!(render(&crate::report::tests::sample()));
    }
}
