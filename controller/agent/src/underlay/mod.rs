//! What joins the hosts of one instance that share this machine: a switch in a namespace of its own.
//!
//! ```text
//!  photon-HOST-underlay                    photon-INSTANCE-switch              photon-OTHER-underlay
//!    uplink 100.64.0.1/16 ───────────────── hHOST ─ switch ─ hOTHER ──────────────── uplink 100.64.0.2/16
//! ```
//!
//! The switch belongs to no agent: whoever needs it first makes it, whoever leaves it last removes it, both under one lock
//! file, so it does not matter which agent lives. Nothing but tunnels' outer packets travels here, and the range is no
//! other network's business: the namespaces reach nothing else. A host on another machine would have its address on a card
//! of that machine instead; all that other hosts know of a host is the address in its Host.

mod book;

pub use book::Error as BookError;

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use host::link::{self, Bridge, Change, LinkName, Links, Port, Veth, watch_namespace};
use host::netns::{self, Namespace, Namespaces};
use ipnet::{IpNet, Ipv4Net};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::layout::FileError;
use crate::names::{self, Names};

/// Room for every network: the largest packet a TenantNetwork may have, and what a tunnel adds.
const MTU: u32 = 9000 + link::VXLAN_OVERHEAD;
/// Shared address space (RFC 6598): nothing here routes, so nothing can collide with it.
const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 64, 0, 0), 16);
const SWITCH: &str = "switch";
const UPLINK: &str = "uplink";

/// The host could not be joined to the others.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lock, or another file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The book of addresses.
    #[error(transparent)]
    Book(#[from] BookError),
    /// A namespace.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// A link.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// A name of ours that no link may have.
    #[error(transparent)]
    Name(#[from] link::InvalidLinkName),
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::File(error) => error.category(),
            Error::Book(error) => error.category(),
            Error::Namespace(error) => error.category(),
            Error::Link(error) => error.category(),
            Error::Name(_) => "LinkNameInvalid",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        match self {
            Error::Namespace(error) => error.retry(),
            Error::Link(error) => error.retry(),
            Error::File(_) | Error::Book(_) => true,
            Error::Name(_) => false,
        }
    }
}

/// This host's place on the underlay.
pub struct Underlay {
    directory: PathBuf,
    namespaces: Namespaces,
    /// Namespace of the switch.
    switch: String,
    /// This host's end in it.
    far: String,
    address: Ipv4Addr,
    changed: watch::Sender<()>,
    joined: Mutex<Option<Joined>>,
}

/// What is held open while this host is joined.
struct Joined {
    switch: Namespace,
    links: Links,
    watch: AbortOnDropHandle<()>,
}

impl Underlay {
    /// Takes this host's address from the book in `directory`, which the instance's hosts on this machine share. Nothing
    /// is made yet.
    pub async fn open(directory: &Path, names: &Names, host: &str) -> Result<Underlay, Error> {
        let lock = lock(directory).await?;
        let range = Ipv4Net::new_assert(RANGE.0, RANGE.1);
        let address = book::address(&directory.join("addresses.json"), range, host)?;
        drop(lock);
        Ok(Underlay {
            directory: directory.to_owned(),
            namespaces: Namespaces::default(),
            switch: names.switch(),
            far: names.switch_port(),
            address,
            changed: watch::Sender::new(()),
            joined: Mutex::default(),
        })
    }

    /// This host's address, by which the others reach it.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Tells whenever something on the way to the other hosts changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Joins the underlay's namespace to the switch, which is made when it is missing.
    pub async fn ensure(&self, near: &Namespace, near_links: &Links) -> Result<Vec<Change>, Error> {
        let _alone = lock(&self.directory).await?;
        let (switch, links, mut changes) = self.ensure_switch().await?;
        let (uplink, far): (LinkName, LinkName) = (UPLINK.parse()?, self.far.parse()?);
        let whole = near_links.find(UPLINK).await?.is_some() && links.find(&self.far).await?.is_some();
        if !whole {
            // One end without the other leads to a switch that is no more.
            changes.extend(near_links.delete(&uplink).await?);
            changes.extend(links.delete(&far).await?);
        }
        let cable = Veth { name: uplink.clone(), peer: far.clone(), peer_namespace: Some(switch.clone()) };
        changes.extend(near_links.ensure_veth(&cable).await?);
        let end =
            |name, bridge, addresses| Port { name, bridge, mtu: MTU, alias: self.far.clone(), addresses, mac: None };
        changes.extend(links.ensure_port(&end(far, Some(SWITCH.parse()?), None)).await?);
        let address = IpNet::V4(Ipv4Net::new_assert(self.address, RANGE.1));
        changes.extend(near_links.ensure_port(&end(uplink, None, Some(vec![address]))).await?);
        self.stay(near, switch, links, !changes.is_empty()).await?;
        Ok(changes)
    }

