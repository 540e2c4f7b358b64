//! Stand-ins for the guests of ports, and what they reach.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use host::netns::{self, Namespace, Namespaces};
use reachability::{Conversation, Objects, World};
use serde::de::DeserializeOwned;
use serde_json::json;
use testkit::FakeApi;
use tokio::net::TcpListener;

use super::Placed;

/// How long what shall come through may take; whoever is later is tried again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long is waited for what shall not.
const NEVER: Duration = Duration::from_millis(300);
/// Somebody listens on the first; that nobody does on the second, its guest says.
const TCP: [u16; 2] = [80, 81];

fn address(number: u8) -> Ipv4Addr {
    [10, 77, 0, number].into()
}

/// A namespace with one card, whose other end stands in the network as the port's tap would.
pub struct Card {
    namespace: Namespace,
    _listener: TcpListener,
}

impl Card {
    pub async fn new(cell: &str, bridge: &str, tap: &str, number: u8) -> Card {
        // Not under the host's mark, or the host would sweep it.
        let name = format!("guest-{}-{number}", cell.trim_start_matches("photon-"));
        let (namespace, _) = Namespaces::default().ensure(&name).await.unwrap();
        ip(&["-n", cell, "link", "add", tap, "type", "veth", "peer", "name", "eth0", "netns", &name]);
        ip(&["-n", cell, "link", "set", tap, "mtu", "1450", "master", bridge, "up"]);
        let mac = format!("52:54:00:00:00:{number:02x}");
        ip(&["-n", &name, "link", "set", "eth0", "address", &mac, "mtu", "1450", "up"]);
        ip(&["-n", &name, "address", "add", &format!("{}/24", address(number)), "dev", "eth0"]);
        let listener = netns::listen_tcp(&namespace, (address(number), TCP[0]).into()).await.unwrap();
        Card { namespace, _listener: listener }
    }

    /// Whether that guest answers; one that refuses has answered.
    async fn reaches(&self, number: u8, port: u16, time: Duration) -> bool {
        let at = SocketAddr::from((address(number), port));
        let attempt = netns::enter(&self.namespace, move || TcpStream::connect_timeout(&at, time)).await.unwrap();
        attempt.map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionRefused, |_| true)
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // At once, not when the kernel has put the namespace away: another may come under the same name.
        let _ = Command::new("ip").args(["-n", self.namespace.name(), "link", "delete", "eth0"]).output();
        let _ = Command::new("ip").args(["netns", "delete", self.namespace.name()]).output();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn all<K: DeserializeOwned>(api: &FakeApi, resource: &str) -> Vec<K> {
    api.objects(resource).into_iter().map(|object| serde_json::from_value(object).unwrap()).collect()
}

/// What did not end as the objects say, between all guests, of whatever network.
pub async fn probe(api: &FakeApi, ports: &BTreeMap<String, Placed>, cards: &BTreeMap<String, Card>) -> Vec<String> {
    let gone = api.objects("ports").iter().filter(|port| port["metadata"]["deletionTimestamp"] != json!(null)).count();
    if gone > 0 {
        return vec![format!("{gone} deleted ports are still there")];
    }
    let world = World::of(Objects {
        networks: all(api, "tenantnetworks"),
        ports: all(api, "ports"),
        groups: all(api, "securitygroups"),
        hosts: all(api, "hosts"),
        ..Objects::default()
    });
    let one = async |from: &str, to: &str, port: u16| -> Option<String> {
        let ends = (world.find("t", from).unwrap(), world.find("t", to).unwrap());
        let verdict = world.verdict(ends.0, ends.1, Conversation::Tcp(port));
        let time = if verdict.is_open() { PATIENCE } else { NEVER };
        let answered = cards[from].reaches(ports[to].number, port, time).await;
        let what = if answered { "came through" } else { "did not come through" };
        (answered != verdict.is_open()).then(|| format!("{from} → {to} tcp/{port} {what}: {verdict}"))
    };
    let pairs = ports.keys().flat_map(|from| ports.keys().map(move |to| (from, to))).filter(|(from, to)| from != to);
    let tries = pairs.flat_map(|(from, to)| TCP.map(|port| one(from, to, port)));
    join_all(tries).await.into_iter().flatten().collect()
}
