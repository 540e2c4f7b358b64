//! Drives one run from where its status stands to its verdict.
//!
//! The end of a step goes into the same write as the beginning of the next, so a run of N plain steps costs about N + 1
//! writes. Until that write the engine knows what the object does not, and a crash loses it: the next engine then takes
//! the step up again by its stored UID and attempt, and reads the same result.

mod attempt;
mod ended;
mod exec;
mod fault;
pub mod limit;
mod object;
pub mod plan;
mod probe;
mod reachability;
pub mod status;
mod task;

#[cfg(test)]
mod test;

use crate::effects::{Effects, StoreError};
use crate::judge::Attempt;
use crds::TestRun;
use crds::testrun::{OnInterrupt, Parallel, StepPhase, StepStatus, TestRunSpec, TestRunStatus};
use ended::Ended;
use futures::future::try_join_all;
use jiff::{Timestamp, Unit};
use plan::{Next, Place};
use status::Outcome;
use std::time::Duration;
use task::{Action, Task};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Pause after a store that did not work, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Time for the look at a machine's boot ID before a step begins; later the step's own time is used.
const QUICK_LOOK: Duration = Duration::from_secs(3);
/// Time that a step taken up after an outage has at least, to read its result.
const GRACE_SECONDS: u32 = 60;

/// Why the engine stopped before the verdict.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Stop {
    /// Another engine drives the run, or someone changed its status.
    #[error("the run's status was written by someone else")]
    Superseded,
    /// The run was deleted.
    #[error("the run was deleted")]
    Gone,
    /// The API does not take the status.
    #[error("the status cannot be stored: {0}")]
    Refused(String),
}

/// How the engine came to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It begins it.
    Fresh,
    /// An earlier engine began it; its result is looked for.
    Reattached,
    /// An earlier engine began it; it is done again.
    Rerun,
}

/// Carries a run to its end and returns it. Dropping the future is safe at any moment.
///
/// # Errors
/// [`Stop`] when the run is no longer this engine's.
pub async fn drive<E: Effects>(effects: &E, run: TestRun) -> Result<TestRun, Stop> {
    let run_spec = run.spec.clone();
    let state = Mutex::new(State { run, dirty: false });
    let engine = Engine { effects, spec: run_spec, state, ended: Ended::default() };
    loop {
        let status = engine.status().await;
        match plan::next(&engine.spec, &status, engine.now()) {
            Next::Nothing => break,
            Next::Begin(place) => engine.begin(place).await?,
            Next::Resume(place) => engine.resume(place).await?,
            Next::Expire(place) => engine.expire(place).await,
            Next::Finish(verdict) => {
                let now = engine.now();
                let finish = |run: &mut TestRun| status::finish(run, verdict, now);
                engine.change(finish).await?;
                engine.forget(engine.ended.all()).await;
            }
        }
    }
    Ok(engine.state.into_inner().run)
}

struct Engine<'e, E> {
    effects: &'e E,
    spec: TestRunSpec,
    state: Mutex<State>,
    ended: Ended,
}

struct State {
    run: TestRun,
    /// Whether the run holds something that the API does not know yet.
    dirty: bool,
}

