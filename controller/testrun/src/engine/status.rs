//! How the status changes: pure functions, one for each transition of a step or a run.

use super::plan::{self, Place, Verdict};
use crds::TestRun;
use crds::condition::{self, COMPLETE, FAILED};
use crds::testrun::{Metric, RunPhase, Step, StepPhase, StepStatus, TestRunStatus};
use jiff::{SignedDuration, Timestamp, Unit};
use kube::ResourceExt;
use uuid::Uuid;

/// Most numbers kept of one run; each is at most a quarter of a kilobyte.
const MOST_METRICS: usize = 400;
/// Longest message of a step or run, in bytes.
const LONGEST_MESSAGE: usize = 1024;

/// What came of a step, in the form in which it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// A final phase.
    pub phase: StepPhase,
    /// Why.
    pub message: String,
    /// The end of its output.
    pub output: Option<String>,
    /// Where all of it is.
    pub artifact: Option<String>,
    /// Numbers measured.
    pub metrics: Vec<Metric>,
    /// Seconds it took.
    pub duration: f64,
}

/// Full name of an action inside a parallel step.
#[must_use]
pub fn child_name(parent: &str, child: &str) -> String {
    format!("{parent}/{child}")
}

/// The identity of a step: the same for every engine that ever looks at this run.
#[must_use]
pub fn step_uid(run: &TestRun, name: &str) -> String {
    let run_uid = run.uid().unwrap_or_default();
    let space = Uuid::parse_str(&run_uid).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, run_uid.as_bytes()));
    Uuid::new_v5(&space, name.as_bytes()).to_string()
}

/// Marks a step and its actions as running, each in its first attempt; begins the run with its first step.
/// `boots`: the boot ID of each machine that a command is about to run in, by full name.
pub fn begin(run: &mut TestRun, place: Place<'_>, now: Timestamp, boots: &[(String, String)]) {
    lay_out(run);
    let mut uids = vec![(place.step.name.clone(), step_uid(run, &place.step.name))];
    for child in place.step.parallel.iter().flat_map(|p| &p.steps) {
        let name = child_name(&place.step.name, &child.name);
        let uid = step_uid(run, &name);
        uids.push((name, uid));
    }
    let generation = run.metadata.generation;
    let status = run.status.get_or_insert_default();
    status.observed_generation = generation;
    status.phase = RunPhase::Running;
    status.started_at.get_or_insert(now);
    let at = position(status, &place.step.name);
    for (offset, (name, uid)) in uids.into_iter().enumerate() {
        let begun = StepStatus {
            boot_id: boots.iter().find(|b| b.0 == name).map(|b| b.1.clone()),
            name,
            uid,
            phase: StepPhase::Running,
            attempts: 1,
            started_at: Some(now),
            ..StepStatus::default()
        };
        if offset == 0 {
            status.steps[at] = begun;
        } else {
            status.steps.insert(at + offset, begun);
        }
    }
    summarise(status);
}

/// Counts a new attempt. `lost`: the last one did not fail, the engine was interrupted.
pub fn attempt_again(run: &mut TestRun, name: &str, lost: bool, boot_id: Option<String>) {
    if let Some(step) = step_mut(run, name) {
        step.attempts += 1;
        step.interruptions += u32::from(lost);
        step.boot_id = boot_id;
    }
}

/// Notes in which boot of its machine the present attempt runs.
pub fn note_boot(run: &mut TestRun, name: &str, boot_id: &str) {
    if let Some(step) = step_mut(run, name) {
        step.boot_id = Some(boot_id.to_owned());
    }
}

