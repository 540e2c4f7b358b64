//! What a guest keeps of commands that have ended, and when it may forget them.
//!
//! A command's result stays in the guest's memory under the command's name, so that an engine which was interrupted finds
//! it. Once the end of the step is stored nobody will ask again, and the guest is told so; what an interrupted engine
//! leaves behind, the guest forgets by itself after a while.

use super::task::{Action, Task};
use super::{Engine, QUICK_LOOK, exec, execution};
use crate::effects::Effects;
use crds::exec::ExecRequest;
use futures::future::join_all;
use std::sync::Mutex;

/// Machines and names of commands whose end has been noted.
#[derive(Default)]
pub struct Ended(Mutex<Vec<(String, String)>>);

impl Ended {
    /// All of them; they stay until their guests have been told.
    pub fn all(&self) -> Vec<(String, String)> {
        self.with(|all| all.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<(String, String)>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(|broken| broken.into_inner()))
    }
}

impl<E: Effects> Engine<'_, E> {
    /// Remembers the command of this task's present attempt. Its end has been noted, and the next write stores it.
    pub(super) async fn note_ended(&self, task: &Task<'_>) {
        if let Action::Exec(exec) = task.action {
            let step = self.step(&task.name).await;
            self.ended.with(|all| all.push((exec.node.clone(), execution(&step.uid, step.attempts))));
        }
    }

    /// Lets the guests forget commands whose end is stored. One that does not answer keeps them; a command that still runs
    /// goes on. Who is cut off here is told the next time.
    pub(super) async fn forget(&self, ended: Vec<(String, String)>) {
        let each = ended.iter().map(|one| async move {
            let request = ExecRequest { forget: true, ..exec::lookup(&one.1, 0) };
            let _ = tokio::time::timeout(QUICK_LOOK, self.effects.exec(&one.0, &request)).await;
            self.ended.with(|all| all.retain(|other| other != one));
        });
        join_all(each).await;
    }
}
