//! What is remembered of a process on disk, so that a later run of ours can adopt it.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, ProcessId, Result, write_atomic};

/// A process as remembered across restarts of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Which process.
    pub id: ProcessId,
    /// Boot in which it was started: start times begin anew with each.
    pub boot_id: String,
    /// Program it runs.
    pub program: String,
    /// Owner's tag, as in the process's environment.
    pub tag: String,
    /// When it was started (RFC 3339).
    pub started_at: String,
}

impl Record {
    /// A record of a process started just now.
    pub fn new(id: ProcessId, program: impl Into<String>, tag: impl Into<String>) -> Record {
        Record {
            id,
            boot_id: boot_id(),
            program: program.into(),
            tag: tag.into(),
            started_at: jiff::Timestamp::now().to_string(),
        }
    }

    /// Reads a record; `None` when there is no file.
    pub fn load(path: &Path) -> Result<Option<Record>> {
        let failed = |source| Error::Record { action: "read", path: path.to_owned(), source };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into()))
    }

    /// Writes the record whole.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |source| Error::Record { action: "write", path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        write_atomic(path, text, 0o600).map_err(failed)
    }

    /// The process, when it still runs.
    pub fn running(&self) -> Option<ProcessId> {
        (self.boot_id == boot_id() && self.id.is_alive()).then_some(self.id)
    }
}

/// An id of this boot of the machine; empty when the kernel does not tell.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Record {
        Record::new(ProcessId::of(std::process::id() as i32).unwrap(), "/bin/test", "a-tag")
    }

    #[test]
    fn a_record_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        assert_eq!(Record::load(&path).unwrap(), None);
        me().save(&path).unwrap();
        let loaded = Record::load(&path).unwrap().unwrap();
        assert_eq!((loaded.id, loaded.tag.as_str(), loaded.program.as_str()), (me().id, "a-tag", "/bin/test"));
        assert_eq!(loaded.running(), Some(me().id));
    }

    #[test]
    fn a_record_of_another_boot_runs_no_more() {
        assert_eq!(Record { boot_id: "another".into(), ..me() }.running(), None);
    }

    #[test]
    fn a_broken_record_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        fs::write(&path, "{").unwrap();
        assert!(Record::load(&path).unwrap_err().to_string().contains("process.json"));
    }
}
