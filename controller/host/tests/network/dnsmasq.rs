//! dnsmasq with real DHCP clients: addresses, names, drift, adoption.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use host::dnsmasq::{self, Place, Range, Reservation, Server, Told};
use host::link::{Bridge, Changes, LinkName, Mac, Port, Veth};
use process::ProcessId;
use uuid::Uuid;

use crate::lab::{DEADLINE, Room, unique_name};

const UID: u32 = 300_053;

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

fn reasons(changes: &Changes) -> Vec<&str> {
    changes.iter().map(|change| change.reason).collect()
}

fn mac(number: u8) -> Mac {
    [2, 0, 0, 0, 1, number]
}

fn reserve(number: u8, host: &str) -> Reservation {
    Reservation {
        owner: Uuid::from_u128(u128::from(number)),
        mac: Some(mac(number)),
        address: Some([10, 1, 0, number].into()),
        six: None,
        host_name: Some(host.parse().unwrap()),
    }
}

/// A network of one test with its dnsmasq.
struct Network {
    room: Room,
    place: Place,
    server: Server,
}

impl Network {
    async fn new() -> Network {
        let room = Room::new().await;
        // Not below the system's directory for temporary files of ours alone: its user must reach it.
        let state = PathBuf::from("/tmp").join(unique_name()).join("net-1");
        let place = Place {
            namespace: room.namespace.clone(),
            links: room.links.clone(),
            state,
            uid_gid: (UID, UID),
            program: process::find_program("dnsmasq", "CLUSTERCTL_DNSMASQ").unwrap(),
            memory: dnsmasq::Memory::default(),
        };
        let server = Server {
            owner: "network-1".into(),
            bridge: name("br-1"),
            ranges: vec![Range {
                subnet: "10.1.0.0/24".parse().unwrap(),
                pool: None,
                router: Some([10, 1, 0, 1].into()),
            }],
            ranges6: Vec::new(),
            dns_servers: Vec::new(),
            names: true,
            domain: Some("lab.internal".parse().unwrap()),
            told: Told::default(),
            upstream: Vec::new(),
            mtu: 1450,
            lease_time: Duration::from_secs(3600),
        };
        let network = Network { room, place, server };
        network.bridge().await;
        network
    }

    async fn bridge(&self) {
        let bridge = Bridge {
            name: name("br-1"),
            addresses: vec!["10.1.0.1/24".parse().unwrap()],
            mtu: 1450,
            alias: "network-1".into(),
        };
        self.room.links.ensure_bridge(&bridge).await.unwrap();
    }

    async fn ensure(&self, reservations: &[Reservation]) -> Changes {
        dnsmasq::ensure(&self.place, &self.server, reservations).await.unwrap()
    }

    fn process(&self) -> ProcessId {
        dnsmasq::observe(&self.place.state).unwrap().expect("it runs").id().unwrap()
    }

    /// A guest's stand-in: a namespace with one card on the bridge.
    async fn guest(&self, number: u8) -> Guest {
        let room = Room::new().await;
        let near = name(&format!("g{number}"));
        let veth = Veth { name: near.clone(), peer: name("eth0"), peer_namespace: Some(room.namespace.clone()) };
        self.room.links.ensure_veth(&veth).await.unwrap();
        let mut port = Port {
            name: near,
            bridge: Some(name("br-1")),
            mtu: 1450,
            alias: format!("port-{number}"),
            addresses: None,
            mac: None,
        };
        self.room.links.ensure_port(&port).await.unwrap();
        (port.name, port.bridge, port.mac) = (name("eth0"), None, Some(mac(number)));
        room.links.ensure_port(&port).await.unwrap();
        Guest { room, dir: tempfile::tempdir().unwrap() }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for id in self.room.occupants() {
            let _ = id.signal(rustix::process::Signal::KILL);
        }
        let _ = fs::remove_dir_all(self.place.state.parent().unwrap());
    }
}

struct Guest {
    room: Room,
    dir: tempfile::TempDir,
}

