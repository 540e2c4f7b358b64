//! Services on real packets: two hosts, guests on both, and servers that say who they are and whom they hear.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;

use host::balancer::{self, Backend, Balancer, Place, Protocol, Service, ServiceId, Stands};
use host::firewall::Remote;
use host::link::{Bridge, Changes};
use host::{conntrack, netns};

use crate::firewall::lab::{Lab, NEVER, address, id, ingress, tcp};
use crate::lab::DEADLINE;
use crate::overlay::lab::{MTU, name};

/// The service's address.
const SERVICE: u8 = 50;

/// Guests 11 and 12 on the first host, 13 on the second, and services on both.
struct Services {
    lab: Lab,
    stands: [Stands; 2],
    backends: Vec<(u8, u32)>,
    affinity: Option<u32>,
}

impl Services {
    async fn new(vni: u32) -> Services {
        let lab = Lab::new(vni).await;
        for cell in &lab.network.cells {
            let addresses = vec!["10.1.0.1/24".parse().unwrap(), "10.1.0.50/32".parse().unwrap()];
            let bridge = Bridge { name: name("br"), addresses, mtu: MTU, alias: format!("network-{vni}") };
            cell.links.ensure_bridge(&bridge).await.unwrap();
        }
        let mut services = Services { lab, stands: Default::default(), backends: Vec::new(), affinity: None };
        for number in [12, 13] {
            services.serve(number).await;
        }
        services
    }

    /// TCP on port 8080 and UDP on 5353, until the namespace goes: each answer is the server's number and whom it hears.
    async fn serve(&mut self, number: u8) {
        let listener = self.lab.listen(number, 8080).await;
        let socket = self.lab.udp(number, 5353).await;
        socket.set_read_timeout(None).unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, client)) = listener.accept() {
                thread::spawn(move || {
                    let word = [number, last(client)];
                    while stream.write_all(&word).is_ok() && stream.read_exact(&mut [0]).is_ok() {}
                });
            }
        });
        thread::spawn(move || {
            while let Ok((_, client)) = socket.recv_from(&mut [0; 16]) {
                let _ = socket.send_to(&[number, last(client)], client);
            }
        });
    }

    fn place(&self, host: usize) -> Place {
        Place { table: name("lb1"), ..self.lab.place(host) }
    }

    fn wanted(&self, host: usize) -> Balancer {
        let service = |protocol, port, target_port| Service {
            id: ServiceId::of("owner", protocol, port),
            protocol,
            address: address(SERVICE),
            port,
            target_port,
            backends: self
                .backends
                .iter()
                .map(|(last, weight)| Backend { address: address(*last), weight: *weight })
                .collect(),
            affinity: self.affinity,
        };
        let here = self.backends.iter().filter(|(number, _)| usize::from(*number == 13) == host);
        Balancer {
            services: vec![service(Protocol::Tcp, 80, 8080), service(Protocol::Udp, 53, 5353)],
            here: here.map(|(number, _)| (name(&format!("g{number}")), address(*number))).collect(),
            gateway: address(1),
            subnets: vec!["10.1.0.0/24".parse().unwrap()],
            proxy: None,
        }
    }

    async fn ensure_on(&mut self, host: usize) -> Changes {
        let (place, wanted) = (self.place(host), self.wanted(host));
        let changes = balancer::ensure(&place, &name("br"), &wanted, &mut self.stands[host]).await.unwrap();
        let here: BTreeSet<_> = wanted.here.into_iter().map(|(link, _)| link).collect();
        self.lab.network.cells[host].links.ensure_reflecting(&here).await.unwrap();
        changes
    }

    async fn behind(&mut self, backends: &[(u8, u32)]) {
        self.backends = backends.to_vec();
        for host in 0..2 {
            self.ensure_on(host).await;
        }
    }

    async fn connect(&self, from: u8) -> io::Result<TcpStream> {
        let stream = self.lab.attempt(from, SERVICE, 80, DEADLINE).await?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(stream)
    }

    /// Who answers a new connection, and whom it hears.
    async fn ask(&self, from: u8) -> (u8, u8) {
        word(&mut self.connect(from).await.unwrap()).unwrap()
    }

    async fn client(&self, from: u8) -> UdpSocket {
        let socket = self.lab.udp(from, 0).await;
        socket.connect((address(SERVICE), 53)).unwrap();
        socket
    }

    /// Connections until each backend has answered one, so that everybody knows everybody's hardware address.
    async fn warm_up(&self, from: u8) {
        let mut seen = BTreeSet::new();
        while seen.len() < self.backends.len() {
            seen.insert(self.ask(from).await.0);
        }
    }
}

