//! The fault's status. Pure.

use crds::condition::{COMPLETE, FAILED, now, set};
use crds::fault::FaultPhase;
use crds::{Fault, FaultStatus};
use process::ProcessId;

const INJECTED: &str = "Injected";
const REVERTED: &str = "Reverted";

/// The target cannot be hit yet.
pub fn waiting(fault: &Fault, why: &str) -> FaultStatus {
    let mut status = before(fault);
    set(&mut status.conditions, INJECTED, false, "TargetNotRunning", why, fault.metadata.generation);
    status
}

/// About to be done to this process.
pub fn injecting(fault: &Fault, id: ProcessId) -> FaultStatus {
    let mut status = before(fault);
    status.phase = FaultPhase::Injecting;
    status.pid = Some(id.pid);
    status.pid_start_time = Some(id.start_time);
    status
}

/// Done.
pub fn injected(fault: &Fault) -> FaultStatus {
    let mut status = before(fault);
    status.phase = FaultPhase::Injected;
    status.injected_at = status.injected_at.or_else(|| Some(now()));
    set(&mut status.conditions, INJECTED, true, "Done", "", fault.metadata.generation);
    status
}

/// Over.
pub fn reverted(fault: &Fault) -> FaultStatus {
    let mut status = before(fault);
    status.phase = FaultPhase::Reverted;
    status.reverted_at = status.reverted_at.or_else(|| Some(now()));
    set(&mut status.conditions, REVERTED, true, "Over", "", fault.metadata.generation);
    set(&mut status.conditions, COMPLETE, true, "Over", "", fault.metadata.generation);
    status
}

/// Could not be done.
pub fn failed(fault: &Fault, reason: &str, message: String) -> FaultStatus {
    let mut status = before(fault);
    status.phase = FaultPhase::Failed;
    set(&mut status.conditions, FAILED, true, reason, message, fault.metadata.generation);
    status
}

fn before(fault: &Fault) -> FaultStatus {
    FaultStatus { observed_generation: fault.metadata.generation, ..fault.status.clone().unwrap_or_default() }
}
