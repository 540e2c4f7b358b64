//! Taps: the cable between a guest and a bridge.
//!
//! A tap here is never persistent: it exists as long as some process holds its descriptor. QEMU gets the descriptor when
//! it is started (the device file is root's alone), so a QEMU that dies takes its taps along and nothing leaks. For the
//! same reason we must let go of our copy once we know that QEMU ended.
//!
//! When somebody deletes the tap, the open file that we and QEMU share is not closed, only detached. Attaching *that same
//! file* again makes the guest's network card work again with QEMU none the wiser, so a deleted tap is repaired without
//! touching the guest. Whoever has lost its copy (we, after a restart) fetches it from QEMU with [`steal_fd`].
//!
//! ```text
//!  create ──► attached ── somebody deletes the tap ──► detached
//!                ▲                                        │
//!                └──────────── ensure (same file) ────────┘      last descriptor closed ──► gone
//! ```

mod ioctl;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use process::ProcessId;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::link::{self, Change, Changes, Line, LinkName, Links, Port};
use crate::netns::{self, Namespace};

/// Length of the virtio header that QEMU negotiates with every guest of this century (virtio 1.0).
const HEADER_BYTES: i32 = 12;

/// What can go wrong with a tap.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The link could not be set up.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// The tap driver refused.
    #[error("failed to {action} tap {name:?}")]
    Tap {
        /// What was tried.
        action: &'static str,
        /// Tap's name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The descriptor is attached to a tap of another name: renamed, or not the one meant.
    #[error("the descriptor of tap {name:?} is attached to {found:?}")]
    Renamed {
        /// Name it should have.
        name: String,
        /// Name it has.
        found: String,
    },
    /// A descriptor could not be fetched from a process.
    #[error("failed to fetch descriptor {fd} of process {pid}")]
    Steal {
        /// Process asked.
        pid: i32,
        /// Its descriptor.
        fd: i32,
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
            Error::Link(inner) => inner.category(),
            Error::Tap { .. } => "TapFailed",
            Error::Renamed { .. } => "TapRenamed",
            Error::Steal { .. } => "TapFetchFailed",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        match self {
            Error::Namespace(inner) => inner.retry(),
            Error::Link(inner) => inner.retry(),
            Error::Tap { .. } | Error::Steal { .. } | Error::Renamed { .. } => true,
        }
    }
}

/// Result of this module's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A tap as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: LinkName,
    /// User whose QEMU uses it.
    pub owner_uid: u32,
    /// Bridge it is a port of.
    pub bridge: LinkName,
    /// Largest packet.
    pub mtu: u32,
    /// Owner's UID.
    pub alias: String,
}

/// The open file of a tap. The tap exists as long as this or a copy of it does.
#[derive(Clone, Debug)]
pub struct Tap {
    file: Arc<OwnedFd>,
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Tap {
    /// Makes a tap in the namespace and connects it to its bridge. Fails when another process holds one of that name.
    pub async fn create(namespace: &Namespace, spec: &Spec) -> Result<(Tap, Changes)> {
        let made = Tap::create_all(namespace, vec![spec.clone()]).await?;
        let none = || spec.failed("make", io::Error::other("nothing came of it"));
        made.into_iter().next().unwrap_or_else(|| Err(none()))
    }

    /// As [`Tap::create`] for many: one thread in the namespace, one socket, and orders that go together. Each outcome is in its place.
    ///
    /// # Errors
    /// What is about none of them alone; then none is there.
    pub async fn create_all(namespace: &Namespace, specs: Vec<Spec>) -> Result<Vec<Result<(Tap, Changes)>>> {
        let name = namespace.name().to_owned();
        let no_line = move |source| netns::Error::Namespace { action: "open a netlink socket in", name, source };
        netns::enter(namespace, move || {
            let line = Line::open().map_err(no_line)?;
            let made: Vec<Result<(Tap, Changes)>> = specs.iter().map(Tap::open).collect();
            let ports: Vec<Port> = ready(specs.iter(), &made).map(Spec::port).collect();
            let done = line.ensure_ports(&ports)?;
            Ok(join(made, done))
        })
        .await?
    }

    /// A new file, attached. It remembers the namespace that this thread is in, so attaching it again later needs no entering.
    fn open(spec: &Spec) -> Result<(Tap, Changes)> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open("/dev/net/tun");
        let tap = Tap::adopt(file.map_err(|source| spec.failed("open", source))?.into());
        let changes = tap.ensure_attached(spec)?;
        Ok((tap, changes))
    }

