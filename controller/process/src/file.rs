//! Files that are whole or absent: written beside their place, then renamed into it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces `path` by a file with exactly these bytes and mode, on stable storage before the old one is gone.
pub fn write_atomic(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
    replace(path.as_ref(), bytes.as_ref(), mode, true)
}

/// Like [`write_atomic`] but without waiting for the disk: for what a reboot makes worthless anyway.
pub fn replace_file(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
    replace(path.as_ref(), bytes.as_ref(), mode, false)
}

fn replace(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let temporary = beside(path)?;
    let written = write_new(&temporary, bytes, mode, durable).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error worth telling is the one above; a leftover dot file harms nobody.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    // create_new: a name an attacker planted (a symbolic link, say) is refused rather than followed.
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask took bits from the mode given to open.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} names no file")))?;
    // The leading dot keeps directory readers such as dnsmasq from taking up a half-written file.
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_atomic(&path, "a longer first text", 0o600).unwrap();
        write_atomic(&path, "second", 0o640).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        assert!(replace_file(&path, "x", 0o600).is_err(), "a file cannot replace a directory");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomic("/", "x", 0o600).is_err());
    }
}
