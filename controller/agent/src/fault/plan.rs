//! What comes next for a fault: pure.

use std::time::Duration;

use crds::Fault;
use crds::fault::{FaultAction, FaultPhase};
use jiff::{SignedDuration, Timestamp};
use process::ProcessId;

/// What is known of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// There is a machine of that name on this host.
    pub target: bool,
    /// Its UID.
    pub uid: String,
    /// Its QEMU, alive.
    pub process: Option<ProcessId>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is over.
    Nothing,
    /// The target is not there, or does not run.
    Wait {
        /// Sentence.
        why: &'static str,
    },
    /// Only the clock is missing.
    LookAgain(Duration),
    /// Store whom it will hit.
    Announce(ProcessId),
    /// Hit the process that was stored.
    Inject,
    /// Undo it.
    Revert,
    /// Let the object go.
    Release,
}

/// Plans one step.
pub fn plan(fault: &Fault, found: &Found, now: Timestamp) -> Next {
    let phase = fault.status.as_ref().map(|status| status.phase).unwrap_or_default();
    let deleted = fault.metadata.deletion_timestamp.is_some();
    match phase {
        FaultPhase::Pending if deleted => Next::Release,
        FaultPhase::Pending => match (found.target, found.process) {
            (false, _) => Next::Wait { why: "The target is not on this host, or does not exist." },
            (true, None) => Next::Wait { why: "The target does not run." },
            (true, Some(id)) => Next::Announce(id),
        },
        // A pause may have been done just before a crash, so that is undone; of the others nothing can be.
        FaultPhase::Injecting if deleted => Next::Revert,
        FaultPhase::Injecting => Next::Inject,
        FaultPhase::Injected => plan_injected(fault, deleted, now),
        FaultPhase::Reverted | FaultPhase::Failed if deleted => Next::Release,
        FaultPhase::Reverted | FaultPhase::Failed => Next::Nothing,
    }
}

/// The process that was stored as the one to hit, while it lives. A start time that was never stored tells nothing.
pub fn victim(fault: &Fault, found: &Found) -> Option<ProcessId> {
    let status = fault.status.as_ref()?;
    let is_it = |id: &ProcessId| {
        status.pid == Some(id.pid) && status.pid_start_time.is_none_or(|started| started == id.start_time)
    };
    found.process.filter(is_it)
}

fn plan_injected(fault: &Fault, deleted: bool, now: Timestamp) -> Next {
    if deleted || fault.spec.action != FaultAction::Pause {
        return Next::Revert;
    }
    let Some(seconds) = fault.spec.duration_seconds else { return Next::Nothing };
    let begun = fault.status.as_ref().and_then(|status| status.injected_at).unwrap_or(now);
    let end = begun + SignedDuration::from_secs(seconds.into());
    match Duration::try_from(end.duration_since(now)) {
        Ok(rest) if !rest.is_zero() => Next::LookAgain(rest),
        _ => Next::Revert,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: ProcessId = ProcessId { pid: 7, start_time: 1 };

    fn fault(action: &str, phase: &str) -> Fault {
        let spec = json!({"target": {"kind": "Node", "name": "a"}, "action": action});
        let mut fault = Fault::new("f", serde_json::from_value(spec).unwrap());
        fault.status =
            serde_json::from_value(json!({"phase": phase, "pid": 7, "injectedAt": "1970-01-01T00:01:40Z"})).ok();
        fault
    }

    fn running() -> Found {
        Found { target: true, uid: "u".into(), process: Some(ID) }
    }

    fn next(fault: &Fault, found: &Found) -> Next {
        plan(fault, found, Timestamp::from_second(105).unwrap())
    }

    fn deleted(mut fault: Fault) -> Fault {
        fault.metadata.deletion_timestamp = serde_json::from_str("\"2026-01-01T00:00:00Z\"").ok();
        fault
    }

    #[test]
    fn the_victim_is_stored_before_it_is_hit() {
        assert_eq!(next(&fault("Kill", "Pending"), &running()), Next::Announce(ID));
        assert_eq!(next(&fault("Kill", "Injecting"), &running()), Next::Inject);
        assert!(matches!(next(&fault("Kill", "Pending"), &Found::default()), Next::Wait { .. }));
    }

    #[test]
    fn a_later_process_with_the_victims_pid_is_not_hit() {
        let mut fault = fault("Kill", "Pending");
        fault.status = Some(super::super::status::injecting(&fault, ID));
        assert_eq!(next(&fault, &running()), Next::Inject);
        assert_eq!(victim(&fault, &running()), Some(ID));
        let later = Found { process: Some(ProcessId { start_time: 2, ..ID }), ..running() };
        assert_eq!(victim(&fault, &later), None);
        assert_eq!(victim(&fault, &Found::default()), None);
    }

    #[test]
    fn what_cannot_be_undone_is_over_at_once_and_a_pause_when_its_time_is() {
        assert_eq!(next(&fault("Kill", "Injected"), &running()), Next::Revert);
        let mut pause = fault("Pause", "Injected");
        assert_eq!(next(&pause, &running()), Next::Nothing, "until it is deleted");
        pause.spec.duration_seconds = Some(20);
        assert_eq!(next(&pause, &running()), Next::LookAgain(Duration::from_secs(15)));
        pause.spec.duration_seconds = Some(5);
        assert_eq!(next(&pause, &running()), Next::Revert);
    }

    #[test]
    fn a_deleted_fault_is_undone_first_wherever_it_stands() {
        assert_eq!(next(&deleted(fault("Pause", "Pending")), &running()), Next::Release);
        assert_eq!(next(&deleted(fault("Pause", "Injecting")), &running()), Next::Revert);
        assert_eq!(next(&deleted(fault("Pause", "Injected")), &running()), Next::Revert);
        assert_eq!(next(&deleted(fault("Pause", "Reverted")), &running()), Next::Release);
        assert_eq!(next(&fault("Pause", "Reverted"), &running()), Next::Nothing);
    }
}
