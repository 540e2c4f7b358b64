//! Who has a TCP port, and listening where nobody else does.
//!
//! "Address already in use" tells nobody what to do: whoever finds a port taken wants to know by whom. And what looks taken right
//! after a process was killed may only be on its way out (its sockets are closed one after the other while it ends), so that is
//! waited for; a holder that lives is told at once.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Instant, sleep};

/// The state of a listening socket in the kernel's tables.
const LISTEN: &str = "0A";
/// How long the sockets of a killed process may outlive it.
const ENDING: Duration = Duration::from_secs(2);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
const LOOK: Duration = Duration::from_millis(10);

/// Why nobody can listen there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody has the port.
    #[error("{address} is taken by {holder}")]
    Taken {
        /// Address.
        address: SocketAddr,
        /// Who has it.
        holder: Holder,
    },
    /// Another reason, such as an address that this machine does not have.
    #[error("failed to listen on {address}")]
    Failed {
        /// Address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Who has a port, as far as this process may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name and process id. None when the process is another user's and we are not root, or when it has ended.
    program: Option<(String, i32)>,
    user: u32,
    listens: bool,
}

impl Holder {
    /// Nobody has it open any more who could be asked: the kernel is at closing it.
    fn may_be_ending(&self) -> bool {
        let us = rustix::process::geteuid();
        self.program.is_none() && (us.is_root() || us.as_raw() == self.user)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.listens {
            f.write_str("a connection of ")?;
        }
        match &self.program {
            Some((name, pid)) => write!(f, "{name} (process {pid})"),
            None => write!(f, "a program of the user with id {} (`ss -tanp`, as root, names it)", self.user),
        }
    }
}

/// Listens. Fails at once when somebody has the port, and names him.
///
/// # Errors
/// [`ListenError`].
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    once_free(address, || bind(address)?.listen(BACKLOG)).await
}

/// A port that no outgoing connection gets while this lives, whoever is to listen on it; see [`reserve`].
#[derive(Debug)]
pub struct Reservation {
    _socket: TcpSocket,
}

/// Keeps a port for somebody who is to listen there, again and again perhaps: until this is dropped the kernel gives it to no
/// outgoing connection and to nobody who asks for any free port. Somebody who asks for this very port gets it.
///
/// # Errors
/// [`ListenError`]; [`ListenError::Taken`] also when the one it is meant for listens already.
pub async fn reserve(address: SocketAddr) -> Result<Reservation, ListenError> {
    Ok(Reservation { _socket: once_free(address, || bind(address)).await? })
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // For what is left of old connections, and because two such sockets may have one port while at most one of them listens.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn once_free<T>(address: SocketAddr, bind: impl Fn() -> io::Result<T>) -> Result<T, ListenError> {
    let deadline = Instant::now() + ENDING;
    loop {
        let source = match bind() {
            Ok(bound) => return Ok(bound),
            Err(source) => source,
        };
        if source.kind() != ErrorKind::AddrInUse {
            return Err(ListenError::Failed { address, source });
        }
        match holder_of(address) {
            Some(holder) if !holder.may_be_ending() => return Err(ListenError::Taken { address, holder }),
            _ if Instant::now() < deadline => sleep(LOOK).await,
            Some(holder) => return Err(ListenError::Taken { address, holder }),
            None => return Err(ListenError::Failed { address, source }),
        }
    }
}

/// Who has a TCP port at this address, or at every address, in the calling thread's network namespace: who listens there, or
/// else whose connection comes from there.
pub fn holder_of(address: SocketAddr) -> Option<Holder> {
    let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"].map(fs::read_to_string);
    let rows: Vec<Row> = tables.iter().flatten().flat_map(|table| rows(table, address)).collect();
    let row = rows.iter().find(|row| row.listens).or_else(|| rows.iter().find(|row| row.inode != "0"))?;
    Some(Holder { program: program_with(&format!("socket:[{}]", row.inode)), user: row.user, listens: row.listens })
}

fn program_with(socket: &str) -> Option<(String, i32)> {
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let pid = pids.into_iter().find(|pid| holds(*pid, socket))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((name.trim().to_owned(), pid))
}

fn holds(pid: i32, socket: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == socket)
}

/// A socket in the kernel's table.
struct Row {
    listens: bool,
    user: u32,
    /// 0 when no process has it any more.
    inode: String,
}

/// The sockets that have this address, or its port of every address.
fn rows(table: &str, wanted: SocketAddr) -> Vec<Row> {
    let row = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _, state) = (words.next()?, words.next()?, words.next()?);
        let (ip, port) = local.split_once(':')?;
        let (ip, port) = (address(ip)?.to_canonical(), u16::from_str_radix(port, 16).ok()?);
        let any = ip.is_unspecified() || wanted.ip().is_unspecified();
        let meant = port == wanted.port() && (any || ip == wanted.ip().to_canonical());
        // After the queues, the timer and the retransmissions.
        let (user, inode) = (words.nth(3)?.parse().ok()?, words.nth(1)?.to_owned());
        meant.then_some(Row { listens: state == LISTEN, user, inode })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// An address as the tables write it: words of four bytes, each in the machine's own order.
fn address(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.concat();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
