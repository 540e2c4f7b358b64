//! Who gets which address and name: a pair of files each.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::config::Paths;
use super::{Error, HostName, Result, Server};
use crate::link::{Change, Changes, Mac};

/// An address kept for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// UID of the port.
    pub owner: Uuid,
    /// Its hardware address; none when it is served elsewhere and only its name is known here.
    pub mac: Option<Mac>,
    /// Address it gets.
    pub address: Ipv4Addr,
    /// Name it is found under.
    pub host_name: Option<HostName>,
}

/// What writing the reservations changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    added: usize,
    changed: usize,
    removed: usize,
}

impl Difference {
    /// dnsmasq sees new files by itself, but not that what it once read is no longer so.
    pub(super) fn only_adds(&self) -> bool {
        self.added > 0 && self.changed + self.removed == 0
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Difference::default()
    }

    pub(super) fn changes(&self) -> Changes {
        match (self.added, self.changed, self.removed) {
            (0, 0, 0) => Changes::default(),
            (added, changed, removed) => {
                let message = format!("address reservations: {added} added, {changed} changed, {removed} removed");
                Change::new("ReservationsChanged", message).into()
            }
        }
    }
}

/// All that dnsmasq is told of these reservations, in an order that does not depend on theirs.
pub(super) fn text(server: &Server, reservations: &[Reservation]) -> String {
    let line = |one: &Reservation| {
        format!("{}{}", host_line(one).unwrap_or_default(), name_line(server, one).unwrap_or_default())
    };
    let mut lines: Vec<String> = reservations.iter().map(line).collect();
    lines.sort_unstable();
    lines.concat()
}

/// Makes the files be those of exactly these reservations; writes only what differs.
pub(super) fn write(paths: &Paths, server: &Server, reservations: &[Reservation]) -> Result<Difference> {
    // Names first: whoever has an address has a name.
    let names = reservations.iter().filter_map(|one| Some((one.owner.to_string(), name_line(server, one)?)));
    let first = replace(&paths.names, names.collect())?;
    let hosts = reservations.iter().filter_map(|one| Some((one.owner.to_string(), host_line(one)?)));
    let second = replace(&paths.hosts, hosts.collect())?;
    Ok(Difference {
        added: first.added.max(second.added),
        changed: first.changed.max(second.changed),
        removed: first.removed.max(second.removed),
    })
}

fn host_line(reservation: &Reservation) -> Option<String> {
    let mac: Vec<String> = reservation.mac?.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = reservation.host_name.as_ref().map(|name| format!(",{name}")).unwrap_or_default();
    Some(format!("{},{}{name}\n", mac.join(":"), reservation.address))
}

fn name_line(server: &Server, reservation: &Reservation) -> Option<String> {
    let (name, address) = (reservation.host_name.as_ref()?, reservation.address);
    Some(match &server.domain {
        // The first name is the one that a reverse look-up answers.
        Some(domain) => format!("{address} {name}.{domain} {name}\n"),
        None => format!("{address} {name}\n"),
    })
}

/// Makes a directory hold exactly these files.
fn replace(directory: &Path, wanted: BTreeMap<String, String>) -> Result<Difference> {
    let mut difference = Difference::default();
    let mut found = read(directory)?;
    for (name, text) in &wanted {
        match found.remove(name) {
            Some(kept) if kept == *text => continue,
            Some(_) => difference.changed += 1,
            None => difference.added += 1,
        }
        let path = directory.join(name);
        write_readable(directory, &path, text).map_err(Error::file("write", &path))?;
    }
    for name in found.keys() {
        let path = directory.join(name);
        fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        difference.removed += 1;
    }
    Ok(difference)
}

/// The file goes to the directory's group, which is dnsmasq's, before it gets its name.
fn write_readable(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let group = fs::metadata(directory)?.gid();
    process::replace_file(path, text, 0o644)?;
    chown(path, None, Some(group))
}

fn read(directory: &Path) -> Result<BTreeMap<String, String>> {
    let failed = |path: PathBuf| move |source| Error::File { action: "read", path, source };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed(directory.to_owned()))? {
        let path = entry.map_err(failed(directory.to_owned()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        // A file that cannot be read as text is none of ours: it differs from whatever is wanted, or it goes.
        let text = fs::read(&path).map_err(failed(path))?;
        files.insert(name, String::from_utf8(text).unwrap_or_default());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn server(domain: Option<&str>) -> Server {
        Server {
            owner: "network-1".into(),
            bridge: "br-1".parse().unwrap(),
            ranges: Vec::new(),
            dns_servers: Vec::new(),
            names: true,
            domain: domain.map(|domain| domain.parse().unwrap()),
            upstream: Vec::new(),
            mtu: 1450,
            lease_time: Duration::from_secs(3600),
        }
    }

    fn reservation(number: u8, name: Option<&str>) -> Reservation {
        Reservation {
            owner: Uuid::from_u128(u128::from(number)),
            mac: Some([2, 0, 0, 0, 0, number]),
            address: Ipv4Addr::new(10, 1, 0, number),
            host_name: name.map(|name| name.parse().unwrap()),
        }
    }

    fn paths(dir: &Path) -> Paths {
        let paths = Paths::new(dir).unwrap();
        fs::create_dir(&paths.hosts).unwrap();
        fs::create_dir(&paths.names).unwrap();
        paths
    }

    #[test]
    fn a_reservation_is_a_line_each() {
        let one = reservation(7, Some("node01"));
        assert_eq!(host_line(&one).unwrap(), "02:00:00:00:00:07,10.1.0.7,node01\n");
        assert_eq!(host_line(&Reservation { mac: None, ..one.clone() }), None, "a name alone leases nothing");
        assert_eq!(name_line(&server(Some("a.b")), &one).unwrap(), "10.1.0.7 node01.a.b node01\n");
        assert_eq!(name_line(&server(None), &one).unwrap(), "10.1.0.7 node01\n");
        assert_eq!(name_line(&server(None), &reservation(7, None)), None);
    }

    #[test]
    fn only_what_differs_is_written() {
        let dir = tempfile::Builder::new().prefix("reservations-").tempdir().unwrap();
        let paths = paths(dir.path());
        let write = |list: &[Reservation]| write(&paths, &server(None), list).unwrap();
        let (one, two) = (reservation(1, Some("one")), reservation(2, None));
        assert_eq!(write(&[one.clone(), two.clone()]), Difference { added: 2, ..Difference::default() });
        assert_eq!(write(&[one.clone(), two]), Difference::default());
        let renamed = Reservation { host_name: Some("uno".parse().unwrap()), ..one };
        let difference = write(&[renamed]);
        assert_eq!(difference, Difference { changed: 1, removed: 1, ..Difference::default() });
        assert!(!difference.only_adds());
        assert_eq!(fs::read_dir(&paths.hosts).unwrap().count(), 1);
    }

    #[test]
    fn a_foreign_file_among_the_reservations_goes() {
        let dir = tempfile::Builder::new().prefix("reservations-").tempdir().unwrap();
        let paths = paths(dir.path());
        fs::write(paths.hosts.join("planted"), [0xff, 0xfe]).unwrap();
        assert_eq!(write(&paths, &server(None), &[]).unwrap().removed, 1);
    }
}
