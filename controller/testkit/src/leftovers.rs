//! Everything on this machine that bears the marks of an instance.
//!
//! Looked for in the kernel and not in the instance's own books, for a leak is what the books do not say.

use std::fs;
use std::path::Path;
use std::process::Command;

use process::ProcessId;
use sha2::{Digest, Sha256};

/// What an instance puts on whatever it makes.
pub(crate) struct Marks {
    id: Option<String>,
    namespaces: Vec<String>,
}

impl Marks {
    /// Reads them while the instance is there. What no agent was started for has no mark.
    pub(crate) fn read(dir: &Path) -> Marks {
        let id = fs::read_to_string(dir.join("instance")).ok().map(|id| id.trim().to_owned());
        let hosts = fs::read_dir(dir.join("hosts")).into_iter().flatten().flatten();
        let prefix = |host: &str| format!("photon-{}-", mark(&format!("{}/{host}", id.as_deref().unwrap_or_default())));
        let mut namespaces: Vec<String> =
            hosts.filter_map(|host| host.file_name().into_string().ok()).map(|host| prefix(&host)).collect();
        // What joins the hosts is the instance's, and no host's.
        namespaces.extend(id.as_deref().map(|id| format!("photon-{}-", mark(id))));
        Marks { id, namespaces }
    }
}

fn mark(owner: &str) -> String {
    Sha256::digest(owner)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is there of the instance, one line each.
pub(crate) fn leftovers(dir: &Path, marks: &Marks) -> Vec<String> {
    let mut found = Vec::new();
    for (id, words) in processes(dir, marks.id.as_deref()) {
        found.push(format!("process {}: {words}", id.pid));
    }
    for name in fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.file_name()) {
        let name = name.to_string_lossy();
        if marks.namespaces.iter().any(|prefix| name.starts_with(prefix)) {
            found.push(format!("network namespace {name}"));
        }
    }
    let dir_text = dir.display().to_string();
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        if line.contains(&dir_text) || marks.namespaces.iter().any(|prefix| line.contains(prefix.as_str())) {
            found.push(format!("mount {line}"));
        }
    }
    // The product makes no bridge and no tap in the root namespace, and no nft table of its own there.
    for link in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = link.file_name().to_string_lossy().into_owned();
        if ["br", "tap", "vx"].iter().any(|kind| name.strip_prefix(kind).is_some_and(is_short_uid)) {
            found.push(format!("link {name} in the root namespace"));
        }
    }
    let tables = Command::new("nft").args(["list", "tables"]).output().map(|o| o.stdout).unwrap_or_default();
    for table in String::from_utf8_lossy(&tables).lines().filter(|line| line.contains("photon")) {
        found.push(format!("nft {table} in the root namespace"));
    }
    for claim in fs::read_dir(process::CLAIMS).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if text(&claim.display().to_string()).starts_with(&dir_text) {
            found.push(format!("claim {}", claim.display()));
        }
    }
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(format!("file {}", file.path().display()));
    }
    found
}

/// Every process that names the directory, or whose environment says that it is the instance's, with its words.
pub fn processes_of(dir: &Path) -> Vec<(ProcessId, String)> {
    let id = fs::read_to_string(dir.join("instance")).ok();
    processes(dir, id.as_deref().map(str::trim))
}

fn processes(dir: &Path, id: Option<&str>) -> Vec<(ProcessId, String)> {
    let dir = dir.display().to_string();
    let owner = id.map(|id| format!("{}={id}", process::OWNER_VARIABLE));
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok())
        .filter_map(|pid| {
            let words = text(&format!("/proc/{pid}/cmdline"));
            let environment = text(&format!("/proc/{pid}/environ"));
            let owned = owner.as_ref().is_some_and(|owner| environment.split(' ').any(|word| word == owner));
            (owned || words.contains(&dir)).then(|| ProcessId::of(pid)).flatten().map(|id| (id, words))
        })
        .collect()
}

/// A file of NUL-separated words; empty when the process is gone.
fn text(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\0', " ")
}

fn is_short_uid(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