    /// A tap whose file was fetched from the process that uses it.
    pub fn adopt(file: OwnedFd) -> Tap {
        Tap { file: Arc::new(file) }
    }

    /// Makes the tap be there and connected: attaches its file again when it was deleted.
    ///
    /// `links` is the door to the namespace that the tap was created in.
    pub async fn ensure(&self, links: &Links, spec: &Spec) -> Result<Changes> {
        let mut changes = self.ensure_attached(spec)?;
        changes.extend(links.ensure_port(&spec.port()).await?);
        Ok(changes)
    }

    /// As [`Tap::ensure`] for many, asked of the kernel at once. Each outcome is in its place.
    ///
    /// # Errors
    /// What is about none of them alone.
    pub async fn ensure_all(links: &Links, all: &[(Tap, Spec)]) -> Result<Vec<Result<Changes>>> {
        let attached: Vec<Result<((), Changes)>> =
            all.iter().map(|(tap, spec)| Ok(((), tap.ensure_attached(spec)?))).collect();
        let ports: Vec<Port> = ready(all.iter().map(|(_, spec)| spec), &attached).map(Spec::port).collect();
        let done = links.ensure_ports(ports).await?;
        Ok(join(attached, done).into_iter().map(|outcome| outcome.map(|((), changes)| changes)).collect())
    }

    fn ensure_attached(&self, spec: &Spec) -> Result<Changes> {
        match ioctl::attached_to(self).map_err(|source| spec.failed("examine", source))? {
            Some(name) if name == spec.name.as_str() => Ok(Changes::default()),
            // One of another name would be the cable of another process.
            Some(found) => Err(Error::Renamed { name: spec.name.to_string(), found }),
            None => {
                self.attach(spec)?;
                Ok(Change::new("TapAttached", format!("attached tap {}", spec.name)).into())
            }
        }
    }

    fn attach(&self, spec: &Spec) -> Result<()> {
        ioctl::attach(self, spec.name.as_str()).map_err(|source| spec.failed("attach", source))?;
        let configured = ioctl::set_transient(self)
            .and_then(|()| ioctl::set_owner(self, spec.owner_uid))
            // A new tap starts with a shorter header than QEMU, which asked once for all, still writes.
            .and_then(|()| ioctl::set_header_size(self, HEADER_BYTES));
        configured.map_err(|source| spec.failed("configure", source))
    }

    /// Whether the tap is there.
    pub fn is_attached(&self) -> io::Result<bool> {
        Ok(ioctl::attached_to(self)?.is_some())
    }

    /// Length of the virtio header before each frame.
    pub fn header_size(&self) -> io::Result<i32> {
        ioctl::header_size(self)
    }

    /// A copy of the descriptor, to be handed to QEMU.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }
}

impl Spec {
    fn port(&self) -> Port {
        Port {
            name: self.name.clone(),
            bridge: Some(self.bridge.clone()),
            mtu: self.mtu,
            alias: self.alias.clone(),
            addresses: None,
            mac: None,
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::Tap { action, name: self.name.to_string(), source }
    }
}

/// Of these, in order, those that went well so far.
fn ready<'a, T>(specs: impl Iterator<Item = &'a Spec>, so_far: &[Result<T>]) -> impl Iterator<Item = &'a Spec> {
    specs.zip(so_far).filter(|(_, outcome)| outcome.is_ok()).map(|(spec, _)| spec)
}

/// What became of each: of those that went well, `then` tells in order how they went on.
fn join<T>(so_far: Vec<Result<(T, Changes)>>, then: Vec<link::Result<Changes>>) -> Vec<Result<(T, Changes)>> {
    let mut then = then.into_iter();
    let one = |outcome: Result<(T, Changes)>| {
        let (kept, mut changes) = outcome?;
        changes.extend(then.next().transpose()?.unwrap_or_default());
        Ok((kept, changes))
    };
    so_far.into_iter().map(one).collect()
}

/// A copy of a descriptor that another process has open.
pub fn steal_fd(process: &ProcessId, fd: i32) -> Result<OwnedFd> {
    let failed = |source| Error::Steal { pid: process.pid, fd, source };
    let pidfd = process.pidfd().map_err(failed)?;
    pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty()).map_err(|errno| failed(errno.into()))
}
