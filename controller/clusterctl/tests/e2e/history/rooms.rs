//! Network namespaces joined by a bridge, between any two of which the network can be cut.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use host::netns::{Namespace, Namespaces};

/// Servers, and as many etcd members.
pub const COUNT: usize = 3;

/// Someone who has a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A server.
    Server(usize),
    /// An etcd member.
    Member(usize),
}

impl Place {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Place> {
        (0..COUNT).map(Place::Server).chain((0..COUNT).map(Place::Member))
    }

    /// Its address; the range is the rooms' own.
    pub fn address(self) -> String {
        match self {
            Place::Server(number) => format!("10.77.0.{}", 10 + number),
            Place::Member(number) => format!("10.77.0.{}", 20 + number),
        }
    }

    fn word(self) -> String {
        match self {
            Place::Server(number) => format!("s{number}"),
            Place::Member(number) => format!("m{number}"),
        }
    }
}

/// The rooms; they go with this.
pub struct Rooms {
    /// What all names of this run begin with.
    prefix: String,
}

impl Rooms {
    /// Makes the hub with its bridge, and a room for everyone.
    pub fn new() -> Result<Rooms> {
        let rooms = Rooms { prefix: format!("history-{}", std::process::id()) };
        let hub = rooms.name("hub");
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "addr", "add", "10.77.0.1/24", "dev", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for place in Place::all() {
            let (room, port) = (rooms.name(&place.word()), place.word());
            ip(&["netns", "add", &room])?;
            ip(&["-n", &room, "link", "set", "lo", "up"])?;
            ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &room])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &room, "addr", "add", &format!("{}/24", place.address()), "dev", "eth0"])?;
            ip(&["-n", &room, "link", "set", "eth0", "up"])?;
        }
        rooms.cut(&[])?;
        Ok(rooms)
    }

    /// Where the clients are.
    pub fn hub(&self) -> Result<Namespace> {
        Ok(Namespaces::default().open(&self.name("hub"))?)
    }

    /// Starts a program in someone's room.
    pub fn start(&self, place: Place, mut command: Command) -> Result<std::process::Child> {
        let room = Namespaces::default().open(&self.name(&place.word()))?;
        let shown = format!("{command:?}");
        host::netns::run_in(&room, move || command.spawn())?.with_context(|| format!("failed to start {shown}"))
    }

    /// Drops, from now on, all that goes between these pairs, either way, and nothing else.
    pub fn cut(&self, pairs: &[(Place, Place)]) -> Result<()> {
        let mut rules = String::new();
        for (one, other) in pairs {
            for (from, to) in [(one, other), (other, one)] {
                rules += &format!("    iifname \"{}\" oifname \"{}\" drop\n", from.word(), to.word());
            }
        }
        let chain = format!("  chain cut {{\n    type filter hook forward priority 0;\n{rules}  }}\n");
        let table = format!("table bridge cuts {{\n{chain}}}\n");
        let script = format!("table bridge cuts\ndelete table bridge cuts\n{table}");
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped());
        let mut nft = host::netns::run_in(&self.hub()?, move || command.spawn())?.context("failed to start nft")?;
        std::io::Write::write_all(&mut nft.stdin.take().context("no input")?, script.as_bytes())?;
        ensure!(nft.wait()?.success(), "nft refuses:\n{script}");
        Ok(())
    }

    fn name(&self, word: &str) -> String {
        format!("{}-{word}", self.prefix)
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        for word in Place::all().map(Place::word).chain(["hub".to_owned()]) {
            // One that was never made cannot be deleted.
            let _ = Command::new("ip").args(["netns", "delete", &self.name(&word)]).stderr(Stdio::null()).status();
        }
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(words).output().context("failed to run ip")?;
    ensure!(done.status.success(), "ip {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr));
    Ok(())
}
