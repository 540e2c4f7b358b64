//! What dnsmasq has given, and to whom.
//!
//! A lease outlives its reservation. While it does, dnsmasq refuses the address to whoever it is reserved for next, so
//! leases of addresses that have another holder now must be forgotten. A lease of IPv6 names no hardware address, so it goes as soon as its
//! address is reserved for nobody.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::config::Paths;
use super::{Error, Result};
use crate::link::Mac;

/// An address given to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When it ends, in seconds since 1970; 0 is never.
    pub expires: u64,
    /// Whom it was given to.
    pub mac: Mac,
    /// The address.
    pub address: Ipv4Addr,
}

impl Lease {
    /// `expires mac address name client-id`.
    fn parse(line: &str) -> Option<Lease> {
        let mut words = line.split_ascii_whitespace();
        let expires = words.next()?.parse().ok()?;
        let mac = parse_mac(words.next()?)?;
        let address = words.next()?.parse().ok()?;
        Some(Lease { expires, mac, address })
    }
}

fn parse_mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2)).collect();
    bytes?.try_into().ok()
}

pub(super) fn read(path: &Path) -> Result<Vec<Lease>> {
    Ok(text_of(path)?.lines().filter_map(Lease::parse).collect())
}

fn text_of(path: &Path) -> Result<String> {
    match fs::read(path) {
        // It is written by another user: whatever is in there is no reason to fail.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// How many leases stand in the way of a reservation.
pub(super) fn stale(paths: &Paths) -> Result<usize> {
    let holders = holders(&paths.hosts)?;
    Ok(text_of(&paths.leases)?.lines().filter(|line| is_stale(line, &holders)).count())
}

/// Removes them from the file. Only while dnsmasq is stopped.
pub(super) fn forget_stale(paths: &Paths) -> Result<()> {
    let (text, holders) = (text_of(&paths.leases)?, holders(&paths.hosts)?);
    let stays = |line: &&str| !is_stale(line, &holders);
    let kept: String = text.lines().filter(stays).map(|line| format!("{line}\n")).collect();
    if kept == text {
        return Ok(());
    }
    let rewritten = || -> io::Result<()> {
        let owner = fs::metadata(&paths.own)?;
        process::replace_file(&paths.leases, &kept, 0o644)?;
        chown(&paths.leases, Some(owner.uid()), Some(owner.gid()))
    };
    rewritten().map_err(Error::file("write", &paths.leases))
}

/// A lease of a reserved address whose holder is another, or one of IPv6 whose address nobody holds.
fn is_stale(line: &str, holders: &HashMap<IpAddr, Mac>) -> bool {
    match Lease::parse(line) {
        Some(lease) => holders.get(&lease.address.into()).is_some_and(|mac| *mac != lease.mac),
        // `expires iaid address name duid`.
        None => {
            let address = line.split_ascii_whitespace().nth(2).and_then(|word| word.parse::<Ipv6Addr>().ok());
            address.is_some_and(|address| !holders.contains_key(&address.into()))
        }
    }
}

/// Holders of the reserved addresses, as the files tell that dnsmasq reads.
fn holders(directory: &Path) -> Result<HashMap<IpAddr, Mac>> {
    let mut holders = HashMap::new();
    for entry in fs::read_dir(directory).map_err(Error::file("read", directory))? {
        let path = entry.map_err(Error::file("read", directory))?.path();
        let text = text_of(&path)?;
        let mut fields = text.trim().split(',');
        if let Some(mac) = fields.next().and_then(parse_mac) {
            let addresses = fields.filter_map(|field| field.trim_matches(['[', ']']).parse::<IpAddr>().ok());
            holders.extend(addresses.map(|address| (address, mac)));
        }
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lease_is_read() {
        let lease = Lease::parse("1700000000 02:00:00:00:00:07 10.1.0.7 node01 01:02").unwrap();
        assert_eq!(lease.expires, 1_700_000_000);
        assert_eq!((lease.mac, lease.address), ([2, 0, 0, 0, 0, 7], Ipv4Addr::new(10, 1, 0, 7)));
        assert_eq!(Lease::parse("duid 00:01"), None);
    }

    #[test]
    fn only_a_lease_with_another_holder_is_stale() {
        let lease = "0 02:00:00:00:00:07 10.1.0.7 node01 01:02";
        let held_by = |mac| HashMap::from([(IpAddr::from([10, 1, 0, 7]), mac)]);
        assert!(!is_stale(lease, &HashMap::new()));
        assert!(!is_stale(lease, &held_by([2, 0, 0, 0, 0, 7])));
        assert!(is_stale(lease, &held_by([2, 0, 0, 0, 0, 8])));
        let six = "0 7 fd00::7 node01 00:03:00:01:02:00:00:00:00:07";
        assert!(is_stale(six, &HashMap::new()));
        assert!(!is_stale(six, &HashMap::from([("fd00::7".parse().unwrap(), [2, 0, 0, 0, 0, 7])])));
        assert!(!is_stale("duid 00:01:00:01", &HashMap::new()));
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in ".{0,80}") {
            let _ = is_stale(&line, &HashMap::new());
        }
    }
}