fn last(client: SocketAddr) -> u8 {
    match client.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}

fn word(stream: &mut TcpStream) -> io::Result<(u8, u8)> {
    let mut word = [0; 2];
    stream.read_exact(&mut word)?;
    Ok((word[0], word[1]))
}

/// Whether the connection goes on; who answers.
fn speaks(stream: &mut TcpStream) -> io::Result<u8> {
    stream.write_all(b"x")?;
    word(stream).map(|(number, _)| number)
}

fn ask_udp(client: &UdpSocket) -> io::Result<(u8, u8)> {
    client.send(b"x")?;
    let mut word = [0; 2];
    client.recv(&mut word)?;
    Ok((word[0], word[1]))
}

#[tokio::test]
async fn connections_and_datagrams_are_shared_out_by_weight_wherever_the_backend_is_and_it_sees_who_asks() {
    let mut services = Services::new(10_050).await;
    services.behind(&[(12, 2), (13, 1)]).await;
    services.warm_up(11).await;
    let mut heard = Vec::new();
    for _ in 0..6 {
        heard.push(services.ask(11).await);
    }
    heard.sort_unstable();
    assert_eq!(heard, [(12, 11), (12, 11), (12, 11), (12, 11), (13, 11), (13, 11)]);

    let mut heard = Vec::new();
    for _ in 0..3 {
        // A socket each: one that goes on talking stays where it is.
        let client = services.client(11).await;
        let first = ask_udp(&client).unwrap();
        assert_eq!(ask_udp(&client).unwrap(), first);
        heard.push(first);
    }
    heard.sort_unstable();
    assert_eq!(heard, [(12, 11), (12, 11), (13, 11)]);
    // From the other host; one of the backends is there, and asks itself.
    services.warm_up(13).await;
    assert!(services.lab.room(11).shell("ping -c1 -W5 10.1.0.50").contains("1 received"), "the address is there");
}

#[tokio::test]
async fn a_client_stays_with_its_backend_until_that_one_goes_and_comes_to_another_at_once() {
    let mut services = Services::new(10_051).await;
    services.affinity = Some(60);
    services.behind(&[(12, 1), (13, 1)]).await;
    let (first, _) = services.ask(11).await;
    for _ in 0..4 {
        assert_eq!(services.ask(11).await, (first, 11));
    }
    let other = 25 - first;
    services.behind(&[(other, 1)]).await;
    assert_eq!(services.ask(11).await.0, other);
    assert_eq!(services.ask(11).await.0, other);
    services.behind(&[(12, 1), (13, 1)]).await;
    for _ in 0..4 {
        assert_eq!(services.ask(11).await.0, other, "who it came to is remembered");
    }
}

