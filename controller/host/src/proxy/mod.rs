//! Requests to a service, shared out among backends: layer 7, by HAProxy.
//!
//! One process for each network and host that needs it, in the network's namespace, as a user of its own. It listens at services'
//! addresses, which the bridge has, and speaks to backends under its clients' addresses; how it gets their answers is told at
//! [`crate::balancer`]. It has two capabilities: to listen at low ports, and to speak under addresses that are not the bridge's.
//!
//! Like dnsmasq it outlives us and is adopted. A changed configuration is a new process that is handed the listening sockets by the
//! one before; that one answers what it was asked and ends. At no time is there nobody who listens.
//!
//! ```text
//!  its configuration differs                ──► a new process takes the sockets, the one before it finishes
//!  namespace or user is another one         ──► stop, start
//!  it died                                  ──► start
//! ```

mod config;
mod render;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::chown;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant};

use config::CERTIFICATES;
use process::{ProcessId, Record, Spawn};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::access;
use crate::link::{Change, Changes};
use crate::netns::{self, Namespace};

pub use config::{Certificate, Hostname, Invalid, Listener, Path, Pool, Proxy, Route, Server};

/// The program.
pub const PROGRAM: &str = "haproxy";
/// Environment variable that names another one.
pub const PROGRAM_VARIABLE: &str = "CLUSTERCTL_HAPROXY";

/// What it takes to listen at any port and to speak under clients' addresses.
const CAPABILITIES: &str = "-all,+net_bind_service,+net_raw";
const GRACE: Duration = Duration::from_secs(5);
/// A loaded machine may take its time to start a program.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Where it is asked how it does, and hands over its sockets; as seen from its directory, for such a path may have but few bytes.
const SOCKET: &str = "./run/admin.sock";
const CONFIG: &str = "haproxy.cfg";
const LOG: &str = "log";
const RECORD: &str = "process.json";
const STARTED_WITH: &str = "started-with.json";
const LOG_TAIL: usize = 600;

/// What can go wrong with a proxy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The process could not be started or stopped.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// It ended at once.
    #[error("HAProxy ended as it was started: {log}")]
    Died {
        /// The end of what it said.
        log: String,
    },
    /// It does not answer.
    #[error("HAProxy did not begin to serve within {seconds} s: {log}")]
    NotServing {
        /// How long was waited.
        seconds: u64,
        /// The end of what it said.
        log: String,
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
            Error::Died { .. } | Error::NotServing { .. } => "ProxyNotServing",
            Error::File { .. } => "ProxyFileFailed",
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

    fn file(action: &'static str, path: &FilePath) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }
}

/// Result of this module's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where a proxy runs, and as whom.
#[derive(Clone, Debug)]
pub struct Place {
    /// Owner's UID.
    pub owner: String,
    /// Namespace of the network.
    pub namespace: Namespace,
    /// Its directory. The user below must be able to reach it: its parents need mode `x` for others.
    pub state: PathBuf,
    /// User and group of this one alone.
    pub uid_gid: (u32, u32),
    /// HAProxy.
    pub program: PathBuf,
}

/// What a running one was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fingerprint {
    namespace_inode: u64,
    user: (u32, u32),
    config: String,
}

impl Fingerprint {
    fn new(place: &Place, text: &str) -> Fingerprint {
        let digest = Sha256::digest(text.as_bytes());
        let config = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Fingerprint { namespace_inode: place.namespace.inode(), user: place.uid_gid, config }
    }
}

