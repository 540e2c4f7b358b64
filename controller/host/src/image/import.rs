//! Takes a disk that somebody else made.
//!
//! Its bytes are a stranger's. They are copied and hashed here, but read as a format only by qemu-img, under a user that
//! owns nothing else, and after our own look at the header. What comes out is raw: nothing is left to interpret.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::contain::Contained;
use super::error::{Error, Result};
use super::hash::{digest_of, hex, key_of};
use super::progress::Report;
use super::qcow2;
use super::recipe::{DiskFormat, plain_digest};

/// Bytes of a file that hold a qcow2 header with all its extensions.
const HEADER_BYTES: u64 = 64 << 10;

/// Largest disk that is taken.
const MOST_BYTES: u64 = 4 << 40;

/// A disk that is to be taken.
#[derive(Clone, Debug)]
pub(super) struct ImportPlan {
    pub(super) key: String,
    path: PathBuf,
    sha256: String,
    format: DiskFormat,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
}

impl ImportPlan {
    pub(super) fn new(
        path: &Path,
        sha256: &str,
        format: DiskFormat,
        kernel: Option<&Path>,
        initrd: Option<&Path>,
    ) -> Result<ImportPlan> {
        let sha256 = plain_digest(sha256).to_ascii_lowercase();
        let boot =
            [kernel, initrd].into_iter().map(|path| path.map(digest_of).transpose()).collect::<Result<Vec<_>>>()?;
        Ok(ImportPlan {
            key: key_of("import", &(&sha256, format, boot)),
            path: path.to_owned(),
            sha256,
            format,
            kernel: kernel.map(Path::to_owned),
            initrd: initrd.map(Path::to_owned),
        })
    }

    /// Puts `disk.raw`, and kernel and initrd when there are any, into `partial`; answers the names of the files.
    pub(super) fn fill(
        &self,
        cache: &Cache,
        partial: &Path,
        user: (u32, u32),
        report: &Report,
    ) -> Result<Vec<&'static str>> {
        let size = fs::metadata(&self.path).map_err(Error::io("read", &self.path))?;
        if !size.is_file() || size.len() > MOST_BYTES {
            return Err(self.refused("it is no plain file, or larger than 4 TiB"));
        }
        cache.require_space(size.len())?;
        report.step(5, "copying the disk");
        let (name, raw) = match self.format {
            DiskFormat::Raw => ("disk.raw", true),
            DiskFormat::Qcow2 => ("source.qcow2", false),
        };
        let copy = partial.join(name);
        let found = copy_sparse(&self.path, &copy)?;
        if found != self.sha256 {
            return Err(Error::Digest { path: self.path.clone(), expected: self.sha256.clone(), found });
        }
        if !raw {
            report.step(40, "converting the disk");
            self.convert(partial, &copy, user)?;
        }
        let mut files = vec!["disk.raw"];
        for (name, source) in [("kernel", &self.kernel), ("initrd", &self.initrd)] {
            if let Some(source) = source {
                fs::copy(source, partial.join(name)).map_err(Error::io("copy", source))?;
                files.push(name);
            }
        }
        Ok(files)
    }

    fn convert(&self, partial: &Path, copy: &Path, (uid, gid): (u32, u32)) -> Result<()> {
        let mut header = Vec::new();
        File::open(copy)
            .and_then(|file| file.take(HEADER_BYTES).read_to_end(&mut header))
            .map_err(Error::io("read", copy))?;
        let size = qcow2::inspect(&header).map_err(|reason| self.refused(&reason))?;
        if size > MOST_BYTES {
            return Err(self.refused("its disk is larger than 4 TiB"));
        }
        // A directory of the converter's own; relative names spare it the way through ours, which it may not go.
        let work = partial.join("convert");
        fs::create_dir(&work).map_err(Error::io("create", &work))?;
        let source = work.join("source.qcow2");
        fs::rename(copy, &source).map_err(Error::io("move", copy))?;
        for path in [&work, &source] {
            chown(path, Some(uid), Some(gid)).map_err(Error::io("hand over", path))?;
        }
        Contained::as_user("convert the disk", "qemu-img", (uid, gid))?
            .current_dir(&work)
            .args(["convert", "-f", "qcow2", "-O", "raw", "-S", "64k", "source.qcow2", "disk.raw"])
            .run()
            .map_err(|error| match error {
                Error::Step { output, .. } => self.refused(&format!("it is damaged: {output}")),
                other => other,
            })?;
        let disk = partial.join("disk.raw");
        fs::rename(work.join("disk.raw"), &disk).map_err(Error::io("move", &disk))?;
        chown(&disk, Some(0), Some(0)).map_err(Error::io("take over", &disk))
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Refused { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// Copies a file, leaving holes for zeros, and answers the digest of all its bytes.
fn copy_sparse(from: &Path, to: &Path) -> Result<String> {
    let mut source = File::open(from).map_err(Error::io("open", from))?;
    let mut copy = OpenOptions::new().write(true).create_new(true).open(to).map_err(Error::io("create", to))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let n = source.read(&mut buffer).map_err(Error::io("read", from))?;
        if n == 0 {
            break;
        }
        let chunk = &buffer[..n];
        hasher.update(chunk);
        length += n as u64;
        let written = match chunk.iter().all(|byte| *byte == 0) {
            true => copy.seek(SeekFrom::Current(n as i64)).map(|_| ()),
            false => copy.write_all(chunk),
        };
        written.map_err(Error::io("write", to))?;
    }
    copy.set_len(length).map_err(Error::io("size", to))?;
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_sparse_copy_is_equal_and_small() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let mut bytes = vec![0; 8 << 20];
        bytes[5 << 20] = 7;
        fs::write(&from, &bytes).unwrap();
        let digest = copy_sparse(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), bytes);
        assert_eq!(digest, digest_of(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
    }
}
