//! Namespaces that are gone after the test, and other eyes (`ip`) to judge what we did.

use std::future::Future;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use host::link::Links;
use host::netns::{Namespace, Namespaces};
use process::ProcessId;

/// How long anything here may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A namespace of one test.
pub struct Room {
    pub namespace: Namespace,
    pub links: Links,
}

impl Room {
    pub async fn new() -> Room {
        let name = unique_name();
        let (namespace, _) = Namespaces::default().ensure(&name).await.expect("this test needs root");
        let links = Links::open(&namespace).await.unwrap();
        Room { namespace, links }
    }

    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, args: &str) -> String {
        run("ip", &format!("-n {} {args}", self.name()))
    }

    /// Processes in the namespace.
    pub fn occupants(&self) -> Vec<ProcessId> {
        Namespaces::default().occupants(&self.namespace).into_iter().filter_map(ProcessId::of).collect()
    }

    /// Runs a shell command line in the namespace.
    pub fn shell(&self, line: &str) -> String {
        let output = Command::new("ip").args(["netns", "exec", self.name(), "sh", "-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Absent where the test deleted it.
        let _ = Command::new("ip").args(["netns", "del", self.name()]).output();
    }
}

/// A name no other test run has.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    format!("test-{}-{moment}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a program with arguments split at blanks, and asserts that it succeeds.
pub fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until something holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The namespace that this thread is in.
pub fn inode_of_this_thread() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
}
