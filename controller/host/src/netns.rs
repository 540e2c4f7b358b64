//! Network namespaces: the rooms in which a host keeps what it runs, so that the machine's own network stays untouched.
//!
//! A host has one *underlay* namespace and one *child* namespace per routing domain. They are bind mounts in
//! `/run/netns`, so they outlive us and `ip netns` shows them, and their names carry whose they are
//! ([`namespace_name`]), so a later run can tell ours from everybody else's.
//!
//! A thread that has entered a namespace must never go back to a pool: a tokio worker would carry the namespace on into
//! other people's tasks. So every action runs on a plain thread of its own ([`run_in`]), which hands back sockets and
//! children: those stay in the namespace they were made in, and only those.
//!
//! When somebody removes a name, the namespace lives on as long as a process or descriptor is in it; so what still runs
//! there is not lost, and [`Namespaces::restore`] gives it its name again.

mod enter;
mod mount;
mod name;

pub use enter::{check_tcp, connect_tcp, enter, listen_tcp, run_in};
pub use name::{namespace_name, short_id};

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::link::{Change, Changes, Links};
use crate::nft::Memory;

/// What can go wrong with a namespace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name would not be a plain file name.
    #[error(
        "{name:?} cannot name a network namespace: use 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit"
    )]
    InvalidName {
        /// Name given.
        name: String,
    },
    /// The namespace is not there.
    #[error("there is no network namespace {name:?}")]
    NotFound {
        /// Namespace's name.
        name: String,
    },
    /// The kernel refused.
    #[error("failed to {action} network namespace {name:?}")]
    Namespace {
        /// What was tried.
        action: &'static str,
        /// Namespace's name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A socket could not be made or used inside.
    #[error("failed to {action} {address} in network namespace {name:?}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Address meant.
        address: std::net::SocketAddr,
        /// Namespace's name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The loopback interface could not be brought up.
    #[error("failed to bring up the loopback interface of network namespace {name:?}")]
    Loopback {
        /// Namespace's name.
        name: String,
        /// Cause.
        #[source]
        source: Box<crate::link::Error>,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::InvalidName { .. } => "NamespaceNameInvalid",
            Error::NotFound { .. } => "NamespaceNotFound",
            Error::Namespace { .. } | Error::Loopback { .. } => "NamespaceFailed",
            Error::Socket { .. } => "NamespaceSocketFailed",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        !matches!(self, Error::InvalidName { .. })
    }
}

/// Result of this module's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A network namespace held open: it exists as long as this does, whatever becomes of its name.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: Arc<str>,
    file: Arc<File>,
    inode: u64,
    filter: Arc<Memory>,
}

impl Namespace {
    /// The namespace that a process is in.
    pub fn of_process(pid: i32) -> Result<Namespace> {
        let name = format!("of process {pid}");
        Namespace::open(Path::new(&format!("/proc/{pid}/ns/net")), &name)
    }

    fn open(path: &Path, name: &str) -> Result<Namespace> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { name: name.to_owned() },
            _ => Error::Namespace { action: "open", name: name.to_owned(), source },
        };
        let file = File::open(path).map_err(failed)?;
        if !mount::is_namespace(&file).map_err(failed)? {
            // The file was made but the namespace not yet mounted on it (or no longer).
            return Err(Error::NotFound { name: name.to_owned() });
        }
        let inode = file.metadata().map_err(failed)?.ino();
        Ok(Namespace { name: name.into(), file: Arc::new(file), inode, filter: Arc::default() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel knows it by: another namespace that was later given the same name has another one.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// What its packet filter was seen to be, by all who hold it open with this same handle.
    pub(crate) fn filter_memory(&self) -> &Memory {
        &self.filter
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The named namespaces of this machine.
#[derive(Clone, Debug)]
pub struct Namespaces {
    directory: PathBuf,
}

impl Default for Namespaces {
    fn default() -> Self {
        Namespaces { directory: PathBuf::from("/run/netns") }
    }
}

impl Namespaces {
    /// Makes the namespace unless it is there, with its loopback interface up.
    ///
    /// A new one forwards nothing and configures no IPv6 address by itself: what it routes is decided here, not by
    /// whoever sends a router advertisement.
    pub async fn ensure(&self, name: &str) -> Result<(Namespace, Changes)> {
        self.ensure_from(name, None).await
    }

    /// Gives a namespace that lost its name the name again; like [`Namespaces::ensure`] when the name is there.
    pub async fn restore(&self, name: &str, lost: &Namespace) -> Result<(Namespace, Changes)> {
        self.ensure_from(name, Some(lost.clone())).await
    }

    async fn ensure_from(&self, name: &str, origin: Option<Namespace>) -> Result<(Namespace, Changes)> {
        let path = self.path(name)?;
        let mut changes = Changes::default();
        let namespace = match Namespace::open(&path, name) {
            Ok(there) => there,
            Err(Error::NotFound { .. }) => {
                let (verb, reason) = match origin {
                    None => ("made", "NamespaceCreated"),
                    Some(_) => ("named again", "NamespaceRestored"),
                };
                let failed = |source| Error::Namespace { action: "make", name: name.to_owned(), source };
                let (directory, target) = (self.directory.clone(), path.clone());
                enter::off_runtime(move || mount::make(&directory, &target, origin.as_ref()))
                    .await
                    .and_then(|made| made)
                    .map_err(failed)?;
                changes.push(Change::new(reason, format!("{verb} network namespace {name}")));
                Namespace::open(&path, name)?
            }
            Err(other) => return Err(other),
        };
        let failed = |source| Error::Loopback { name: name.to_owned(), source: Box::new(source) };
        let links = Links::open(&namespace).await?;
        changes.extend(links.ensure_loopback().await.map_err(failed)?);
        Ok((namespace, changes))
    }

    /// Opens a namespace that is there.
    pub fn open(&self, name: &str) -> Result<Namespace> {
        Namespace::open(&self.path(name)?, name)
    }

    /// Removes the name, and with it the namespace and all its links once no process is in it any more.
    pub async fn delete(&self, name: &str) -> Result<Changes> {
        let path = self.path(name)?;
        let failed = |source| Error::Namespace { action: "delete", name: name.to_owned(), source };
        let was_there = enter::off_runtime(move || mount::remove(&path)).await.and_then(|done| done).map_err(failed)?;
        Ok(match was_there {
            true => Change::new("NamespaceDeleted", format!("deleted network namespace {name}")).into(),
            false => Changes::default(),
        })
    }

    /// Names that begin so, in order.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let failed = |source| Error::Namespace { action: "list", name: format!("{prefix}*"), source };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            names.extend(name.to_str().filter(|name| name.starts_with(prefix)).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Processes that are in the namespace, so that a deletion can tell what still holds it.
    pub fn occupants(&self, namespace: &Namespace) -> Vec<i32> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let metadata = fs::metadata(format!("/proc/{pid}/ns/net"));
                metadata.is_ok_and(|metadata| metadata.ino() == namespace.inode)
            })
            .collect()
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        match name::is_valid(name) {
            true => Ok(self.directory.join(name)),
            false => Err(Error::InvalidName { name: name.to_owned() }),
        }
    }
}
