//! Talking into the guest: `qemu-ga` over a virtio serial port.
//!
//! The agent has one conversation at a time and no ids, so one task owns the socket (`owner`), and keeps in step with the
//! other end (`channel`). Every verb has a deadline: the guest may be booting, busy, paused or hostile. What the agent
//! returns is the guest's word and nothing more.

mod channel;
mod owner;

use std::io;
use std::path::Path;
use std::time::Duration;

use qapi::qga;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use owner::{Asked, Request};

/// Requests waiting for their turn before the next one has to wait to be taken.
const QUEUE: usize = 32;
/// First and longest pause between two looks at a command that runs in the guest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Bytes in one read or write of a file.
const CHUNK: usize = 256 << 10;

/// What went wrong between us and the guest's agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// QEMU does not hold the other end of the socket.
    #[error("failed to send {command} to the guest agent: the machine's socket is closed")]
    NotConnected {
        /// Command to be sent.
        command: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// No answer: the guest boots, hangs, is paused or runs no agent.
    #[error("the guest agent did not answer {command} within {} ms", .deadline.as_millis())]
    Timeout {
        /// Command sent.
        command: &'static str,
        /// Time given.
        deadline: Duration,
    },
    /// The agent refused.
    #[error("the guest agent refused {command}: {description}")]
    CommandFailed {
        /// Command sent.
        command: &'static str,
        /// The agent's words.
        description: String,
    },
    /// The answer makes no sense.
    #[error("the guest agent answered {command} with something else")]
    BadAnswer {
        /// Command sent.
        command: &'static str,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::NotConnected { .. } => "GuestAgentNotConnected",
            Error::Timeout { .. } => "GuestAgentTimeout",
            Error::CommandFailed { .. } => "GuestAgentRefused",
            Error::BadAnswer { .. } => "GuestAgentConfused",
        }
    }
}

/// A program to run in the guest.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Its file, or a name to be looked up in the agent's PATH.
    pub path: String,
    /// Arguments after its name.
    pub args: Vec<String>,
    /// Whole environment as `NAME=VALUE`; the agent's own when none.
    pub env: Option<Vec<String>>,
    /// Standard input.
    pub input: Option<Vec<u8>>,
    /// Whether standard output and error are wanted.
    pub capture: bool,
}

/// How a program in the guest ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit status; none when a signal ended it.
    pub code: Option<i64>,
    /// Signal that ended it.
    pub signal: Option<i64>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A network interface as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name in the guest.
    pub name: String,
    /// Hardware address.
    pub mac: Option<String>,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(String, i64)>,
}

/// The agent in one machine's guest, shared by cloning. Open it once a machine: QEMU lets only one client in.
#[derive(Clone, Debug)]
pub struct GuestAgent {
    requests: mpsc::Sender<Asked>,
}

impl GuestAgent {
    /// The agent of the machine in this run directory. Connects with the first command, and again when need be.
    pub fn open(run_dir: &Path) -> GuestAgent {
        let (requests, queue) = mpsc::channel(QUEUE);
        tokio::spawn(owner::run(run_dir.to_owned(), queue));
        GuestAgent { requests }
    }

    /// Whether the agent is there.
    pub async fn ping(&self, deadline: Duration) -> Result<(), Error> {
        self.call(qga::guest_ping {}, deadline).await.map(drop)
    }

    /// Starts a program; its pid in the guest.
    pub async fn exec(&self, program: &Program, deadline: Duration) -> Result<i64, Error> {
        let command = qga::guest_exec {
            path: program.path.clone(),
            arg: Some(program.args.clone()),
            env: program.env.clone(),
            input_data: program.input.clone(),
            capture_output: Some(qga::GuestExecCaptureOutput::flag(program.capture)),
        };
        Ok(self.call(command, deadline).await?.pid)
    }

    /// How a started program ended; `None` while it runs. The agent tells it once.
    pub async fn exec_status(&self, pid: i64, deadline: Duration) -> Result<Option<Output>, Error> {
        let status = self.call(qga::guest_exec_status { pid }, deadline).await?;
        Ok(status.exited.then(|| Output {
            code: status.exitcode,
            signal: status.signal,
            stdout: status.out_data.unwrap_or_default(),
            stderr: status.err_data.unwrap_or_default(),
        }))
    }

