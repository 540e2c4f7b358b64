//! Processes that outlive the program that started them.
//!
//! QEMU, dnsmasq and etcd must not notice when the controller crashes or is upgraded, so none of them may depend on a
//! thing of ours that dies with us: no pipe, no controlling terminal, no parent. What we keep instead is a [`Record`] on
//! disk. A pid alone names nothing (the kernel hands it out again), and a zombie still answers to its pid, so a process
//! is known by pid *and* start time *and* boot, and counts as alive only while it is not a zombie:
//!
//! ```text
//!  Spawn::start ──► ProcessId ──► Record::save          (we may die here, at any point)
//!                                    │
//!  next run:        Record::load ──► Record::running ──► Some: adopt it │ None: it is gone, start anew
//! ```

mod claim;
mod file;
mod id;
mod owned;
mod port;
mod program;
mod reaper;
mod record;
mod spawn;

pub use claim::{CLAIMS, Claims, is_ephemeral};
pub use file::{replace_file, write_atomic};
pub use id::ProcessId;
pub use owned::find_owned;
pub use port::{Holder, ListenError, Reservation, holder_of, listen, reserve};
pub use program::{TOOLS_VARIABLE, find_program};
pub use record::{Record, boot_id};
pub use spawn::{OWNER_VARIABLE, Spawn};

use std::path::PathBuf;

/// What can go wrong with a process, its program or its record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is on none of the places searched.
    #[error(
        "failed to find the program {name:?}: install it, put its directory on PATH, or name the file in {variable} (searched: {searched})"
    )]
    ProgramNotFound {
        /// Program's name.
        name: String,
        /// Environment variable that overrides the search.
        variable: String,
        /// Directories searched, colon separated.
        searched: String,
    },
    /// The override names something that cannot be executed.
    #[error("{variable} names {path:?}, which is not an executable file: correct or unset it")]
    OverrideNotExecutable {
        /// Environment variable that overrides the search.
        variable: String,
        /// What it names.
        path: PathBuf,
    },
    /// The program could not be started.
    #[error("failed to start {program:?}")]
    Start {
        /// Program's path.
        program: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The file that takes the output could not be opened.
    #[error("failed to open the output file {path:?}")]
    Output {
        /// File's path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A signal could not be delivered.
    #[error("failed to signal process {pid}")]
    Signal {
        /// Process's id.
        pid: i32,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// Not even SIGKILL ended the process within the deadline.
    #[error("process {pid} is still there {seconds} s after SIGKILL; it hangs in the kernel")]
    Unkillable {
        /// Process's id.
        pid: i32,
        /// Seconds waited.
        seconds: u64,
    },
    /// A record could not be read or written.
    #[error("failed to {action} the process record {path:?}")]
    Record {
        /// `read` or `write`.
        action: &'static str,
        /// Record's path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::ProgramNotFound { .. } | Error::OverrideNotExecutable { .. } => "ProgramNotFound",
            Error::Start { .. } | Error::Output { .. } => "StartFailed",
            Error::Signal { .. } | Error::Unkillable { .. } => "StopFailed",
            Error::Record { .. } => "RecordFailed",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        !matches!(self, Error::ProgramNotFound { .. } | Error::OverrideNotExecutable { .. })
    }
}

/// Result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
