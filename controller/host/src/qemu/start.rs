//! Bringing a QEMU up so that it outlives us, and finding it again.
//!
//! ```text
//!  Absent ──spawn──► Running ──(guest powers off, kill, crash)──► Dead ──forget──► Absent
//!            ▲          │ our restart: observe finds it by its record
//!            └──────────┘ our death between start and record: found by the owner's tag in its environment
//! ```
//!
//! `spawn` is to be called on the thread whose network namespace QEMU shall have. It runs under a user of its own; what
//! that user cannot reach is said before QEMU is started, naming the directory that is in the way.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use process::{ProcessId, Record, Spawn};

use super::command::{SOCKETS, render_arguments, tap_fd};
use super::machine::{Invalid, Machine, QEMU_LOG, RECORD};
use super::monitor::{self, Monitor};
use super::reach::{self, Identity, Unreachable};
use super::socket;

/// QEMU's program.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// Environment variable that names another one.
pub const PROGRAM_VARIABLE: &str = "CLUSTERCTL_QEMU";
/// Bytes of QEMU's last words that go into an error.
const TAIL: usize = 2048;

/// Why a machine could not be brought up or looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine makes no sense to QEMU.
    #[error("the machine cannot be built")]
    Invalid(#[from] Invalid),
    /// One tap for each network interface is needed.
    #[error("{nics} network interfaces but {taps} taps")]
    Taps {
        /// Interfaces asked for.
        nics: usize,
        /// Taps given.
        taps: usize,
    },
    /// QEMU's user cannot get at a file.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// QEMU is missing, or could not be started or recorded.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The run directory could not be set up.
    #[error("failed to {action} {path:?}")]
    RunDir {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// QEMU ended before it was ready.
    #[error("QEMU ended while starting: {remedy}{output}")]
    Ended {
        /// What to do about it, when we know.
        remedy: &'static str,
        /// What it printed last.
        output: String,
    },
    /// QEMU runs and does not answer.
    #[error("QEMU runs as process {pid} but cannot be talked to")]
    Monitor {
        /// Its process.
        pid: i32,
        /// Cause.
        #[source]
        source: monitor::Error,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Invalid(_) | Error::Taps { .. } => "InvalidMachine",
            Error::Unreachable(_) => "FileUnreachable",
            Error::Process(error) => error.category(),
            Error::RunDir { .. } => "RunDirectoryFailed",
            Error::Ended { .. } => "QemuEnded",
            Error::Monitor { .. } => "QemuUnresponsive",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        match self {
            Error::Invalid(_) | Error::Taps { .. } => false,
            Error::Process(error) => error.retry(),
            _ => true,
        }
    }
}

/// What became of a machine's QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Never started, or forgotten.
    Absent,
    /// Started, and no more.
    Dead,
    /// Runs.
    Running(ProcessId),
}

/// Looks for the machine's QEMU: one file and one line of `/proc`.
pub fn observe(run_dir: &Path) -> Result<Found, Error> {
    Ok(match Record::load(&run_dir.join(RECORD))? {
        None => Found::Absent,
        Some(record) => record.running().map_or(Found::Dead, Found::Running),
    })
}

/// Starts the machine, or finds it running already. `taps` are for `machine.nics`, in order.
pub fn spawn(machine: &Machine, identity: Option<Identity>, taps: Vec<OwnedFd>) -> Result<ProcessId, Error> {
    if let Found::Running(id) = observe(&machine.run_dir)? {
        return Ok(id);
    }
    if let Some(id) = unrecorded(&machine.uuid.to_string()) {
        return record(machine, id);
    }
    machine.check()?;
    if taps.len() != machine.nics.len() {
        return Err(Error::Taps { nics: machine.nics.len(), taps: taps.len() });
    }
    let program = process::find_program(PROGRAM, PROGRAM_VARIABLE)?;
    prepare_run_dir(&machine.run_dir, identity)?;
    if let Some(identity) = identity {
        reach::check(machine, identity)?;
    }
    let mut spawn = Spawn::new(program, machine.run_dir.join(QEMU_LOG));
    spawn.args = render_arguments(machine);
    spawn.cwd = Some(machine.run_dir.clone());
    spawn.uid_gid = identity.map(|identity| (identity.uid, identity.gid));
    spawn.tag = machine.uuid.to_string();
    spawn.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    for (name, fd) in SOCKETS {
        let listener = socket::listen(&machine.run_dir, name)
            .map_err(|source| run_dir("bind the socket", &machine.run_dir.join(name), source))?;
        spawn.fds.push((listener, fd));
    }
    spawn.fds.extend(taps.into_iter().zip((0..).map(tap_fd)));
    record(machine, spawn.start()?)
}