/// Ends a step or an action with what came of it; a step that did not pass skips the ones after it.
pub fn end(run: &mut TestRun, place: Place<'_>, name: &str, outcome: Outcome) {
    lay_out(run);
    let rest: Vec<String> = run
        .spec
        .steps
        .iter()
        .skip_while(|step| step.name != place.step.name)
        .skip(1)
        .map(|step| step.name.clone())
        .collect();
    let status = run.status.get_or_insert_default();
    let room = MOST_METRICS.saturating_sub(status.metrics.len());
    let dropped = outcome.metrics.len().saturating_sub(room);
    let at = position(status, name);
    let step = &mut status.steps[at];
    step.phase = outcome.phase;
    step.message = shorten(&outcome.message, LONGEST_MESSAGE);
    if dropped > 0 {
        step.message.push_str(&format!(" ({dropped} metrics over the limit of {MOST_METRICS} dropped)"));
    }
    step.duration_seconds = step.started_at.map(|_| millis(outcome.duration));
    step.output = outcome.output;
    step.artifact = outcome.artifact;
    step.boot_id = None;
    let numbers = outcome.metrics.into_iter().take(room);
    status.metrics.extend(numbers.map(|metric| Metric { step: name.to_owned(), ..metric }));
    if name == place.step.name && !place.finally && outcome.phase != StepPhase::Passed {
        for later in rest {
            let at = position(status, &later);
            let step = &mut status.steps[at];
            if step.phase == StepPhase::Pending {
                step.phase = StepPhase::Skipped;
                step.message = format!("step {} did not pass", place.step.name);
            }
        }
    }
    summarise(status);
}

/// Writes the verdict. A run that is over stays as it is.
pub fn finish(run: &mut TestRun, verdict: Verdict, now: Timestamp) {
    lay_out(run);
    let generation = run.metadata.generation;
    let status = run.status.get_or_insert_default();
    if status.phase.is_final() {
        return;
    }
    let passed = verdict.phase == RunPhase::Passed;
    let reason = format!("{:?}", verdict.phase);
    status.observed_generation = generation;
    status.phase = verdict.phase;
    status.message = shorten(&verdict.message, LONGEST_MESSAGE);
    status.finished_at = Some(now);
    let start = *status.started_at.get_or_insert(now);
    status.duration_seconds = Some(millis(seconds_between(start, now)));
    for (type_, value) in [(COMPLETE, passed), (FAILED, !passed)] {
        let message = status.message.clone();
        condition::set(&mut status.conditions, type_, value, &reason, message, generation);
    }
    for found in &mut status.conditions {
        found.last_transition_time = now.round(Unit::Second).unwrap_or(now);
    }
    summarise(status);
}

/// Seconds from one time to another, never negative.
#[must_use]
pub fn seconds_between(start: Timestamp, end: Timestamp) -> f64 {
    end.duration_since(start).max(SignedDuration::ZERO).as_secs_f64()
}

/// One line of at most so many bytes. Control characters, which a guest may have put there, do not get through.
#[must_use]
pub fn shorten(text: &str, bytes: usize) -> String {
    let mut line = text.replace(char::is_control, " ");
    if line.len() > bytes {
        let mut cut = bytes.saturating_sub('…'.len_utf8());
        while !line.is_char_boundary(cut) {
            cut -= 1;
        }
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// Lists every step that is not listed yet.
fn lay_out(run: &mut TestRun) {
    let missing: Vec<(String, String)> = plan::places(&run.spec)
        .map(|place| &place.step.name)
        .filter(|name| run.status.as_ref().is_none_or(|status| plan::find(status, name).is_none()))
        .map(|name| (name.clone(), step_uid(run, name)))
        .collect();
    let status = run.status.get_or_insert_default();
    status.steps.extend(missing.into_iter().map(|(name, uid)| StepStatus { name, uid, ..StepStatus::default() }));
}

/// Where the step of that name is listed; it is added when it is not.
fn position(status: &mut TestRunStatus, name: &str) -> usize {
    if let Some(at) = status.steps.iter().position(|step| step.name == name) {
        return at;
    }
    status.steps.push(StepStatus { name: name.to_owned(), ..StepStatus::default() });
    status.steps.len() - 1
}

fn step_mut<'a>(run: &'a mut TestRun, name: &str) -> Option<&'a mut StepStatus> {
    let steps = &mut run.status.as_mut()?.steps;
    steps.iter_mut().find(|step| step.name == name)
}

fn summarise(status: &mut TestRunStatus) {
    let own = |step: &&StepStatus| !step.name.contains('/');
    let all = status.steps.iter().filter(own).count();
    let passed = status.steps.iter().filter(own);
    let passed = passed.filter(|step| step.phase == StepPhase::Passed).count();
    status.summary = format!("{passed}/{all}");
}

fn millis(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// The names under which the actions of a parallel step are listed.
pub fn children<'a>(step: &'a Step) -> impl Iterator<Item = String> + 'a {
    let actions = step.parallel.iter().flat_map(|parallel| &parallel.steps);
    actions.map(|child| child_name(&step.name, &child.name))
}
