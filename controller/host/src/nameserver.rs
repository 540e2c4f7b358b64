//! The name server of one network on a host: a process of its own user that is handed its sockets.
//!
//! Like dnsmasq it outlives us and is adopted. Unlike dnsmasq it is our own program, so it needs nothing of root: the sockets
//! are made in the network's namespace by a thread that went there, and what it serves stands in files that it watches.
//!
//! ```text
//!  a file differs                                        ──► file replaced (it sees that by inotify)
//!  address, namespace, user or place is another one      ──► stop, start
//!  it died                                               ──► start
//! ```

use std::fs;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use process::{ProcessId, Record, Spawn};
use serde::{Deserialize, Serialize};

use crate::access;
use crate::link::{Change, Changes};
use crate::netns::{self, Namespace};

/// It ends at once when asked.
const GRACE: Duration = Duration::from_secs(5);
/// How long a predecessor's sockets may outlive it.
const RELEASE: Duration = Duration::from_secs(2);
const PORT: u16 = 53;
const RECORD: &str = "process.json";
const STARTED_WITH: &str = "started-with.json";

/// What can go wrong with a name server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The process could not be started or stopped.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// Its sockets could not be made.
    #[error("failed to listen for questions on {address}")]
    Listen {
        /// Address.
        address: IpAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("failed to {action} {path:?}")]
    File {
        /// What was tried.
        action: &'static str,
        /// File's path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Namespace(inner) => inner.category(),
            Error::Process(inner) => inner.category(),
            Error::Listen { .. } => "DnsNotServing",
            Error::File { .. } => "DnsFileFailed",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        match self {
            Error::Namespace(inner) => inner.retry(),
            Error::Process(inner) => inner.retry(),
            _ => true,
        }
    }

    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }
}

/// Result of this module's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where a name server listens, and what it is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Owner's UID.
    pub owner: String,
    /// Namespace of the network.
    pub namespace: Namespace,
    /// Addresses to listen on, which must be there.
    pub addresses: Vec<IpAddr>,
    /// Whether the process lives where we do, so that it reaches the machine's own resolvers; else with its sockets.
    pub outside: bool,
    /// Its directory. The user below must be able to reach it: its parents need mode `x` for others.
    pub state: PathBuf,
    /// User and group of this one alone.
    pub uid_gid: (u32, u32),
    /// Program.
    pub program: PathBuf,
    /// Arguments; the directory follows them.
    pub arguments: Vec<String>,
}

/// What a running one was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fingerprint {
    addresses: Vec<IpAddr>,
    namespace_inode: u64,
    outside: bool,
    user: (u32, u32),
}

impl Fingerprint {
    fn new(place: &Place) -> Fingerprint {
        let Place { addresses, outside, uid_gid, .. } = place;
        let namespace_inode = place.namespace.inode();
        Fingerprint { addresses: addresses.clone(), namespace_inode, outside: *outside, user: *uid_gid }
    }
}

/// Makes its directory, which it can read and nobody else can.
///
/// # Errors
/// [`Error::File`].
pub fn lay_out(state: &Path, (_, gid): (u32, u32)) -> Result<()> {
    let failed = || Error::file("set up", state);
    fs::create_dir_all(state).map_err(failed())?;
    access::ensure(state, 0, gid, 0o750).map(drop).map_err(failed())
}

/// Replaces one of the files it serves, if it differs; false when it does not.
///
/// # Errors
/// [`Error::File`].
pub fn write(state: &Path, name: &str, text: &str) -> Result<bool> {
    let path = state.join(name);
    if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    // The directory keeps others out.
    process::replace_file(&path, text, 0o644).map_err(Error::file("write", &path))?;
    Ok(true)
}

