//! Disks as files: overlays over images, volumes, and images that come from elsewhere.
//!
//! What is being made is called `….partial` and renamed when whole, so a file with its proper name is a whole file, and
//! making it again after a crash at any point starts afresh. Nothing here opens an image with a program that would
//! follow what the image says.

pub mod qcow2;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::qemu::machine::DiskFormat;
use crate::qemu::reach::Identity;

/// Space that must be left after anything is made: volumes are sparse, and a host that is full to the last byte stops
/// every machine at once.
const HEADROOM: u64 = 256 << 20;
/// Bytes of a file in which everything that judges it stands.
const HEAD: u64 = 4096;

/// Why a disk could not be made, taken or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step on a file failed.
    #[error("failed to {action} {path:?}")]
    File {
        /// The step.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// There is no room.
    #[error(
        "{path:?} needs {needed} MiB of free space and there are {free} MiB: free some space or use another data directory"
    )]
    NoSpace {
        /// What was to be made.
        path: PathBuf,
        /// MiB needed.
        needed: u64,
        /// MiB there.
        free: u64,
    },
    /// The base cannot be put under an overlay.
    #[error("{path:?} cannot be the base of an overlay: its size or its name is out of bounds")]
    Base {
        /// The base.
        path: PathBuf,
    },
    /// An image from elsewhere is not taken.
    #[error("the image {path:?} is refused")]
    Refused {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: Untrusted,
    },
    /// A program is missing.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A program failed.
    #[error("{program} failed on {path:?}: {output}")]
    Program {
        /// The program.
        program: &'static str,
        /// On what.
        path: PathBuf,
        /// What it printed.
        output: String,
    },
}

/// Why an image from elsewhere is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It would show the guest another file.
    #[error("it has a backing file; flatten it with `qemu-img convert` first")]
    BackingFile,
    /// It would write into another file.
    #[error("it keeps its data in another file; convert it with `qemu-img convert` first")]
    DataFile,
    /// It is not what it says.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is not the format that was declared.
    #[error("it was declared as {declared} and is not")]
    OtherFormat {
        /// The format declared.
        declared: &'static str,
    },
    /// Its bytes are not the ones expected.
    #[error("its digest is sha256:{found}, not sha256:{expected}")]
    Digest {
        /// The digest declared.
        expected: String,
        /// The digest found.
        found: String,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::NoSpace { .. } => "NoSpace",
            Error::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => "NoSpace",
            Error::File { .. } => "FileFailed",
            Error::Base { .. } => "InvalidBase",
            Error::Refused { .. } => "ImageRefused",
            Error::Process(error) => error.category(),
            Error::Program { .. } => "ProgramFailed",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        !matches!(self, Error::Base { .. } | Error::Refused { .. })
    }
}

/// An ext4 file system to be made in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext4 {
    /// Its UUID; also seeds its hashes, so that equal wishes make equal volumes.
    pub uuid: Uuid,
    /// Its label, at most 16 bytes.
    pub label: String,
}

/// Makes a qcow2 overlay over `base` unless it is there; true when it was made.
///
/// The overlay is as large as its base, or as `size` when that is more. It names its base by path: the base must stay
/// where it is, and `owner` must be able to read it.
pub fn ensure_overlay(
    base: &Path,
    base_format: DiskFormat,
    path: &Path,
    size: Option<u64>,
    owner: Option<Identity>,
) -> Result<bool, Error> {
    if exists(path)? {
        return Ok(false);
    }
    let bad_base = || Error::Base { path: base.to_owned() };
    let base_size = match base_format {
        DiskFormat::Raw => fs::metadata(base).map_err(failed("look at", base))?.len(),
        DiskFormat::Qcow2 => qcow2::size(&head(base)?).ok_or_else(bad_base)?,
    };
    let size = size.unwrap_or_default().max(base_size);
    let bytes = qcow2::render_overlay(base, base_format.as_str(), size).ok_or_else(bad_base)?;
    check_space(path, bytes.len() as u64)?;
    make(path, owner, |partial, file| file.write_all(&bytes).map_err(failed("write", partial)))?;
    Ok(true)
}

