//! One action with its limits, be it a step of its own or one of several at the same time.

use super::status::child_name;
use crds::testrun::{Assert, Exec, FaultStep, ParallelStep, Probe, Reachability, Step, Wait};
use std::time::Duration;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    Wait(&'a Wait),
    Exec(&'a Exec),
    Probe(&'a Probe),
    Reachability(&'a Reachability),
    Fault(&'a FaultStep),
    Assert(&'a Assert),
    /// None of them; the API refuses such a step.
    Nothing,
}

/// One action with its limits.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// Name of its StepStatus.
    pub name: String,
    /// What is to be done.
    pub action: Action<'a>,
    /// How often it may be tried.
    pub attempts: u32,
    /// Pause between two attempts.
    pub interval: Duration,
    /// Metric for its duration.
    pub duration_metric: Option<&'a str>,
}

impl<'a> Task<'a> {
    /// A step; nothing is to be done for a parallel one itself.
    pub fn of(step: &'a Step) -> Self {
        Self {
            name: step.name.clone(),
            action: action(&step.wait, &step.exec, &step.probe, &step.reachability, &step.fault, &step.assert),
            attempts: step.attempts,
            interval: Duration::from_secs(step.interval_seconds.into()),
            duration_metric: step.duration_metric.as_deref(),
        }
    }

    /// One of a parallel step's actions.
    pub fn of_child(step: &Step, child: &'a ParallelStep) -> Self {
        Self {
            name: child_name(&step.name, &child.name),
            action: action(&child.wait, &child.exec, &child.probe, &child.reachability, &child.fault, &child.assert),
            attempts: child.attempts,
            interval: Duration::from_secs(child.interval_seconds.into()),
            duration_metric: child.duration_metric.as_deref(),
        }
    }
}

/// What a step consists of: its actions when it is parallel, else itself.
pub fn all(step: &Step) -> Vec<Task<'_>> {
    match &step.parallel {
        None => vec![Task::of(step)],
        Some(parallel) => {
            let children = parallel.steps.iter();
            children.map(|child| Task::of_child(step, child)).collect()
        }
    }
}

fn action<'a>(
    wait: &'a Option<Wait>,
    exec: &'a Option<Exec>,
    probe: &'a Option<Probe>,
    reachability: &'a Option<Reachability>,
    fault: &'a Option<FaultStep>,
    assert: &'a Option<Assert>,
) -> Action<'a> {
    let wait = wait.as_ref().map(Action::Wait);
    wait.or(exec.as_ref().map(Action::Exec))
        .or(probe.as_ref().map(Action::Probe))
        .or(reachability.as_ref().map(Action::Reachability))
        .or(fault.as_ref().map(Action::Fault))
        .or(assert.as_ref().map(Action::Assert))
        .unwrap_or(Action::Nothing)
}
