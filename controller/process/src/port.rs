//! Who listens on a port: what somebody needs to know who finds it taken.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a listening socket in the kernel's tables.
const LISTEN: &str = "0A";

/// The program that listens on a TCP address, or on its port of every address, in the calling thread's network namespace:
/// its name and process id. None when there is none, or when it is not ours to see.
pub fn listener_on(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
    let inode = tables.iter().find_map(|table| inode_in(&fs::read_to_string(table).ok()?, address))?;
    let socket = format!("socket:[{inode}]");
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| holds(*pid, &socket)).map(describe).next()
}

fn holds(pid: i32, socket: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == socket)
}

fn describe(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} (process {pid})", name.trim())
}

/// The inode of the socket that listens there, by the kernel's table.
fn inode_in(table: &str, wanted: SocketAddr) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _, state) = (words.next()?, words.next()?, words.next()?);
        let (ip, port) = local.split_once(':')?;
        let (ip, port) = (address(ip)?.to_canonical(), u16::from_str_radix(port, 16).ok()?);
        let meant = port == wanted.port() && (ip.is_unspecified() || ip == wanted.ip().to_canonical());
        (meant && state == LISTEN).then(|| words.nth(5).map(str::to_owned)).flatten()
    })
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
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let us = format!("(process {})", std::process::id());
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(bound) else { continue };
            let port = listener.local_addr().unwrap().port();
            let asked: SocketAddr = if bound.contains("::1") { "[::1]:1" } else { "127.0.0.1:1" }.parse().unwrap();
            let holder = listener_on(SocketAddr::new(asked.ip(), port));
            assert!(holder.as_ref().is_some_and(|holder| holder.ends_with(&us)), "{bound}: {holder:?}");
            drop(listener);
            assert_eq!(listener_on(SocketAddr::new(asked.ip(), port)), None, "{bound}");
        }
    }
}
