//! One process for ever: a pid that can be told from a later process with the same number.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::{Error, Result};

/// How long a killed process may take to go before we call it stuck.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// A thread of the kernel's, in the flags of `/proc/PID/stat` (`include/linux/sched.h`).
const PF_KTHREAD: u64 = 0x0020_0000;

/// A process, told apart from earlier and later ones with its pid by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// Number the kernel knows it by.
    pub pid: i32,
    /// Clock ticks from boot to its start (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

/// What `/proc/PID/stat` says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    threads: u64,
    pub(crate) start_time: u64,
    kernel_thread: bool,
    /// Where its environment begins and ends in its memory; both 0 while the kernel puts a program in its place.
    environment: (u64, u64),
}

impl Stat {
    pub(crate) fn read(pid: i32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The program's name stands in parentheses and may hold any byte, so fields are counted from the last one.
    fn parse(line: &str) -> Option<Stat> {
        let (_, fields) = line.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let flags: u64 = fields.nth(5)?.parse().ok()?;
        let threads = fields.nth(10)?.parse().ok()?;
        let start_time = fields.nth(1)?.parse().ok()?;
        // Linux before 3.5 ends earlier.
        let environment = match (fields.nth(27), fields.next()) {
            (Some(start), Some(end)) => (start.parse().ok()?, end.parse().ok()?),
            _ => (0, 0),
        };
        Some(Stat { state, threads, start_time, kernel_thread: flags & PF_KTHREAD != 0, environment })
    }

    /// Neither a thread of the kernel's nor one that has ended.
    pub(crate) fn may_have_environment(&self) -> bool {
        !self.kernel_thread && !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Whether so many bytes are all that `/proc/PID/environ` has to say. Fewer when they were read while the kernel put a
    /// program in its place: then the environment is not there yet, or what was being read is gone.
    pub(crate) fn environment_is(&self, bytes: usize) -> bool {
        let (start, end) = self.environment;
        end != 0 && end.saturating_sub(start) == bytes as u64
    }

    /// PID 1 may be slow to reap an orphan: until it does, the dead process still has its pid. Its first thread may be gone
    /// before the others, and these still hold its files, locks and ports.
    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x') && self.threads <= 1
    }
}

/// Hands a pidfd to tokio's reactor.
#[expect(
    deprecated,
    reason = "its sound successor is an unsafe fn; the hazard is a descriptor swapped while registered, and an OwnedFd moved in here cannot be"
)]
fn readiness_of(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(pidfd)
}

impl ProcessId {
    /// The live process with this pid now; `None` when there is none or it is a zombie.
    pub fn of(pid: i32) -> Option<ProcessId> {
        let stat = Stat::read(pid).filter(|stat| !stat.is_dead())?;
        Some(ProcessId { pid, start_time: stat.start_time })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        ProcessId::of(self.pid) == Some(*self)
    }

