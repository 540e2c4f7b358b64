//! Writes into an unpacked root without ever leaving it.
//!
//! The tree holds symbolic links made by packages (`/etc/resolv.conf` points to `/run`), and following one with the
//! host's own root would write to the host. Every path is therefore resolved by the kernel with the tree as its root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::contain::EPOCH;
use super::error::{Error, Result};

/// An unpacked root.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Tree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path)(e.into()))?;
        Ok(Tree { root, path: path.to_owned() })
    }

    /// Puts a file in place of whatever is there; parents are made.
    pub(super) fn write(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let failed = |errno: Errno| Error::io("write", self.inside(path))(errno.into());
        let (parent, name) = self.vacate(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
        let mut file = File::from(file);
        file.write_all(content).map_err(Error::io("write", self.inside(path)))?;
        // By itself, because the umask would take bits from the mode given to open.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed)
    }

    /// Puts a symbolic link in place of whatever is there; parents are made.
    pub(super) fn symlink(&self, path: &str, target: &str) -> Result<()> {
        let (parent, name) = self.vacate(path)?;
        rustix::fs::symlinkat(target, &parent, name).map_err(|e| Error::io("link", self.inside(path))(e.into()))
    }

    /// Removes a file or link; none is as good.
    pub(super) fn remove(&self, path: &str) -> Result<()> {
        let (parent, name) = split(path);
        let Some(parent) = self.resolve(parent)? else {
            return Ok(());
        };
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io("remove", self.inside(path))(errno.into())),
        }
    }

    /// The content of a file, or none when nothing (or only a device or a directory) is there.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let failed = |errno: Errno| Error::io("read", self.inside(path))(errno.into());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat2(&self.root, relative(path), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let io = Error::io("read", self.inside(path));
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => {
                let mut content = Vec::new();
                (&file).read_to_end(&mut content).map_err(io)?;
                Ok(Some(content))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(io(error)),
        }
    }

    /// Whether a path leads to something, links followed.
    pub(super) fn exists(&self, path: &str) -> bool {
        matches!(self.resolve(path), Ok(Some(_)))
    }

    /// Sets every time that is later than the fixed one to it, so that the moment of the build leaves no mark.
    pub(super) fn clamp_times(&self) -> Result<()> {
        clamp(&self.path)
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.path.join(relative(path))
    }

    fn resolve(&self, path: &str) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat2(&self.root, relative(path), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(Error::io("open", self.inside(path))(errno.into())),
        }
    }

    /// The directory a path lies in, made when missing, with nothing at the path any more.
    fn vacate<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str)> {
        let (parent_path, name) = split(path);
        let parent = self.directory(parent_path)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok((parent, name)),
            Err(errno) => Err(Error::io("replace", self.inside(path))(errno.into())),
        }
    }

    fn directory(&self, path: &str) -> Result<OwnedFd> {
        if let Some(fd) = self.resolve(path)? {
            return Ok(fd);
        }
        let failed = |errno: Errno| Error::io("create", self.inside(path))(errno.into());
        let (parent_path, name) = split(path);
        let parent = self.directory(parent_path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            // There already: a link that leads nowhere, which nothing can be written below.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(0o755), AtFlags::empty()).map_err(failed)?;
        self.resolve(path)?.ok_or_else(|| failed(Errno::NOENT))
    }
}

/// Names are relative to the tree for the kernel; the tree itself is `.`.
fn relative(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => ".",
        rest => rest,
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn clamp(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
            clamp(&entry.map_err(Error::io("list", path))?.path())?;
        }
    }
    if metadata.mtime() < EPOCH as i64 || (metadata.mtime() == EPOCH as i64 && metadata.mtime_nsec() == 0) {
        return Ok(());
    }
    let fixed = Timespec { tv_sec: EPOCH as i64, tv_nsec: 0 };
    let times = Timestamps { last_access: fixed, last_modification: fixed };
    let name: &OsStr = path.as_ref();
    rustix::fs::utimensat(CWD, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| Error::io("set the time of", path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_link_out_of_the_tree_is_resolved_inside_it() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("etc")).unwrap();
        let inside = root.path().join(outside.path().strip_prefix("/").unwrap());
        fs::create_dir_all(&inside).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        tree.write("/etc/passwd", 0o644, b"x").unwrap();
        assert_eq!(fs::read(inside.join("passwd")).unwrap(), b"x");
        assert!(!outside.path().join("passwd").exists());
        assert_eq!(tree.read("/etc/passwd").unwrap().unwrap(), b"x");
    }

    #[test]
    fn a_link_at_the_end_is_replaced_not_followed() {
        let root = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", root.path().join("f")).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        tree.write("/f", 0o751, b"mine").unwrap();
        let metadata = fs::symlink_metadata(root.path().join("f")).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o751);
    }

    #[test]
    fn parents_are_made_and_later_times_are_clamped() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        tree.write("/a/b/c", 0o644, b"").unwrap();
        tree.symlink("/a/l", "nowhere").unwrap();
        tree.clamp_times().unwrap();
        for path in ["a", "a/b", "a/b/c", "a/l"] {
            let metadata = fs::symlink_metadata(root.path().join(path)).unwrap();
            assert_eq!(metadata.mtime(), EPOCH as i64, "{path}");
        }
        tree.remove("/a/l").unwrap();
        tree.remove("/no/such").unwrap();
        assert!(!tree.exists("/a/l"));
    }
}
