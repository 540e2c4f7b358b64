//! The machine's status, computed from what was found. Pure.

use std::time::Duration;

use crds::condition::{Condition, READY, find, now, put};
use crds::virtual_machine::{GUEST_AGENT_CONNECTED, RunStrategy, VmPhase};
use crds::{VirtualMachine, VirtualMachineStatus};
use jiff::Timestamp;

use super::error::Waiting;
use super::plan::Found;
use crate::running::vitals::Vitals;

/// What went wrong in this look, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// PascalCase cause.
    pub reason: &'static str,
    /// Sentence with the remedy.
    pub message: String,
    /// Whether nothing but a change can help.
    pub final_: bool,
}

/// Everything that a status is made of.
pub struct Facts<'a> {
    /// The object.
    pub vm: &'a VirtualMachine,
    /// What is there after the steps.
    pub found: &'a Found,
    /// What its QEMU and guest tell.
    pub vitals: &'a Vitals,
    /// What it waits for.
    pub waiting: Option<&'a Waiting>,
    /// What went wrong.
    pub trouble: Option<&'a Trouble>,
    /// Its first address.
    pub ip: Option<String>,
}

/// A machine is bound to this host a moment before its Port and its Volumes are. That it waits for them is told when it
/// still does after this.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a new machine's first word, that it waits for something, is kept back yet.
pub fn kept_back(vm: &VirtualMachine, status: &VirtualMachineStatus, now: Timestamp) -> Option<Duration> {
    let new = vm.status.is_none() && status.phase == VmPhase::Pending;
    let made = vm.metadata.creation_timestamp.as_ref().filter(|_| new)?;
    // The time is the server's: a machine from the future is told of at once.
    let age = Duration::try_from(now.duration_since(made.0)).ok()?;
    PATIENCE.checked_sub(age).filter(|left| !left.is_zero())
}

struct Verdict {
    phase: VmPhase,
    ready: bool,
    reason: &'static str,
    message: String,
}

fn verdict(phase: VmPhase, ready: bool, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict { phase, ready, reason, message: message.into() }
}

/// The status that says so.
pub fn compute(facts: &Facts<'_>) -> VirtualMachineStatus {
    let before = facts.vm.status.clone().unwrap_or_default();
    if stands(facts, &before) {
        return VirtualMachineStatus { observed_generation: facts.vm.metadata.generation, ..before };
    }
    let judged = judge(facts);
    let running = facts.found.process.filter(|_| judged.phase != VmPhase::Pending);
    let state = &facts.found.state;
    let boot_id = running.and(facts.vitals.boot_id.clone()).or_else(|| {
        // After a restart of ours the guest's word is not in yet; the same process still runs the same boot.
        running.filter(|id| before.pid == Some(id.pid) && !facts.vitals.silent).and(before.boot_id.clone())
    });
    let was_ready = find(&before.conditions, READY).is_some_and(|c| c.status == "True");
    let ready_at = match judged.ready {
        true if was_ready && before.boot_id == boot_id && before.ready_at.is_some() => before.ready_at,
        true => Some(now()),
        false => before.ready_at,
    };
    VirtualMachineStatus {
        observed_generation: facts.vm.metadata.generation,
        phase: judged.phase,
        pid: running.map(|id| id.pid),
        boot_id,
        accelerator: state.accelerator.clone(),
        ip: facts.ip.clone().or(before.ip.clone()),
        started_at: running.and(state.started_at),
        monitor_ready_milliseconds: running.and(state.monitor_ready_milliseconds),
        ready_at,
        restarts: state.restarts,
        conditions: conditions(facts, before, &judged),
    }
}

/// Whether an earlier judgement over the same process stands: its guest has not been heard yet, because it boots or
/// because we have only just come back. It also spares a write for every step of a boot.
fn stands(facts: &Facts<'_>, before: &VirtualMachineStatus) -> bool {
    let same = facts.found.process.is_some_and(|id| before.pid == Some(id.pid));
    same && before.phase == VmPhase::Running
        && before.started_at == facts.found.state.started_at
        && facts.found.state.stopping_since.is_none()
        && !facts.vitals.settled(facts.vm.spec.readiness.is_some())
}

