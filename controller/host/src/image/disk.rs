//! Makes an ext4 disk of a directory: equal directories give equal bytes.
//!
//! mkfs copies the directory without a mount and in sorted order. What it takes from the moment and the machine is
//! fixed: UUID, hash seed, its clock, and the inode times that it copies from the directory, two of which (change and
//! access) nobody can set on a live file system. Those are rewritten with debugfs, which also mends the checksums.
//!
//! The journal stays, though a guest boots no slower without: a killed guest must come back without a file system check.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;

use super::contain::{Contained, EPOCH};
use super::error::{Error, Result};

/// The file system's UUID and hash seed; they only have to be the same every time.
const UUID: &str = "9d7f2f8e-51a6-4c59-8f0b-6e0d3a1c7b52";
const HASH_SEED: &str = "1b0c6a3d-7f42-4e88-a9c5-2d94e7f06b31";

/// First inode that belongs to a file; those before are the file system's own, whose times mkfs sets itself.
const FIRST_INODE: u64 = 11;

/// Makes a sparse disk of `bytes` bytes at `disk` from the files below `root`.
pub(super) fn make_disk(root: &Path, disk: &Path, bytes: u64) -> Result<()> {
    let file = File::create(disk).map_err(Error::io("create", disk))?;
    file.set_len(bytes).map_err(Error::io("size", disk))?;
    let extended = format!(
        "hash_seed={HASH_SEED},lazy_itable_init=0,lazy_journal_init=0,assume_storage_prezeroed=1,root_owner=0:0"
    );
    let made = Contained::new("make the root disk", "mkfs.ext4")?
        .args(["-q", "-F", "-m", "0", "-J", "size=16", "-L", "root", "-U", UUID, "-E", &extended, "-d"])
        .arg(root)
        .arg(disk)
        .run();
    if let Err(Error::Step { output, .. }) = &made
        && ["No space", "Could not allocate", "no free space"].iter().any(|words| output.contains(words))
    {
        return Err(Error::recipe("diskBytes", format!("the files do not fit on a disk of {} MiB", bytes >> 20)));
    }
    made?;
    fix_times(disk)
}

fn fix_times(disk: &Path) -> Result<()> {
    let mut script = String::new();
    for inode in FIRST_INODE..=last_inode(disk)? {
        for field in ["atime", "ctime"] {
            let _ = writeln!(script, "set_inode_field <{inode}> {field} @{EPOCH}");
        }
    }
    let path = disk.with_extension("debugfs");
    fs::write(&path, script).map_err(Error::io("write", &path))?;
    Contained::new("fix the times on the root disk", "debugfs")?.args(["-w", "-f"]).arg(&path).arg(disk).run()?;
    fs::remove_file(&path).map_err(Error::io("remove", &path))
}

/// mkfs hands inodes out in order, so those in use are the first ones.
fn last_inode(disk: &Path) -> Result<u64> {
    let header = Contained::new("read the root disk", "dumpe2fs")?.arg("-h").arg(disk).run()?;
    let header = String::from_utf8_lossy(&header);
    let field =
        |name: &str| -> Option<u64> { header.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()) };
    match (field("Inode count:"), field("Free inodes:")) {
        (Some(all), Some(free)) => Ok(all.saturating_sub(free)),
        _ => Err(Error::Incomplete { what: "the number of inodes".into(), place: disk.display().to_string() }),
    }
}
