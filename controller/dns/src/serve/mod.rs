//! The process: reads its parts, listens on the sockets that it was handed, and holds no privilege.
//!
//! Each network has one, under a user of its own. The sockets were made in the network's namespace by whoever started it
//! and come as descriptors from 3 on, one of UDP and one of TCP for each address, so it needs no right to bind and, where it asks others, may live in another
//! namespace than its guests. It goes on when its parent dies, and takes up changed files as they are replaced.
//!
//! What it reads comes from guests that may mean ill, so everything is bounded before it is read: questions a second and
//! connections of each guest, bytes of a question, time of a connection, questions that wait for others.

mod forward;
mod limits;
mod reload;
mod tcp;
mod udp;

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::answer::{self, Reply};
use crate::view::View;
use forward::Forwarder;
pub use limits::Limits;
use limits::Rates;

/// Descriptors that it may have at once.
const DESCRIPTORS: u64 = 512;

/// What the tasks share.
struct Desk {
    view: RwLock<Arc<View>>,
    rates: Rates,
    forwarder: Forwarder,
    limits: Limits,
}

impl Desk {
    fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// Bytes for a question of bytes. `payload`: what fits, where not everything does.
    async fn reply(&self, bytes: &[u8], payload: Option<u16>) -> Option<Vec<u8>> {
        let message = match answer::answer(&self.view(), bytes) {
            Reply::Answer(message) => message,
            Reply::Ask(message, query) => self.forwarder.complete(message, query).await,
            Reply::Nothing => return None,
        };
        answer::encode(&message, payload)
    }
}

/// Serves the parts of `dir` on the pairs of descriptors from 3 on until it is ended.
///
/// # Errors
/// The descriptors are not there, or the kernel refuses something at the start.
pub fn run(dir: &Path, limits: Limits) -> io::Result<()> {
    give_up_the_rest()?;
    let mut handed = listenfd::ListenFd::from_env();
    let missing =
        || io::Error::new(io::ErrorKind::NotFound, "no sockets were handed down: the agent starts this process");
    let mut pairs = Vec::new();
    for first in (0..handed.len().max(2)).step_by(2) {
        let udp = handed.take_udp_socket(first)?.ok_or_else(missing)?;
        let tcp = handed.take_tcp_listener(first + 1)?.ok_or_else(missing)?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        pairs.push((udp, tcp));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Watched before it is read: a change in between is read twice rather than not at all.
        let changes = reload::watch(dir)?;
        let desk = Arc::new(Desk {
            view: RwLock::new(Arc::new(reload::read(dir)?)),
            rates: Rates::new(&limits),
            forwarder: Forwarder::new(&limits),
            limits,
        });
        // Whichever ends first ends the process: it is started again whole.
        let mut served = tokio::task::JoinSet::new();
        for (udp, tcp) in pairs {
            let (udp, tcp) = (tokio::net::UdpSocket::from_std(udp)?, tokio::net::TcpListener::from_std(tcp)?);
            served.spawn(udp::serve(udp, desk.clone()));
            served.spawn(tcp::serve(tcp, desk.clone()));
        }
        tokio::select! {
            ended = served.join_next() => ended.transpose()?.unwrap_or(Ok(())),
            ended = reload::follow(dir, changes, &desk) => ended,
        }
    })
}

/// No program that it might start could gain a right, and nothing of it grows without end.
fn give_up_the_rest() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) })?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
