//! A backup is a logical dump at one revision: lines of JSON, readable without us.
//!
//! ```text
//!   {"format": "clusterctl-backup/1", "prefix": "/registry/"}
//!   {"key": "secrets/default/a", "created": 71, "value": "…"}       or "bytes": base64, for what is not UTF-8
//!   …
//!   {"end": {"revision": 98, "resources": {"secrets": {"count": 1, "digest": "…"}}, "encryption_keys": ["5f0c…"]}}
//! ```
//!
//! Not a snapshot of etcd's file: this can be verified object by object, read by a person, and restored into any etcd
//! of any version and number of members. Values are as stored: encrypted ones stay so, and need their key file.
//! Revisions begin anew in the restored etcd; objects keep their uid and are made again in the order of their making.
//!
//! A restore marks the etcd before its first write and unmarks it after the last; one that was interrupted is begun
//! anew, and a server refuses to serve half of it.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Keeper, KeeperError, REQUEST, Summary};
use crate::failure::Failure;
use crate::keys::Keys;

const FORMAT: &str = "clusterctl-backup/1";

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Header { format: String, prefix: String },
    Entry(Saved),
    Trailer { end: Summary },
}

/// One key of a backup.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// Below the root prefix.
    key: String,
    created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

impl Saved {
    fn new(key: &str, created: u64, value: &[u8]) -> Self {
        let (value, bytes) = match std::str::from_utf8(value) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(value))),
        };
        Self { key: key.to_owned(), created, value, bytes }
    }

    fn stored(self) -> Option<Vec<u8>> {
        match (self.value, self.bytes) {
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(bytes)) => STANDARD.decode(bytes).ok(),
            _ => None,
        }
    }
}

/// A backup that was read and found whole.
struct Whole {
    prefix: String,
    /// Full key, revision of its making, stored value; in key order.
    entries: Vec<(String, u64, Vec<u8>)>,
    summary: Summary,
}

impl Keeper {
    /// Writes all objects to a file for its owner alone, which has its name only once it is whole and on disk.
    pub async fn backup(&self, path: &Path) -> Result<Summary, KeeperError> {
        let partial = path.with_file_name(format!(
            ".{}.partial",
            path.file_name().map_or_else(|| "backup".into(), |name| name.to_string_lossy())
        ));
        let failed = |action: &'static str| {
            let path = path.to_owned();
            move |source| KeeperError::File { action, path, source }
        };
        let mut options = File::options();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(&partial);
        let mut to = BufWriter::new(file.map_err(failed("write"))?);
        let written = match self.dump(&mut to).await {
            Ok(Ok(summary)) => to.flush().and_then(|()| to.get_ref().sync_all()).map(|()| summary),
            Ok(Err(error)) => Err(error),
            Err(error) => {
                let _ = std::fs::remove_file(&partial);
                return Err(error);
            }
        };
        let summary = written.and_then(|summary| std::fs::rename(&partial, path).map(|()| summary));
        summary.map_err(|error| {
            let _ = std::fs::remove_file(&partial);
            failed("write")(error)
        })
    }

    async fn dump(&self, to: &mut impl Write) -> Result<std::io::Result<Summary>, KeeperError> {
        let prefix = self.keys.prefix();
        let mut summary = Summary::default();
        let mut wrote = line(to, &Line::Header { format: FORMAT.to_owned(), prefix: prefix.to_owned() });
        let scanned = self.link.scan(prefix, true, |kv| {
            let Some(key) = kv.key_str().ok().filter(|key| !self.keys.is_internal(key)) else { return };
            summary.add(&self.keys, key, kv.value());
            if wrote.is_ok() {
                let saved = Saved::new(&key[prefix.len()..], kv.create_revision().unsigned_abs(), kv.value());
                wrote = line(to, &Line::Entry(saved));
            }
        });
        summary.revision = scanned.await.map_err(|failure| failure.of("list", self.options.timeout))?;
        summary.close();
        Ok(wrote.and_then(|()| line(to, &Line::Trailer { end: summary.clone() })).map(|()| summary))
    }

    /// Reads a backup and checks that it is whole.
    pub fn examine(path: &Path) -> Result<Summary, KeeperError> {
        Ok(read(path)?.summary)
    }

    /// Makes all objects of a backup in an empty etcd, and compares the result with the backup.
    pub async fn restore(&self, path: &Path) -> Result<Summary, KeeperError> {
        let mut whole = read(path)?;
        if whole.prefix != self.keys.prefix() {
            let why = format!("its keys are below {}", whole.prefix);
            return Err(Damaged(path.to_owned()).because(why));
        }
        self.begin().await?;
        whole.entries.sort_by_key(|(_, created, _)| *created);
        for (key, _, value) in whole.entries {
            self.put_new(key, value).await?;
        }
        let now = self.summary().await?;
        let differing = whole.summary.differing(&now);
        if !differing.is_empty() {
            return Err(KeeperError::Differs { differing: differing.join(", ") });
        }
        let unmark = Txn::new().and_then([TxnOp::delete(self.keys.restoring(), None)]);
        self.txn(unmark).await?;
        Ok(now)
    }

    /// Marks an empty etcd, or empties one that an interrupted restore has marked.
    async fn begin(&self) -> Result<(), KeeperError> {
        let (marker, prefix) = (self.keys.restoring(), self.keys.prefix());
        let mut marked = false;
        let mut count = 0;
        let scanned = self.link.scan(prefix, false, |kv| match kv.key_str() {
            Ok(key) if key == marker => marked = true,
            Ok(key) if self.keys.is_internal(key) => {}
            _ => count += 1,
        });
        scanned.await.map_err(|failure| failure.of("list", self.options.timeout))?;
        if count > 0 && !marked {
            return Err(KeeperError::NotEmpty { count });
        }
        let everything = etcd_client::DeleteOptions::new().with_prefix();
        // One transaction may not change a key twice, and the marker is below the prefix.
        self.txn(Txn::new().and_then([TxnOp::delete(prefix, Some(everything))])).await?;
        self.txn(Txn::new().and_then([TxnOp::put(marker, "", None)])).await
    }

    async fn put_new(&self, key: String, value: Vec<u8>) -> Result<(), KeeperError> {
        let absent = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
        self.txn(Txn::new().when([absent]).and_then([TxnOp::put(key, value, None)])).await
    }

    /// A transaction that may be sent twice: all of ours here may.
    async fn txn(&self, txn: Txn) -> Result<(), KeeperError> {
        let deadline = Instant::now() + REQUEST;
        let mut delays = crate::backoff::delays();
        loop {
            let failure: Failure = match self.link.txn(txn.clone(), deadline).await {
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            };
            let error = failure.of("restore", REQUEST);
            if !error.retry()
                || matches!(error, crate::Error::NoSpace)
                || !crate::backoff::pause(&mut delays, deadline).await
            {
                return Err(error.into());
            }
        }
    }
}