/// Makes a sparse raw volume unless it is there; true when it was made. One that is there is never made smaller or
/// formatted again; when more bytes are wanted than it has, it grows.
pub fn ensure_volume(path: &Path, size: u64, ext4: Option<&Ext4>, owner: Option<Identity>) -> Result<bool, Error> {
    if exists(path)? {
        let file = OpenOptions::new().write(true).open(path).map_err(failed("open", path))?;
        let present = file.metadata().map_err(failed("look at", path))?.len();
        if present < size {
            file.set_len(size).map_err(failed("grow", path))?;
        }
        return Ok(false);
    }
    // The blocks come as they are written; a file system's own are about a fiftieth.
    check_space(path, size / 50)?;
    make(path, owner, |partial, file| {
        file.set_len(size).map_err(failed("size", partial))?;
        ext4.map_or(Ok(()), |ext4| format(partial, ext4))
    })?;
    Ok(true)
}

/// The base of an overlay of ours; `None` when the file is something else.
pub fn base_of(path: &Path) -> Result<Option<PathBuf>, Error> {
    Ok(qcow2::base(&head(path)?))
}

/// Removes a disk, whole or half-made.
pub fn remove(path: &Path) -> Result<(), Error> {
    for path in [path.to_owned(), partial(path)] {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(source));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Judges an image from elsewhere by its header; the size of its disk when it may be used.
pub fn check_untrusted(path: &Path, declared: DiskFormat) -> Result<u64, Error> {
    let refused = |source| Error::Refused { path: path.to_owned(), source };
    let head = head(path)?;
    match (declared, qcow2::is_qcow2(&head)) {
        (DiskFormat::Qcow2, true) => qcow2::check_header(&head).map_err(refused),
        (DiskFormat::Raw, false) => match fs::metadata(path).map_err(failed("look at", path))?.len() {
            0 => Err(refused(Untrusted::Malformed("it is empty"))),
            size => Ok(size),
        },
        // A qcow2 image used as a raw disk works, but is never what was meant.
        (declared, _) => Err(refused(Untrusted::OtherFormat { declared: declared.as_str() })),
    }
}

/// SHA-256 of a file, in hexadecimal digits.
pub fn digest(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(failed("read", path))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Refuses a file whose digest is not the one expected (with or without `sha256:` before it).
pub fn check_digest(path: &Path, expected: &str) -> Result<(), Error> {
    let expected = expected.trim_start_matches("sha256:").to_ascii_lowercase();
    let found = digest(path)?;
    if found == expected {
        return Ok(());
    }
    let source = Untrusted::Digest { expected, found };
    Err(Error::Refused { path: path.to_owned(), source })
}

/// Refuses to make `path` when `bytes` more would not leave the host some headroom.
pub fn check_space(path: &Path, bytes: u64) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).map_err(failed("create the directory", dir))?;
    let there = rustix::fs::statvfs(dir).map_err(|errno| failed("look at", dir)(errno.into()))?;
    let free = there.f_bavail.saturating_mul(there.f_frsize);
    let needed = bytes.saturating_add(HEADROOM);
    match free >= needed {
        true => Ok(()),
        false => Err(Error::NoSpace { path: path.to_owned(), needed: needed >> 20, free: free >> 20 }),
    }
}

fn make(
    path: &Path,
    owner: Option<Identity>,
    fill: impl FnOnce(&Path, &mut File) -> Result<(), Error>,
) -> Result<(), Error> {
    let partial = partial(path);
    let made = fill_new(&partial, owner, fill).and_then(|()| fs::rename(&partial, path).map_err(failed("name", path)));
    if made.is_err() {
        // The error worth telling is the one above; the next attempt replaces what is left.
        let _ = fs::remove_file(&partial);
    }
    made
}

fn fill_new(
    partial: &Path,
    owner: Option<Identity>,
    fill: impl FnOnce(&Path, &mut File) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(partial).map_err(failed("create", partial))?;
    fill(partial, &mut file)?;
    if let Some(owner) = owner {
        chown(partial, Some(owner.uid), Some(owner.gid)).map_err(failed("hand over", partial))?;
    }
    file.sync_all().map_err(failed("write", partial))
}

fn format(path: &Path, ext4: &Ext4) -> Result<(), Error> {
    const PROGRAM: &str = "mkfs.ext4";
    let program = process::find_program(PROGRAM, "CLUSTERCTL_MKFS_EXT4")?;
    let features = format!("hash_seed={},root_owner=0:0,lazy_itable_init=1", ext4.uuid);
    let output = Command::new(program)
        .args(["-q", "-F", "-U", &ext4.uuid.to_string(), "-L", &ext4.label, "-E", &features])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(failed("format", path))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Program {
            program: PROGRAM,
            path: path.to_owned(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}

fn head(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed("open", path))?;
    file.take(HEAD).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(bytes)
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(failed("look at", path))
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}