fn conditions(facts: &Facts<'_>, before: VirtualMachineStatus, judged: &Verdict) -> Vec<Condition> {
    let generation = facts.vm.metadata.generation;
    let mut all = before.conditions;
    let mut say = |type_: &str, holds: bool, reason: &str, message: String| {
        let status = if holds { "True" } else { "False" };
        put(
            &mut all,
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                last_transition_time: now(),
                observed_generation: generation,
            },
        );
    };
    say(READY, judged.ready, judged.reason, judged.message.clone());
    let connected = facts.found.process.is_some() && facts.vitals.guest_agent;
    let reason = if connected { "Answering" } else { "NotAnswering" };
    say(GUEST_AGENT_CONNECTED, connected, reason, String::new());
    all
}

fn judge(facts: &Facts<'_>) -> Verdict {
    match facts.found.process {
        Some(_) => judge_running(facts),
        None => judge_off(facts),
    }
}

fn judge_running(facts: &Facts<'_>) -> Verdict {
    let vitals = facts.vitals;
    if facts.found.state.stopping_since.is_some() {
        return verdict(VmPhase::Stopping, false, "Stopping", "The guest was asked to shut down.");
    }
    if vitals.paused {
        let why = vitals.paused_because.as_deref().unwrap_or("paused");
        return verdict(VmPhase::Paused, false, "Paused", format!("The virtual processors are stopped ({why})."));
    }
    let phase = VmPhase::Running;
    if !vitals.guest_agent {
        let message = "The guest boots, or its guest agent does not answer; see the serial log.";
        return verdict(phase, false, "GuestAgentNotConnected", message);
    }
    match (&facts.vm.spec.readiness, vitals.probe.ready) {
        (None, _) => verdict(phase, true, "GuestAgentConnected", "The guest agent answers."),
        (Some(_), Some(true)) => verdict(phase, true, "ReadinessPassed", "The readiness command passed."),
        (Some(_), Some(false)) => {
            verdict(phase, false, "ReadinessFailing", vitals.probe.message.clone().unwrap_or_default())
        }
        (Some(_), None) => verdict(phase, false, "ReadinessUnknown", "The readiness command has not been tried yet."),
    }
}