/// Waits until a started QEMU answers, or says why it ended instead.
pub async fn ready(run_dir: &Path, id: ProcessId, deadline: Duration) -> Result<Monitor, Error> {
    let failed = match Monitor::open(run_dir, deadline).await {
        Ok(monitor) => return Ok(monitor),
        Err(error) => error,
    };
    // A QEMU that gives up closes its sockets a moment before it ends.
    let closed = matches!(failed, monitor::Error::NotConnected { .. });
    if closed && tokio::time::timeout(Duration::from_secs(5), id.exited()).await.is_err() || id.is_alive() {
        return Err(Error::Monitor { pid: id.pid, source: failed });
    }
    let output = last_words(run_dir);
    Err(Error::Ended { remedy: remedy(&output), output })
}

/// What QEMU printed last: the reason when it is dead.
pub fn last_words(run_dir: &Path) -> String {
    let text = fs::read(run_dir.join(QEMU_LOG)).unwrap_or_default();
    let tail = &text[text.len().saturating_sub(TAIL)..];
    String::from_utf8_lossy(tail).trim().to_owned()
}

/// Forgets a dead QEMU: its record and its sockets. Logs stay.
pub fn forget(run_dir: &Path) -> Result<(), Error> {
    for name in SOCKETS.iter().map(|(name, _)| *name).chain([RECORD]) {
        let path = run_dir.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(self::run_dir("remove", &path, source));
            }
            _ => {}
        }
    }
    Ok(())
}

fn record(machine: &Machine, id: ProcessId) -> Result<ProcessId, Error> {
    let record = Record::new(id, PROGRAM, machine.uuid.to_string());
    record.save(&machine.run_dir.join(RECORD))?;
    Ok(id)
}

/// A QEMU of this owner that was started just before we died, when there was no time to record it.
fn unrecorded(tag: &str) -> Option<ProcessId> {
    let wanted = format!("{}={tag}", process::OWNER_VARIABLE);
    let pids = fs::read_dir("/proc").ok()?;
    pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| is_ours(*pid, &wanted).unwrap_or_default())
        .find_map(ProcessId::of)
}

fn is_ours(pid: i32, wanted: &str) -> Option<bool> {
    // The environment last: reading it for every process of the host would be ten times the work.
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let program = arguments.split(|byte| *byte == 0).next()?;
    if !String::from_utf8_lossy(program).contains("qemu") {
        return Some(false);
    }
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    Some(environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()))
}

fn prepare_run_dir(path: &Path, identity: Option<Identity>) -> Result<(), Error> {
    let failed = |source| run_dir("set up the run directory", path, source);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755).create(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    if let Some(identity) = identity {
        chown(path, Some(identity.uid), Some(identity.gid)).map_err(failed)?;
    }
    // Only this start's words are wanted when it fails.
    let log = path.join(QEMU_LOG);
    match fs::rename(&log, path.join(format!("{QEMU_LOG}.1"))) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(run_dir("rotate", &log, source)),
        _ => Ok(()),
    }
}

fn run_dir(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::RunDir { action, path: path.to_owned(), source }
}

fn remedy(output: &str) -> &'static str {
    let known = [
        ("cannot set up guest memory", "the host has not enough memory; stop other machines or give this one less: "),
        ("Cannot allocate memory", "the host has not enough memory; stop other machines or give this one less: "),
        ("Failed to get", "another process has the disk open; stop that one first: "),
        ("No space left", "the host's disk is full; free some space: "),
        ("Permission denied", "QEMU's user may not open a file; correct its owner or mode: "),
        ("KVM", "KVM does not work here; remove the accelerator's verdict from the data directory and start again: "),
    ];
    known.iter().find(|(sign, _)| output.contains(sign)).map_or("", |(_, remedy)| remedy)
}