#[tokio::test]
async fn a_backend_that_goes_keeps_its_connections_until_they_are_forgotten_and_with_the_last_all_is_refused() {
    let mut services = Services::new(10_052).await;
    services.behind(&[(12, 1)]).await;
    let mut flow = services.connect(11).await.unwrap();
    assert_eq!(word(&mut flow).unwrap(), (12, 11));
    let mut listening = services.connect(11).await.unwrap();
    assert_eq!(word(&mut listening).unwrap(), (12, 11));
    let client = services.client(11).await;
    assert_eq!(ask_udp(&client).unwrap().0, 12);

    services.behind(&[(13, 1)]).await;
    assert_eq!(services.ask(11).await.0, 13, "nothing new comes to it");
    assert_eq!((speaks(&mut flow).unwrap(), ask_udp(&client).unwrap().0), (12, 12), "what there is goes on");

    let cell = services.lab.network.cells[0].namespace.clone();
    let old = |flow: &conntrack::Flow| flow.backend == address(12) && flow.address == address(SERVICE);
    assert_eq!(conntrack::forget(&cell, old).await.unwrap(), 3);
    assert_eq!(conntrack::forget(&cell, old).await.unwrap(), 0);
    assert_eq!(ask_udp(&client).unwrap().0, 13);
    assert!(speaks(&mut flow).is_err(), "it is ended, not left hanging");
    let ended = word(&mut listening).unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset, "it waits for an answer, and learns that none will come");

    services.behind(&[]).await;
    assert_eq!(services.connect(11).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let lost = services.client(11).await;
    assert_eq!(ask_udp(&lost).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    services.behind(&[(12, 1)]).await;
    assert_eq!(services.ask(11).await.0, 12, "healed");
}

#[tokio::test]
async fn a_backend_reaches_itself_and_hears_nothing_else_of_what_it_says() {
    let mut services = Services::new(10_053).await;
    services.behind(&[(12, 1)]).await;
    let guest = services.lab.room(12);
    guest.shell(
        "nft 'add table netdev t; add chain netdev t c { type filter hook ingress device eth0 priority 0; }; \
         add counter netdev t own; add rule netdev t c ether type arp arp saddr ip 10.1.0.12 counter name own'",
    );
    // So that it asks everybody, who would be itself as well.
    guest.ip("neighbour flush dev eth0");
    assert_eq!(services.ask(12).await, (12, 1), "under the network's address");
    assert_eq!(ask_udp(&services.client(12).await).unwrap(), (12, 1));
    // What would have come back has come before the answers.
    assert!(services.lab.room(12).shell("nft list counter netdev t own").contains("packets 0 "));
}

#[tokio::test]
async fn groups_judge_who_asks_at_the_backend_and_let_the_host_see_whether_it_answers() {
    let mut services = Services::new(10_054).await;
    services.behind(&[(13, 1)]).await;
    let lab = &mut services.lab;
    lab.group("web", vec![ingress(tcp(8080), Remote::Members(id("clients")))]);
    lab.group("clients", Vec::new());
    lab.put(13, &["web"]);
    lab.put(11, &["clients"]);
    lab.ensure().await;
    assert_eq!(services.ask(11).await, (13, 11));
    // Nothing may begin a conversation with this client, and yet it learns that its own is forgotten.
    let mut listening = services.connect(11).await.unwrap();
    assert_eq!(word(&mut listening).unwrap(), (13, 11));
    services.behind(&[]).await;
    let client = |flow: &conntrack::Flow| flow.client == address(11);
    assert!(conntrack::forget(&services.lab.network.cells[0].namespace, client).await.unwrap() > 0);
    assert_eq!(word(&mut listening).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    services.behind(&[(13, 1)]).await;
    let lab = &services.lab;
    let refused = lab.attempt(12, SERVICE, 80, NEVER).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);

    let (cell, to) = (&lab.network.cells[1].namespace, SocketAddr::from((address(13), 8080)));
    let checked = netns::check_tcp(cell, address(1).into(), to).await.unwrap().into_std().unwrap();
    checked.set_nonblocking(false).unwrap();
    checked.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(word(&mut { checked }).unwrap(), (13, 1));
    // Without the mark it is a stranger like any other.
    let plain = netns::enter(cell, move || TcpStream::connect_timeout(&to, NEVER)).await.unwrap();
    assert_eq!(plain.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn nothing_is_written_when_all_is_well_and_another_hand_is_undone() {
    let mut services = Services::new(10_055).await;
    services.behind(&[(12, 1), (13, 1)]).await;
    services.affinity = Some(60);
    services.behind(&[(12, 1), (13, 1)]).await;
    services.ask(11).await;
    assert!(services.ensure_on(0).await.is_empty(), "what the kernel remembers of clients is no difference");
    let reasons = |changes: Changes| changes.into_iter().map(|change| change.reason).collect::<Vec<_>>();

    let nft = |line: &str| services.lab.network.cells[0].shell(&format!("nft '{line}'"));
    nft("delete element inet lb1 services { tcp . 10.1.0.50 . 80 }");
    assert_eq!(reasons(services.ensure_on(0).await), ["BalancerChanged"]);
    let nft = |line: &str| services.lab.network.cells[0].shell(&format!("nft '{line}'"));
    nft("flush table inet lb1");
    nft("delete table bridge lb1");
    assert_eq!(reasons(services.ensure_on(0).await), ["BalancerWritten", "BalancerWritten"]);
    services.ask(11).await;
    assert!(services.ensure_on(0).await.is_empty(), "all of it");
    services.lab.network.cells[0].shell("echo 0 > /proc/sys/net/ipv4/conf/br/forwarding");
    assert_eq!(reasons(services.ensure_on(0).await), ["BalancerWritten"]);

    balancer::remove(&services.place(0)).await.unwrap();
    balancer::remove(&services.place(0)).await.unwrap();
    let left = services.lab.network.cells[0].shell("nft list tables");
    assert!(!left.contains("lb1"), "{left}");
    let refused = services.connect(11).await;
    assert!(refused.is_err());
}
