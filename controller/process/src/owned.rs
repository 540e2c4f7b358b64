//! Finding what carries our tag, when the record of it was never written.

use std::fs;

use crate::{OWNER_VARIABLE, ProcessId};

/// Live processes that were started with this tag, whoever remembers them.
///
/// Between a start and the writing of its record we may die; the tag in the process's environment stays. Needs the
/// right to read other users' `/proc/PID/environ`, and skips what it may not read.
pub fn find_owned(tag: &str) -> Vec<ProcessId> {
    let wanted = format!("{OWNER_VARIABLE}={tag}");
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(ProcessId::of)
        .filter(|id| {
            let environment = fs::read(format!("/proc/{}/environ", id.pid)).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        })
        .collect()
}