/// Makes the proxy run as wanted.
///
/// # Errors
/// What could not be done. A process that ran before goes on as it was when only its configuration was to be another one.
pub async fn ensure(place: &Place, wanted: &Proxy) -> Result<Changes> {
    let text = wanted.text();
    let print = Fingerprint::new(place, &text);
    let (running, had) = (observe(&place.state)?, started_with(&place.state));
    let (running, had) = match (running, had) {
        (Some(_), Some(had)) if had == print => return Ok(Changes::default()),
        (running, had) => (running, had),
    };
    let same_place = had.is_some_and(|had| (had.namespace_inode, had.user) == (print.namespace_inode, print.user));
    let before = running.filter(|_| same_place);
    lay_out(place)?;
    put_certificates(place, wanted)?;
    if before.is_none() {
        stop(&place.state, &place.owner).await?;
    }
    start(place, &text, &print, before).await?;
    let said = match (before, running) {
        (Some(_), _) => return Ok(Change::new("ProxyChanged", "changed the HTTP proxy").into()),
        (None, Some(_)) => "its place is another one",
        (None, None) => "it was not running",
    };
    Ok(Change::new("ProxyStarted", format!("started the HTTP proxy: {said}")).into())
}

/// The running one.
///
/// # Errors
/// Its record cannot be read.
pub fn observe(state: &FilePath) -> Result<Option<ProcessId>> {
    Ok(Record::load(&state.join(RECORD))?.and_then(|record| record.running()))
}

fn started_with(state: &FilePath) -> Option<Fingerprint> {
    serde_json::from_slice(&fs::read(state.join(STARTED_WITH)).ok()?).ok()
}

/// Several hosts of one machine may serve one network, so the owner alone does not tell theirs from ours.
fn tag(owner: &str, state: &FilePath) -> String {
    format!("haproxy/{owner}@{}", state.display())
}

/// Its directory, which it can read and nobody else can, and one in it that is its own.
fn lay_out(place: &Place) -> Result<()> {
    let (state, (uid, gid)) = (&place.state, place.uid_gid);
    let run = state.join("run");
    let failed = || Error::file("set up", state);
    fs::create_dir_all(&run).map_err(failed())?;
    for (dir, owner, mode) in [(state, 0, 0o750), (&run, uid, 0o700)] {
        access::ensure(dir, owner, gid, mode).map_err(failed())?;
    }
    Ok(())
}

/// The certificates that it is to show, and no others: what runs has read its own. They are for the proxy's user alone, who cannot add
/// to them. That they are there before they are that user's harms nobody.
fn put_certificates(place: &Place, wanted: &Proxy) -> Result<()> {
    let (state, dir) = (&place.state, place.state.join(CERTIFICATES));
    let (uid, gid) = place.uid_gid;
    let mut kept = BTreeSet::new();
    if wanted.certificates().next().is_some() {
        fs::create_dir_all(&dir).map_err(Error::file("make", &dir))?;
        access::ensure(&dir, 0, gid, 0o750).map_err(Error::file("set up", &dir))?;
    }
    for one in wanted.certificates() {
        let path = state.join(one.path());
        if kept.insert(path.clone()) {
            process::replace_file(&path, one.pem().as_bytes(), 0o600).map_err(Error::file("write", &path))?;
            chown(&path, Some(uid), Some(gid)).map_err(Error::file("set up", &path))?;
        }
    }
    // A name that is not one of theirs is what an interrupted write left.
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if !kept.contains(&entry) {
            fs::remove_file(&entry).map_err(Error::file("remove", &entry))?;
        }
    }
    Ok(())
}

/// Ends it and all that were before it and have not finished; false when there was none.
async fn stop(state: &FilePath, owner: &str) -> Result<bool> {
    let mut ids = process::find_owned(&tag(owner, state));
    // A record that cannot be read is as good as none: its process is found by its tag.
    let remembered = Record::load(&state.join(RECORD)).ok().flatten().and_then(|record| record.running());
    ids.extend(remembered.filter(|id| !ids.contains(id)));
    for id in &ids {
        id.terminate(GRACE).await?;
    }
    Ok(!ids.is_empty())
}

