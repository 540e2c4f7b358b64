//! What a Node's status says. Pure.

use super::{Found, plan};
use crds::cluster::PowerState;
use crds::node::NodePhase;
use crds::virtual_machine::{RunStrategy, VirtualMachineStatus, VmPhase};
use crds::{Node, NodeStatus, condition};

/// The status from the Node's machine and port.
pub fn of(node: &Node, found: &Found) -> NodeStatus {
    let generation = node.metadata.generation;
    let mut status = node.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.ip = found.port.as_ref().and_then(|p| p.spec.ip.clone());
    let machine = found.machine.as_ref();
    let vm = machine.and_then(|m| m.status.clone()).unwrap_or_default();
    let wanted_on = machine.is_some_and(|m| m.spec.run_strategy == RunStrategy::Always);
    status.host = machine.and_then(|m| m.spec.host.clone());
    status.boot_id.clone_from(&vm.boot_id);
    status.machine_phase = vm.phase;
    let (phase, reason, message) = verdict(node, found, &vm, wanted_on, status.phase);
    if phase == NodePhase::Booting && matches!(status.phase, NodePhase::Waiting | NodePhase::Stopped) {
        status.boot_started_at = Some(jiff::Timestamp::now());
        status.ready_at = None;
        status.boot_seconds = None;
    }
    if phase == NodePhase::Ready && status.phase != NodePhase::Ready {
        let ready_at = vm.ready_at.unwrap_or_else(jiff::Timestamp::now);
        status.ready_at = Some(ready_at);
        let took =
            status.boot_started_at.map(|from| ready_at.duration_since(from).as_secs_f64().max(0.0)).map(milliseconds);
        status.boot_seconds = status.boot_seconds.or(took);
    }
    status.phase = phase;
    condition::set(&mut status.conditions, condition::READY, phase == NodePhase::Ready, reason, message, generation);
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
        let names: Vec<String> =
            plan::missing(node, found).iter().map(|d| format!("{} ({:?})", d.node, d.condition)).collect();
        return (NodePhase::Waiting, "WaitingForDependencies", format!("waits for {}", names.join(", ")));
    }
    let ready = condition::find(&vm.conditions, condition::READY);
    if ready.is_some_and(|c| c.status == "True") {
        return (NodePhase::Ready, "Ready", "the readiness gate has passed".to_owned());
    }
    let message = ready.map(|c| format!("{}: {}", c.reason, c.message)).unwrap_or_default();
    if matches!(before, NodePhase::Ready | NodePhase::NotReady) {
        return (NodePhase::NotReady, "MachineNotReady", message);
    }
    (NodePhase::Booting, "Booting", message)
}

/// Seconds with three decimals: more is noise.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