    async fn ensure_switch(&self) -> Result<(Namespace, Links, Vec<Change>), Error> {
        let held = self.held();
        let made = match &held {
            Some((lost, _)) => self.namespaces.restore(&self.switch, lost).await?,
            None => self.namespaces.ensure(&self.switch).await?,
        };
        let (switch, changes) = made;
        let links = match held.filter(|(known, _)| known.inode() == switch.inode()) {
            Some((_, links)) => links,
            None => Links::open(&switch).await?,
        };
        let mut changes: Vec<Change> = changes.into_iter().collect();
        let bridge = Bridge { name: SWITCH.parse()?, addresses: Vec::new(), mtu: MTU, alias: self.switch.clone() };
        changes.extend(links.ensure_bridge(&bridge).await?);
        Ok((switch, links, changes))
    }

    fn held(&self) -> Option<(Namespace, Links)> {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined.as_ref().map(|joined| (joined.switch.clone(), joined.links.clone()))
    }

    /// Keeps the door open, and watches both ends of the way.
    async fn stay(&self, near: &Namespace, switch: Namespace, links: Links, moved: bool) -> Result<(), Error> {
        let watched = {
            let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
            joined.as_ref().is_some_and(|joined| !joined.watch.is_finished())
        };
        if watched && !moved {
            return Ok(());
        }
        let (mut here, mut there) = (watch_namespace(near).await?, watch_namespace(&switch).await?);
        let changed = self.changed.clone();
        let task = tokio::spawn(async move {
            loop {
                let going_on = tokio::select! {
                    going_on = here.changed() => going_on,
                    going_on = there.changed() => going_on,
                };
                changed.send_replace(());
                if !going_on {
                    return;
                }
            }
        });
        let joined = Joined { switch, links, watch: AbortOnDropHandle::new(task) };
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = Some(joined);
        Ok(())
    }

    /// Leaves the switch, which goes with the last host on it. To be called before the underlay's namespace goes: the
    /// kernel takes its time with the cables of one.
    pub async fn leave(&self) -> Result<(), Error> {
        let _alone = lock(&self.directory).await?;
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let switch = match self.namespaces.open(&self.switch) {
            Ok(switch) => switch,
            Err(netns::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let links = Links::open(&switch).await?;
        links.delete(&self.far.parse()?).await?;
        let others = links.observe().await?.iter().any(|link| link.kind == link::Kind::Veth);
        if !others {
            self.namespaces.delete(&self.switch).await?;
        }
        Ok(())
    }
}

/// Removes the switch of an instance, whoever is on it.
///
/// # Errors
/// The kernel's.
pub async fn remove_switch(instance: &str) -> Result<(), netns::Error> {
    Namespaces::default().delete(&names::switch(instance)).await.map(drop)
}

/// Waits until no other agent makes or removes anything here; given back when dropped, or when we die.
async fn lock(directory: &Path) -> Result<File, FileError> {
    let path = directory.join("lock");
    let failed = |source| FileError::new("lock", &path, source);
    let (directory, file) = (directory.to_owned(), path.clone());
    let take = move || {
        std::fs::create_dir_all(directory)?;
        let file = File::options().create(true).truncate(false).write(true).open(file)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    };
    match tokio::task::spawn_blocking(take).await {
        Ok(taken) => taken.map_err(failed),
        Err(error) => Err(failed(std::io::Error::other(error))),
    }
}
