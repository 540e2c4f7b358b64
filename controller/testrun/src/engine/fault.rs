//! `fault`: makes a Fault object and waits until the agent has done what it says.

use super::Engine;
use super::attempt::Notes;
use crate::effects::{Effects, ReachError};
use crate::judge::Attempt;
use crate::judge::condition::title;
use crds::fault::FaultPhase;
use crds::reference::ObjectReference;
use crds::testrun::FaultStep;
use crds::{Fault, FaultSpec, TESTRUN_LABEL, TestRun};
use kube::{Resource, ResourceExt};
use serde_json::Value;
use std::time::Duration;

/// Pause before an unanswered request is repeated.
const PAUSE: Duration = Duration::from_secs(1);

impl<E: Effects> Engine<'_, E> {
    pub(super) async fn fault(&self, step: &FaultStep, id: &str, notes: &Notes) -> Attempt {
        let fault = object(&self.state.lock().await.run, id, step);
        loop {
            match self.effects.inject(&fault).await {
                Ok(()) => break,
                Err(ReachError::Refused(why)) => {
                    return Attempt::hopeless(format!("the fault is refused: {why}"));
                }
                Err(error) => notes.say(format!("cannot make Fault/{id}: {error}")),
            }
            tokio::time::sleep(PAUSE).await;
        }
        let reference = ObjectReference { kind: "Fault".to_owned(), name: id.to_owned() };
        let what = format!("{:?} of {}", step.action, title(&step.target));
        self.look(&reference, notes, |found| judge(found, step, &what, notes)).await
    }
}

/// The Fault of a step; it goes when its run goes.
fn object(run: &TestRun, id: &str, step: &FaultStep) -> Fault {
    let mut fault = Fault::new(
        id,
        FaultSpec {
            target: step.target.clone(),
            action: step.action,
            duration_seconds: step.duration_seconds,
            host: None,
        },
    );
    fault.metadata.namespace = run.namespace();
    fault.metadata.owner_references = run.controller_owner_ref(&()).map(|owner| vec![owner]);
    fault.labels_mut().insert(TESTRUN_LABEL.to_owned(), run.name_any());
    fault
}

fn judge(found: Option<&Value>, step: &FaultStep, what: &str, notes: &Notes) -> Option<Attempt> {
    let Some(found) = found else {
        notes.say(format!("the Fault for the {what} is gone"));
        return None;
    };
    let phase = found.pointer("/status/phase").cloned().unwrap_or_default();
    let phase: FaultPhase = serde_json::from_value(phase).unwrap_or_default();
    match phase {
        FaultPhase::Failed => Some(Attempt::errored(format!("{what} could not be done: {}", reason(found)))),
        FaultPhase::Reverted => Some(Attempt::passed(format!("{what} is over"))),
        FaultPhase::Injected if !step.until_reverted => Some(Attempt::passed(format!("{what} is done"))),
        waiting => {
            notes.say(format!("{what} is still {waiting:?}"));
            None
        }
    }
}

fn reason(found: &Value) -> String {
    let conditions = found.pointer("/status/conditions").and_then(Value::as_array);
    let messages: Vec<&str> = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition["status"] == "True" && condition["type"] == "Failed")
        .filter_map(|condition| condition["message"].as_str())
        .collect();
    if messages.is_empty() {
        return "the agent gives no reason".to_owned();
    }
    messages.join("; ")
}
