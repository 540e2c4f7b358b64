//! Links of a namespace: bridges, virtual cables and the ports on them, through netlink.
//!
//! Every verb reads first and writes only what differs, so a converged one writes nothing and says so: it returns the
//! [`Changes`] it made, which are empty when all was well. Sets are replaced whole: an address that should not be there
//! goes, one that is missing comes. A write is followed by another look, because the kernel may answer one change with
//! another (an address that goes may take others along), and so what a verb returns `Ok` for has been *seen* to be so.
//!
//! ```text
//!  observe ──► plan (pure) ──► no step? ── yes ──► done
//!     ▲                           │ no
//!     └────────── apply ◄─────────┘        (a few rounds at most)
//! ```
//!
//! The owner's UID is kept in the link's alias (`ip link` shows it), so what is ours is known without a list of our own.

mod answer;
mod apply;
mod bulk;
mod change;
mod kept;
mod leased;
mod name;
mod observe;
mod pass_on;
mod peers;
mod plan;
mod reflect;
mod routes;
mod six;
mod vxlan;
mod watch;

pub(crate) use bulk::Line;
pub use change::{Change, Changes};
pub use name::{InvalidLinkName, LinkName};
pub use observe::{Kind, Link};
pub(crate) use pass_on::SETTINGS;
pub use pass_on::{ensure_forwarding, ensure_passing_on};
pub use peers::Peer;
pub use routes::Route;
pub use six::{ensure_no_own_addresses, ensure_router};
pub use vxlan::{VXLAN_OVERHEAD, VXLAN_PORT, Vxlan};
pub use watch::{Watch, watch_namespace};

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use tokio::task::JoinHandle;

use crate::netns::{self, Namespace};
use plan::{Master, Wanted};

/// Hardware address of an Ethernet link.
pub type Mac = [u8; 6];

/// Looks after which a link that still differs is given up on; the caller tries again later.
const ROUNDS: usize = 4;

/// What can go wrong with a link.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The kernel refused.
    #[error("failed to {action} link {name:?}")]
    Link {
        /// What was tried.
        action: String,
        /// Link's name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The link is not there and cannot be made by this verb.
    #[error("there is no link {name:?}")]
    NotFound {
        /// Link's name.
        name: String,
    },
    /// There is a link of that name which is something else, and which is not ours to replace.
    #[error("link {name:?} is a {found}, not a {wanted}")]
    WrongKind {
        /// Link's name.
        name: String,
        /// What it is.
        found: Kind,
        /// What it should be.
        wanted: Kind,
    },
    /// It differs again each time it was set right: something else writes it too.
    #[error("link {name:?} does not stay as it is set: {steps}")]
    NotConverging {
        /// Link's name.
        name: String,
        /// What would still have to be done.
        steps: String,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Namespace(inner) => inner.category(),
            Error::Link { .. } => "LinkFailed",
            Error::NotFound { .. } => "LinkNotFound",
            Error::WrongKind { .. } => "LinkWrongKind",
            Error::NotConverging { .. } => "LinkNotConverging",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        match self {
            Error::Namespace(inner) => inner.retry(),
            Error::WrongKind { .. } => false,
            Error::Link { .. } | Error::NotFound { .. } | Error::NotConverging { .. } => true,
        }
    }
}

/// Result of this module's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A bridge as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: LinkName,
    /// Exactly the addresses it shall have (IPv6 link-local ones apart).
    pub addresses: Vec<IpNet>,
    /// Largest packet.
    pub mtu: u32,
    /// Owner's UID. The hardware address follows from it: the kernel's own choice changes as ports come and go, and
    /// every guest would have to learn its gateway anew.
    pub alias: String,
}

/// A virtual cable between two links.
#[derive(Clone, Debug)]
pub struct Veth {
    /// End in this namespace.
    pub name: LinkName,
    /// The other end.
    pub peer: LinkName,
    /// Namespace the other end is made in; this one when none.
    pub peer_namespace: Option<Namespace>,
}

/// A link that exists (a cable's end, a tap) as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: LinkName,
    /// Bridge it is a port of; none when it stands alone.
    pub bridge: Option<LinkName>,
    /// Largest packet.
    pub mtu: u32,
    /// Owner's UID.
    pub alias: String,
    /// Exactly the addresses it shall have; whatever it has when none.
    pub addresses: Option<Vec<IpNet>>,
    /// Hardware address; whatever it has when none.
    pub mac: Option<Mac>,
}

impl Port {
    fn wanted(&self, master: Master) -> Wanted {
        Wanted {
            name: self.name.clone(),
            kind: None,
            mtu: Some(self.mtu),
            alias: Some(self.alias.clone()),
            mac: self.mac,
            master,
            addresses: self.addresses.clone(),
        }
    }
}

/// A door to the links of one namespace.
#[derive(Clone, Debug)]
pub struct Links {
    handle: rtnetlink::Handle,
    line: Arc<Mutex<Line>>,
    namespace: Arc<str>,
    _connection: Arc<Connection>,
}

