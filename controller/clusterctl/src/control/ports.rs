//! The ports of our own listeners: chosen once and kept, and never moved in silence.
//!
//! A kubeconfig that people carry around names a port, so a server that finds its own taken does not serve on another: it says
//! who has it. Who of ours could have it is the business of [`process::Claims`] and of [`held_by_up`].

use crate::instance::Instance;
use anyhow::{Context, Result};
use process::{Claims, ListenError, Reservation};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;

/// The file that remembers the server's port.
pub fn of_server(instance: &Instance) -> PathBuf {
    instance.path("server/port")
}

/// Listens on the address asked for, or else on the port of 127.0.0.1 that `keeper` remembers; the first time, one is chosen.
/// A port of 0 means the one remembered, too.
pub async fn keep(keeper: &Path, wanted: Option<SocketAddr>, flag: &str) -> Result<TcpListener> {
    const TRIES: usize = 3;
    if let Some(address) = wanted.filter(|address| address.port() != 0) {
        let listener = listen(address, flag).await?;
        remember(keeper, address.port()).context("failed to store the port")?;
        if process::is_ephemeral(address.port()) {
            tracing::warn!(%address, "the kernel gives this port to outgoing connections, too: a restart may find it taken");
        }
        return Ok(listener);
    }
    let ip = wanted.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
    if let Some(port) = remembered(keeper) {
        Claims::of_machine().renew(keeper, &[port]);
        return listen(SocketAddr::new(ip, port), flag).await;
    }
    let mut tried = 1;
    loop {
        let chosen = Claims::of_machine().choose(keeper, |[port]| remember(keeper, port));
        let [port] = chosen.context("failed to choose a port")?;
        match process::listen(SocketAddr::new(ip, port)).await {
            // Nobody was told of it yet.
            Err(ListenError::Taken { .. }) if tried < TRIES => tried += 1,
            listener => return said(listener, flag),
        }
    }
}

/// Listens where nobody else does.
pub async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    said(process::listen(address).await, flag)
}

/// Keeps the addresses of a server that is not there at the moment: until it is dropped, what a restart leaves open for a while is
/// not given away by the kernel. What is taken already is told, by `up` that may see more than the server.
pub async fn held_by_up(addresses: &[(SocketAddr, &str)]) -> Result<Vec<Reservation>> {
    let mut held = Vec::new();
    for (address, flag) in addresses {
        held.push(said(process::reserve(*address).await, flag)?);
    }
    Ok(held)
}

/// What a file remembers.
pub fn remembered(keeper: &Path) -> Option<u16> {
    std::fs::read_to_string(keeper).ok()?.trim().parse().ok().filter(|port| *port != 0)
}

fn remember(keeper: &Path, port: u16) -> std::io::Result<()> {
    process::write_atomic(keeper, port.to_string(), 0o644)
}

fn said<T>(result: std::result::Result<T, ListenError>, flag: &str) -> Result<T> {
    result.map_err(|error| match error {
        ListenError::Taken { .. } => anyhow::anyhow!("{error}: stop it, or choose another {flag}"),
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_chosen_once_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = dir.path().join("port");
        let first = keep(&keeper, None, "--listen").await.unwrap();
        let address = first.local_addr().unwrap();
        assert!(!process::is_ephemeral(address.port()) && remembered(&keeper) == Some(address.port()));
        // Somebody has it: it is said who, and nothing else is chosen.
        let refused = keep(&keeper, None, "--listen").await.unwrap_err().to_string();
        let us = format!("(process {}): stop it, or choose another --listen", std::process::id());
        assert!(refused.starts_with(&format!("{address} is taken by ")) && refused.ends_with(&us), "{refused}");
        assert_eq!(remembered(&keeper), Some(address.port()));
        drop(first);
        assert_eq!(keep(&keeper, None, "--listen").await.unwrap().local_addr().unwrap(), address);
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        assert_eq!(keep(&keeper, any, "--listen").await.unwrap().local_addr().unwrap(), address, "any is the one kept");
        Claims::of_machine().release(dir.path());
    }

    #[tokio::test]
    async fn up_holds_what_its_server_listens_on_and_names_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = dir.path().join("port");
        let server = keep(&keeper, None, "--listen").await.unwrap();
        let address = server.local_addr().unwrap();
        let refused = held_by_up(&[(address, "--listen")]).await.unwrap_err().to_string();
        assert!(refused.contains("(process "), "{refused}");
        drop(server);
        let held = held_by_up(&[(address, "--listen")]).await.unwrap();
        drop(keep(&keeper, None, "--listen").await.unwrap());
        drop(held);
        Claims::of_machine().release(dir.path());
    }
}
