//! An instance: everything one controller keeps, below one directory.
//!
//! ```text
//!  DIR/instance              eight hex digits that tag whatever this instance makes on the machine
//!  DIR/kubeconfig            the administrator's way in (a link to server/kubeconfig, 0600)
//!  DIR/pki/                  authority and leaf certificates
//!  DIR/etcd/                 etcd's data
//!  DIR/server/               the server's port and record, artifacts of test runs
//!  DIR/hosts/NAME/           what the agent of that host keeps
//!  DIR/underlay/             which host has which address among those of this machine
//!  DIR/cache/images/         built images; the only thing that `clean` leaves
//!  DIR/logs/                 one log a process
//! ```

pub mod credentials;

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The directory of an instance, open for use.
#[derive(Clone, Debug)]
pub struct Instance {
    dir: PathBuf,
    id: String,
}

impl Instance {
    /// Opens the directory, making it and the instance's identity when they are missing.
    pub fn create(dir: &Path) -> Result<Self> {
        // QEMU and dnsmasq run under uids of their own and must reach their files below, so the way down is open to
        // pass through (not to list), and each of them owns its own directory.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(dir)
            .with_context(|| format!("failed to make the data directory {}", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("failed to resolve {}", dir.display()))?;
        let mode = std::fs::metadata(&dir)
            .with_context(|| format!("failed to look at {}", dir.display()))?
            .permissions()
            .mode();
        if mode & 0o777 != 0o711 {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711))
                .with_context(|| format!("failed to open {} to the machines' processes", dir.display()))?;
        }
        let path = dir.join("instance");
        if !path.exists() {
            let id = uuid::Uuid::new_v4().simple().to_string();
            process::write_atomic(&path, &id.as_bytes()[..8], 0o644)
                .context("failed to store the instance's identity")?;
        }
        let link = dir.join("kubeconfig");
        match std::os::unix::fs::symlink("server/kubeconfig", &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists && rustix::process::geteuid().is_root() => {
                return Err(error).with_context(|| format!("failed to make {}", link.display()));
            }
            // The server, which may not write here, finds what `up` made.
            _ => {}
        }
        Self::open(&dir)
    }

    /// Opens the directory of an instance that exists.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("instance");
        let id = match std::fs::read_to_string(&path) {
            Ok(id) => id.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("no instance in {}: run `clusterctl up` first, or pass --data-dir", dir.display())
            }
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        };
        if id.len() != 8 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!("{} does not hold an instance's identity: restore or delete it", path.display());
        }
        Ok(Self { dir: dir.to_owned(), id })
    }

    /// The instance's tag.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file or directory below.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// The log of one of our processes; its directory is made.
    pub fn log(&self, process: &str) -> Result<PathBuf> {
        let dir = self.path("logs");
        std::fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        Ok(dir.join(format!("{process}.log")))
    }

    /// The last line of the log of one of our processes: why it ended.
    pub fn last_words(&self, process: &str) -> Result<String> {
        let log = self.log(process)?;
        let text = std::fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no log yet");
        Ok(format!("{line} ({})", log.display()))
    }

    /// The record of one of our processes.
    pub fn record(&self, process: &str) -> Result<PathBuf> {
        let dir = self.path("server");
        std::fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        Ok(dir.join(format!("{process}.json")))
    }

    /// Names of the hosts that have had an agent here.
    pub fn hosts(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path("hosts"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Holds `name` for this process alone, until the file is dropped.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.record(name)?.with_extension("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("failed to open {}", path.display()))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                bail!("another {name} already uses {}: stop it, or pass another --data-dir", self.dir.display())
            }
            Err(error) => Err(error).with_context(|| format!("failed to lock {}", path.display())),
        }
    }
}