/// Starts one; if there is one before it takes its sockets, and tells it to finish, and whoever else was forgotten when we died.
async fn start(place: &Place, text: &str, print: &Fingerprint, before: Option<ProcessId>) -> Result<()> {
    let state = &place.state;
    let write = |name: &str, text: &[u8], mode| {
        let path = state.join(name);
        process::replace_file(&path, text, mode).map_err(Error::file("write", &path))
    };
    // The directory keeps others out.
    write(CONFIG, text.as_bytes(), 0o644)?;
    let log = state.join(LOG);
    // What an earlier one said would be taken for this one's, and would grow for ever.
    let _ = fs::remove_file(&log);
    let tag = tag(&place.owner, state);
    let before = if before.is_some() { process::find_owned(&tag) } else { Vec::new() };
    let spawn = Spawn {
        args: arguments(place, &before),
        cwd: Some(state.clone()),
        tag: tag.clone(),
        ..Spawn::new(process::find_program("setpriv", "CLUSTERCTL_SETPRIV")?, &log)
    };
    let id = netns::enter(&place.namespace, move || spawn.start()).await??;
    if let Err(error) = wait_until_serving(id, state).await {
        // The one before is told to finish only by one that has the sockets, so it is as it was.
        id.terminate(GRACE).await?;
        return Err(error);
    }
    Record::new(id, place.program.display().to_string(), tag).save(&state.join(RECORD))?;
    let print = serde_json::to_vec_pretty(print).map_err(|error| Error::file("write", state)(error.into()))?;
    write(STARTED_WITH, &print, 0o600)
}

fn arguments(place: &Place, before: &[ProcessId]) -> Vec<String> {
    let (uid, gid) = place.uid_gid;
    let mut arguments = vec![
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        "--clear-groups".to_owned(),
        format!("--inh-caps={CAPABILITIES}"),
        format!("--ambient-caps={CAPABILITIES}"),
        format!("--bounding-set={CAPABILITIES}"),
        "--no-new-privs".to_owned(),
        "--".to_owned(),
        place.program.display().to_string(),
        "-db".to_owned(),
        "-f".to_owned(),
        CONFIG.to_owned(),
    ];
    if !before.is_empty() {
        arguments.extend(["-x", SOCKET, "-sf"].map(str::to_owned));
        arguments.extend(before.iter().map(|id| id.pid.to_string()));
    }
    arguments
}

/// Returns once it is the one who answers at its socket: then it has all others, too.
async fn wait_until_serving(id: ProcessId, state: &FilePath) -> Result<()> {
    let start = Instant::now();
    loop {
        if pid_of_answerer(state).await.ok().flatten() == Some(id.pid) {
            return Ok(());
        }
        if !id.is_alive() {
            return Err(Error::Died { log: tail(state) });
        }
        if start.elapsed() > START_DEADLINE {
            return Err(Error::NotServing { seconds: START_DEADLINE.as_secs(), log: tail(state) });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Who answers there: while one takes over from another, either may.
async fn pid_of_answerer(state: &FilePath) -> io::Result<Option<i32>> {
    let dir = File::open(state)?;
    let short = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    let asked = async {
        let mut stream = UnixStream::connect(short).await?;
        stream.write_all(b"show info\n").await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok(said.lines().find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok()))
    };
    tokio::time::timeout(Duration::from_secs(1), asked).await?
}

fn tail(state: &FilePath) -> String {
    let text = String::from_utf8_lossy(&fs::read(state.join(LOG)).unwrap_or_default()).trim().to_owned();
    let from = text.len().saturating_sub(LOG_TAIL);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[from..].to_owned()
}

/// Ends the proxy of an owner and removes its directory. Absent is as good.
///
/// # Errors
/// What could not be ended or removed.
pub async fn remove(state: &FilePath, owner: &str) -> Result<Changes> {
    let stopped = stop(state, owner).await?;
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", state)(error)),
        _ if stopped => Ok(Change::new("ProxyStopped", "stopped the HTTP proxy").into()),
        _ => Ok(Changes::default()),
    }
}
