//! Writes a status so that only one engine can ever do it, and tells of what changed.

use crate::effects::StoreError;
use crds::testrun::RunPhase;
use crds::{TestRun, TestRunStatus};
use kube::api::PostParams;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Resource, ResourceExt};
use std::time::Duration;

/// How often a write is repeated because metadata changed under it.
const MOST_CONFLICTS: usize = 5;
/// An Event is good to have and not worth more than this.
const EVENT_TIME: Duration = Duration::from_secs(3);

/// Stores the status of `run` if the API still has `known`, or already has what is to be stored.
pub async fn store(api: &Api<TestRun>, run: &TestRun, known: Option<&TestRunStatus>) -> Result<TestRun, StoreError> {
    let mut wanted = run.clone();
    for _ in 0..MOST_CONFLICTS {
        let name = run.name_any();
        let error = match api.replace_status(&name, &PostParams::default(), &wanted).await {
            Ok(stored) => return Ok(stored),
            Err(error) => error,
        };
        if !matches!(&error, kube::Error::Api(status) if status.code == 409) {
            return Err(classify(error));
        }
        let found = api.get_opt(&name).await.map_err(classify)?;
        let Some(found) = found.filter(|found| found.uid() == run.uid()) else {
            return Err(StoreError::Gone);
        };
        // An answer that got lost: the write before this one has worked.
        if found.status == run.status {
            return Ok(found);
        }
        let unset = TestRunStatus::default();
        if found.status.as_ref().unwrap_or(&unset) != known.unwrap_or(&unset) {
            return Err(StoreError::Superseded);
        }
        wanted.metadata.resource_version = found.metadata.resource_version;
    }
    Err(StoreError::Unavailable("the object keeps changing".to_owned()))
}

fn classify(error: kube::Error) -> StoreError {
    match error {
        kube::Error::Api(status) => match status.code {
            404 | 410 => StoreError::Gone,
            400 | 403 | 405 | 413 | 422 => StoreError::Refused(status.message.clone()),
            _ => StoreError::Unavailable(status.message.clone()),
        },
        error => StoreError::Unavailable(error.to_string()),
    }
}

/// Publishes an Event when the run has begun or ended.
pub async fn announce(recorder: &Recorder, run: &TestRun, before: RunPhase) {
    let Some(status) = run.status.as_ref().filter(|s| s.phase != before) else {
        return;
    };
    let note = if status.phase == RunPhase::Running {
        format!("{} steps to do", status.steps.len())
    } else {
        status.message.clone()
    };
    let good = matches!(status.phase, RunPhase::Running | RunPhase::Passed);
    let event = Event {
        type_: if good { EventType::Normal } else { EventType::Warning },
        reason: format!("{:?}", status.phase),
        note: Some(crate::engine::status::shorten(&note, 1000)),
        action: "Test".to_owned(),
        secondary: None,
    };
    let reference = run.object_ref(&());
    let publish = recorder.publish(&event, &reference);
    match tokio::time::timeout(EVENT_TIME, publish).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "event not published"),
        Err(_) => tracing::warn!("event not published in time"),
    }
}
