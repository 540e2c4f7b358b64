//! Who asked for what, and what came of it: one line of JSON a request.
//!
//! No line has anything of a body in it. Requests never wait for the disk: lines go through a bounded channel to a
//! thread of their own, and what does not fit is dropped and counted. The files are bounded, too.
//!
//! ```text
//!   request ─► answer ─► line ─► channel ─► audit.log ─ full ─► audit.log.1 ─► … ─► gone
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use serde::Serialize;

/// Lines that wait for the disk.
const WAITING: usize = 8192;

/// Which requests are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Whatever changes something, and every reading of Secrets.
    Writes,
    /// All requests about objects.
    All,
}

/// Where the lines go.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// The newest file; older ones have `.1`, `.2`, … behind their name.
    pub path: PathBuf,
    /// Which requests.
    pub level: Level,
    /// Bytes of one file.
    pub size: u64,
    /// Older files kept.
    pub kept: usize,
}

impl AuditOptions {
    /// Five files of at most 16 MiB.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, level: Level) -> Self {
        Self { path: path.into(), level, size: 16 << 20, kept: 4 }
    }
}

/// One request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line<'a> {
    pub time: String,
    /// The answer's header `Audit-Id`.
    pub id: &'a str,
    pub user: &'a str,
    pub groups: &'a [String],
    pub verb: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subresource: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// The version that a write has made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<&'a str>,
    pub code: u16,
    /// Time until the answer began, in milliseconds; nobody waits for a chore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
}

/// The log; dropping it writes what waits.
pub(crate) struct Audit {
    level: Level,
    lines: Option<SyncSender<String>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Audit {
    /// Opens the file, so that one that cannot be written is told at the start.
    pub(crate) fn open(options: AuditOptions) -> io::Result<Self> {
        let mut log = Log::open(&options)?;
        let level = options.level;
        let (lines, waiting) = sync_channel::<String>(WAITING);
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || log.run(&waiting))?;
        Ok(Self { level, lines: Some(lines), writer: Some(writer) })
    }

    /// Whether a request with this verb about this resource is written down.
    pub(crate) fn wants(&self, verb: &str, group: &str, resource: &str) -> bool {
        let reads = matches!(verb, "get" | "list" | "watch");
        self.level == Level::All || !reads || (group.is_empty() && resource == "secrets")
    }

    /// Writes a line down; `false` when it was dropped because too many wait.
    pub(crate) fn write(&self, line: &Line<'_>) -> bool {
        let Ok(mut text) = serde_json::to_string(line) else { return false };
        text.push('\n');
        match self.lines.as_ref().map(|lines| lines.try_send(text)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => false,
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            // A writer that has panicked has nothing more to write.
            let _ = writer.join();
        }
    }
}

/// The files.
struct Log {
    options: AuditOptions,
    file: File,
    size: u64,
}

impl Log {
    fn open(options: &AuditOptions) -> io::Result<Self> {
        let file = File::options().create(true).append(true).mode(0o600).open(&options.path)?;
        let size = file.metadata()?.len();
        Ok(Self { options: options.clone(), file, size })
    }

    fn run(&mut self, lines: &Receiver<String>) {
        while let Ok(first) = lines.recv() {
            let mut text = first;
            while text.len() < 64 << 10
                && let Ok(more) = lines.try_recv()
            {
                text.push_str(&more);
            }
            if let Err(error) = self.append(&text) {
                tracing::error!(%error, path = %self.options.path.display(), "lines of the audit log are lost");
            }
        }
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        if self.size > 0 && self.size + text.len() as u64 > self.options.size {
            self.turn()?;
        }
        self.file.write_all(text.as_bytes())?;
        self.size += text.len() as u64;
        Ok(())
    }

    /// Moves every file one on; the oldest is overwritten.
    fn turn(&mut self) -> io::Result<()> {
        let path = &self.options.path;
        for number in (0..self.options.kept).rev() {
            let (from, to) = (numbered(path, number), numbered(path, number + 1));
            match std::fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.options.kept == 0 {
            std::fs::remove_file(path)?;
        }
        *self = Self::open(&self.options)?;
        Ok(())
    }
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    match number {
        0 => path.to_owned(),
        _ => PathBuf::from(format!("{}.{number}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> Line<'_> {
        Line {
            time: String::new(),
            id: "i",
            user: "u",
            groups: &[],
            verb: "create",
            group: "",
            version: "v1",
            resource: "secrets",
            subresource: None,
            namespace: Some("n"),
            name: Some(name),
            revision: None,
            code: 201,
            milliseconds: Some(0.5),
        }
    }

    #[test]
    fn files_are_turned_and_bounded_and_the_newest_lines_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let options = AuditOptions { size: 1000, kept: 2, ..AuditOptions::new(&path, Level::Writes) };
        for number in 0..100 {
            // One at a time, so that no batch is larger than a file.
            let audit = Audit::open(options.clone()).unwrap();
            assert!(audit.write(&line(&format!("name-{number}"))));
        }
        let sizes: Vec<u64> = (0..4).map(|n| std::fs::metadata(numbered(&path, n)).map_or(0, |m| m.len())).collect();
        assert!(sizes[..3].iter().all(|size| *size > 0 && *size <= 1000) && sizes[3] == 0, "{sizes:?}");
        let newest = std::fs::read_to_string(&path).unwrap();
        assert!(newest.lines().last().unwrap().contains("name-99"));
        assert!(newest.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn reads_of_secrets_are_always_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(AuditOptions::new(dir.path().join("a"), Level::Writes)).unwrap();
        assert!(audit.wants("list", "", "secrets") && audit.wants("patch", "x.dev", "ports"));
        assert!(!audit.wants("get", "", "configmaps") && !audit.wants("watch", "x.dev", "secrets"));
    }
}