    /// Runs a program to its end.
    pub async fn run(&self, program: &Program, deadline: Duration) -> Result<Output, Error> {
        let end = Instant::now() + deadline;
        let pid = self.exec(program, deadline).await?;
        let (mut pause, longest) = PAUSES;
        loop {
            if let Some(output) = self.exec_status(pid, end - Instant::now()).await? {
                return Ok(output);
            }
            if Instant::now() + pause >= end {
                return Err(Error::Timeout { command: "guest-exec-status", deadline });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(longest);
        }
    }

    /// The first `limit` bytes of a file.
    pub async fn read_file(&self, path: &str, limit: usize, deadline: Duration) -> Result<Vec<u8>, Error> {
        let handle = self.open_file(path, "r", deadline).await?;
        let mut bytes = Vec::new();
        let read = async {
            while bytes.len() < limit {
                let count = Some((limit - bytes.len()).min(CHUNK) as i64);
                let part = self.call(qga::guest_file_read { handle, count }, deadline).await?;
                bytes.extend(part.buf_b64);
                if part.eof || part.count == 0 {
                    break;
                }
            }
            Ok(())
        };
        self.and_close(handle, read.await, deadline).await?;
        Ok(bytes)
    }

    /// Replaces the bytes of a file. Not atomic: a reader in the guest may see half of it.
    pub async fn write_file(&self, path: &str, bytes: &[u8], deadline: Duration) -> Result<(), Error> {
        let handle = self.open_file(path, "w", deadline).await?;
        let write = async {
            let mut rest = bytes;
            while !rest.is_empty() {
                let buf_b64 = rest[..rest.len().min(CHUNK)].to_vec();
                let command = qga::guest_file_write { handle, buf_b64, count: None };
                let written = self.call(command, deadline).await?.count;
                rest = &rest[usize::try_from(written).unwrap_or_default().min(rest.len())..];
            }
            self.call(qga::guest_file_flush { handle }, deadline).await.map(drop)
        };
        self.and_close(handle, write.await, deadline).await
    }

    async fn open_file(&self, path: &str, mode: &str, deadline: Duration) -> Result<i64, Error> {
        let command = qga::guest_file_open { path: path.to_owned(), mode: Some(mode.to_owned()) };
        self.call(command, deadline).await
    }

    /// The agent keeps a file open until told otherwise, whatever went wrong with it.
    async fn and_close(&self, handle: i64, result: Result<(), Error>, deadline: Duration) -> Result<(), Error> {
        let closed = self.call(qga::guest_file_close { handle }, deadline).await;
        result.and(closed.map(drop))
    }

    /// Shuts the guest down.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Error> {
        self.turn_off(qga::GuestShutdownMode::Powerdown, deadline).await
    }

    /// Reboots the guest.
    pub async fn reboot(&self, deadline: Duration) -> Result<(), Error> {
        self.turn_off(qga::GuestShutdownMode::Reboot, deadline).await
    }

    async fn turn_off(&self, mode: qga::GuestShutdownMode, deadline: Duration) -> Result<(), Error> {
        // Answered only when it fails.
        self.ask(qga::guest_shutdown { mode: Some(mode) }, false, deadline).await.map(drop)
    }

    /// An id of the guest's present boot.
    pub async fn boot_id(&self, deadline: Duration) -> Result<String, Error> {
        let bytes = self.read_file("/proc/sys/kernel/random/boot_id", 64, deadline).await?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The guest's network interfaces.
    pub async fn interfaces(&self, deadline: Duration) -> Result<Vec<Interface>, Error> {
        let found = self.call(qga::guest_network_get_interfaces {}, deadline).await?;
        let interface = |found: qga::GuestNetworkInterface| Interface {
            name: found.name,
            mac: found.hardware_address,
            addresses: found
                .ip_addresses
                .unwrap_or_default()
                .into_iter()
                .map(|address| (address.ip_address, address.prefix))
                .collect(),
        };
        Ok(found.into_iter().map(interface).collect())
    }

    /// Any other command of the agent, for verbs that live elsewhere.
    pub async fn call<C: qga::QgaCommand>(&self, command: C, deadline: Duration) -> Result<C::Ok, Error> {
        let value = self.ask(command, true, deadline).await?;
        serde_json::from_value(value).map_err(|source| Error::BadAnswer { command: C::NAME, source })
    }

    async fn ask<C: qga::QgaCommand>(
        &self,
        command: C,
        answered: bool,
        deadline: Duration,
    ) -> Result<serde_json::Value, Error> {
        let name = C::NAME;
        let gone = || Error::NotConnected { command: name, source: io::ErrorKind::NotConnected.into() };
        let (reply, answer) = oneshot::channel();
        let command = serde_json::to_vec(&qapi::Execute::<C>::with_command(command))
            .map_err(|source| Error::BadAnswer { command: name, source })?;
        let asked = Instant::now();
        let request = Request { name, command, answered, asked, deadline };
        let sent = tokio::time::timeout(deadline, self.requests.send(Asked { request, reply })).await;
        sent.map_err(|_| Error::Timeout { command: name, deadline })?.map_err(|_| gone())?;
        // The owner keeps the deadline, and counts from when we asked.
        answer.await.map_err(|_| gone())?
    }
}
