//! Runs the programs that build images so that none of them, and no mount of theirs, outlives us.
//!
//! A build is worth nothing without us, so unlike a guest it must die with us. `setpriv` asks the kernel to kill the
//! program when the thread that started it ends; for programs that mount, `unshare` adds mount and pid namespaces whose
//! first process is that program, so its death takes every descendant and every mount along. This needs no code of ours
//! between fork and exec.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use process::find_program;

use super::error::{Error, Result};

/// Output lines kept for an error message.
const LINES_KEPT: usize = 12;

/// Moment every file of an image bears: some fixed time in the past (2023-11-14T22:13:20Z).
pub(super) const EPOCH: u64 = 1_700_000_000;

/// A program to be run to its end by the calling thread.
#[derive(Debug)]
pub(super) struct Contained {
    step: &'static str,
    program: String,
    command: Command,
}

/// How a program that was allowed to fail ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Contained {
    /// A program that dies with the calling thread. `step` words the error: "failed to {step}".
    pub(super) fn new(step: &'static str, program: &str) -> Result<Contained> {
        Self::with(step, program, &[], &[])
    }

    /// Like [`Contained::new`], in mount and pid namespaces of its own.
    pub(super) fn in_namespaces(step: &'static str, program: &str) -> Result<Contained> {
        let options = ["--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--"];
        let mut wrapper = vec![find("unshare")?.into_os_string()];
        wrapper.extend(options.map(OsString::from));
        Self::with(step, program, &[], &wrapper)
    }

    /// Like [`Contained::new`], as another user without any privilege or group.
    pub(super) fn as_user(step: &'static str, program: &str, (uid, gid): (u32, u32)) -> Result<Contained> {
        // One setpriv for both: a change of user made later would clear the death signal.
        let user = [
            format!("--reuid={uid}"),
            format!("--regid={gid}"),
            "--clear-groups".to_owned(),
            "--no-new-privs".to_owned(),
            "--inh-caps=-all".to_owned(),
            "--bounding-set=-all".to_owned(),
        ];
        Self::with(step, program, &user, &[])
    }

    fn with(step: &'static str, program: &str, privileges: &[String], wrapper: &[OsString]) -> Result<Contained> {
        let path = find(program)?;
        let mut command = Command::new(find("setpriv")?);
        command
            .args(["--pdeathsig", "KILL"])
            .args(privileges)
            .arg("--")
            .args(wrapper)
            .arg(path)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
            .env("E2FSPROGS_FAKE_TIME", EPOCH.to_string())
            .stdin(Stdio::null())
            .current_dir("/");
        Ok(Contained { step, program: program.to_owned(), command })
    }

    pub(super) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Contained {
        self.command.arg(arg);
        self
    }

    pub(super) fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Contained {
        self.command.args(args);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Contained {
        self.command.env(name, value);
        self
    }

    pub(super) fn current_dir(mut self, dir: &Path) -> Contained {
        self.command.current_dir(dir);
        self
    }

    /// Runs to the end, success or not.
    pub(super) fn end(mut self) -> Result<Ended> {
        let failed = |program: &str| {
            let action = "start";
            let program = program.to_owned();
            move |source| Error::Io { action, path: program.into(), source }
        };
        let output = self.command.output().map_err(failed(&self.program))?;
        Ok(Ended {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs to the end and answers the standard output; fails unless the program succeeds.
    pub(super) fn run(self) -> Result<Vec<u8>> {
        let (step, program) = (self.step, self.program.clone());
        let ended = self.end()?;
        match ended.status.success() {
            true => Ok(ended.stdout),
            false => Err(failure(step, program, ended.status, &ended.stderr)),
        }
    }

    /// Runs to the end, handing every line of standard error to `line` as it comes.
    pub(super) fn run_watched(mut self, line: impl Fn(&str)) -> Result<()> {
        let program = self.program.clone();
        let io = |source| Error::Io { action: "run", path: program.clone().into(), source };
        let mut child = self.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(io)?;
        let mut kept = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            let mut reader = BufReader::new(stderr);
            let mut bytes = Vec::new();
            while reader.by_ref().take(1 << 16).read_until(b'\n', &mut bytes).map_err(io)? > 0 {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                line(&text);
                kept.push(text);
                if kept.len() > 4 * LINES_KEPT {
                    kept.drain(..LINES_KEPT);
                }
                bytes.clear();
            }
        }
        let status = child.wait().map_err(io)?;
        match status.success() {
            true => Ok(()),
            false => Err(failure(self.step, self.program, status, &kept.join("\n"))),
        }
    }
}

fn find(program: &str) -> Result<PathBuf> {
    let variable = format!("CLUSTERCTL_{}", program.to_uppercase().replace(['-', '.'], "_"));
    find_program(program, &variable).map_err(Error::Program)
}

fn failure(step: &'static str, program: String, status: ExitStatus, output: &str) -> Error {
    Error::Step { step, program, status: status.to_string(), output: last_lines(output) }
}

/// The end of a program's output, where the cause usually is, without mmdebstrap's chatter.
pub(super) fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("I: ")).collect();
    lines[lines.len().saturating_sub(LINES_KEPT)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_step_status_and_cause() {
        let error =
            Contained::new("prove a point", "sh").unwrap().args(["-c", "echo why >&2; exit 3"]).run().unwrap_err();
        let message = error.to_string();
        assert!(message.contains("failed to prove a point"), "{message}");
        assert!(message.contains("3") && message.contains("why"), "{message}");
    }

    #[test]
    fn lines_are_handed_over_as_they_come() {
        let seen = std::cell::RefCell::new(Vec::new());
        Contained::new("talk", "sh")
            .unwrap()
            .args(["-c", "echo a >&2; echo b >&2"])
            .run_watched(|line| seen.borrow_mut().push(line.to_owned()))
            .unwrap();
        assert_eq!(seen.into_inner(), ["a", "b"]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Contained::new("x", "no-such-program-at-all").unwrap_err();
        assert_eq!(error.category(), "ProgramNotFound");
    }
}
