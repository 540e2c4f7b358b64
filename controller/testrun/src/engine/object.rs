//! `wait` and `assert`: both look at an object through a watch, neither polls.

use super::Engine;
use super::attempt::Notes;
use crate::effects::{Effects, ReachError};
use crate::judge::condition::{Check, check, missing, title};
use crate::judge::{Attempt, statement};
use crds::reference::ObjectReference;
use crds::testrun::{Assert, Wait};
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// Pause before a watch that ended is opened again.
const REOPEN: Duration = Duration::from_secs(1);

impl<E: Effects> Engine<'_, E> {
    /// Waits for a condition. `late`: one that came about after that time came too late, though we see it only now.
    pub(super) async fn wait(&self, wait: &Wait, late: Option<Timestamp>, notes: &Notes) -> Attempt {
        let since = match self.since(wait).await {
            Ok(since) => since,
            Err(end) => return end,
        };
        let what = format!("{} is {}={}", title(&wait.object), wait.condition, wait.status);
        self.look(&wait.object, notes, |object| match check(object, wait, since) {
            Check::NotYet(why) => {
                notes.say(why);
                None
            }
            Check::Opposed(why) => {
                notes.object(why);
                None
            }
            Check::Met(came) if late.is_some_and(|late| came.is_some_and(|c| c > late)) => {
                Some(Attempt::timed_out(format!("{what}, but it came too late")))
            }
            Check::Met(_) => Some(Attempt::passed(what.clone())),
        })
        .await
    }

    /// Judges the object as it is now, once it exists.
    pub(super) async fn assert(&self, assert: &Assert, notes: &Notes) -> Attempt {
        let object = match self.existing(&assert.object, notes).await {
            Ok(object) => object,
            Err(end) => return end,
        };
        let other = match &assert.not_before {
            None => None,
            Some(bound) => match self.existing(&bound.object, notes).await {
                Ok(other) => Some(other),
                Err(end) => return end,
            },
        };
        statement::judge(&object, assert, other.as_ref())
    }

    /// The object as soon as it exists, or an end when it never can.
    pub(super) async fn existing(&self, object: &ObjectReference, notes: &Notes) -> Result<Value, Attempt> {
        self.look(object, notes, |found| {
            if found.is_none() {
                notes.say(missing(object));
            }
            found.cloned().map(Ok)
        })
        .await
    }

    /// Shows every state of the object to `judge` until that has an answer.
    pub(super) async fn look<T: From<Hopeless>>(
        &self,
        object: &ObjectReference,
        notes: &Notes,
        mut judge: impl FnMut(Option<&Value>) -> Option<T>,
    ) -> T {
        loop {
            let mut states = self.effects.watch(object);
            while let Some(state) = states.next().await {
                match state {
                    Ok(state) => {
                        if let Some(answer) = judge(state.as_ref()) {
                            return answer;
                        }
                    }
                    Err(ReachError::Refused(why)) => return Hopeless(why).into(),
                    Err(error) => notes.say(format!("cannot see {}: {error}", title(object))),
                }
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    async fn since(&self, wait: &Wait) -> Result<Option<Timestamp>, Attempt> {
        let Some(name) = &wait.after else {
            return Ok(None);
        };
        match self.step(name).await.started_at {
            Some(start) => Ok(Some(start)),
            None => Err(Attempt::hopeless(format!("`after` names step {name}, which has not run"))),
        }
    }
}

/// What can never be seen.
pub(super) struct Hopeless(String);

impl From<Hopeless> for Attempt {
    fn from(hopeless: Hopeless) -> Self {
        Self::hopeless(hopeless.0)
    }
}

impl<T> From<Hopeless> for Result<T, Attempt> {
    fn from(hopeless: Hopeless) -> Self {
        Err(hopeless.into())
    }
}
