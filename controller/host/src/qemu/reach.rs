//! Whether QEMU's own user can get at the files it is given, asked before QEMU is.
//!
//! QEMU's own complaint is "Permission denied" with a path; what a person needs is the directory that is in the way,
//! most often a home directory above the data directory.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::machine::{DiskFormat, Machine};
use crate::blockdev;

/// Images under one another that are looked at; a longer chain would be too slow to boot from anyway.
const MOST_LAYERS: usize = 16;

/// User and group that a QEMU runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id; the one of `/dev/kvm` when KVM is used.
    pub gid: u32,
}

/// A file that QEMU's user cannot use.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} cannot be {} by user {} (group {}): {} {blocked:?}", if *.write { "written" } else { "read" },
    .identity.uid, .identity.gid, .because)]
pub struct Unreachable {
    path: PathBuf,
    blocked: PathBuf,
    because: &'static str,
    write: bool,
    identity: Identity,
}

/// Checks every file of the machine.
pub fn check(machine: &Machine, identity: Identity) -> Result<(), Unreachable> {
    let kernel = machine.kernel.iter().flat_map(|kernel| [Some(&kernel.image), kernel.initrd.as_ref()]).flatten();
    let reads = kernel.map(|path| (path, false));
    let disks = machine.disks.iter().map(|disk| (&disk.path, !disk.read_only));
    for (path, write) in reads.chain(disks) {
        check_file(path, write, identity)?;
    }
    let overlays = machine.disks.iter().filter(|disk| disk.format == DiskFormat::Qcow2);
    overlays.map(|disk| &disk.path).try_for_each(|path| check_bases(path, identity))?;
    for dir in machine.run_dir.ancestors() {
        check_bit(&machine.run_dir, dir, 1, false, identity)?;
    }
    Ok(())
}

/// The images under an overlay. What cannot be read here is for QEMU to complain about.
fn check_bases(overlay: &Path, identity: Identity) -> Result<(), Unreachable> {
    let mut above = overlay.to_owned();
    for _ in 0..MOST_LAYERS {
        let Ok(Some(base)) = blockdev::base_of(&above) else { break };
        check_file(&base, false, identity)?;
        above = base;
    }
    Ok(())
}

fn check_file(path: &Path, write: bool, identity: Identity) -> Result<(), Unreachable> {
    for dir in path.ancestors().skip(1) {
        check_bit(path, dir, 1, write, identity)?;
    }
    check_bit(path, path, if write { 6 } else { 4 }, write, identity)
}

fn check_bit(path: &Path, at: &Path, bits: u32, write: bool, identity: Identity) -> Result<(), Unreachable> {
    let refused = |because| Unreachable { path: path.to_owned(), blocked: at.to_owned(), because, write, identity };
    match fs::metadata(at) {
        Err(_) => Err(refused("there is no")),
        Ok(metadata) if may(&metadata, bits, identity) => Ok(()),
        Ok(_) => Err(refused("change the owner or the mode of")),
    }
}

fn may(metadata: &Metadata, bits: u32, identity: Identity) -> bool {
    let shift = match () {
        () if identity.uid == 0 => return true,
        () if metadata.uid() == identity.uid => 6,
        () if metadata.gid() == identity.gid => 3,
        () => 0,
    };
    (metadata.mode() >> shift) & bits == bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SOMEBODY: Identity = Identity { uid: 61234, gid: 61234 };

    #[test]
    fn the_directory_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("disk"), "").unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let error = check_file(&home.join("disk"), false, SOMEBODY).unwrap_err().to_string();
        assert!(error.contains("read by user 61234") && error.ends_with("/home\""), "{error}");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o711)).unwrap();
        check_file(&home.join("disk"), false, SOMEBODY).unwrap();
        let error = check_file(&home.join("disk"), true, SOMEBODY).unwrap_err().to_string();
        assert!(error.contains("written") && error.ends_with("/home/disk\""), "{error}");
        let overlay = dir.path().join("overlay");
        fs::write(home.join("base"), [0; 512]).unwrap();
        blockdev::ensure_overlay(&home.join("base"), DiskFormat::Raw, &overlay, None, None).unwrap();
        fs::set_permissions(home.join("base"), fs::Permissions::from_mode(0o600)).unwrap();
        let error = check_bases(&overlay, SOMEBODY).unwrap_err().to_string();
        assert!(error.contains("/home/base"), "{error}");
        let error = check_file(&home.join("none"), true, SOMEBODY).unwrap_err().to_string();
        assert!(error.contains("there is no"), "{error}");
    }
}
