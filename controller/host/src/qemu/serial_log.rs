//! The log of a machine's serial port: everything it printed, bounded.
//!
//! QEMU holds the file open and cannot be told to reopen it, but it appends. So the log is rotated by copying it aside and
//! cutting it to nothing: QEMU goes on at the new end. What is printed between the two steps is lost; for a console log
//! that is a fair price for needing nothing of QEMU.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::machine::SERIAL_LOG;

/// The log's path.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(SERIAL_LOG)
}

/// The path of what was rotated away last.
pub fn previous_path(run_dir: &Path) -> PathBuf {
    run_dir.join(format!("{SERIAL_LOG}.1"))
}

/// Rotates the log when it is longer than `limit`; true when it was.
pub fn rotate(run_dir: &Path, limit: u64) -> io::Result<bool> {
    let log = path(run_dir);
    match fs::metadata(&log) {
        Ok(metadata) if metadata.len() > limit => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let partial = run_dir.join(format!("{SERIAL_LOG}.partial"));
    fs::copy(&log, &partial)?;
    OpenOptions::new().write(true).open(&log)?.set_len(0)?;
    fs::rename(partial, previous_path(run_dir))?;
    Ok(true)
}

/// The last `bytes` of the log.
pub fn tail(run_dir: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path(run_dir))?;
    let from = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_writer_that_appends_goes_on_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!rotate(dir.path(), 4).unwrap(), "no log yet");
        let mut qemu = OpenOptions::new().create(true).append(true).open(path(dir.path())).unwrap();
        qemu.write_all(b"first boot").unwrap();
        assert!(!rotate(dir.path(), 10).unwrap());
        assert!(rotate(dir.path(), 4).unwrap());
        qemu.write_all(b"second").unwrap();
        assert_eq!(fs::read(previous_path(dir.path())).unwrap(), b"first boot");
        assert_eq!(tail(dir.path(), 4).unwrap(), b"cond");
    }
}
