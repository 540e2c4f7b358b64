//! Starting a process so that nothing of ours is needed for it to go on.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use process_wrap::std::{CommandWrap, ProcessSession};

use crate::id::Stat;
use crate::reaper::Reaper;
use crate::{Error, ProcessId, Result};

/// Environment variable in every process of ours that holds its owner's tag.
pub const OWNER_VARIABLE: &str = "CLUSTERCTL_OWNER";

/// A process to be started: in a session of its own, with output to a file, and with an environment of exactly what is given.
#[derive(Debug)]
pub struct Spawn {
    /// Program's file.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The whole environment, apart from [`OWNER_VARIABLE`].
    pub env: Vec<(String, String)>,
    /// Working directory; the root directory when none, so that we never hold a mount.
    pub cwd: Option<PathBuf>,
    /// User and group to run as; ours when none. Given as root, supplementary groups are dropped too.
    pub uid_gid: Option<(u32, u32)>,
    /// File that standard output and error are appended to.
    pub output: PathBuf,
    /// Descriptors to hand down, with their numbers in the child.
    pub fds: Vec<(OwnedFd, i32)>,
    /// Owner's tag, for [`OWNER_VARIABLE`].
    pub tag: String,
}

impl Spawn {
    /// A process with this program and output, and nothing else yet.
    pub fn new(program: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Spawn {
        Spawn {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            uid_gid: None,
            output: output.into(),
            fds: Vec::new(),
            tag: String::new(),
        }
    }

    /// Starts the process in the namespaces of the calling thread.
    ///
    /// It gets no standard input and none of our pipes, so that our end is not its end; when it ends while we run it is
    /// reaped. Descriptors of ours other than `fds` are closed on exec.
    pub fn start(self) -> Result<ProcessId> {
        let program = self.program.clone();
        let failed = |source| Error::Start { program: program.clone(), source };
        // First, so that no child is started that nobody would reap.
        let reaper = Reaper::get().map_err(failed)?;
        let mut command = CommandWrap::from(self.into_command()?);
        let child = command.wrap(ProcessSession).spawn().map_err(failed)?;
        let pid = child.id() as i32;
        // Not yet reaped, so its entry is there even when it has ended already.
        let start_time = Stat::read(pid).map(|stat| stat.start_time).unwrap_or_default();
        if let Err(error) = reaper.adopt(pid) {
            tracing::warn!(pid, %error, "failed to watch a child: it stays as a zombie when it ends before us");
        }
        Ok(ProcessId { pid, start_time })
    }

    fn into_command(self) -> Result<Command> {
        let failed = |source| Error::Output { path: self.output.clone(), source };
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.output).map_err(failed)?;
        let log_again = log.try_clone().map_err(failed)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env)
            .env(OWNER_VARIABLE, &self.tag)
            .current_dir(self.cwd.unwrap_or_else(|| PathBuf::from("/")))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_again);
        if let Some((uid, gid)) = self.uid_gid {
            command.gid(gid).uid(uid);
        }
        let mappings = self.fds.into_iter().map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).map_err(|error| Error::Start {
            program: self.program,
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
        })?;
        Ok(command)
    }
}
