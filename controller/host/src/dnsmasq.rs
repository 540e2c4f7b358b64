//! DHCP, router advertisements and names for one network of a host: one dnsmasq in the network's namespace.
//!
//! It is a process of its own user that outlives us. What it must be able to do as that user (configure a network, send
//! raw frames, use ports below 1024) it gets as three ambient capabilities through `setpriv`, with no way to gain more;
//! dnsmasq's own dropping of privileges needs a named account and begins as root, so it is not used.
//!
//! Guests cannot name themselves: names and addresses come from [`Reservation`]s only, so no guest can take another's
//! name. Each reservation is a file in a directory that dnsmasq watches, so one more is taken up without a signal and
//! without rewriting the others. Everything that dnsmasq cannot take up itself is handled here:
//!
//! ```text
//!  a reservation came              ──► file written               (dnsmasq sees it: inotify)
//!  one went or changed             ──► file, then SIGHUP
//!    … and its address is leased   ──► stop, forget the lease, start (else it is refused to the next holder for hours)
//!  configuration, bridge or namespace is another one ──► stop, start (its sockets are bound to the old bridge's index)
//!  dnsmasq died                    ──► start
//! ```

mod config;
mod lease;
mod memory;
mod name;
mod process_of;
mod reservation;

pub use config::{Range, Range6, Server, Told};
pub use lease::Lease;
pub use memory::Memory;
pub use name::{DomainName, HostName, InvalidName};
pub use process_of::Running;
pub use reservation::Reservation;

use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::link::{self, Change, Changes, Link, Links};
use crate::netns::{self, Namespace};
use config::Paths;
use process_of::Fingerprint;
use reservation::Difference;

