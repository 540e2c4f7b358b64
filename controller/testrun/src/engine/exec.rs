//! `exec`: a command under a name in a guest, found again by that name.
//!
//! ```text
//!  send ─► Running ─► (ask again, long poll) ─► Exited ─► judge
//!    └─ no answer ─► look up ─┬─ Running, Exited ─► as above
//!                             ├─ Lost, same boot: it never arrived ─► send
//!                             └─ Lost, other boot: the guest was rebooted ─► Errored, or the next attempt
//! ```

use super::Engine;
use super::attempt::Notes;
use crate::effects::{Effects, ReachError};
use crate::judge::{Attempt, output};
use crds::exec::{ExecRequest, ExecResult, ExecState};
use crds::testrun::Exec;
use std::time::Duration;

/// Longest wait of one request.
const LONG_POLL_SECONDS: u32 = 20;
/// What a request may take over the wait it asks for.
const SLACK: Duration = Duration::from_secs(15);
/// Most of each stream that a request returns.
const MOST_BYTES: u32 = 262_144;
/// Shortest and longest pause before an unanswered request is repeated.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Stands for the boot ID of a guest that does not tell it; equal to none, not even itself.
const UNKNOWN_BOOT: &str = "unknown";

/// A request that looks an execution up and never starts it.
pub(super) fn lookup(id: &str, wait_seconds: u32) -> ExecRequest {
    request(id, &[], None, wait_seconds)
}

fn request(id: &str, command: &[String], stdin: Option<&str>, wait_seconds: u32) -> ExecRequest {
    ExecRequest {
        name: id.to_owned(),
        command: command.to_vec(),
        stdin: stdin.map(str::to_owned),
        wait_seconds,
        tail_bytes: MOST_BYTES,
        forget: false,
    }
}

impl<E: Effects> Engine<'_, E> {
    /// Waits for the machine to answer and tells in which boot it is.
    pub(super) async fn find_boot(&self, exec: &Exec, id: &str, notes: &Notes) -> Result<String, Attempt> {
        let mut pause = PAUSES.0;
        loop {
            match self.ask(&exec.node, &lookup(id, 0)).await {
                Ok(result) => {
                    return Ok(result.boot_id.unwrap_or_else(|| UNKNOWN_BOOT.to_owned()));
                }
                Err(error) => refusal(&exec.node, error, notes)?,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Runs the command, or finds it, and judges its end. `boot`: the boot that it was or will be sent to.
    pub(super) async fn exec(&self, exec: &Exec, id: &str, boot: &str, never_sent: bool, notes: &Notes) -> Attempt {
        match self.follow(exec, id, boot, never_sent, notes).await {
            Ok(result) => output::judge(exec, &result),
            Err(end) => end,
        }
    }

    async fn follow(
        &self,
        exec: &Exec,
        id: &str,
        boot: &str,
        never_sent: bool,
        notes: &Notes,
    ) -> Result<ExecResult, Attempt> {
        let mut sent = !never_sent;
        let mut seen = false;
        let mut pause = PAUSES.0;
        let mut looking = sent;
        loop {
            let request = if looking {
                lookup(id, LONG_POLL_SECONDS)
            } else {
                request(id, &exec.command, exec.stdin.as_deref(), LONG_POLL_SECONDS)
            };
            match self.ask(&exec.node, &request).await {
                Ok(result) => match result.state {
                    ExecState::Exited => return Ok(result),
                    ExecState::Running => {
                        notes.say(format!("{} is still running", output::program(exec)));
                        (seen, looking, pause) = (true, true, PAUSES.0);
                        continue;
                    }
                    ExecState::Lost => {
                        let same = boot != UNKNOWN_BOOT && result.boot_id.as_deref() == Some(boot);
                        if !looking || seen || (sent && !same) {
                            return Err(Attempt::errored(format!(
                                "{} was rebooted while the command ran: its result is lost",
                                exec.node
                            )));
                        }
                        looking = false;
                        continue;
                    }
                },
                Err(error) => {
                    // Anything but a plain "not there" may have started it.
                    sent |= !looking && !matches!(error, ReachError::Missing(_));
                    refusal(&exec.node, error, notes)?;
                    looking = sent;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Runs a command that may as well run twice, to its end.
    pub(super) async fn run_harmless(
        &self,
        machine: &str,
        id: &str,
        command: &[String],
        notes: &Notes,
    ) -> Result<ExecResult, Attempt> {
        let mut pause = PAUSES.0;
        let request = ExecRequest { forget: true, ..request(id, command, None, LONG_POLL_SECONDS) };
        loop {
            match self.ask(machine, &request).await {
                Ok(result) if result.state == ExecState::Exited => return Ok(result),
                Ok(_) => continue,
                Err(error) => refusal(machine, error, notes)?,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn ask(&self, machine: &str, request: &ExecRequest) -> Result<ExecResult, ReachError> {
        let wait = Duration::from_secs(request.wait_seconds.into()) + SLACK;
        let answer = self.effects.exec(machine, request);
        let late = |_| ReachError::Unavailable(format!("{machine} gave no answer"));
        tokio::time::timeout(wait, answer).await.map_err(late)?
    }
}

/// Notes an error that may pass; one that never will is an end.
fn refusal(machine: &str, error: ReachError, notes: &Notes) -> Result<(), Attempt> {
    match error {
        ReachError::Refused(why) => Err(Attempt::hopeless(format!("{machine} does not take the command: {why}"))),
        error => {
            notes.say(format!("{machine} does not answer: {error}"));
            Ok(())
        }
    }
}