    /// Sends a signal to this very process, never to a later one with its pid.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(self.pidfd()?, signal)?)
    }

    /// A pidfd of this very process; an error of kind `NotFound` when it is gone.
    ///
    /// Opened first and checked after: from then on the descriptor can only mean the process that was checked.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("process {} is gone", self.pid));
        let pid = Pid::from_raw(self.pid).ok_or_else(gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| match errno {
            rustix::io::Errno::SRCH => gone(),
            other => other.into(),
        })?;
        match self.is_alive() {
            true => Ok(pidfd),
            false => Err(gone()),
        }
    }

    /// Returns when this process has ended (or already had).
    pub async fn exited(&self) {
        match self.pidfd().and_then(readiness_of) {
            Ok(pidfd) => {
                // A pidfd becomes readable once, when the process ends.
                if let Err(error) = pidfd.readable().await.map(drop) {
                    tracing::warn!(pid = self.pid, %error, "failed to wait on a pidfd; looking now and then instead");
                    self.exited_by_looking().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(pid = self.pid, %error, "failed to open a pidfd; looking now and then instead");
                self.exited_by_looking().await;
            }
        }
    }

    /// The way when we are out of file descriptors.
    async fn exited_by_looking(&self) {
        while self.is_alive() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Asks the process to end, and makes it end when it has not done so after `grace`.
    pub async fn terminate(&self, grace: Duration) -> Result<()> {
        if self.signal_if_there(Signal::TERM)? && tokio::time::timeout(grace, self.exited()).await.is_err() {
            self.signal_if_there(Signal::KILL)?;
            tokio::time::timeout(KILL_DEADLINE, self.exited())
                .await
                .map_err(|_| Error::Unkillable { pid: self.pid, seconds: KILL_DEADLINE.as_secs() })?;
        }
        Ok(())
    }

    fn signal_if_there(&self, signal: Signal) -> Result<bool> {
        match self.signal(signal) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(false),
            Err(source) => Err(Error::Signal { pid: self.pid, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Command, Stdio};

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn our_own_process_is_alive() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive() && me.start_time > 0);
        assert_eq!(ProcessId::of(0), None);
        assert_eq!(ProcessId::of(i32::MAX), None);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut child = sleeper();
        let now = ProcessId::of(child.id() as i32).unwrap();
        let earlier = ProcessId { start_time: now.start_time - 1, ..now };
        assert!(!earlier.is_alive());
        assert_eq!(earlier.signal(Signal::KILL).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(now.is_alive(), "the signal for the earlier process must not hit the later one");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_zombie_is_dead() {
        let mut child = sleeper();
        let id = ProcessId::of(child.id() as i32).unwrap();
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(10), id.exited()).await.unwrap();
        assert_eq!(Stat::read(id.pid).unwrap().state, 'Z', "nobody has reaped it");
        assert!(!id.is_alive());
        assert_eq!(ProcessId::of(id.pid), None);
        id.terminate(Duration::from_secs(1)).await.unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_process_lives_as_long_as_any_of_its_threads() {
        const FIRST_THREAD_ENDS: &str = r#"
import ctypes, os, sys, threading, time
def rest():
    while open(f"/proc/{os.getpid()}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.01)
    print("alone", flush=True)
    sys.stdin.read()
threading.Thread(target=rest).start()
ctypes.CDLL(None).pthread_exit(None)
"#;
        let mut child = Command::new("python3")
            .args(["-c", FIRST_THREAD_ENDS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut said).unwrap();
        assert_eq!(said, "alone\n");
        let id = ProcessId::of(child.id() as i32).expect("a thread of it lives");
        assert_eq!(Stat::read(id.pid).unwrap().state, 'Z');
        drop(child.stdin.take());
        tokio::time::timeout(Duration::from_secs(10), id.exited()).await.unwrap();
        assert!(!id.is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        let told = Stat { state: 'S', threads: 1, start_time: 777, kernel_thread: false, environment: (0, 0) };
        assert_eq!(Stat::parse(line), Some(told));
    }

    #[test]
    fn an_environment_is_whole_when_all_of_it_was_read() {
        let told = Stat { state: 'S', threads: 1, start_time: 777, kernel_thread: false, environment: (64, 128) };
        assert!(told.environment_is(64) && !told.environment_is(32) && !told.environment_is(0));
        assert!(!Stat { environment: (0, 0), ..told }.environment_is(0), "between two programs");
        assert!(Stat { environment: (64, 64), ..told }.environment_is(0), "started without one");
        let own = fs::read("/proc/self/environ").unwrap().len();
        assert!(Stat::read(std::process::id() as i32).unwrap().environment_is(own));
        assert!(told.may_have_environment() && !Stat { kernel_thread: true, ..told }.may_have_environment());
        assert!(!Stat { state: 'Z', ..told }.may_have_environment());
    }

    proptest! {
        #[test]
        fn any_stat_line_is_parsed_without_panic(line in ".{0,200}") {
            let _ = Stat::parse(&line);
        }

        #[test]
        fn any_name_keeps_the_start_time(name in "[^\n]{0,16}", start in any::<u64>()) {
            let line = format!("7 ({name}) R 1 7 7 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 {start} 0");
            prop_assert_eq!(Stat::parse(&line).map(|stat| stat.start_time), Some(start));
        }
    }
}
