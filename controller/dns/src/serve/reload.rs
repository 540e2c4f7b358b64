//! Taking up changed parts: the files are replaced whole, which the kernel tells.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::Desk;
use crate::part::{self, NETWORK, ZONES};
use crate::view::View;

/// What tells of changes in the directory.
#[expect(
    deprecated,
    reason = "its sound successor is an unsafe fn; the hazard is a descriptor swapped while registered, and an OwnedFd moved in here cannot be"
)]
pub(super) fn watch(dir: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let notify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&notify, dir, WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::CLOSE_WRITE)?;
    AsyncFd::new(notify)
}

/// The parts as they are now, the tenant's own first.
pub(super) fn read(dir: &Path) -> io::Result<View> {
    let serial = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let parts = [part::read(dir, ZONES)?, part::read(dir, NETWORK)?];
    // Serials wrap around (RFC 1982).
    Ok(View::compile(&parts, serial as u32))
}

/// Takes up changes for ever. A part that cannot be read changes nothing: the last one that could goes on.
pub(super) async fn follow(dir: &Path, changes: AsyncFd<OwnedFd>, desk: &Desk) -> io::Result<()> {
    loop {
        let mut ready = changes.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(changes.get_ref(), &mut buffer);
        // What changed does not matter: everything is read again.
        while reader.next().is_ok() {}
        ready.clear_ready();
        match read(dir) {
            Ok(view) => desk.change(view),
            Err(error) => tracing::warn!(%error, "a part cannot be read; the last one goes on"),
        }
    }
}
