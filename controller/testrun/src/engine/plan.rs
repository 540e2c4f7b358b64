//! What comes next: a pure function of spec, status and time.
//!
//! ```text
//!  steps:    Pending ─► Running ─► Passed ─► the next
//!                          └─► Failed | Errored | TimedOut ─► the rest is Skipped
//!  finally:  each of them, whatever came before
//!  verdict:  Passed only when every step, `finally` included, has passed
//! ```

use crds::testrun::{RunPhase, Step, StepPhase, StepStatus, TestRunSpec, TestRunStatus};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;

/// A step and the list it stands in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place<'a> {
    /// The step.
    pub step: &'a Step,
    /// Whether it belongs to `finally`.
    pub finally: bool,
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A final phase.
    pub phase: RunPhase,
    /// Why.
    pub message: String,
}

/// What the engine does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next<'a> {
    /// Start a step.
    Begin(Place<'a>),
    /// Take up a step that an earlier engine began.
    Resume(Place<'a>),
    /// The run's time is up before this step has begun.
    Expire(Place<'a>),
    /// Write the verdict.
    Finish(Verdict),
    /// The run is over.
    Nothing,
}

/// Whether some wait of the run counts only what came about after this step had begun.
#[must_use]
pub fn is_awaited(spec: &TestRunSpec, step: &Step) -> bool {
    let mut waits = places(spec).flat_map(|place| {
        let children = place.step.parallel.iter().flat_map(|parallel| &parallel.steps);
        place.step.wait.iter().chain(children.filter_map(|child| child.wait.as_ref()))
    });
    waits.any(|wait| wait.after.as_deref() == Some(step.name.as_str()))
}

/// Decides what comes next.
#[must_use]
pub fn next<'a>(spec: &'a TestRunSpec, status: &TestRunStatus, now: Timestamp) -> Next<'a> {
    if status.phase.is_final() {
        return Next::Nothing;
    }
    if let Some(name) = ambiguous(spec) {
        return Next::Finish(Verdict { phase: RunPhase::Errored, message: format!("two steps are named {name:?}") });
    }
    if let Some(place) = places(spec).find(|p| phase(status, p.step) == StepPhase::Running) {
        return Next::Resume(place);
    }
    let mut healthy = true;
    for place in places(spec) {
        match phase(status, place.step) {
            StepPhase::Passed => {}
            StepPhase::Pending if !place.finally && healthy => {
                return if run_deadline(spec, status).is_some_and(|end| now >= end) {
                    Next::Expire(place)
                } else {
                    Next::Begin(place)
                };
            }
            StepPhase::Pending if place.finally => return Next::Begin(place),
            _ => healthy = false,
        }
    }
    Next::Finish(verdict(spec, status))
}

/// The verdict over a run whose steps have all ended. In doubt it is not `Passed`.
#[must_use]
pub fn verdict(spec: &TestRunSpec, status: &TestRunStatus) -> Verdict {
    let culprit =
        places(spec).find(|place| !matches!(phase(status, place.step), StepPhase::Passed | StepPhase::Skipped));
    let culprit = culprit.or_else(|| places(spec).find(|p| phase(status, p.step) != StepPhase::Passed));
    let Some(place) = culprit else {
        return Verdict { phase: RunPhase::Passed, message: format!("all {} steps passed", places(spec).count()) };
    };
    let found = find(status, &place.step.name);
    let why = found.map_or("it never ran", |step| step.message.as_str());
    Verdict {
        phase: match phase(status, place.step) {
            StepPhase::Failed => RunPhase::Failed,
            StepPhase::TimedOut => RunPhase::TimedOut,
            _ => RunPhase::Errored,
        },
        message: format!("step {}: {why}", place.step.name),
    }
}

/// Every step in the order of their turns.
pub fn places(spec: &TestRunSpec) -> impl Iterator<Item = Place<'_>> {
    let place = |finally| move |step| Place { step, finally };
    spec.steps.iter().map(place(false)).chain(spec.finally.iter().map(place(true)))
}

/// The status of the step of that name.
#[must_use]
pub fn find<'a>(status: &'a TestRunStatus, name: &str) -> Option<&'a StepStatus> {
    status.steps.iter().find(|step| step.name == name)
}

fn phase(status: &TestRunStatus, step: &Step) -> StepPhase {
    find(status, &step.name).map_or(StepPhase::Pending, |found| found.phase)
}

/// When the steps must have ended; nothing while the run has not begun.
fn run_deadline(spec: &TestRunSpec, status: &TestRunStatus) -> Option<Timestamp> {
    status.started_at.map(|start| after(start, spec.timeout_seconds))
}

/// When this step, begun at `start`, must have ended, and whether the run's limit makes it so.
#[must_use]
pub fn deadline(spec: &TestRunSpec, status: &TestRunStatus, place: Place<'_>, start: Timestamp) -> (Timestamp, bool) {
    let own = after(start, place.step.timeout_seconds);
    let run = if place.finally {
        let budget = spec.timeout_seconds.div_ceil(2);
        let share = budget.div_ceil(spec.finally.len().max(1) as u32);
        let begun = spec.finally.iter().filter_map(|step| find(status, &step.name)?.started_at).min().unwrap_or(start);
        after(begun, budget).max(after(start, share))
    } else {
        run_deadline(spec, status).unwrap_or_else(|| after(start, spec.timeout_seconds))
    };
    (own.min(run), run < own)
}

/// `start` plus so many seconds.
#[must_use]
pub fn after(start: Timestamp, seconds: u32) -> Timestamp {
    start.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}

/// A name that two steps share; the API refuses such runs, this is the second lock on that door.
fn ambiguous(spec: &TestRunSpec) -> Option<&str> {
    let mut seen = HashSet::new();
    for place in places(spec) {
        if !seen.insert(place.step.name.as_str()) {
            return Some(&place.step.name);
        }
        let mut children = HashSet::new();
        for child in place.step.parallel.iter().flat_map(|p| &p.steps) {
            if !children.insert(child.name.as_str()) {
                return Some(&child.name);
            }
        }
    }
    None
}