/// Reads a backup and checks it against its own end.
fn read(path: &Path) -> Result<Whole, KeeperError> {
    let failed = |source| KeeperError::File { action: "read", path: path.to_owned(), source };
    let damaged = Damaged(path.to_owned());
    let mut lines = BufReader::new(File::open(path).map_err(failed)?).lines();
    let first = lines.next().transpose().map_err(failed)?.unwrap_or_default();
    let prefix = match serde_json::from_str(&first) {
        Ok(Line::Header { format, prefix }) if format == FORMAT => prefix,
        Ok(Line::Header { format, .. }) => return Err(damaged.because(format!("its format is {format}"))),
        _ => return Err(damaged.because("it is no backup of clusterctl")),
    };
    let keys = Keys::new(&prefix);
    let (mut entries, mut found, mut told) = (Vec::new(), Summary::default(), None);
    for (number, text) in (2..).zip(lines) {
        let text = text.map_err(failed)?;
        let unreadable = || damaged.because(format!("line {number} cannot be read"));
        match serde_json::from_str(&text) {
            Ok(Line::Entry(saved)) if told.is_none() => {
                let (key, created) = (format!("{prefix}{}", saved.key), saved.created);
                let value = saved.stored().ok_or_else(unreadable)?;
                found.add(&keys, &key, &value);
                entries.push((key, created, value));
            }
            Ok(Line::Trailer { end }) if told.is_none() => told = Some(end),
            _ => return Err(unreadable()),
        }
    }
    found.close();
    let told: Summary = told.ok_or_else(|| damaged.because("its end is missing"))?;
    let differing = told.differing(&found);
    if !differing.is_empty() {
        return Err(damaged.because(format!("count or digest of {} is not as recorded", differing.join(", "))));
    }
    Ok(Whole { prefix, entries, summary: told })
}

fn line(to: &mut impl Write, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}

/// Says what is wrong with a file.
struct Damaged(PathBuf);

impl Damaged {
    fn because(&self, why: impl Into<String>) -> KeeperError {
        KeeperError::Damaged { path: self.0.clone(), why: why.into() }
    }
}
