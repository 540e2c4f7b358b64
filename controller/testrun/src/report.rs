//! A run's verdict for people, and as an exit code.

use crds::TestRun;
use crds::testrun::{RunPhase, StepPhase, StepStatus, TestRunStatus};
use kube::ResourceExt;
use std::fmt::Write;

/// Most lines shown of the output of a step that did not pass.
const MOST_LINES: usize = 15;

/// The process exit code for a run: 0 passed, 1 failed, 4 out of time (or not ended), 5 could not be carried out.
#[must_use]
pub fn exit_code(run: &TestRun) -> i32 {
    match run.status.as_ref().map(|status| status.phase) {
        Some(RunPhase::Passed) => 0,
        Some(RunPhase::Failed) => 1,
        Some(RunPhase::Errored) => 5,
        None | Some(RunPhase::Pending | RunPhase::Running | RunPhase::TimedOut) => 4,
    }
}

/// The verdict in text: steps, numbers, and what the culprit said.
#[must_use]
pub fn text(run: &TestRun) -> String {
    let status = run.status.clone().unwrap_or_default();
    let mut page = String::new();
    steps(&mut page, &status);
    numbers(&mut page, &status);
    for step in &status.steps {
        culprit(&mut page, step);
    }
    let took = match status.duration_seconds {
        Some(seconds) => format!(" after {}", duration(seconds)),
        None => String::new(),
    };
    line(
        &mut page,
        format_args!("testrun/{} {:?}{took}, {} steps passed", run.name_any(), status.phase, status.summary),
    );
    if !status.message.is_empty() && status.phase != RunPhase::Passed {
        line(&mut page, format_args!("{}", status.message));
    }
    page
}

fn steps(page: &mut String, status: &TestRunStatus) {
    let width = status.steps.iter().map(|step| shown(step).chars().count());
    let width = width.max().unwrap_or(0).max("STEP".len());
    line(page, format_args!("{:width$}  {:8}  {:>9}  MESSAGE", "STEP", "RESULT", "SECONDS"));
    for step in &status.steps {
        let seconds = step.duration_seconds.map(|s| format!("{s:.1}"));
        let again = match step.attempts {
            0 | 1 => String::new(),
            many => format!(" ({many} attempts)"),
        };
        let message: String = step.message.chars().take(120).collect();
        line(
            page,
            format_args!(
                "{:width$}  {:8}  {:>9}  {message}{again}",
                shown(step),
                format!("{:?}", step.phase),
                seconds.unwrap_or_default(),
            ),
        );
    }
    page.push('\n');
}

/// A parallel step's actions stand indented below it.
fn shown(step: &StepStatus) -> String {
    match step.name.split_once('/') {
        Some((_, child)) => format!("  {child}"),
        None => step.name.clone(),
    }
}

fn numbers(page: &mut String, status: &TestRunStatus) {
    if status.metrics.is_empty() {
        return;
    }
    let width = status.metrics.iter().map(|metric| metric.name.len());
    let width = width.max().unwrap_or(0).max("NUMBER".len());
    line(page, format_args!("{:width$}  {:>12}  {:10}  STEP", "NUMBER", "VALUE", "UNIT"));
    for metric in &status.metrics {
        let value = format!("{:.3}", metric.value);
        let value = match value.trim_end_matches('0').trim_end_matches('.') {
            "" | "-" | "-0" => "0",
            short => short,
        };
        line(page, format_args!("{:width$}  {value:>12}  {:10}  {}", metric.name, metric.unit, metric.step));
    }
    page.push('\n');
}

fn culprit(page: &mut String, step: &StepStatus) {
    let fine = matches!(step.phase, StepPhase::Passed | StepPhase::Skipped | StepPhase::Pending | StepPhase::Running);
    if fine {
        return;
    }
    line(page, format_args!("{} {:?}: {}", step.name, step.phase, step.message));
    let output = step.output.as_deref().unwrap_or_default();
    let lines: Vec<&str> = output.lines().collect();
    for text in &lines[lines.len().saturating_sub(MOST_LINES)..] {
        // A guest's output does not get to steer the reader's terminal.
        line(page, format_args!("  | {}", text.replace(char::is_control, "?")));
    }
    if let Some(artifact) = &step.artifact {
        line(page, format_args!("  all output: {artifact}"));
    }
    page.push('\n');
}

fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        return format!("{seconds:.1} s");
    }
    format!("{} min {:.0} s", (seconds / 60.0).floor(), (seconds % 60.0).floor())
}

/// Writing to a String does not fail.
fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
    while page.ends_with(' ') {
        page.pop();
    }
    page.push('\n');
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A run with one step of every kind of end.
    pub fn sample() -> TestRun {
        let step = |name: &str, phase: &str, message: &str| {
            json!({"name": name, "uid": "u", "phase": phase, "attempts": 1,
                   "durationSeconds": 1.25, "message": message})
        };
        let mut failed = step("quorum", "Failed", "etcdctl on node01 exited with 1, not 0");
        failed["output"] = json!("first\n\u{1b}[31mno quorum\u{1b}[0m\n");
        failed["artifact"] = json!("run/step-1.log");
        failed["attempts"] = json!(3);
        serde_json::from_value(json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "TestRun",
            "metadata": {"name": "fresh-smoke", "namespace": "default"},
            "spec": {"steps": [{"name": "ready", "exec": {"node": "n", "command": ["true"]}}]},
            "status": {
                "phase": "Failed", "summary": "1/5", "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:03:20Z", "durationSeconds": 200.0,
                "message": "step quorum: etcdctl on node01 exited with 1, not 0",
                "steps": [
                    step("ready", "Passed", "Cluster/fresh-smoke is Ready=True"),
                    failed,
                    step("quorum/writer", "Errored", "node01 was rebooted"),
                    step("late", "TimedOut", "the step's time was up"),
                    step("rest", "Skipped", "step quorum did not pass"),
                ],
                "metrics": [
                    {"name": "boot_seconds", "value": 41.5, "unit": "seconds", "step": "ready"},
                    {"name": "lost_writes", "value": 0.0, "unit": "1", "step": "quorum/writer"},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_page_shows_steps_numbers_and_the_culprit() {
        insta::assert_snapshot!(text(&sample()));
    }

    #[test]
    fn only_a_passed_run_exits_with_zero() {
        let mut run = sample();
        for (phase, code) in [
            (RunPhase::Passed, 0),
            (RunPhase::Failed, 1),
            (RunPhase::TimedOut, 4),
            (RunPhase::Errored, 5),
            (RunPhase::Running, 4),
            (RunPhase::Pending, 4),
        ] {
            run.status.as_mut().unwrap().phase = phase;
            assert_eq!(exit_code(&run), code, "{phase:?}");
        }
        run.status = None;
        assert_eq!(exit_code(&run), 4);
    }
}
