//! What stands for a guest: a namespace on a cable where the port's tap would be, which bears the port's addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent::names;
use anyhow::{Context, Result, ensure};
use host::netns::{Namespace, Namespaces, enter, listen_tcp};
use kube::ResourceExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::host::NetHost;

/// A namespace that goes with its guest.
pub struct Guest {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Guest {
    /// Puts a guest on the port, which is ready.
    pub async fn new(host: &NetHost, port: &str) -> Result<Guest> {
        let port = host.ports().into_iter().find(|one| one.name_any() == port).context("there is no such port")?;
        let (cell, bridge) = (host.cell()?, names::bridge(&host.network()?));
        let uid = port.uid().unwrap_or_default();
        let (tap, mac) = (names::tap(&uid), port.spec.mac.clone().unwrap_or_default());
        let address: Ipv4Addr = port.spec.ip.as_deref().unwrap_or_default().parse().context("a port's address")?;
        // Not under the host's mark, or the host would sweep it.
        let name = format!("bench-{}", uuid::Uuid::new_v4().simple());
        let (namespace, _) = Namespaces::default().ensure(&name).await?;
        let guest = Guest { namespace, address };
        let batch = format!(
            "link add {tap} mtu 1450 type veth peer name eth0 mtu 1450 netns {name}\nlink set {tap} master {bridge} up\n"
        );
        super::raw::run(&cell, "ip", &["-batch", "-"], batch).await?;
        let batch = format!(
            "link set eth0 address {mac} up\naddress add {address}/16 dev eth0\nroute add default via 10.0.0.1\n"
        );
        super::raw::run(&guest.namespace, "ip", &["-batch", "-"], batch).await?;
        Ok(guest)
    }

    /// Serves TCP: says a byte to whoever connects, and counts what it is told. Until it is dropped.
    pub async fn serve_tcp(&self, port: u16) -> Result<Served> {
        let listener = listen_tcp(&self.namespace, SocketAddr::from((self.address, port))).await?;
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counted = counted.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 256 << 10];
                    // A client that is content ends with a reset.
                    if stream.write_all(b"x").await.is_ok() {
                        while let Ok(length) = stream.read(&mut buffer).await
                            && length > 0
                        {
                            counted.fetch_add(length as u64, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        Ok(Served { count, _task: AbortOnDropHandle::new(task) })
    }

    /// Counts datagrams until it is dropped.
    pub async fn serve_udp(&self, port: u16) -> Result<Served> {
        let at = SocketAddr::from((self.address, port));
        let socket = enter(&self.namespace, move || -> io::Result<UdpSocket> {
            let socket = std::net::UdpSocket::bind(at)?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        let socket = socket.await?.context("failed to listen for datagrams")?;
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while socket.recv(&mut buffer).await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Served { count, _task: AbortOnDropHandle::new(task) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", self.namespace.name()]).output();
    }
}

/// Something that listens and counts.
pub struct Served {
    count: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Served {
    /// Bytes or datagrams so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// That a measurement found something to count at all.
pub fn some(count: f64, what: &str) -> Result<f64> {
    ensure!(count > 0.0, "{what}: nothing came through");
    Ok(count)
}
