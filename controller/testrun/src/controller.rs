//! Wakes for every TestRun and drives it to its verdict; at most so many at the same time, the others stay Pending.

use crate::engine::{self, Stop};
use crate::live::{self, Live};
use crate::metrics;
use control_loop::{Cache, ControlLoop, Failure, Pace, Reconciler, Retry};
use crds::TestRun;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Name under which Events are published.
const REPORTER: &str = "testrun";
/// Pause before a run that could not be driven is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Settings of the test engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory for all output of steps.
    pub artifact_dir: PathBuf,
    /// Runs at the same time.
    pub concurrency: u16,
    /// Newest runs that are shown as metrics.
    pub metric_runs: usize,
}

impl Options {
    /// The usual settings.
    #[must_use]
    pub fn new(artifact_dir: impl Into<PathBuf>) -> Self {
        Self { artifact_dir: artifact_dir.into(), concurrency: 16, metric_runs: 20 }
    }
}

/// A reconcile that has to be repeated.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read the run")]
    Read(#[source] kube::Error),
    #[error("cannot drive the run")]
    Drive(#[source] Stop),
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Read(_) => "ApiUnavailable",
            Self::Drive(_) => "Interrupted",
        }
    }

    fn retry(&self) -> Retry {
        Retry::After(RETRY)
    }
}

struct Engine {
    client: Client,
    recorder: Recorder,
    options: Options,
    runs: Cache<TestRun>,
    shutdown: CancellationToken,
}

/// Drives every TestRun until `shutdown`. Runs under way are left as after a crash and taken up by the next engine.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<TestRun>::all(client.clone()), shutdown.clone());
    let runs = control.cache();
    metrics::publish(runs.store(), options.metric_runs);
    let pace = Pace::at_once(options.concurrency.max(1));
    let recorder = Recorder::new(client.clone(), Reporter::from(REPORTER));
    control.run(Engine { client, recorder, options, runs, shutdown }, pace).await;
    metrics::withdraw();
}

impl Reconciler for Engine {
    type Kind = TestRun;
    type Error = Error;

    async fn reconcile(&self, cached: Arc<TestRun>) -> Result<Action, Error> {
        let namespace = cached.namespace().unwrap_or_default();
        let api: Api<TestRun> = Api::namespaced(self.client.clone(), &namespace);
        let name = cached.name_any();
        if is_over(&cached) {
            return Ok(Action::await_change());
        }
        // The cache may be behind what an engine before us has stored.
        let Some(run) = api.get_opt(&name).await.map_err(Error::Read)? else {
            return Ok(Action::await_change());
        };
        if is_over(&run) {
            return Ok(Action::await_change());
        }
        let uid = run.uid().unwrap_or_default();
        let artifacts = self.options.artifact_dir.clone();
        let world = Live::new(self.client.clone(), self.recorder.clone(), artifacts, &run);
        let end = tokio::select! {
            end = Box::pin(engine::drive(&world, run)) => end.map(drop),
            () = deleted(api, &name, &uid) => Err(Stop::Gone),
            () = self.shutdown.cancelled() => return Ok(Action::await_change()),
        };
        self.sweep().await;
        match end {
            Ok(()) | Err(Stop::Gone) => Ok(Action::await_change()),
            Err(Stop::Superseded) => Ok(Action::requeue(Duration::from_secs(1))),
            Err(stop) => Err(Error::Drive(stop)),
        }
    }
}

impl Engine {
    /// Removes the artifacts of runs that were deleted.
    async fn sweep(&self) {
        let live: HashSet<String> = self.runs.all().iter().filter_map(|run| run.uid()).collect();
        match live::sweep(&self.options.artifact_dir, &live).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "artifacts of deleted runs removed"),
            Err(error) => tracing::warn!(%error, "artifacts not swept"),
        }
    }
}

/// Ends when the object is gone, or another of the same name is there. A watch that breaks is opened again: a store that
/// restarts must not interrupt a test.
async fn deleted(api: Api<TestRun>, name: &str, uid: &str) {
    let mut states = watch_object(api, name).default_backoff().boxed();
    while let Some(state) = states.next().await {
        if let Ok(found) = state
            && found.is_none_or(|found| found.uid().as_deref() != Some(uid))
        {
            return;
        }
    }
    std::future::pending().await
}

fn is_over(run: &TestRun) -> bool {
    let phase = run.status.as_ref().map(|status| status.phase);
    run.metadata.deletion_timestamp.is_some() || phase.is_some_and(|phase| phase.is_final())
}
