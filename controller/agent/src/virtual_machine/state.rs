//! What is remembered of a machine on disk, so that a restart of ours neither forgets nor repeats.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use process::ProcessId;
use serde::{Deserialize, Serialize};

use crate::layout::FileError;

const FILE: &str = "machine.json";
/// A QEMU that ran this long was no failed start.
const LONG_RUN: SignedDuration = SignedDuration::from_mins(1);
/// Longest pause before another start.
const LONGEST_PAUSE: i64 = 60;

/// One machine's memory.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// User that its QEMU runs as.
    pub user_id: u32,
    /// Key of the image its root disk was made from.
    pub root: Option<String>,
    /// The QEMU started last, until its end was noted.
    pub process: Option<ProcessId>,
    /// When that one was started.
    pub started_at: Option<Timestamp>,
    /// How long its monitor took to answer.
    pub monitor_ready_milliseconds: Option<u64>,
    /// What its instructions run on.
    pub accelerator: Option<String>,
    /// How often QEMU was started again.
    pub restarts: u32,
    /// Whether it was ever started.
    pub ever_started: bool,
    /// When we began to stop it.
    pub stopping_since: Option<Timestamp>,
    /// The guest switched itself off; its QEMU is let go.
    pub switching_off: bool,
    /// The guest switched itself off and shall stay so.
    pub powered_off: bool,
    /// Short runs in a row.
    pub failures: u32,
    /// No start before this.
    pub not_before: Option<Timestamp>,
    /// Interfaces it was started with, in the order of QEMU's descriptors.
    pub nics: Vec<PluggedNic>,
}

/// An interface of a started machine: enough to find its tap again and set it right.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct PluggedNic {
    /// Port object's name.
    pub port: String,
    /// Port object's UID.
    pub port_uid: String,
    /// Tap device.
    pub tap: String,
    /// Bridge it is on.
    pub bridge: String,
    /// Largest packet.
    pub mtu: u32,
}

impl State {
    /// Reads it; a fresh one when there is none.
    pub fn load(dir: &Path) -> Result<State, FileError> {
        let path = dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| FileError::new("understand", &path, error.into()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
            Err(source) => Err(FileError::new("read", &path, source)),
        }
    }

    /// Writes it whole.
    pub fn save(&self, dir: &Path) -> Result<(), FileError> {
        let path = dir.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|error| FileError::new("write", &path, error.into()))?;
        process::write_atomic(&path, text, 0o600).map_err(|source| FileError::new("write", &path, source))
    }

    /// A QEMU runs now that was started at `at`.
    pub fn note_start(&mut self, id: ProcessId, at: Timestamp) {
        if self.ever_started {
            self.restarts += 1;
        }
        self.ever_started = true;
        self.process = Some(id);
        self.started_at = Some(at);
        self.not_before = None;
        self.stopping_since = None;
        self.switching_off = false;
        self.powered_off = false;
    }

    /// The QEMU is gone. The first restart comes at once, those after short runs ever later.
    pub fn note_end(&mut self, now: Timestamp) {
        let ran = self.started_at.map_or(SignedDuration::ZERO, |started| now.duration_since(started));
        let asked_for = self.stopping_since.take().is_some();
        self.failures = if asked_for || ran >= LONG_RUN { 0 } else { self.failures + 1 };
        self.not_before = (self.failures > 1).then(|| now + pause(self.failures));
        self.powered_off = std::mem::take(&mut self.switching_off) && !asked_for;
        self.process = None;
    }

    /// Power is given again: nothing of the past delays the start.
    pub fn forgive(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.powered_off = false;
    }
}

fn pause(failures: u32) -> SignedDuration {
    SignedDuration::from_secs((1_i64 << (failures - 2).min(6)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ProcessId = ProcessId { pid: 7, start_time: 1 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_restart_is_immediate_and_short_runs_slow_down() {
        let mut state = State::default();
        let mut pauses = Vec::new();
        for run in 0..4 {
            state.note_start(ID, at(run * 10));
            state.note_end(at(run * 10 + 5));
            pauses.push(state.not_before.map(|t| t.as_second() - (run * 10 + 5)));
        }
        assert_eq!(pauses, [None, Some(1), Some(2), Some(4)]);
        assert_eq!(state.restarts, 3);
        state.note_start(ID, at(100));
        state.note_end(at(200));
        assert_eq!(state.not_before, None, "a long run wipes the slate clean");
    }

    #[test]
    fn an_end_that_was_asked_for_is_no_failure_and_no_power_off() {
        let mut state = State::default();
        state.note_start(ID, at(0));
        state.stopping_since = Some(at(1));
        state.switching_off = true;
        state.note_end(at(2));
        assert_eq!((state.failures, state.powered_off, state.process), (0, false, None));
        state.note_start(ID, at(3));
        state.switching_off = true;
        state.note_end(at(100));
        assert!(state.powered_off);
        state.forgive();
        assert!(!state.powered_off);
    }

    #[test]
    fn it_survives_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), State::default());
        let mut state = State { user_id: 7, ..State::default() };
        state.note_start(ID, at(0));
        state.save(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), state);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(State::load(dir.path()).unwrap_err().to_string().contains("understand"));
    }
}