fn judge_off(facts: &Facts<'_>) -> Verdict {
    let spec = &facts.vm.spec;
    if facts.vm.metadata.deletion_timestamp.is_some() {
        return verdict(VmPhase::Stopping, false, "Deleting", "What it left on the host is being removed.");
    }
    if let Some(trouble) = facts.trouble {
        let phase = if trouble.final_ { VmPhase::Failed } else { VmPhase::Starting };
        return verdict(phase, false, trouble.reason, trouble.message.clone());
    }
    match spec.run_strategy {
        RunStrategy::Halted => return verdict(VmPhase::Stopped, false, "Halted", "runStrategy is Halted."),
        RunStrategy::RerunOnFailure if facts.found.state.powered_off => {
            let message = "The guest switched itself off; set runStrategy to Halted and back to start it.";
            return verdict(VmPhase::Stopped, false, "PoweredOff", message);
        }
        RunStrategy::Always | RunStrategy::RerunOnFailure => {}
    }
    if let Some(waiting) = facts.waiting {
        return verdict(VmPhase::Pending, false, waiting.reason, waiting.message.clone());
    }
    match facts.found.state.not_before {
        Some(_) => verdict(
            VmPhase::Starting,
            false,
            "RestartBackOff",
            "QEMU ended soon after it started, several times; see the serial log. It is started again shortly.",
        ),
        None => verdict(VmPhase::Starting, false, "Starting", "QEMU is about to start."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::VirtualMachineSpec;
    use crds::virtual_machine::Readiness;
    use process::ProcessId;

    fn vm() -> VirtualMachine {
        let spec: VirtualMachineSpec = serde_json::from_value(serde_json::json!({"image": "base"})).unwrap();
        let mut vm = VirtualMachine::new("a", spec);
        vm.metadata.generation = Some(2);
        vm
    }

    fn running() -> Found {
        Found { process: Some(ProcessId { pid: 7, start_time: 1 }), directory: true, ..Found::default() }
    }

    fn status(vm: &VirtualMachine, found: &Found, vitals: &Vitals) -> VirtualMachineStatus {
        compute(&Facts { vm, found, vitals, waiting: None, trouble: None, ip: Some("10.0.0.2".into()) })
    }

    fn reason(status: &VirtualMachineStatus) -> &str {
        &find(&status.conditions, READY).unwrap().reason
    }

    #[test]
    fn a_machine_without_probe_is_ready_when_its_agent_answers_and_saying_it_again_changes_nothing() {
        let mut vm = vm();
        let vitals = Vitals { guest_agent: true, boot_id: Some("b".into()), ..Vitals::default() };
        let first = status(&vm, &running(), &vitals);
        assert_eq!((first.phase, reason(&first)), (VmPhase::Running, "GuestAgentConnected"));
        assert!(first.ready_at.is_some() && first.observed_generation == Some(2));
        vm.status = Some(first.clone());
        assert_eq!(status(&vm, &running(), &vitals), first);
    }

    #[test]
    fn a_probe_decides_when_there_is_one() {
        let mut vm = vm();
        vm.spec.readiness =
            Some(Readiness { exec: vec!["true".into()], period_seconds: 1, timeout_seconds: 1, failure_threshold: 1 });
        let mut vitals = Vitals { guest_agent: true, ..Vitals::default() };
        assert_eq!(reason(&status(&vm, &running(), &vitals)), "ReadinessUnknown");
        vitals.probe.ready = Some(false);
        vitals.probe.message = Some("exit code 1".into());
        assert_eq!(reason(&status(&vm, &running(), &vitals)), "ReadinessFailing");
        vitals.probe.ready = Some(true);
        assert_eq!(reason(&status(&vm, &running(), &vitals)), "ReadinessPassed");
        vitals.paused = true;
        assert_eq!(status(&vm, &running(), &vitals).phase, VmPhase::Paused);
    }

    #[test]
    fn a_restart_of_ours_keeps_the_judgement_until_the_guest_is_heard() {
        let mut vm = vm();
        vm.status = Some(VirtualMachineStatus { pid: Some(7), boot_id: Some("b".into()), ..Default::default() });
        assert_eq!(status(&vm, &running(), &Vitals::default()).boot_id.as_deref(), Some("b"));
        let other = Found { process: Some(ProcessId { pid: 8, start_time: 1 }), ..Found::default() };
        assert_eq!(status(&vm, &other, &Vitals::default()).boot_id, None);
    }

    #[test]
    fn a_new_machines_first_wait_is_told_when_it_lasts() {
        let mut vm = vm();
        let made = now();
        vm.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(made));
        let pending = VirtualMachineStatus { phase: VmPhase::Pending, ..Default::default() };
        let after = |vm: &VirtualMachine, status: &_, seconds: i64| {
            kept_back(vm, status, Timestamp::from_second(made.as_second() + seconds).unwrap())
        };
        assert_eq!(after(&vm, &pending, 1), Some(Duration::from_secs(2)));
        assert_eq!(after(&vm, &pending, 3), None);
        assert_eq!(after(&vm, &pending, -60), None, "the clocks differ");
        let running = VirtualMachineStatus { phase: VmPhase::Running, ..Default::default() };
        assert_eq!(after(&vm, &running, 1), None, "that it runs is told at once");
        vm.status = Some(pending.clone());
        assert_eq!(after(&vm, &pending, 1), None);
    }

    #[test]
    fn what_is_off_says_why() {
        let vm = vm();
        let found = Found::default();
        let vitals = Vitals::default();
        let waiting = Waiting { reason: "ImageNotReady", message: "Image base is being built.".into() };
        let facts = Facts { vm: &vm, found: &found, vitals: &vitals, waiting: Some(&waiting), trouble: None, ip: None };
        let pending = compute(&facts);
        assert_eq!((pending.phase, reason(&pending)), (VmPhase::Pending, "ImageNotReady"));
        let trouble = Trouble { reason: "ProgramNotFound", message: "install QEMU".into(), final_: true };
        let failed = compute(&Facts { trouble: Some(&trouble), ..facts });
        assert_eq!((failed.phase, reason(&failed), failed.pid), (VmPhase::Failed, "ProgramNotFound", None));
    }
}
