//! What travels over the `exec` subresource of a VirtualMachine.
//!
//! An execution has a name that the caller chooses. Asking again under the same name never starts it twice: it finds the
//! running or finished one, in this guest, so that a caller which died can take up its result afterwards. The result lives
//! in the guest's memory and is gone after a reboot, which the caller sees as [`ExecState::Lost`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Starts an execution, or finds the one of that name, and waits a while for its end.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecRequest {
    /// Name of the execution: `[a-z0-9]([a-z0-9.-]*[a-z0-9])?`, at most 128 characters.
    pub name: String,
    /// Program and arguments; never passed through a shell. Empty: only look the name up.
    #[serde(default)]
    pub command: Vec<String>,
    /// Bytes for standard input, as text; absent means `/dev/null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// How long this call may wait for the end, in seconds (at most 30). 0 answers at once.
    #[serde(default)]
    pub wait_seconds: u32,
    /// How many of each stream's last bytes to return (at most 262144; default 4096).
    #[serde(default = "default_tail")]
    pub tail_bytes: u32,
    /// Drop the guest's record of the execution after reading it.
    #[serde(default)]
    pub forget: bool,
}

fn default_tail() -> u32 {
    4096
}

/// Where an execution stands.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum ExecState {
    /// Started, not ended.
    Running,
    /// Ended; `exitCode` is set.
    Exited,
    /// No execution of that name is known in this boot of the guest.
    Lost,
}

/// The answer to an [`ExecRequest`].
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExecResult {
    /// Where it stands.
    pub state: ExecState,
    /// Exit code; 128 + signal when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Last bytes of standard output, as UTF-8 with replacement.
    #[serde(default)]
    pub stdout: String,
    /// Last bytes of standard error, as UTF-8 with replacement.
    #[serde(default)]
    pub stderr: String,
    /// Bytes written to standard output in all.
    #[serde(default)]
    pub stdout_bytes: u64,
    /// Bytes written to standard error in all.
    #[serde(default)]
    pub stderr_bytes: u64,
    /// The guest's boot ID at the time of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}
