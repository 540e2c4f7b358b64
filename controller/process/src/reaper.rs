//! One thread that reaps every child, whatever thread or runtime started it.
//!
//! Children are started on short-lived plain threads (the ones that entered a namespace), so neither those threads nor a
//! tokio runtime can own them. The reaper sleeps in one epoll over pidfds: it costs one descriptor a child, and no thread.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// Children not yet reaped, by their pidfd's number.
pub(crate) struct Reaper {
    epoll: OwnedFd,
    children: Mutex<HashMap<u64, OwnedFd>>,
}

impl Reaper {
    /// The process's one reaper, started at first use.
    pub(crate) fn get() -> io::Result<&'static Reaper> {
        static REAPER: OnceLock<Reaper> = OnceLock::new();
        static START: Mutex<()> = Mutex::new(());
        let _one_starter = START.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reaper) = REAPER.get() {
            return Ok(reaper);
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let reaper = REAPER.get_or_init(|| Reaper { epoll, children: Mutex::default() });
        thread::Builder::new().name("reaper".into()).stack_size(64 << 10).spawn(|| reaper.run())?;
        Ok(reaper)
    }

    /// Takes over a child that nobody has waited for yet.
    pub(crate) fn adopt(&self, pid: i32) -> io::Result<()> {
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let key = pidfd.as_raw_fd() as u64;
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        epoll::add(&self.epoll, &pidfd, EventData::new_u64(key), EventFlags::IN)?;
        children.insert(key, pidfd);
        Ok(())
    }

    fn run(&self) {
        loop {
            let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); 64];
            match epoll::wait(&self.epoll, &mut buffer, None) {
                Ok((events, _)) => events.iter().for_each(|event| self.reap(event.data.u64())),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the reaper stops: ended children stay as zombies until we end");
                    return;
                }
            }
        }
    }

    fn reap(&self, key: u64) {
        let child = self.children.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        if let Some(pidfd) = child {
            // ECHILD: somebody else of this process waited for it; then it is reaped as well.
            if let Err(error) = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
                tracing::debug!(%error, "a child had been reaped by somebody else");
            }
        }
    }
}
