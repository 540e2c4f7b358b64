//! The shell programs that run in the guest, and how their answer is read.
//!
//! They need a POSIX shell, coreutils, and `flock` and `setsid` of util-linux: what every Debian has. The command and its
//! environment are passed as arguments, never as text of a program, so nothing in them is special to the shell.

use std::time::Duration;

use super::{Command, Error, Report, State, Tail};

const ASK: &str = include_str!("ask.sh");
const RUNNER: &str = include_str!("runner.sh");
const FORGET: &str = include_str!("forget.sh");
const READ: &str = r#"tail -c "+$2" "$1" | head -c "$3""#;

/// Where the guest keeps what is known of named commands. A tmpfs: a reboot ends the commands and forgets them.
pub const DIRECTORY: &str = "/run/clusterctl/exec";
/// Bytes kept of each output.
const KEPT: u64 = 8 << 20;

/// Arguments of `/bin/sh` for asking about a command, and starting it when `start` is given.
pub fn ask(base: &str, name: &str, start: Option<&Command>, wait: Duration, tail: u64) -> Vec<String> {
    let mode = if start.is_some() { "start" } else { "look" };
    let seconds = wait.as_secs().to_string();
    let (tail, limit) = (tail.to_string(), (KEPT / 512).to_string());
    let fixed = ["-c", ASK, "clusterctl-exec", base, name, &seconds, &tail, mode, RUNNER, &limit];
    let environment = start.iter().flat_map(|command| &command.env).map(|(name, value)| format!("{name}={value}"));
    let program = start.iter().flat_map(|command| &command.argv).cloned();
    fixed.map(str::to_owned).into_iter().chain(environment).chain(program).collect()
}

/// Arguments of `/bin/sh` for forgetting a command.
pub fn forget(base: &str, name: &str) -> Vec<String> {
    ["-c", FORGET, "clusterctl-exec", base, name].map(str::to_owned).to_vec()
}

/// Arguments of `/bin/sh` for a part of an output.
pub fn read(base: &str, name: &str, file: &str, offset: u64, length: u64) -> Vec<String> {
    let path = format!("{base}/{name}/{file}");
    let (from, length) = ((offset + 1).to_string(), length.to_string());
    ["-c", READ, "clusterctl-exec", &path, &from, &length].map(str::to_owned).to_vec()
}

/// Reads the answer of [`ask`].
pub fn parse(name: &str, answer: &[u8]) -> Result<Report, Error> {
    let garbled = || Error::Garbled {
        name: name.to_owned(),
        answer: String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned(),
    };
    let end = answer.iter().position(|byte| *byte == b'\n').ok_or_else(garbled)?;
    let line = std::str::from_utf8(&answer[..end]).map_err(|_| garbled())?;
    let rest = &answer[end + 1..];
    let [state, code, out, err, out_shown, err_shown, cut] =
        <[&str; 7]>::try_from(line.split(' ').collect::<Vec<_>>()).map_err(|_| garbled())?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| garbled());
    let shown = usize::try_from(number(out_shown)?).map_err(|_| garbled())?;
    let (stdout, stderr) = rest.split_at_checked(shown).ok_or_else(garbled)?;
    if stderr.len() as u64 != number(err_shown)? {
        return Err(garbled());
    }
    let state = match state {
        "unknown" => State::Unknown,
        "running" => State::Running,
        "lost" => State::Lost,
        "exited" => State::Exited { code: code.parse().map_err(|_| garbled())? },
        _ => return Err(garbled()),
    };
    Ok(Report {
        state,
        stdout: Tail { bytes: stdout.to_vec(), size: number(out)? },
        stderr: Tail { bytes: stderr.to_vec(), size: number(err)? },
        truncated: cut == "1",
    })
}