/// Makes the name server run as wanted. Its files are written before, by [`write`].
///
/// # Errors
/// What could not be done; nothing but the process is touched.
pub async fn ensure(place: &Place) -> Result<Changes> {
    let wanted = Fingerprint::new(place);
    let reason = match (observe(&place.state)?, started_with(&place.state)) {
        (None, _) => "it was not running",
        (Some(_), Some(had)) if had == wanted => return Ok(Changes::default()),
        (Some(_), Some(had)) if had.namespace_inode != wanted.namespace_inode => "the namespace is a new one",
        (Some(_), Some(had)) if had.addresses != wanted.addresses => "the network's addresses changed",
        (Some(_), _) => "its settings changed",
    };
    stop(&place.state, &place.owner).await?;
    start(place, &wanted).await?;
    let on: Vec<String> = place.addresses.iter().map(ToString::to_string).collect();
    Ok(Change::new("DnsStarted", format!("started the name server on {}: {reason}", on.join(", "))).into())
}

/// The running one.
///
/// # Errors
/// Its record cannot be read.
pub fn observe(state: &Path) -> Result<Option<ProcessId>> {
    Ok(Record::load(&state.join(RECORD))?.and_then(|record| record.running()))
}

fn started_with(state: &Path) -> Option<Fingerprint> {
    serde_json::from_slice(&fs::read(state.join(STARTED_WITH)).ok()?).ok()
}

/// Several hosts of one machine may serve one network, so the owner alone does not tell theirs from ours.
fn tag(owner: &str, state: &Path) -> String {
    format!("dns/{owner}@{}", state.display())
}

async fn stop(state: &Path, owner: &str) -> Result<bool> {
    let mut ids = process::find_owned(&tag(owner, state));
    // A record that cannot be read is as good as none: its process is found by its tag.
    let remembered = Record::load(&state.join(RECORD)).ok().flatten().and_then(|record| record.running());
    ids.extend(remembered.filter(|id| !ids.contains(id)));
    for id in &ids {
        id.terminate(GRACE).await?;
    }
    Ok(!ids.is_empty())
}

async fn start(place: &Place, wanted: &Fingerprint) -> Result<()> {
    let state = &place.state;
    let mut fds = Vec::new();
    for address in &place.addresses {
        let (udp, tcp) = sockets(place, *address).await?;
        fds.extend([udp, tcp]);
    }
    let tag = tag(&place.owner, state);
    let log = state.join("log");
    // What an earlier one said is of no use, and would grow for ever.
    let _ = fs::remove_file(&log);
    let mut args = place.arguments.clone();
    args.push(state.display().to_string());
    let spawn = Spawn {
        args,
        // As systemd hands sockets down, from descriptor 3 on.
        env: vec![("LISTEN_FDS".to_owned(), fds.len().to_string())],
        fds: fds.into_iter().zip(3..).collect(),
        uid_gid: Some(place.uid_gid),
        tag: tag.clone(),
        ..Spawn::new(&place.program, log)
    };
    let failed = Error::file("write", state);
    let text = serde_json::to_vec_pretty(wanted).map_err(|error| failed(error.into()))?;
    let path = state.join(STARTED_WITH);
    process::replace_file(&path, text, 0o600).map_err(Error::file("write", &path))?;
    let id = match place.outside {
        true => spawn.start()?,
        false => netns::enter(&place.namespace, move || spawn.start()).await??,
    };
    Ok(Record::new(id, place.program.display().to_string(), tag).save(&state.join(RECORD))?)
}

/// A predecessor counts as ended when its first thread has; its sockets go with the last one, a moment later.
async fn sockets(place: &Place, address: IpAddr) -> Result<(OwnedFd, OwnedFd)> {
    let start = Instant::now();
    loop {
        match netns::enter(&place.namespace, move || listen(address)).await? {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < RELEASE => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            made => return made.map_err(|source| Error::Listen { address, source }),
        }
    }
}

fn listen(address: IpAddr) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((UdpSocket::bind((address, PORT))?.into(), TcpListener::bind((address, PORT))?.into()))
}

/// Ends the name server of an owner and removes its directory. Absent is as good.
///
/// # Errors
/// What could not be ended or removed.
pub async fn remove(state: &Path, owner: &str) -> Result<Changes> {
    let stopped = stop(state, owner).await?;
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", state)(error)),
        _ if stopped => Ok(Change::new("DnsStopped", "stopped the name server").into()),
        _ => Ok(Changes::default()),
    }
}
