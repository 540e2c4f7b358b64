//! Acting inside a namespace, always on a thread that ends afterwards.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::thread;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Error, Namespace, Result};
use crate::firewall::CHECK_MARK;

/// Runs an action inside the namespace and waits for it, blocking the caller. For short actions off the runtime.
///
/// The thread stands in the caller's tokio runtime, if there is one, so sockets made inside can be handed to it.
pub fn run_in<T: Send>(namespace: &Namespace, action: impl FnOnce() -> T + Send) -> Result<T> {
    let runtime = Handle::try_current().ok();
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("in-netns".to_owned())
            .spawn_scoped(scope, || inside(namespace, runtime.as_ref(), action))
            .map_err(|source| entering(namespace, source))?;
        match thread.join() {
            Ok(done) => done.map_err(|source| entering(namespace, source)),
            Err(panic) => resume_unwind(panic),
        }
    })
}

/// Runs an action inside the namespace without blocking the caller's worker.
pub async fn enter<T: Send + 'static>(namespace: &Namespace, action: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (runtime, target) = (Handle::try_current().ok(), namespace.clone());
    off_runtime(move || inside(&target, runtime.as_ref(), action))
        .await
        .and_then(|done| done)
        .map_err(|source| entering(namespace, source))
}

/// Runs an action on a plain thread of its own, which ends with it.
pub(crate) async fn off_runtime<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, outcome) = oneshot::channel();
    thread::Builder::new().name("netns".to_owned()).spawn(move || {
        // Nobody waits any more when the caller was cancelled; the action was done all the same.
        let _ = done.send(action());
    })?;
    outcome.await.map_err(|_| io::Error::other("the thread panicked"))
}

/// Listens on an address inside the namespace.
pub async fn listen_tcp(namespace: &Namespace, address: SocketAddr) -> Result<TcpListener> {
    let failed = |source| Error::Socket { action: "listen on", address, name: namespace.name().to_owned(), source };
    let listen = move || {
        let socket = new_socket(address)?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    enter(namespace, listen).await?.map_err(failed)
}

/// Connects to an address as seen from inside the namespace. The caller sets the deadline.
pub async fn connect_tcp(namespace: &Namespace, address: SocketAddr) -> Result<TcpStream> {
    let failed = |source| Error::Socket { action: "connect to", address, name: namespace.name().to_owned(), source };
    // Only making the socket needs the namespace; connecting it is awaited where we are.
    let socket = enter(namespace, move || new_socket(address)).await?.map_err(failed)?;
    socket.connect(address).await.map_err(failed)
}

/// Connects to a guest to see whether it answers, from an address of the namespace's own and past the guest's groups. The caller sets
/// the deadline.
///
/// # Errors
/// That there is no such address, or the guest's refusal.
pub async fn check_tcp(namespace: &Namespace, from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let failed =
        |source| Error::Socket { action: "connect to", address: to, name: namespace.name().to_owned(), source };
    let make = move || -> io::Result<TcpSocket> {
        let socket = new_socket(to)?;
        setsockopt(&socket, sockopt::Mark, &CHECK_MARK)?;
        socket.bind((from, 0).into())?;
        Ok(socket)
    };
    enter(namespace, make).await?.map_err(failed)?.connect(to).await.map_err(failed)
}

fn new_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}

fn inside<T>(namespace: &Namespace, runtime: Option<&Handle>, action: impl FnOnce() -> T) -> io::Result<T> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let _in_runtime = runtime.map(Handle::enter);
    Ok(action())
}

fn entering(namespace: &Namespace, source: io::Error) -> Error {
    Error::Namespace { action: "enter", name: namespace.name().to_owned(), source }
}
