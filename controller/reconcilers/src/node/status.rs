//! What a Node's status says, and when a change of it is worth a write. Pure.

use super::Found;
use crds::cluster::PowerState;
use crds::condition::READY;
use crds::node::{Dependency, NodePhase};
use crds::virtual_machine::{RunStrategy, VirtualMachineStatus, VmPhase};
use crds::{Node, NodeStatus, condition};
use jiff::Timestamp;
use std::time::Duration;

/// In the first moments of a boot a machine is bound, gets its port and its volumes, and says so each time. That is told
/// once: when it runs, or when this time is over and something still holds it up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The status to store, and when to look again although nothing happens.
pub struct Told {
    /// What is to be stored.
    pub status: NodeStatus,
    /// When what is kept back now is told after all.
    pub look_again: Option<Duration>,
}

/// The status from the Node's machine and port, without the details of a boot that has only just begun.
pub fn told(node: &Node, found: &Found, now: Timestamp) -> Told {
    let wanted = of(node, found, now);
    match node.status.as_ref().filter(|before| *before != &wanted && only_details(before, &wanted)) {
        Some(before) => match patience_left(before, now) {
            Some(left) => Told { status: before.clone(), look_again: Some(left) },
            None => Told { status: wanted, look_again: None },
        },
        None => Told { status: wanted, look_again: None },
    }
}

/// Whether the two differ in nothing that anybody waits for: no phase, no machine that runs or has failed since.
fn only_details(before: &NodeStatus, wanted: &NodeStatus) -> bool {
    let preparing = |status: &NodeStatus| {
        status.phase == NodePhase::Booting && matches!(status.machine_phase, VmPhase::Pending | VmPhase::Starting)
    };
    let reason = |status: &NodeStatus| condition::find(&status.conditions, READY).map(|c| c.reason.clone());
    preparing(before)
        && preparing(wanted)
        && before.observed_generation == wanted.observed_generation
        && reason(before) == reason(wanted)
}

fn patience_left(status: &NodeStatus, now: Timestamp) -> Option<Duration> {
    // A clock that was set back must not silence a node.
    let passed = Duration::try_from(now.duration_since(status.boot_started_at?)).ok()?;
    PATIENCE.checked_sub(passed).filter(|left| !left.is_zero())
}

fn of(node: &Node, found: &Found, now: Timestamp) -> NodeStatus {
    let generation = node.metadata.generation;
    let mut status = node.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.ip = found.port.as_ref().and_then(|p| p.spec.address().cloned());
    let machine = found.machine.as_ref();
    let vm = machine.and_then(|m| m.status.clone()).unwrap_or_default();
    let wanted_on = machine.is_some_and(|m| m.spec.run_strategy == RunStrategy::Always);
    status.host = machine.and_then(|m| m.spec.host.clone());
    status.boot_id.clone_from(&vm.boot_id);
    status.machine_phase = vm.phase;
    let (phase, reason, message) = verdict(node, found, &vm, wanted_on, status.phase);
    if phase == NodePhase::Booting && matches!(status.phase, NodePhase::Waiting | NodePhase::Stopped) {
        status.boot_started_at = Some(now);
        status.ready_at = None;
        status.boot_seconds = None;
    }
    if phase == NodePhase::Ready && status.phase != NodePhase::Ready {
        let ready_at = vm.ready_at.unwrap_or(now);
        status.ready_at = Some(ready_at);
        let took =
            status.boot_started_at.map(|from| ready_at.duration_since(from).as_secs_f64().max(0.0)).map(milliseconds);
        status.boot_seconds = status.boot_seconds.or(took);
    }
    status.phase = phase;
    condition::set(&mut status.conditions, READY, phase == NodePhase::Ready, reason, message, generation);
    status
}

fn verdict(
    node: &Node,
    found: &Found,
    vm: &VirtualMachineStatus,
    wanted_on: bool,
    before: NodePhase,
) -> (NodePhase, &'static str, String) {
    if !found.foreign.is_empty() {
        let text = format!("{} exists and belongs to something else; delete or rename it", found.foreign.join(", "));
        return (before, "NameTaken", text);
    }
    if !wanted_on {
        if node.spec.power_state == PowerState::Stopped {
            let off = found.machine.is_none() || vm.phase == VmPhase::Stopped;
            return if off {
                (NodePhase::Stopped, "Stopped", "powered off".to_owned())
            } else {
                (before, "Stopping", "being powered off".to_owned())
            };
        }
        return (NodePhase::Waiting, "WaitingForDependencies", order(&node.spec.depends_on));
    }
    let ready = condition::find(&vm.conditions, READY);
    if ready.is_some_and(|c| c.status == "True") {
        return (NodePhase::Ready, "Ready", "the readiness gate has passed".to_owned());
    }
    let message = match ready {
        Some(condition) => format!("{}: {}", condition.reason, condition.message),
        None if found.machine.as_ref().is_some_and(|m| m.spec.host.is_none()) => {
            "its machine waits for a host with room; see that one's Events".to_owned()
        }
        None => "its machine is being made".to_owned(),
    };
    if matches!(before, NodePhase::Ready | NodePhase::NotReady) {
        return (NodePhase::NotReady, "MachineNotReady", message);
    }
    (NodePhase::Booting, "Booting", message)
}

/// All that it boots after, as its spec has it: which of them are behind is to be seen in their own status, and a sentence
/// that grew shorter with every one of them would cost a write each.
fn order(dependencies: &[Dependency]) -> String {
    let names: Vec<String> = dependencies.iter().map(|d| format!("{} ({:?})", d.node, d.condition)).collect();
    format!("boots after {}", names.join(", "))
}

/// Seconds with three decimals: more is noise.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