/// The task that drives the socket; it ends with the last door.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Links {
    /// Opens a netlink socket inside the namespace. To be called in a tokio runtime, which drives it.
    pub async fn open(namespace: &Namespace) -> netns::Result<Links> {
        let failed = |source| netns::Error::Namespace {
            action: "open a netlink socket in",
            name: namespace.name().to_owned(),
            source,
        };
        // Strict checking makes the kernel filter dumps by link, rather than hand over every address of every link.
        let open = || Ok((rtnetlink::new_connection_with_strict_check()?, Line::open()?));
        let ((connection, handle, _), line) = netns::enter(namespace, open).await?.map_err(failed)?;
        let (line, task) = (Arc::new(Mutex::new(line)), tokio::spawn(connection));
        Ok(Links { handle, line, namespace: namespace.name().into(), _connection: Arc::new(Connection(task)) })
    }

    /// Name of the namespace this is a door to.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Makes the bridge be as wanted. What carries its name but is no bridge is replaced.
    pub async fn ensure_bridge(&self, bridge: &Bridge) -> Result<Changes> {
        let wanted = Wanted {
            name: bridge.name.clone(),
            kind: Some(Kind::Bridge),
            mtu: Some(bridge.mtu),
            alias: Some(bridge.alias.clone()),
            mac: Some(stable_mac(&bridge.alias)),
            master: Master::Any,
            addresses: Some(bridge.addresses.clone()),
        };
        self.ensure(&wanted).await
    }

    /// Makes the cable unless its near end is there. Its ends are then set up with [`Links::ensure_port`], each in its namespace.
    pub async fn ensure_veth(&self, veth: &Veth) -> Result<Changes> {
        match self.find(veth.name.as_str()).await? {
            Some(link) if link.kind == Kind::Veth => Ok(Changes::default()),
            Some(link) => Err(Error::WrongKind { name: veth.name.to_string(), found: link.kind, wanted: Kind::Veth }),
            None => {
                self.create_veth(veth).await?;
                Ok(Change::new("LinkCreated", format!("made cable {} to {}", veth.name, veth.peer)).into())
            }
        }
    }

    /// Makes a link that exists be as wanted, and up.
    pub async fn ensure_port(&self, port: &Port) -> Result<Changes> {
        let master = match &port.bridge {
            None => Master::None,
            Some(bridge) => Master::Index(self.index_of(bridge.as_str()).await?),
        };
        self.ensure(&port.wanted(master)).await
    }

    /// As [`Links::ensure_port`] for many, whose addresses are left as they are: a few questions and orders in all. Each outcome is in
    /// its port's place.
    ///
    /// # Errors
    /// The kernel's, where it is not about one of them.
    pub async fn ensure_ports(&self, ports: Vec<Port>) -> Result<Vec<Result<Changes>>> {
        let line = self.line.clone();
        let done = tokio::task::spawn_blocking(move || {
            line.lock().unwrap_or_else(PoisonError::into_inner).ensure_ports(&ports)
        });
        let ended =
            |error| Error::Link { action: "set".to_owned(), name: "*".to_owned(), source: io::Error::other(error) };
        done.await.map_err(ended)?
    }

    /// Brings the loopback interface up.
    pub async fn ensure_loopback(&self) -> Result<Changes> {
        self.ensure(&Wanted::just_up(LinkName::loopback())).await
    }

    /// Brings a link up that exists, and leaves the rest of it alone.
    pub async fn set_up(&self, name: &LinkName) -> Result<Changes> {
        self.ensure(&Wanted::just_up(name.clone())).await
    }

    /// Makes a link that exists a port of the bridge, and leaves the rest of it alone, apart from bringing it up.
    pub async fn enslave(&self, name: &LinkName, bridge: &LinkName) -> Result<Changes> {
        let master = Master::Index(self.index_of(bridge.as_str()).await?);
        self.ensure(&Wanted { master, ..Wanted::just_up(name.clone()) }).await
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Changes> {
        let mut changes = Changes::default();
        for _ in 0..ROUNDS {
            let found = self.find(wanted.name.as_str()).await?;
            let steps = plan::plan(wanted, found.as_ref())?;
            if steps.is_empty() {
                return Ok(changes);
            }
            for step in &steps {
                self.apply(&wanted.name, found.as_ref(), step).await?;
                changes.extend(step.changes(&wanted.name));
            }
        }
        let found = self.find(wanted.name.as_str()).await?;
        let steps = plan::plan(wanted, found.as_ref())?;
        match steps.is_empty() {
            true => Ok(changes),
            false => Err(Error::NotConverging { name: wanted.name.to_string(), steps: format!("{steps:?}") }),
        }
    }

    async fn index_of(&self, name: &str) -> Result<u32> {
        match self.find(name).await? {
            Some(link) => Ok(link.index),
            None => Err(Error::NotFound { name: name.to_owned() }),
        }
    }
}

/// A hardware address of the locally administered range that is the same for the same owner for ever.
pub fn stable_mac(owner: &str) -> Mac {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(owner.as_bytes());
    [0x02, digest[0], digest[1], digest[2], digest[3], digest[4]]
}