impl<E: Effects> Engine<'_, E> {
    fn now(&self) -> Timestamp {
        let now = self.effects.now();
        now.round(Unit::Millisecond).unwrap_or(now)
    }

    async fn status(&self) -> TestRunStatus {
        let state = self.state.lock().await;
        state.run.status.clone().unwrap_or_default()
    }

    async fn step(&self, name: &str) -> StepStatus {
        let state = self.state.lock().await;
        let status = state.run.status.as_ref();
        status.and_then(|status| plan::find(status, name)).cloned().unwrap_or_default()
    }

    /// Changes the run in memory; the next write takes it along.
    async fn note(&self, change: impl FnOnce(&mut TestRun)) {
        let mut state = self.state.lock().await;
        change(&mut state.run);
        state.dirty = true;
    }

    /// Changes the run and stores it; waits for as long as the API does not answer.
    async fn change(&self, change: impl FnOnce(&mut TestRun)) -> Result<(), Stop> {
        let mut state = self.state.lock().await;
        let before = state.run.status.clone();
        change(&mut state.run);
        if state.run.status == before && !state.dirty {
            return Ok(());
        }
        state.dirty = true;
        if let Some(status) = &mut state.run.status {
            limit::shrink(status);
        }
        let mut pause = Duration::from_millis(200);
        let stored = loop {
            match self.effects.store(&state.run).await {
                Ok(stored) => break stored,
                Err(StoreError::Unavailable(reason)) => {
                    tracing::debug!(%reason, "status not stored yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(StoreError::Superseded) => return Err(Stop::Superseded),
                Err(StoreError::Gone) => return Err(Stop::Gone),
                Err(StoreError::Refused(reason)) => return Err(Stop::Refused(reason)),
            }
        };
        state.run.metadata.resource_version = stored.metadata.resource_version;
        state.dirty = false;
        Ok(())
    }

    async fn begin(&self, place: Place<'_>) -> Result<(), Stop> {
        let tasks = task::all(place.step);
        let looks = tasks.iter().map(|task| async move {
            let uid = self.step_uid(&task.name).await;
            let boot = self.quick_look(task, &execution(&uid, 1)).await?;
            Some((task.name.clone(), boot))
        });
        let boots: Vec<_> = futures::future::join_all(looks).await;
        let boots: Vec<_> = boots.into_iter().flatten().collect();
        if plan::is_awaited(&self.spec, place.step) {
            self.next_second().await;
        }
        let now = self.now();
        self.change(|run| status::begin(run, place, now, &boots)).await?;
        // With that the ends of earlier steps are stored. A guest that does not answer must hold up nothing.
        let ended = self.ended.all();
        let mut work = std::pin::pin!(self.carry_out(place, How::Fresh));
        tokio::select! {
            done = &mut work => return done,
            () = self.forget(ended) => {}
        }
        work.await
    }

    /// Returns at the beginning of a second. Conditions carry whole seconds, so of one that came about in the second in which
    /// a step begins nobody could tell whether that was before or after.
    async fn next_second(&self) {
        let past = self.effects.now().subsec_nanosecond().unsigned_abs();
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(Duration::from_nanos(past.into()))).await;
    }

    async fn resume(&self, place: Place<'_>) -> Result<(), Stop> {
        match place.step.on_interrupt {
            OnInterrupt::Reattach => self.carry_out(place, How::Reattached).await,
            OnInterrupt::Rerun => {
                for task in task::all(place.step) {
                    let step = self.step(&task.name).await;
                    if step.phase == StepPhase::Running {
                        let id = execution(&step.uid, step.attempts + 1);
                        let boot = self.quick_look(&task, &id).await;
                        self.note(|run| status::attempt_again(run, &task.name, true, boot)).await;
                    }
                }
                self.change(|_| ()).await?;
                self.carry_out(place, How::Rerun).await
            }
            OnInterrupt::Fail => {
                let end = Attempt::errored("the engine was interrupted while the step ran");
                self.give_up(place, end).await;
                Ok(())
            }
        }
    }

    async fn expire(&self, place: Place<'_>) {
        let end = Attempt::timed_out("the run's time was up before the step began");
        self.give_up(place, end).await;
    }

    /// Ends a step and those of its actions that have not ended, without a result.
    async fn give_up(&self, place: Place<'_>, end: Attempt) {
        let names = status::children(place.step).chain([place.step.name.clone()]);
        for name in names.collect::<Vec<_>>() {
            let step = self.step(&name).await;
            if step.phase == StepPhase::Running || name == place.step.name {
                let duration = self.wall_seconds(&step);
                let outcome = Outcome {
                    phase: end.phase,
                    message: end.message.clone(),
                    output: None,
                    artifact: None,
                    metrics: Vec::new(),
                    duration,
                };
                self.note(|run| status::end(run, place, &name, outcome)).await;
            }
        }
    }

    async fn carry_out(&self, place: Place<'_>, how: How) -> Result<(), Stop> {
        let outcome = match &place.step.parallel {
            Some(parallel) => self.together(place, parallel, how).await?,
            None => self.perform(place, &Task::of(place.step), how).await?,
        };
        self.note(|run| status::end(run, place, &place.step.name, outcome)).await;
        self.note_ended(&Task::of(place.step)).await;
        Ok(())
    }

    /// Carries out the actions of a parallel step; each ends in a write of its own.
    async fn together(&self, place: Place<'_>, parallel: &Parallel, how: How) -> Result<Outcome, Stop> {
        let begun = Instant::now();
        let runs = parallel.steps.iter().map(|child| async move {
            let task = Task::of_child(place.step, child);
            let before = self.step(&task.name).await;
            if !matches!(before.phase, StepPhase::Running | StepPhase::Pending) {
                return Ok((child.name.as_str(), before.phase, before.message));
            }
            let outcome = self.perform(place, &task, how).await?;
            let end = (child.name.as_str(), outcome.phase, outcome.message.clone());
            self.change(|run| status::end(run, place, &task.name, outcome)).await?;
            self.note_ended(&task).await;
            Ok(end)
        });
        let ends = try_join_all(runs).await?;
        let total = ends.len();
        let bad: Vec<_> = ends.into_iter().filter(|end| end.1 != StepPhase::Passed).collect();
        let mut end = Attempt::passed(format!("{total} actions passed"));
        if let Some((_, phase, _)) = bad.first() {
            let each: Vec<_> = bad.iter().map(|(n, _, why)| format!("{n}: {why}")).collect();
            end.phase = *phase;
            end.message = format!("{} of {total} did not pass: {}", bad.len(), each.join("; "));
        }
        let task = Task::of(place.step);
        Ok(self.outcome(&task, end, how, begun).await)
    }

    async fn step_uid(&self, name: &str) -> String {
        status::step_uid(&self.state.lock().await.run, name)
    }

    fn wall_seconds(&self, step: &StepStatus) -> f64 {
        let now = self.now();
        status::seconds_between(step.started_at.unwrap_or(now), now)
    }

    /// The boot ID of the machine a command will run in, when that is quickly known.
    async fn quick_look(&self, task: &Task<'_>, id: &str) -> Option<String> {
        let Action::Exec(exec) = task.action else {
            return None;
        };
        let request = exec::lookup(id, 0);
        let answer = self.effects.exec(&exec.node, &request);
        match tokio::time::timeout(QUICK_LOOK, answer).await {
            Ok(Ok(result)) => result.boot_id,
            _ => None,
        }
    }
}

/// The name under which an attempt's command runs in the guest and its Fault exists in the API.
#[must_use]
pub fn execution(step_uid: &str, attempt: u32) -> String {
    format!("tr-{step_uid}-{attempt}")
}