/// What can go wrong with a network's dnsmasq.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The bridge could not be looked at.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// The process could not be started or stopped.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The bridge to serve on is not there.
    #[error("there is no bridge {name:?} to serve on")]
    NoBridge {
        /// Bridge's name.
        name: String,
    },
    /// The bridge has no address in the network.
    #[error("bridge {name:?} has no address in {subnet} to serve from")]
    NoAddress {
        /// Bridge's name.
        name: String,
        /// Network's range.
        subnet: IpNet,
    },
    /// The state directory's path cannot stand in a configuration file.
    #[error("{path:?} cannot hold dnsmasq's state: use an absolute path of letters, digits and '-', '_', '.', '/'")]
    UnfitPath {
        /// Path given.
        path: PathBuf,
    },
    /// The configuration contradicts itself.
    #[error("the network cannot be served: {reason}")]
    Contradiction {
        /// What does not fit.
        reason: String,
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
    /// dnsmasq ended instead of serving.
    #[error("dnsmasq ended right after its start; it said: {log}")]
    Died {
        /// Last lines of its output.
        log: String,
    },
    /// dnsmasq did not begin to serve within the deadline.
    #[error("dnsmasq does not serve {seconds} s after its start; it said: {log}")]
    NotServing {
        /// Seconds waited.
        seconds: u64,
        /// Last lines of its output.
        log: String,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Namespace(inner) => inner.category(),
            Error::Link(inner) => inner.category(),
            Error::Process(inner) => inner.category(),
            Error::NoBridge { .. } | Error::NoAddress { .. } => "BridgeNotReady",
            Error::UnfitPath { .. } | Error::Contradiction { .. } => "DhcpConfigInvalid",
            Error::File { .. } => "DhcpFileFailed",
            Error::Died { .. } | Error::NotServing { .. } => "DhcpNotServing",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        match self {
            Error::Namespace(inner) => inner.retry(),
            Error::Link(inner) => inner.retry(),
            Error::Process(inner) => inner.retry(),
            Error::UnfitPath { .. } | Error::Contradiction { .. } => false,
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

/// Where a network's dnsmasq runs and as whom.
#[derive(Clone, Debug)]
pub struct Place {
    /// Namespace of the network's bridge.
    pub namespace: Namespace,
    /// Door to that namespace.
    pub links: Links,
    /// Directory of this one dnsmasq. The user below must be able to reach it: its parents need mode `x` for others.
    pub state: PathBuf,
    /// User and group of this one dnsmasq; nobody else's, or one network's could stop another's.
    pub uid_gid: (u32, u32),
    /// dnsmasq's file; `process::find_program("dnsmasq", "CLUSTERCTL_DNSMASQ")` finds it.
    pub program: PathBuf,
    /// What is known of the reservations that were written.
    pub memory: Memory,
}

/// Makes the network be served as wanted, with exactly these reservations.
pub async fn ensure(place: &Place, server: &Server, reservations: &[Reservation]) -> Result<Changes> {
    server.check(reservations)?;
    let paths = Paths::new(&place.state)?;
    let bridge = bridge_of(place, server).await?;
    paths.lay_out(place.uid_gid)?;

    let config = config::render(server, &paths);
    let difference = reservation::write(&paths, &place.memory, server, reservations)?;
    let mut changes = difference.changes();
    let wanted = Fingerprint::new(place, &bridge, &config);
    let told = process_of::digest(&reservation::text(server, reservations));
    let reason = match process_of::load(&paths)? {
        None => Some("it was not running".to_owned()),
        Some(running) => match running.why_not(&wanted) {
            Some(reason) => Some(reason.to_owned()),
            None if difference.is_empty() && running.told == told => None,
            None => match lease::stale(&paths)? {
                0 => {
                    changes.extend(tell(running, &difference, told.clone(), &paths)?);
                    None
                }
                count => Some(format!("{count} leased addresses have another holder now, or none")),
            },
        },
    };
    if let Some(reason) = reason {
        restart(place, server, &paths, &config, (wanted, told)).await?;
        let message = format!("started dnsmasq on bridge {}: {reason}", server.bridge);
        changes.push(Change::new("DhcpStarted", message));
    }
    Ok(changes)
}

/// The bridge, which must have an address in each range, or dnsmasq would run and answer nobody there.
async fn bridge_of(place: &Place, server: &Server) -> Result<Link> {
    let name = || server.bridge.to_string();
    let bridge = place.links.find(server.bridge.as_str()).await?;
    let bridge = bridge.ok_or_else(|| Error::NoBridge { name: name() })?;
    let served = |subnet: &IpNet| bridge.addresses.iter().any(|address| subnet.contains(&address.addr()));
    let four = server.ranges.iter().map(|range| IpNet::V4(range.subnet));
    let six = server.ranges6.iter().map(|range| IpNet::V6(range.subnet));
    match four.chain(six).find(|subnet| !served(subnet)) {
        None => Ok(bridge),
        Some(subnet) => Err(Error::NoAddress { name: name(), subnet }),
    }
}

/// Tells a running dnsmasq what it does not see by itself.
fn tell(mut running: Running, difference: &Difference, told: String, paths: &Paths) -> Result<Option<Change>> {
    let signalled = match running.id() {
        Some(id) if !difference.only_adds() => {
            process_of::reload(id)?;
            Some(Change::new("DhcpReloaded", "told dnsmasq to read its reservations again"))
        }
        _ => None,
    };
    running.told = told;
    running.save(paths)?;
    Ok(signalled)
}

async fn restart(
    place: &Place,
    server: &Server,
    paths: &Paths,
    config: &str,
    (wanted, told): (Fingerprint, String),
) -> Result<()> {
    process_of::stop(paths, &server.owner).await?;
    // Only while it is stopped: it holds its leases in memory and would write the old file again.
    lease::forget_stale(paths)?;
    process::replace_file(&paths.config, config, 0o644).map_err(Error::file("write", &paths.config))?;
    process_of::start(place, server, paths, wanted, told).await
}

/// What is known of the dnsmasq with this state; none when it does not run.
pub fn observe(state: &Path) -> Result<Option<Running>> {
    Ok(process_of::load(&Paths::new(state)?)?.filter(|running| running.id().is_some()))
}

/// The leases it has given.
pub fn leases(state: &Path) -> Result<Vec<Lease>> {
    lease::read(&Paths::new(state)?.leases)
}

/// Tells a running dnsmasq to read its reservations again; false when it does not run.
pub fn reload(state: &Path) -> Result<bool> {
    match observe(state)?.as_ref().and_then(Running::id) {
        Some(id) => process_of::reload(id).map(|()| true),
        None => Ok(false),
    }
}

/// Ends the dnsmasq of an owner and removes its state. Absent is as good.
pub async fn remove(state: &Path, owner: &str) -> Result<Changes> {
    let paths = Paths::new(state)?;
    let stopped = process_of::stop(&paths, owner).await?;
    match std::fs::remove_dir_all(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", state)(error)),
        _ if stopped => Ok(Change::new("DhcpStopped", "stopped dnsmasq").into()),
        _ => Ok(Changes::default()),
    }
}
