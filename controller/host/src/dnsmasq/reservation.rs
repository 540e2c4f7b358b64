//! Who gets which address and name: a pair of files each.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::config::Paths;
use super::memory::{Files, Memory};
use super::{Error, HostName, Result, Server};
use crate::link::{Change, Changes, Mac};

/// Readable for whoever may pass its directory, which is dnsmasq's user alone.
const MODE: u32 = 0o644;

/// An address kept for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// UID of the port.
    pub owner: Uuid,
    /// Its hardware address; none when it is served elsewhere and only its name is known here.
    pub mac: Option<Mac>,
    /// Address of IPv4 that it gets.
    pub address: Option<Ipv4Addr>,
    /// Address of IPv6 that it gets.
    pub six: Option<Ipv6Addr>,
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

/// Makes the files be those of exactly these reservations; writes only what differs, and reads only what may.
pub(super) fn write(
    paths: &Paths,
    memory: &Memory,
    server: &Server,
    reservations: &[Reservation],
) -> Result<Difference> {
    // Names first: whoever has an address has a name.
    let names = reservations.iter().filter_map(|one| Some((one.owner.to_string(), name_line(server, one)?)));
    let first = replace(&paths.names, memory, names.collect())?;
    let hosts = reservations.iter().filter_map(|one| Some((one.owner.to_string(), host_line(one)?)));
    let second = replace(&paths.hosts, memory, hosts.collect())?;
    Ok(Difference {
        added: first.added.max(second.added),
        changed: first.changed.max(second.changed),
        removed: first.removed.max(second.removed),
    })
}

fn host_line(reservation: &Reservation) -> Option<String> {
    let mac: Vec<String> = reservation.mac?.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = reservation.host_name.as_ref().map(|name| format!(",{name}")).unwrap_or_default();
    let four = reservation.address.map(|four| format!(",{four}")).unwrap_or_default();
    let six = reservation.six.map(|six| format!(",[{six}]")).unwrap_or_default();
    Some(format!("{}{four}{six}{name}\n", mac.join(":")))
}

fn name_line(server: &Server, reservation: &Reservation) -> Option<String> {
    let (name, address) = (reservation.host_name.as_ref()?, reservation.address?);
    Some(match &server.domain {
        // The first name is the one that a reverse look-up answers.
        Some(domain) => format!("{address} {name}.{domain} {name}\n"),
        None => format!("{address} {name}\n"),
    })
}

/// Makes a directory hold exactly these files.
fn replace(directory: &Path, memory: &Memory, wanted: Files) -> Result<Difference> {
    if memory.holds(directory, &wanted) {
        return Ok(Difference::default());
    }
    memory.watch(directory);
    let mut excess = read(directory)?;
    let (mut changed, mut added) = (Vec::new(), Vec::new());
    for (name, text) in &wanted {
        match excess.remove(name) {
            Some(kept) if kept == *text => {}
            Some(_) => changed.push((name, text)),
            None => added.push((name, text)),
        }
    }
    let difference = Difference { added: added.len(), changed: changed.len(), removed: excess.len() };
    if difference.is_empty() {
        memory.found(directory, wanted);
        return Ok(difference);
    }
    memory.forget(directory);
    let group = fs::metadata(directory).map_err(Error::file("examine", directory))?.gid();
    for (name, text) in added {
        let path = directory.join(name);
        write_new(&path, text, group).map_err(Error::file("write", &path))?;
    }
    for (name, text) in changed {
        let path = directory.join(name);
        let written = process::replace_file(&path, text, MODE).and_then(|()| chown(&path, None, Some(group)));
        written.map_err(Error::file("write", &path))?;
    }
    for name in excess.keys() {
        let path = directory.join(name);
        fs::remove_file(&path).map_err(Error::file("remove", &path))?;
    }
    Ok(difference)
}

/// A file that was not there needs no other name first: dnsmasq reads it when it is closed. Cut short it differs at the next look.
fn write_new(path: &Path, text: &str, group: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    // The umask took bits from the mode given to open.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    fchown(&file, None, Some(group))?;
    file.write_all(text.as_bytes())
}

