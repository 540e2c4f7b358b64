//! Keeps a status under its size: first the output of steps that passed goes, the output of the culprit last.
//!
//! Nothing is lost by that: all output is in the artifacts.

use super::status::shorten;
use crds::testrun::{StepPhase, TestRunStatus};

/// Largest status in bytes, as JSON; well below the 256 KB that users are promised.
pub const MOST_BYTES: usize = 240 * 1024;
/// How much of a step's output is kept in the status.
pub const TAIL_BYTES: usize = 4096;

/// The last bytes of a text, cut at a character.
#[must_use]
pub fn tail(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let mut cut = text.len() - bytes;
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    &text[cut..]
}

/// Makes the status small enough.
pub fn shrink(status: &mut TestRunStatus) {
    let passed = |phase| phase == StepPhase::Passed;
    let passes: [&dyn Fn(&mut TestRunStatus); 6] = [
        &|s| cut_outputs(s, 512, &passed),
        &|s| cut_outputs(s, 0, &passed),
        &|s| cut_outputs(s, 512, &|_| true),
        &|s| fold_children(s, &passed),
        &|s| fold_children(s, &|phase| !matches!(phase, StepPhase::Running)),
        &|s| cut_all(s),
    ];
    for pass in passes {
        if size(status) <= MOST_BYTES {
            return;
        }
        pass(status);
    }
}

/// The size of the status as JSON.
#[must_use]
pub fn size(status: &TestRunStatus) -> usize {
    serde_json::to_vec(status).map_or(usize::MAX, |json| json.len())
}

fn cut_outputs(status: &mut TestRunStatus, bytes: usize, which: &dyn Fn(StepPhase) -> bool) {
    for step in status.steps.iter_mut().filter(|step| which(step.phase)) {
        step.output = match step.output.take() {
            Some(output) if bytes > 0 => Some(tail(&output, bytes).to_owned()),
            _ => None,
        };
    }
}

/// Drops the actions of parallel steps that have ended; the step's own message says what came of them.
fn fold_children(status: &mut TestRunStatus, which: &dyn Fn(StepPhase) -> bool) {
    let folded: Vec<String> = status
        .steps
        .iter()
        .filter(|step| !step.name.contains('/') && which(step.phase))
        .map(|step| format!("{}/", step.name))
        .collect();
    status.steps.retain(|step| !folded.iter().any(|prefix| step.name.starts_with(prefix)));
}

fn cut_all(status: &mut TestRunStatus) {
    for step in &mut status.steps {
        step.output = None;
        step.message = shorten(&step.message, 120);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::testrun::{Metric, RunPhase, StepStatus};

    fn noisy(name: String, phase: StepPhase) -> StepStatus {
        StepStatus {
            name,
            uid: "0123456789-0123456789-0123456789-0123".to_owned(),
            phase,
            attempts: 1000,
            message: "m".repeat(1024),
            output: Some("\u{1}é".repeat(1300)),
            artifact: Some("x".repeat(80)),
            ..StepStatus::default()
        }
    }

    #[test]
    fn the_worst_run_stays_small_and_keeps_its_culprit_in_sight() {
        let mut steps: Vec<_> =
            (0..200).map(|n| noisy(format!("step-{n:03}-{}", "n".repeat(54)), StepPhase::Passed)).collect();
        steps.push(noisy("culprit".to_owned(), StepPhase::Failed));
        for n in 0..64 {
            steps.push(noisy(format!("culprit/{n}-{}", "n".repeat(60)), StepPhase::Failed));
        }
        let metric = Metric { name: "m".repeat(63), value: 0.123_456_789, unit: "u".repeat(32), step: "s".repeat(127) };
        let mut status =
            TestRunStatus { phase: RunPhase::Running, steps, metrics: vec![metric; 400], ..TestRunStatus::default() };
        shrink(&mut status);
        assert!(size(&status) < 256 * 1024, "{}", size(&status));
        assert!(status.steps.iter().any(|step| step.name == "culprit"));
        assert_eq!(status.metrics.len(), 400);
    }

    #[test]
    fn two_hundred_noisy_steps_keep_what_the_culprit_said() {
        let mut steps: Vec<_> = (0..199)
            .map(|n| StepStatus {
                output: Some("x".repeat(TAIL_BYTES)),
                ..noisy(format!("step-{n}"), StepPhase::Passed)
            })
            .collect();
        for step in &mut steps {
            step.message = "passed".to_owned();
        }
        steps.push(StepStatus {
            output: Some("x".repeat(TAIL_BYTES)),
            ..noisy("culprit".to_owned(), StepPhase::Failed)
        });
        let mut status = TestRunStatus { steps, ..TestRunStatus::default() };
        shrink(&mut status);
        assert!(size(&status) <= MOST_BYTES);
        let last = status.steps.last().unwrap();
        assert_eq!(last.output.as_ref().unwrap().len(), TAIL_BYTES);
        assert_eq!(status.steps[0].output.as_ref().unwrap().len(), 512);
    }

    #[test]
    fn a_tail_is_cut_between_characters() {
        assert_eq!(tail("aéb", 2), "b");
        assert_eq!(tail("aéb", 3), "éb");
        assert_eq!(tail("ab", 9), "ab");
    }
}