impl Guest {
    /// Asks for an address as a guest does; what it was told, or none when nobody answered.
    fn ask(&self, tries: u32) -> Option<String> {
        let (script, told) = (self.dir.path().join("script"), self.dir.path().join("told"));
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev $interface\nip addr add $ip/$mask dev $interface\n\
             echo \"ip=$ip router=$router dns=$dns mtu=$mtu domain=$domain$search${{ntpsrv:+ time=$ntpsrv}}${{staticroutes:+ routes=$staticroutes}}\" >{}\n",
            told.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let _ = fs::remove_file(&told);
        let line = format!(
            "busybox udhcpc -i eth0 -n -q -f -t {tries} -T 1 -O mtu -O search -O ntpsrv -O staticroutes -F impostor -s {} || true",
            script.display()
        );
        self.room.shell(&line);
        fs::read_to_string(told).ok().map(|told| told.trim().to_owned())
    }

    fn address(&self) -> Option<String> {
        self.ask(10)?.split(' ').next()?.strip_prefix("ip=").map(str::to_owned)
    }

    /// Addresses that a name has, asked of the network's own name server.
    fn resolve(&self, host: &str) -> String {
        let answer = self.room.shell(&format!("busybox nslookup -type=a {host} 10.1.0.1 2>&1 || true"));
        let after_server = answer.split_once("\n\n").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        let addresses = after_server.lines().filter_map(|line| line.strip_prefix("Address: "));
        addresses.collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test]
async fn a_guest_gets_its_address_gateway_and_name() {
    let network = Network::new().await;
    let changes = network.ensure(&[reserve(7, "node07")]).await;
    assert_eq!(reasons(&changes), ["ReservationsChanged", "DhcpStarted"]);
    let guest = network.guest(7).await;
    assert_eq!(guest.ask(10).unwrap(), "ip=10.1.0.7 router=10.1.0.1 dns=10.1.0.1 mtu=1450 domain=lab.internal");
    assert_eq!(guest.resolve("node07.lab.internal"), "10.1.0.7");
    assert_eq!(guest.resolve("node07"), "10.1.0.7");
    assert_eq!(guest.resolve("impostor.lab.internal"), "", "a guest cannot name itself");
    let leases = dnsmasq::leases(&network.place.state).unwrap();
    assert_eq!((leases.len(), leases[0].mac), (1, mac(7)));

    let stranger = network.guest(99).await;
    assert_eq!(stranger.ask(2), None, "no reservation, no answer");
}

#[tokio::test]
async fn what_guests_are_told_changes_while_they_keep_their_leases() {
    let mut network = Network::new().await;
    network.ensure(&[reserve(7, "node07")]).await;
    let guest = network.guest(7).await;
    let first = guest.ask(10).unwrap();
    network.server.domain = None;
    network.server.told = Told {
        search: vec!["a.example".parse().unwrap(), "b.example".parse().unwrap()],
        time_servers: vec![[10, 1, 0, 3].into(), [192, 0, 2, 4].into()],
        routes: vec![("192.168.0.0/16".parse().unwrap(), [10, 1, 0, 9].into())],
    };
    network.ensure(&[reserve(7, "node07")]).await;
    assert_eq!(dnsmasq::leases(&network.place.state).unwrap().len(), 1, "{first}");
    assert_eq!(
        guest.ask(10).unwrap(),
        "ip=10.1.0.7 router=10.1.0.1 dns=10.1.0.1 mtu=1450 domain=a.example b.example time=10.1.0.3 192.0.2.4 \
         routes=0.0.0.0/0 10.1.0.1 192.168.0.0/16 10.1.0.9"
    );
    network.server.told = Told::default();
    network.ensure(&[reserve(7, "node07")]).await;
    let told = guest.ask(10).unwrap();
    assert!(told.starts_with("ip=10.1.0.7 ") && !told.contains("192"), "{told}");
}

#[tokio::test]
async fn two_networks_of_one_range_serve_side_by_side() {
    let (one, two) = (Network::new().await, Network::new().await);
    one.ensure(&[reserve(7, "in-one")]).await;
    two.ensure(&[reserve(8, "in-two")]).await;
    let (first, second) = (one.guest(7).await, two.guest(8).await);
    assert_eq!(first.address().as_deref(), Some("10.1.0.7"));
    assert_eq!(second.address().as_deref(), Some("10.1.0.8"));
    assert_eq!((first.resolve("in-one").as_str(), first.resolve("in-two").as_str()), ("10.1.0.7", ""));
    assert_eq!((second.resolve("in-two").as_str(), second.resolve("in-one").as_str()), ("10.1.0.8", ""));
}

#[tokio::test]
async fn a_guest_without_reservation_gets_an_address_of_the_pool() {
    let mut network = Network::new().await;
    network.server.ranges[0].pool = Some(([10, 1, 0, 100].into(), [10, 1, 0, 100].into()));
    network.server.ranges[0].router = None;
    network.ensure(&[]).await;
    let told = network.guest(5).await.ask(10).unwrap();
    assert!(told.starts_with("ip=10.1.0.100 router= "), "{told}");
}

#[tokio::test]
async fn each_range_has_its_own_gateway_and_renews_with_it() {
    let mut network = Network::new().await;
    let (subnet, router) = ("10.2.0.0/25".parse().unwrap(), Some([10, 2, 0, 126].into()));
    network.server.ranges.push(Range { subnet, pool: None, router });
    let error = dnsmasq::ensure(&network.place, &network.server, &[]).await.unwrap_err();
    assert!(error.to_string().contains("10.2.0.0/25"), "{error}");
    network.room.ip("addr add 10.2.0.126/25 dev br-1");
    let second = Reservation { address: Some([10, 2, 0, 8].into()), ..reserve(8, "eight") };
    network.ensure(&[reserve(7, "seven"), second]).await;
    let (one, two) = (network.guest(7).await, network.guest(8).await);
    // Twice: the second time its lease is known.
    for _ in 0..2 {
        assert!(one.ask(10).unwrap().starts_with("ip=10.1.0.7 router=10.1.0.1 "));
        assert!(two.ask(10).unwrap().starts_with("ip=10.2.0.8 router=10.2.0.126 "));
    }
    assert!(two.room.ip("-o addr show dev eth0").contains("10.2.0.8/25"));
}

#[tokio::test]
async fn it_runs_with_three_capabilities_as_a_user_of_its_own() {
    let network = Network::new().await;
    network.ensure(&[]).await;
    let status = fs::read_to_string(format!("/proc/{}/status", network.process().pid)).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Uid:"), format!("{UID}\t{UID}\t{UID}\t{UID}"));
    assert_eq!(field("Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        // net_bind_service (10), net_admin (12), net_raw (13)
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), 1 << 10 | 1 << 12 | 1 << 13, "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
}

#[tokio::test]
async fn a_converged_network_is_left_alone_and_adopted_after_a_restart_of_ours() {
    let network = Network::new().await;
    let reservations = [reserve(7, "a"), reserve(8, "b")];
    network.ensure(&reservations).await;
    let first = network.process();
    assert!(network.ensure(&reservations).await.is_empty());
    let again =
        Place { links: host::link::Links::open(&network.room.namespace).await.unwrap(), ..network.place.clone() };
    assert!(dnsmasq::ensure(&again, &network.server, &reservations).await.unwrap().is_empty());
    assert_eq!(network.process(), first);
}

#[tokio::test]
async fn a_new_reservation_is_served_without_a_restart() {
    let network = Network::new().await;
    network.ensure(&[reserve(7, "seven")]).await;
    let first = network.process();
    let changes = network.ensure(&[reserve(7, "seven"), reserve(8, "eight")]).await;
    assert_eq!(reasons(&changes), ["ReservationsChanged"], "no signal for an addition");
    let guest = network.guest(8).await;
    assert_eq!(guest.address().as_deref(), Some("10.1.0.8"));
    assert_eq!(guest.resolve("eight"), "10.1.0.8");

    // One goes, one changes its name: names follow, and it is still the same process.
    let changes = network.ensure(&[reserve(8, "acht")]).await;
    assert_eq!(reasons(&changes), ["ReservationsChanged", "DhcpReloaded"]);
    crate::lab::eventually("the names follow", || async {
        guest.resolve("acht") == "10.1.0.8" && guest.resolve("eight").is_empty() && guest.resolve("seven").is_empty()
    })
    .await;
    assert_eq!(network.process(), first);
    let gone = network.guest(7).await;
    assert_eq!(gone.ask(2), None, "its reservation went");
}

#[tokio::test]
async fn an_address_passes_to_its_next_holder_at_once() {
    let network = Network::new().await;
    network.ensure(&[reserve(7, "old")]).await;
    assert_eq!(network.guest(7).await.address().as_deref(), Some("10.1.0.7"));
    let heir = Reservation { mac: Some(mac(8)), owner: Uuid::from_u128(8), ..reserve(7, "new") };
    let changes = network.ensure(std::slice::from_ref(&heir)).await;
    assert_eq!(reasons(&changes), ["ReservationsChanged", "DhcpStarted"]);
    assert_eq!(network.guest(8).await.address().as_deref(), Some("10.1.0.7"));
    assert!(network.ensure(&[heir]).await.is_empty());
}

#[tokio::test]
async fn a_killed_one_is_started_again() {
    let network = Network::new().await;
    network.ensure(&[reserve(7, "a")]).await;
    let first = network.process();
    first.signal(rustix::process::Signal::KILL).unwrap();
    tokio::time::timeout(DEADLINE, first.exited()).await.unwrap();
    assert_eq!(reasons(&network.ensure(&[reserve(7, "a")]).await), ["DhcpStarted"]);
    assert_eq!(network.guest(7).await.address().as_deref(), Some("10.1.0.7"));
}

#[tokio::test]
async fn it_serves_the_bridge_that_was_made_anew() {
    let network = Network::new().await;
    network.ensure(&[reserve(7, "a")]).await;
    network.room.ip("link del br-1");
    let error = dnsmasq::ensure(&network.place, &network.server, &[]).await.unwrap_err();
    assert!(error.retry() && error.to_string().contains("br-1"), "{error}");
    network.bridge().await;
    assert_eq!(reasons(&network.ensure(&[reserve(7, "a")]).await), ["DhcpStarted"]);
    assert_eq!(network.guest(7).await.address().as_deref(), Some("10.1.0.7"));
    assert!(network.ensure(&[reserve(7, "a")]).await.is_empty());
}

#[tokio::test]
async fn one_that_was_never_recorded_is_replaced_not_doubled() {
    let network = Network::new().await;
    network.ensure(&[]).await;
    let first = network.process();
    fs::remove_file(network.place.state.join("running.json")).unwrap();
    network.ensure(&[]).await;
    assert!(!first.is_alive());
    assert_eq!(network.room.occupants().len(), 1);
}

#[tokio::test]
async fn a_telling_that_we_died_before_is_done_again() {
    let network = Network::new().await;
    network.ensure(&[reserve(7, "a"), reserve(8, "b")]).await;
    // We died after the files were written and before the signal.
    for kind in ["hosts", "names"] {
        fs::remove_file(network.place.state.join(kind).join(Uuid::from_u128(8).to_string())).unwrap();
    }
    assert_eq!(reasons(&network.ensure(&[reserve(7, "a")]).await), ["DhcpReloaded"]);
    assert!(network.ensure(&[reserve(7, "a")]).await.is_empty());
}

#[tokio::test]
async fn removing_leaves_nothing_and_may_be_repeated() {
    let network = Network::new().await;
    network.ensure(&[reserve(7, "a")]).await;
    let id = network.process();
    let changes = dnsmasq::remove(&network.place.state, "network-1").await.unwrap();
    assert_eq!(reasons(&changes), ["DhcpStopped"]);
    assert!(!id.is_alive() && !network.place.state.exists());
    assert!(network.room.occupants().is_empty());
    assert!(dnsmasq::remove(&network.place.state, "network-1").await.unwrap().is_empty());
}

#[tokio::test]
async fn one_that_cannot_serve_says_why() {
    let mut network = Network::new().await;
    network.server.upstream = Vec::new();
    network.place.program = "/bin/false".into();
    let error = dnsmasq::ensure(&network.place, &network.server, &[]).await.unwrap_err();
    assert!(matches!(error, dnsmasq::Error::Died { .. }), "{error}");
    network.place.program = process::find_program("dnsmasq", "CLUSTERCTL_DNSMASQ").unwrap();
    network.ensure(&[]).await;
}
