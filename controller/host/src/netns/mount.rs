//! Giving namespaces names, the way `ip netns` does: bind mounts in one directory that all mount namespaces share.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::fstatfs;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount};

use super::Namespace;

/// File system type of namespaces' own files (`NSFS_MAGIC`).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// What a new namespace starts with. The kernel copies several of these from the machine's own settings, so none may be
/// left to chance.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "0"),
    // Removing an address must not take the others of its subnet along.
    ("ipv4/conf/all/promote_secondaries", "1"),
    ("ipv4/conf/default/promote_secondaries", "1"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/all/autoconf", "0"),
    ("ipv6/conf/default/autoconf", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
];

/// Two makers of one name must not both find it absent.
static MAKING: Mutex<()> = Mutex::new(());

pub(super) fn is_namespace(file: &File) -> io::Result<bool> {
    Ok(fstatfs(file)?.f_type as u64 == NSFS_MAGIC)
}

/// Mounts a namespace on `target`: `origin` when given, else a new one. Leaves the calling thread in it, so the thread
/// must end with this.
pub(super) fn make(directory: &Path, target: &Path, origin: Option<&Namespace>) -> io::Result<()> {
    let _one_maker = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    share(directory)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(target);
    match file {
        Ok(file) if is_namespace(&file)? => return Ok(()),
        Ok(_) => {}
        // A mounted namespace cannot be opened for writing.
        Err(_) if is_namespace(&File::open(target)?)? => return Ok(()),
        Err(error) => return Err(error),
    }
    match origin {
        Some(lost) => Ok(mount_bind(format!("/proc/thread-self/fd/{}", lost.as_fd().as_raw_fd()), target)?),
        None => {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            // Settings before the name: whoever finds the name finds it configured.
            configure()?;
            Ok(mount_bind("/proc/thread-self/ns/net", target)?)
        }
    }
}

/// `/proc/sys/net` shows the namespace of the thread that opens it (unlike `/proc/net`, which shows its process's).
fn configure() -> io::Result<()> {
    for (setting, value) in SETTINGS {
        match fs::write(Path::new("/proc/sys/net").join(setting), value) {
            // A kernel without IPv6 has nothing to switch off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("net/{setting}: {error}"))),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Makes the directory a mount of its own that propagates to other mount namespaces, as `ip netns` expects it.
fn share(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let shared = || mount_change(directory, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    match shared() {
        Err(Errno::INVAL) => {
            mount_bind_recursive(directory, directory)?;
            Ok(shared()?)
        }
        other => Ok(other?),
    }
}

/// Takes the name away; false when it was not there.
pub(super) fn remove(target: &Path) -> io::Result<bool> {
    let _one_maker = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    // Mounts may be stacked when two makers of different processes met.
    loop {
        match unmount(target, UnmountFlags::DETACH) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    match fs::remove_file(target) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