fn read(directory: &Path) -> Result<Files> {
    let failed = |path: PathBuf| move |source| Error::File { action: "read", path, source };
    let mut files = Files::new();
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
            ranges6: Vec::new(),
            dns_servers: Vec::new(),
            names: true,
            domain: domain.map(|domain| domain.parse().unwrap()),
            told: crate::dnsmasq::Told::default(),
            upstream: Vec::new(),
            mtu: 1450,
            lease_time: Duration::from_secs(3600),
        }
    }

    fn reservation(number: u8, name: Option<&str>) -> Reservation {
        Reservation {
            owner: Uuid::from_u128(u128::from(number)),
            mac: Some([2, 0, 0, 0, 0, number]),
            address: Some(Ipv4Addr::new(10, 1, 0, number)),
            six: None,
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
        let both = Reservation { six: "fd00::7".parse().ok(), ..one.clone() };
        assert_eq!(host_line(&both).unwrap(), "02:00:00:00:00:07,10.1.0.7,[fd00::7],node01\n");
        let alone = Reservation { address: None, ..both };
        assert_eq!(host_line(&alone).unwrap(), "02:00:00:00:00:07,[fd00::7],node01\n");
        assert_eq!(host_line(&Reservation { mac: None, ..one.clone() }), None, "a name alone leases nothing");
        assert_eq!(name_line(&server(Some("a.b")), &one).unwrap(), "10.1.0.7 node01.a.b node01\n");
        assert_eq!(name_line(&server(None), &one).unwrap(), "10.1.0.7 node01\n");
        assert_eq!(name_line(&server(None), &reservation(7, None)), None);
    }

    #[test]
    fn only_what_differs_is_written() {
        let dir = tempfile::Builder::new().prefix("reservations-").tempdir().unwrap();
        let paths = paths(dir.path());
        let memory = Memory::default();
        let write = |list: &[Reservation]| write(&paths, &memory, &server(None), list).unwrap();
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
        assert_eq!(write(&paths, &Memory::default(), &server(None), &[]).unwrap().removed, 1);
    }

    /// Calls that read, and bytes written to files, of this thread so far (proc(5)); this question itself is four calls at most.
    fn reads() -> u64 {
        let text = fs::read_to_string("/proc/thread-self/io").unwrap();
        text.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
    }

    #[test]
    fn what_nobody_touched_is_not_read_again() {
        let dir = tempfile::Builder::new().prefix("reservations-").tempdir().unwrap();
        let (paths, memory) = (paths(dir.path()), Memory::default());
        let all: Vec<Reservation> = (0..100).map(|number| reservation(number, Some(&format!("n{number}")))).collect();
        let look = |list: &[Reservation]| write(&paths, &memory, &server(None), list).unwrap();
        assert_eq!(look(&all).added, 100);
        assert_eq!(look(&all), Difference::default(), "our own writing is looked at once more");
        let before = reads();
        for _ in 0..10 {
            assert_eq!(look(&all), Difference::default());
        }
        // Each look asks once or twice whether there is news.
        assert!(reads() - before < 100, "{} reads", reads() - before);
    }

    #[test]
    fn whatever_somebody_does_to_known_files_is_found_at_the_next_look() {
        let dir = tempfile::Builder::new().prefix("reservations-").tempdir().unwrap();
        let (paths, memory) = (paths(dir.path()), Memory::default());
        let all = [reservation(1, Some("one")), reservation(2, Some("two"))];
        let look = || write(&paths, &memory, &server(None), &all).unwrap();
        let (file, none) = (paths.hosts.join(all[0].owner.to_string()), Difference::default());
        let harms: [(&str, &dyn Fn()); 6] = [
            ("rewritten in place", &|| fs::write(&file, "02:00:00:00:00:01,10.1.0.9,one\n").unwrap()),
            ("removed", &|| fs::remove_file(&file).unwrap()),
            ("moved away", &|| fs::rename(&file, dir.path().join("elsewhere")).unwrap()),
            ("replaced", &|| fs::rename(dir.path().join("elsewhere"), &file).unwrap()),
            ("added to", &|| fs::write(paths.hosts.join("planted"), "x").unwrap()),
            ("given a new directory", &|| {
                fs::remove_dir_all(&paths.hosts).unwrap();
                fs::create_dir(&paths.hosts).unwrap();
            }),
        ];
        look();
        for (what, harm) in harms {
            assert_eq!(look(), none);
            assert_eq!(look(), none);
            fs::write(dir.path().join("elsewhere"), "another").unwrap();
            harm();
            assert_ne!(look(), none, "{what}");
        }
        assert_eq!(look(), none);
        // The whole state moved away, and an empty one in its place: no news come from inside.
        let moved = dir.path().join("moved");
        fs::create_dir(&moved).unwrap();
        fs::rename(&paths.hosts, moved.join("hosts")).unwrap();
        fs::create_dir(&paths.hosts).unwrap();
        assert_eq!(look().added, 2);
    }
}
