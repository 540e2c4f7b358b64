//! Finding what carries our tag, when the record of it was never written.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::id::Stat;
use crate::{OWNER_VARIABLE, ProcessId};

/// How long a process may take to get the environment of its next program: it reads that from the disk.
const EXEC: Duration = Duration::from_secs(1);

/// Live processes that were started with this tag, whoever remembers them.
///
/// Between a start and the writing of its record we may die; the tag in the process's environment stays. Needs the
/// right to read other users' `/proc/PID/environ`, and skips what it may not read. While the kernel puts a program in a
/// process's place (execve(2)) the process shows no environment: that is waited for, up to a second for all together.
pub fn find_owned(tag: &str) -> Vec<ProcessId> {
    let wanted = format!("{OWNER_VARIABLE}={tag}");
    let deadline = Instant::now() + EXEC;
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(ProcessId::of)
        .filter(|id| carries(id.pid, wanted.as_bytes(), deadline))
        .collect()
}

fn carries(pid: i32, wanted: &[u8], deadline: Instant) -> bool {
    let mut was_empty = false;
    while let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) {
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted) {
            return true;
        }
        let Some(stat) = Stat::read(pid).filter(Stat::may_have_environment) else { return false };
        // For an instant the kernel says of each new program that its environment is empty.
        let settled = stat.environment_is(environment.len()) && (was_empty || !environment.is_empty());
        if settled || Instant::now() >= deadline {
            return false;
        }
        was_empty = environment.is_empty();
        thread::sleep(Duration::from_millis(1));
    }
    false
}
