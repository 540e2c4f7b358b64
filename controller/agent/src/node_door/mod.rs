//! The way in for guests: a listener inside a network, by which its nodes, and nobody else, reach the API.
//!
//! ```text
//!   guest ─TLS─► gateway:6443, in the network's own namespace
//!                   │ a token of a Node? of this namespace? from the address of that Node's Port?  ─no─► 401, 403
//!                   ▼ yes
//!                 API server, without any identity of ours: the token alone says who calls there
//! ```
//!
//! A network has the door only if it asks for it (`apiAccess`); in the namespace of another there is nothing to connect to.
//! The door asks nobody for a certificate, so that of an administrator or of an agent opens nothing here. Whether a token
//! is genuine is decided by the API server; that a genuine one of another kind does not pass is decided here, before
//! anything of the request leaves the network. The packet filter makes sure that a guest speaks from its own address, so
//! a node's token that was carried off is of no use to its neighbours.
//!
//! It listens before DHCP tells any guest of the network. A port that is taken is told with its holder, and the Ports of
//! the network wait.

mod admit;
mod serve;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use host::link::Change;
use host::netns::{self, Namespace};
use kube::Client;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::network::plan::{Wanted, WantedPort};
use control_loop::{Failure, Retry};
use serve::Inside;

/// What a node's user name begins with; its namespace, a colon and its name follow.
pub const NODE_USER: &str = "system:node:";
/// The port, at the network's own address.
pub const PORT: u16 = 6443;

/// Why a door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens there.
    #[error("{address} in the network's namespace is taken by {holder}: stop it, or set spec.apiAccess to false")]
    Taken {
        /// Address.
        address: SocketAddr,
        /// Program and process.
        holder: process::Holder,
    },
    /// The address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] netns::Error),
    /// The agent's certificate does not work.
    #[error("failed to set up the certificate that guests are shown")]
    Certificate(#[from] pki::Error),
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Error::Taken { .. } => "AddressInUse",
            Error::Listen(inner) => inner.category(),
            Error::Certificate(_) => "CertificateFailed",
        }
    }

    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

/// The nodes behind a door: whose address is whose.
type Nodes = Arc<Mutex<HashMap<IpAddr, String>>>;

/// All doors of this host.
pub struct NodeDoors {
    tls: TlsAcceptor,
    api: Client,
    open: Mutex<HashMap<String, Open>>,
}

/// A door that is open.
struct Open {
    inode: u64,
    address: SocketAddr,
    nodes: Nodes,
    task: AbortOnDropHandle<()>,
}

impl NodeDoors {
    /// No door yet. Guests are shown `identity`; what passes goes to `api`, which must bring no identity of its own.
    ///
    /// # Errors
    /// [`Error::Certificate`].
    pub fn new(identity: &pki::Shown, api: Client) -> Result<NodeDoors, Error> {
        let tls = TlsAcceptor::from(Arc::new(pki::open_server_config_showing(identity)?));
        Ok(NodeDoors { tls, api, open: Mutex::default() })
    }

    /// Makes the network's door be open for exactly its nodes here, or closed.
    ///
    /// # Errors
    /// [`Error::Taken`] and [`Error::Listen`]; the network then has no door.
    pub async fn ensure(&self, namespace: &Namespace, wanted: &Wanted) -> Result<Option<Change>, Error> {
        if !wanted.api_access {
            let closed = self.close(&wanted.netns);
            return Ok(closed.then(|| Change::new("ApiDoorClosed", "closed the way to the API".to_owned())));
        }
        let address = SocketAddr::new(wanted.gateway, PORT);
        // A card speaks under what it made in the door's range, too, even where that is not its Port's own.
        let made = |port: &WantedPort| wanted.subnets.made_beside(port.six, port.mac).map(IpAddr::V6);
        let named = |port: &WantedPort| {
            let all: Vec<_> = port.own().chain(made(port)).map(|address| (address, port.name.clone())).collect();
            all
        };
        let nodes: HashMap<IpAddr, String> = wanted.ports.iter().flat_map(named).collect();
        if self.stands(&wanted.netns, namespace.inode(), address, &nodes) {
            return Ok(None);
        }
        self.close(&wanted.netns);
        let listener = match netns::listen_tcp(namespace, address).await {
            Err(netns::Error::Socket { source, action, address, name })
                if source.kind() == std::io::ErrorKind::AddrInUse =>
            {
                match netns::enter(namespace, move || process::holder_of(address)).await? {
                    Some(holder) => return Err(Error::Taken { address, holder }),
                    // It went in between; the next look finds the address free.
                    None => return Err(Error::Listen(netns::Error::Socket { action, address, name, source })),
                }
            }
            listener => listener?,
        };
        let nodes = Arc::new(Mutex::new(nodes));
        let inside = Inside::new(wanted.owner.namespace.clone(), nodes.clone(), self.api.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(serve::serve(listener, self.tls.clone(), inside)));
        let open = Open { inode: namespace.inode(), address, nodes, task };
        self.lock().insert(wanted.netns.clone(), open);
        Ok(Some(Change::new("ApiDoorOpened", format!("opened the way to the API at {address}"))))
    }

    /// Whether the door is open as wanted; who is behind it is told to it.
    fn stands(&self, netns: &str, inode: u64, address: SocketAddr, nodes: &HashMap<IpAddr, String>) -> bool {
        let open = self.lock();
        let Some(door) = open.get(netns) else { return false };
        let stands = door.inode == inode && door.address == address && !door.task.is_finished();
        if stands {
            door.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone_from(nodes);
        }
        stands
    }

    /// Closes a network's door, and what goes through it; false when there is none.
    pub fn close(&self, netns: &str) -> bool {
        self.lock().remove(netns).is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
