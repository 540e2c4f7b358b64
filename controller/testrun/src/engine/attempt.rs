//! The attempts of one action, until it passes, its attempts are used up, or its time is.

use super::plan::{self, Place};
use super::status::{self, Outcome};
use super::task::{Action, Task};
use super::{Engine, GRACE_SECONDS, How, Stop, execution, limit};
use crate::effects::Effects;
use crate::judge::Attempt;
use crds::testrun::{Metric, StepPhase, StepStatus};
use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What an attempt is waiting for, said when its time is up.
#[derive(Default)]
pub struct Notes(Mutex<Note>);

#[derive(Clone, Default)]
struct Note {
    text: String,
    /// What was looked at says that the expectation is not met; it is not merely unheard of.
    opposed: bool,
}

impl Notes {
    /// Replaces what was said.
    pub fn say(&self, text: impl Into<String>) {
        self.put(Note { text: text.into(), opposed: false });
    }

    /// Replaces what was said by a judgement: the expectation is not met so far.
    pub fn object(&self, text: impl Into<String>) {
        self.put(Note { text: text.into(), opposed: true });
    }

    fn put(&self, note: Note) {
        if let Ok(mut current) = self.0.lock() {
            *current = note;
        }
    }

    fn read(&self) -> Note {
        self.0.lock().map(|note| note.clone()).unwrap_or_default()
    }
}

/// The time an action has.
#[derive(Clone, Copy)]
pub struct Limit {
    /// When it is up by our own clock.
    instant: Instant,
    /// When it should have been up, had nobody interrupted the engine.
    pub due: Timestamp,
    /// Whether it is the run's limit that counts.
    by_run: bool,
}

