//! Which directories of reservations are known to hold what was last seen in them.
//!
//! A thousand reservations are two thousand files, and a look at the network that finds nothing to do would read them all. So once a
//! directory was read and found right the kernel is asked to tell of whatever happens in it (inotify), and as long as it has told
//! nothing, nothing is read. Whoever changes, adds, removes or hides a file, or replaces the directory, makes the next look read again.
//!
//! ```text
//!  unknown ──► watch, read ──► right? ── yes ──► known ── anything told, another inode, other wishes ──► unknown
//!                                 │ no
//!                                 └──► watch ended, files written; the next look reads them once more
//! ```
//!
//! The watch begins before the reading, so nothing falls in between. Our own writing happens without one: it would only tell of
//! ourselves. Where no watch can be had (their number is limited) everything is read each time, as without a memory.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Whatever makes a directory another one than it was.
const TOLD: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Room for the news that are read at once.
const NEWS: usize = 16 << 10;

/// Files by their names.
pub(super) type Files = BTreeMap<String, String>;

/// What is known of the directories of all dnsmasqs of this process. Its copies are one memory.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    notify: Option<OwnedFd>,
    directories: HashMap<PathBuf, Directory>,
}

#[derive(Debug)]
struct Directory {
    watch: i32,
    /// Device and number: another directory of the same name is not this one.
    inode: (u64, u64),
    /// What it holds, once it was read and found right.
    files: Option<Files>,
}

impl Memory {
    /// Whether the directory is known to hold exactly these files, of which none has been touched since they were read.
    pub(super) fn holds(&self, directory: &Path, files: &Files) -> bool {
        let mut known = self.lock();
        known.hear();
        let Some(found) = known.directories.get(directory) else { return false };
        found.files.as_ref() == Some(files) && inode(directory).is_ok_and(|inode| inode == found.inode)
    }

    /// Watches the directory, which is about to be read.
    pub(super) fn watch(&self, directory: &Path) {
        let mut known = self.lock();
        known.forget(directory);
        if let Err(error) = known.watch(directory) {
            tracing::debug!(%error, directory = %directory.display(), "a directory cannot be watched, so it is read each time");
        }
    }

    /// Remembers that the directory was read since [`Memory::watch`], and held these files.
    pub(super) fn found(&self, directory: &Path, files: Files) {
        let mut known = self.lock();
        known.hear();
        if let Some(found) = known.directories.get_mut(directory) {
            found.files = Some(files);
        }
    }

    /// Ends the watch.
    pub(super) fn forget(&self, directory: &Path) {
        self.lock().forget(directory);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn watch(&mut self, directory: &Path) -> io::Result<()> {
        let notify = match self.notify.take() {
            Some(notify) => notify,
            None => inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
        };
        let notify = self.notify.insert(notify);
        let watch = inotify::add_watch(&*notify, directory, TOLD)?;
        let inode = inode(directory)?;
        self.directories.insert(directory.to_owned(), Directory { watch, inode, files: None });
        Ok(())
    }

    fn forget(&mut self, directory: &Path) {
        if let (Some(found), Some(notify)) = (self.directories.remove(directory), &self.notify) {
            // One that ended by itself, with its directory, is gone as wished.
            let _ = inotify::remove_watch(notify, found.watch);
        }
    }

    /// Takes in the news: of whatever was touched nothing is known any more.
    fn hear(&mut self) {
        let Some(notify) = &self.notify else { return };
        let mut buffer = [MaybeUninit::uninit(); NEWS];
        let mut reader = inotify::Reader::new(notify, &mut buffer);
        let mut touched = Vec::new();
        loop {
            match reader.next() {
                Ok(news) if news.events().contains(ReadFlags::QUEUE_OVERFLOW) => touched.extend(self.paths(|_| true)),
                Ok(news) => {
                    let watch = news.wd();
                    touched.extend(self.paths(|one| one.watch == watch));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // Whoever cannot hear knows nothing.
                Err(_) => {
                    touched.extend(self.paths(|_| true));
                    break;
                }
            }
        }
        touched.iter().for_each(|directory| self.forget(directory));
    }

    fn paths(&self, which: impl Fn(&Directory) -> bool) -> Vec<PathBuf> {
        self.directories.iter().filter(|(_, one)| which(one)).map(|(path, _)| path.clone()).collect()
    }
}

fn inode(directory: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(directory).map(|found| (found.dev(), found.ino()))
}
