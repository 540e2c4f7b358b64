//! Commands in the guest that can be found again by name.
//!
//! The agent's own `guest-exec` gives a pid that is told once and forgotten with the agent. But a test step must survive
//! our crash: so each command has a name, known before it starts, and the guest keeps under that name what became of it.
//!
//! ```text
//!  Unknown ──start──► Running ──► Exited{code}      start again with the same name: nothing happens
//!     ▲                  └──────► Lost              the runner was killed: its outcome will never be known
//!     └── reboot of the guest, or forget
//! ```
//!
//! Starting, waiting and reading the result is one round trip in the common case. Waiting is done by the guest's kernel,
//! on a lock that the runner holds; we look at the shell that waits, in growing intervals.

mod script;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::guest_agent::{self, GuestAgent, Output, Program};

pub use script::DIRECTORY;

/// Time the guest gets for everything but waiting.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest single wait: short enough that a reboot of the guest meanwhile is noticed soon.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Standard input goes through the agent in one piece.
const LONGEST_INPUT: usize = 4 << 20;

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables besides the agent's own environment.
    pub env: Vec<(String, String)>,
    /// Standard input; empty when none.
    pub stdin: Option<Vec<u8>>,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The guest knows no command with this name: never started, forgotten, or the guest has rebooted.
    Unknown,
    /// It runs.
    Running,
    /// It ended with this status; 128 plus the number for a signal.
    Exited {
        /// Exit status.
        code: i32,
    },
    /// What ran it was killed, so how it ended will never be known.
    Lost,
}

/// The end of one output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its last bytes.
    pub bytes: Vec<u8>,
    /// How many bytes the guest keeps in all.
    pub size: u64,
}

/// How a command stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What became of it.
    pub state: State,
    /// Standard output.
    pub stdout: Tail,
    /// Standard error.
    pub stderr: Tail,
    /// Whether more came out than the guest keeps.
    pub truncated: bool,
}

/// One of a command's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a named command could not be started or asked about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense.
    #[error("{what} {value:?} cannot be used: {rule}")]
    Invalid {
        /// Part of the request.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The guest could not be asked.
    #[error("failed to ask the guest about {name:?}")]
    Agent {
        /// Command's name.
        name: String,
        /// Cause.
        #[source]
        source: guest_agent::Error,
    },
    /// The guest cannot run it.
    #[error("the guest could not run {name:?} (exit status {code:?}): {stderr}")]
    Guest {
        /// Command's name.
        name: String,
        /// Exit status of our shell program.
        code: Option<i64>,
        /// What it printed.
        stderr: String,
    },
    /// The answer makes no sense.
    #[error("the guest's answer about {name:?} makes no sense: {answer:?}")]
    Garbled {
        /// Command's name.
        name: String,
        /// What came.
        answer: String,
    },
}

impl Command {
    fn check(&self) -> Result<(), Error> {
        let program = self.argv.first().map(String::as_str).unwrap_or_default();
        let usable = !program.is_empty() && !program.starts_with('-') && !program.contains('=');
        ensure("program", program, usable, "must not be empty, begin with '-' or hold '='")?;
        for text in self.argv.iter().chain(self.env.iter().map(|(_, value)| value)) {
            ensure("argument", text, !text.contains('\0'), "must not hold a NUL byte")?;
        }
        for (name, _) in &self.env {
            let mut bytes = name.bytes();
            let first = bytes.next().is_some_and(|byte| byte == b'_' || byte.is_ascii_alphabetic());
            let rest = bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
            ensure("variable", name, first && rest, "must be letters, digits and '_', not beginning with a digit")?;
        }
        let input = self.stdin.as_ref().map_or(0, Vec::len);
        ensure("standard input", &format!("{input} bytes"), input <= LONGEST_INPUT, "must have at most 4 MiB")
    }
}

/// Starts the command unless one of this name was started before, and waits up to `wait` for its end.
pub async fn start(
    agent: &GuestAgent,
    name: &str,
    command: &Command,
    wait: Duration,
    tail: u64,
) -> Result<Report, Error> {
    command.check()?;
    ask(agent, name, Some(command), wait, tail).await
}

/// How the command stands, after waiting up to `wait` for its end.
pub async fn status(agent: &GuestAgent, name: &str, wait: Duration, tail: u64) -> Result<Report, Error> {
    ask(agent, name, None, wait, tail).await
}

async fn ask(
    agent: &GuestAgent,
    name: &str,
    start: Option<&Command>,
    wait: Duration,
    tail: u64,
) -> Result<Report, Error> {
    check_name(name)?;
    let wait = wait.min(LONGEST_WAIT);
    let args = script::ask(DIRECTORY, name, start, wait, tail);
    let input = start.and_then(|command| command.stdin.clone());
    let output = shell(agent, name, args, input, wait + PATIENCE).await?;
    script::parse(name, &output.stdout)
}

/// Up to `length` bytes of an output, from `offset` on.
pub async fn read_output(
    agent: &GuestAgent,
    name: &str,
    stream: Stream,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, Error> {
    check_name(name)?;
    let file = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let args = script::read(DIRECTORY, name, file, offset, length);
    Ok(shell(agent, name, args, None, PATIENCE).await?.stdout)
}

/// Ends the command when it still runs, and removes all the guest knows of it.
pub async fn forget(agent: &GuestAgent, name: &str) -> Result<(), Error> {
    check_name(name)?;
    shell(agent, name, script::forget(DIRECTORY, name), None, PATIENCE).await.map(drop)
}

async fn shell(
    agent: &GuestAgent,
    name: &str,
    args: Vec<String>,
    input: Option<Vec<u8>>,
    deadline: Duration,
) -> Result<Output, Error> {
    let program = Program { path: "/bin/sh".into(), args, env: None, input, capture: true };
    let output = agent.run(&program, deadline).await;
    let output = output.map_err(|source| Error::Agent { name: name.to_owned(), source })?;
    match output.code {
        Some(0) => Ok(output),
        code => Err(Error::Guest {
            name: name.to_owned(),
            code,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let usable = first && rest && name.len() <= 128;
    ensure("name", name, usable, "must be letters, digits, '-', '.' and '_', beginning with a letter or digit")
}

fn ensure(what: &'static str, value: &str, holds: bool, rule: &'static str) -> Result<(), Error> {
    match holds {
        true => Ok(()),
        false => Err(Error::Invalid { what, value: value.to_owned(), rule }),
    }
}