impl<E: Effects> Engine<'_, E> {
    /// Carries an action out. Its step has been stored as running.
    pub(super) async fn perform(&self, place: Place<'_>, task: &Task<'_>, how: How) -> Result<Outcome, Stop> {
        let begun = Instant::now();
        let limit = self.limit(place, &task.name, how).await;
        let mut coming = how;
        let mut before: Option<Attempt> = None;
        let end = loop {
            let step = self.step(&task.name).await;
            let end = self.try_once(task, &step, coming, limit).await?;
            let end = match before {
                Some(before) if end.phase == StepPhase::TimedOut => limit.cut_off(end, before),
                _ => end,
            };
            let used = step.attempts.saturating_sub(step.interruptions);
            if end.hopeless || end.phase == StepPhase::Passed || used >= task.attempts {
                break end;
            }
            if Instant::now() + task.interval >= limit.instant {
                // An attempt that had its answer keeps it; the run's own time outranks every step's.
                break Attempt {
                    phase: if limit.by_run { StepPhase::TimedOut } else { end.phase },
                    message: format!("{} in attempt {used}: {}", limit.sentence(), end.message),
                    ..end
                };
            }
            tokio::time::sleep(task.interval).await;
            let id = execution(&step.uid, step.attempts + 1);
            let boot = self.quick_look(task, &id).await;
            self.note_ended(task).await;
            self.change(|run| status::attempt_again(run, &task.name, false, boot)).await?;
            coming = How::Fresh;
            before = Some(end);
        };
        Ok(self.outcome(task, end, how, begun).await)
    }

    async fn try_once(&self, task: &Task<'_>, step: &StepStatus, how: How, limit: Limit) -> Result<Attempt, Stop> {
        let notes = Notes::default();
        let id = execution(&step.uid, step.attempts);
        let mut boot = step.boot_id.clone();
        // A command is sent only after the boot it goes to is stored: so no boot ID means that it was never sent.
        let never_sent = boot.is_none() || how != How::Reattached;
        if let (Action::Exec(exec), None) = (task.action, &boot) {
            let found = timeout_at(limit.instant, self.find_boot(exec, &id, &notes)).await;
            match found {
                Err(_) => return Ok(limit.up(&notes)),
                Ok(Err(end)) => return Ok(end),
                Ok(Ok(found)) => {
                    self.change(|run| status::note_boot(run, &task.name, &found)).await?;
                    boot = Some(found);
                }
            }
        }
        let late = (how == How::Reattached).then_some(limit.due);
        let work = async {
            match task.action {
                Action::Wait(wait) => self.wait(wait, late, &notes).await,
                Action::Assert(assert) => self.assert(assert, &notes).await,
                Action::Exec(exec) => {
                    let boot = boot.unwrap_or_default();
                    self.exec(exec, &id, &boot, never_sent, &notes).await
                }
                Action::Probe(probe) => self.probe(probe, &id, &notes).await,
                Action::Reachability(wanted) => self.reachability(wanted, &id, &notes).await,
                Action::Fault(fault) => self.fault(fault, &id, &notes).await,
                Action::Nothing => Attempt::hopeless("the step says nothing that is to be done"),
            }
        };
        let end = timeout_at(limit.instant, Box::pin(work)).await;
        Ok(end.unwrap_or_else(|_| limit.up(&notes)))
    }

    /// What is kept of an attempt; all of its output becomes a file.
    pub(super) async fn outcome(&self, task: &Task<'_>, end: Attempt, how: How, begun: Instant) -> Outcome {
        let step = self.step(&task.name).await;
        let duration = match how {
            How::Fresh => begun.elapsed().as_secs_f64(),
            How::Reattached | How::Rerun => self.wall_seconds(&step),
        };
        let mut metrics = end.metrics;
        let mut message = end.message;
        if let (Some(name), StepPhase::Passed) = (task.duration_metric, end.phase) {
            if how == How::Fresh {
                metrics.push(Metric {
                    name: name.to_owned(),
                    value: (duration * 1000.0).round() / 1000.0,
                    unit: "seconds".to_owned(),
                    step: task.name.clone(),
                });
            } else {
                message.push_str(" (the engine was interrupted: no duration recorded)");
            }
        }
        let mut artifact = None;
        if !end.output.is_empty() {
            let run = self.state.lock().await.run.uid().unwrap_or_default();
            let path = format!("{run}/{}-{}.log", step.uid, step.attempts);
            match self.effects.save(&path, &end.output).await {
                Ok(()) => artifact = Some(path),
                Err(error) => message.push_str(&format!(" ({error})")),
            }
        }
        let tail = limit::tail(&end.output, limit::TAIL_BYTES);
        Outcome {
            phase: end.phase,
            message,
            output: (!tail.is_empty()).then(|| tail.to_owned()),
            artifact,
            metrics,
            duration,
        }
    }

    async fn limit(&self, place: Place<'_>, name: &str, how: How) -> Limit {
        let now = self.now();
        let status = self.status().await;
        let step = plan::find(&status, name);
        let start = step.and_then(|step| step.started_at).unwrap_or(now);
        let (due, by_run) = plan::deadline(&self.spec, &status, place, start);
        let own = place.step.timeout_seconds;
        let least = match how {
            How::Fresh => now,
            How::Reattached => plan::after(now, own.min(GRACE_SECONDS)),
            How::Rerun => plan::after(now, own),
        };
        let seconds = status::seconds_between(now, due.max(least));
        Limit { instant: Instant::now() + Duration::from_secs_f64(seconds), due, by_run }
    }
}

impl Limit {
    fn sentence(self) -> &'static str {
        if self.by_run { "the run's time was up" } else { "the step's time was up" }
    }

    /// An attempt that got no answer in time, after one that had: the answer counts, unless the run's own time is up.
    fn cut_off(self, end: Attempt, before: Attempt) -> Attempt {
        Attempt {
            phase: if self.by_run { end.phase } else { before.phase },
            message: format!("{}; the attempt before: {}", end.message, before.message),
            output: before.output,
            ..end
        }
    }

    fn up(self, notes: &Notes) -> Attempt {
        let Note { text, opposed } = notes.read();
        let message = if text.is_empty() { self.sentence().to_owned() } else { format!("{}: {text}", self.sentence()) };
        match opposed && !self.by_run {
            true => Attempt { hopeless: true, ..Attempt::failed(message) },
            false => Attempt::timed_out(message),
        }
    }
}
