//! HTTP on real packets: two hosts, guests on both, a real HAProxy on one, and servers that say who they are and whom they hear.

mod tls;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use host::balancer::{self, Balancer, Proxied, Stands};
use host::firewall::Remote;
use host::link::{Bridge, Changes};
use host::netns;
use host::proxy::{self, Listener, Path, Place, Pool, Proxy, Route, Server};
use process::ProcessId;

use crate::firewall::lab::{Lab, address, id, ingress, reasons, tcp};
use crate::lab::{DEADLINE, eventually};
use crate::overlay::lab::{MTU, name};

const SERVICE: u8 = 50;
/// User of the proxies of these tests; nobody else's on this machine.
const USER: u32 = 1_994_050;

/// Guests 11 and 12 on the first host, 13 on the second; each but the first answers HTTP.
struct House {
    lab: Lab,
    stands: [Stands; 2],
    dir: tempfile::TempDir,
}

impl House {
    async fn new(vni: u32) -> House {
        let lab = Lab::new(vni).await;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        for number in [12, 13] {
            serve(&lab, number).await;
        }
        let mut house = House { lab, stands: Default::default(), dir };
        for host in 0..2 {
            house.prepare(host, vni).await;
        }
        house
    }

    /// The service's address, the tables and the route.
    async fn prepare(&mut self, host: usize, vni: u32) {
        let cell = &self.lab.network.cells[host];
        let addresses = vec!["10.1.0.1/24".parse().unwrap(), "10.1.0.50/32".parse().unwrap()];
        let bridge = Bridge { name: name("br"), addresses, mtu: MTU, alias: format!("network-{vni}") };
        cell.links.ensure_bridge(&bridge).await.unwrap();
        let wanted = Balancer {
            services: Vec::new(),
            here: if host == 0 { vec![(name("g12"), address(12))] } else { Vec::new() },
            gateway: address(1),
            subnets: vec!["10.1.0.0/24".parse().unwrap()],
            proxy: Some(Proxied { mac: self.lab.network.gateway(), own: vec![address(1), address(SERVICE)] }),
        };
        let place = balancer::Place { table: name("lb1"), ..self.lab.place(host) };
        balancer::ensure(&place, &name("br"), &wanted, &mut self.stands[host]).await.unwrap();
        cell.links.ensure_kept(true).await.unwrap();
    }

    fn place(&self, host: usize) -> Place {
        Place {
            owner: "proxy-test".into(),
            namespace: self.lab.network.cells[host].namespace.clone(),
            state: self.dir.path().join(host.to_string()),
            uid_gid: (USER, USER),
            program: process::find_program(proxy::PROGRAM, proxy::PROGRAM_VARIABLE).unwrap(),
        }
    }

    async fn ensure(&self, host: usize, wanted: &Proxy) -> Changes {
        proxy::ensure(&self.place(host), wanted).await.unwrap()
    }

    fn running(&self, host: usize) -> ProcessId {
        proxy::observe(&self.place(host).state).unwrap().expect("it runs")
    }

    /// What is answered to one who asks over a connection of its own: status, and number of the server and of whom it hears.
    async fn ask(&self, from: u8, host: &str, path: &str) -> Answer {
        let mut stream = Client::open(&self.lab, from).await.unwrap();
        stream.ask(host, path).unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for host in ["0", "1"] {
            let tag = format!("haproxy/proxy-test@{}", self.dir.path().join(host).display());
            for id in process::find_owned(&tag) {
                let _ = id.signal(rustix::process::Signal::KILL);
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// Number of the server, last byte of the address it hears, and what it is told of the client.
    said: String,
}

fn answer(server: u8, client: u8) -> Answer {
    Answer { status: 200, said: format!("{server} {client} 10.1.0.{}", if client == 1 { 12 } else { client }) }
}

/// A connection over which one question after the other is asked, and whether it has ended.
struct Client(BufReader<TcpStream>, bool);

impl Client {
    async fn open(lab: &Lab, from: u8) -> io::Result<Client> {
        let stream = lab.attempt(from, SERVICE, 80, DEADLINE).await?;
        Client::over(stream)
    }

    fn over(stream: TcpStream) -> io::Result<Client> {
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Client(BufReader::new(stream), false))
    }

    fn ask(&mut self, host: &str, path: &str) -> io::Result<Answer> {
        let ask = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
        self.0.get_mut().write_all(ask.as_bytes())?;
        let (first, headers) = head(&mut self.0)?;
        let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut said = vec![0; length];
        self.0.read_exact(&mut said)?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        self.1 = headers.get("connection").is_some_and(|text| text == "close");
        Ok(Answer { status, said: String::from_utf8_lossy(&said).into_owned() })
    }
}

/// First line and headers of a message.
fn head(from: &mut impl BufRead) -> io::Result<(String, BTreeMap<String, String>)> {
    let (mut first, mut headers) = (String::new(), BTreeMap::new());
    if from.read_line(&mut first)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok((first, headers)) };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
}

/// Answers HTTP on port 8080 until the namespace goes: its number, whom it hears, and whom it is told it hears.
async fn serve(lab: &Lab, number: u8) {
    let listener = lab.listen(number, 8080).await;
    thread::spawn(move || {
        while let Ok((stream, client)) = listener.accept() {
            thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Ok((_, headers)) = head(&mut stream) {
                    let told = headers.get("x-forwarded-for").cloned().unwrap_or_default();
                    let SocketAddr::V4(client) = client else { return };
                    let said = format!("{number} {} {told}", client.ip().octets()[3]);
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn pool(servers: &[(u8, u32)]) -> Pool {
    let server = |(last, weight): &(u8, u32)| Server { address: address(*last), port: 8080, weight: *weight };
    Pool { servers: servers.iter().map(server).collect(), sticky: false }
}

fn route(host: Option<&str>, path: Path, servers: &[(u8, u32)]) -> Route {
    Route { host: host.map(|host| host.parse().unwrap()), path, pool: pool(servers) }
}

fn proxy(routes: Vec<Route>, rest: &[(u8, u32)]) -> Proxy {
    let listener = Listener { address: address(SERVICE), port: 80, tls: None, routes, rest: pool(rest) };
    Proxy { listeners: vec![listener], drain: 30 }
}

#[tokio::test]
async fn requests_go_by_host_and_path_to_either_host_and_the_backend_hears_who_asks() {
    let house = House::new(10_070).await;
    let odd = "/a'b\"(c)%20$d;e,f{g}h\\i";
    let routes = vec![
        route(None, Path::prefix("/far").unwrap(), &[(13, 1)]),
        route(None, Path::exact("/far/not").unwrap(), &[(12, 1)]),
        route(Some("*.far.example"), Path::prefix("/").unwrap(), &[(13, 1)]),
        route(Some("not.far.example"), Path::prefix("/").unwrap(), &[(12, 1)]),
        route(None, Path::exact(odd).unwrap(), &[(13, 1)]),
        route(None, Path::prefix("/nobody").unwrap(), &[]),
    ];
    let changes = house.ensure(0, &proxy(routes.clone(), &[(12, 1)])).await;
    assert_eq!(reasons(&changes), ["ProxyStarted"]);
    for (host, path, server) in [
        ("x", "/", 12),
        ("x", "/far", 13),
        ("x", "/far/", 13),
        ("x", "/far/away?x=/", 13),
        ("x", "/farther", 12),
        ("x", "/far/not", 12),
        ("A.Far.Example:80", "/", 13),
        ("a.b.far.example", "/far/not", 13),
        ("not.far.example", "/far", 12),
        ("far.example", "/", 12),
        ("x", odd, 13),
        ("x", "/a'b", 12),
    ] {
        assert_eq!(house.ask(11, host, path).await, answer(server, 11), "{host} {path}");
    }
    assert_eq!(house.ask(11, "x", "/nobody").await.status, 503);
    // A backend that asks itself hears the network, which tells it the same.
    assert_eq!(house.ask(12, "x", "/").await, answer(12, 1));
    assert_eq!(house.ask(12, "x", "/far").await, answer(13, 12));

    // From the other host, which has a proxy of its own.
    house.ensure(1, &proxy(routes, &[(12, 1)])).await;
    assert_eq!(house.ask(13, "x", "/").await, answer(12, 13));
}

#[tokio::test]
async fn shares_follow_the_weights_and_groups_judge_who_asks_at_the_backend() {
    let mut house = House::new(10_071).await;
    house.ensure(0, &proxy(Vec::new(), &[(12, 2), (13, 1)])).await;
    let mut heard = BTreeMap::new();
    for _ in 0..30 {
        *heard.entry(house.ask(11, "x", "/").await.said).or_insert(0) += 1;
    }
    assert_eq!(heard, [(answer(12, 11).said, 20), (answer(13, 11).said, 10)].into());

    house.lab.group("web", vec![ingress(tcp(8080), Remote::Members(id("clients")))]);
    house.lab.group("clients", Vec::new());
    house.lab.put(13, &["web"]);
    house.lab.ensure().await;
    house.ensure(0, &proxy(Vec::new(), &[(13, 1)])).await;
    assert_eq!(house.ask(11, "x", "/").await.status, 503, "its client is in no group that may");
    // A guest that has groups may send where it likes, but hears only answers.
    house.lab.put(11, &["clients"]);
    house.lab.ensure().await;
    assert_eq!(house.ask(11, "x", "/").await, answer(13, 11));
}

/// Clients that ask without a pause, half of them over one connection, half over one for each question.
struct Load {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn new(lab: &Lab) -> Load {
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let namespace = &lab.room(11).namespace;
        let client = |number: usize| {
            let (over, asked, namespace) = (over.clone(), asked.clone(), namespace.clone());
            thread::spawn(move || {
                netns::run_in(&namespace, || ask_on(number.is_multiple_of(2), &over, &asked)).unwrap()
            })
        };
        Load { over: over.clone(), asked: asked.clone(), clients: (0..4).map(client).collect() }
    }

    /// Returns once so many more have been answered.
    async fn answered(&self, count: usize) {
        let (asked, before) = (self.asked.clone(), self.asked.load(Ordering::Relaxed));
        eventually("requests are answered", || {
            let now = asked.load(Ordering::Relaxed);
            async move { now >= before + count }
        })
        .await;
    }

    fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

fn ask_on(keep: bool, over: &AtomicBool, asked: &AtomicUsize) -> Vec<String> {
    let at = SocketAddr::from((address(SERVICE), 80));
    let (mut failures, mut kept) = (Vec::new(), None::<Client>);
    while !over.load(Ordering::Relaxed) && failures.len() < 10 {
        let mut ask = || {
            let mut client = match kept.take() {
                Some(client) => client,
                None => Client::over(TcpStream::connect_timeout(&at, DEADLINE)?)?,
            };
            let answer = client.ask("x", "/")?;
            kept = Some(client).filter(|client| keep && !client.1);
            Ok::<_, io::Error>(answer)
        };
        match ask() {
            Ok(Answer { status: 200, .. }) => drop(asked.fetch_add(1, Ordering::Relaxed)),
            Ok(other) => failures.push(format!("{other:?}")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    failures
}

#[tokio::test]
async fn no_request_is_lost_while_routes_and_backends_come_and_go() {
    let house = House::new(10_072).await;
    house.ensure(0, &proxy(Vec::new(), &[(12, 1), (13, 1)])).await;
    house.ask(11, "x", "/").await;
    let load = Load::new(&house.lab);
    let first = house.running(0);
    for round in 0..6 {
        load.answered(50).await;
        let route = |number: usize| route(None, Path::prefix(&format!("/r{number}")).unwrap(), &[(12, 1)]);
        let routes = (0..round).map(route).collect();
        let backends: &[(u8, u32)] = [&[(12, 1)][..], &[(12, 1), (13, 3)], &[(13, 1)]][round % 3];
        assert_eq!(reasons(&house.ensure(0, &proxy(routes, backends)).await), ["ProxyChanged"]);
    }
    load.answered(50).await;
    assert_eq!(load.end(), Vec::<String>::new());
    assert_ne!(house.running(0), first);
    first.exited().await;
}

#[tokio::test]
async fn a_killed_proxy_is_back_a_living_one_is_left_alone_and_nothing_stays_behind() {
    let house = House::new(10_073).await;
    let wanted = proxy(Vec::new(), &[(12, 1)]);
    house.ensure(0, &wanted).await;
    assert!(house.ensure(0, &wanted).await.is_empty());
    let running = house.running(0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    assert_eq!(line("Uid:"), vec![USER.to_string(); 4].join("\t"));
    // Bits 10 and 13: to listen at low ports, and to speak under other addresses (capabilities(7)).
    assert_eq!([line("CapEff:"), line("CapBnd:")], ["0000000000002400", "0000000000002400"]);
    assert_eq!(line("NoNewPrivs:"), "1");

    running.signal(rustix::process::Signal::KILL).unwrap();
    running.exited().await;
    assert_eq!(reasons(&house.ensure(0, &wanted).await), ["ProxyStarted"]);
    assert_eq!(house.ask(11, "x", "/").await, answer(12, 11));

    // What somebody else does to the way of its answers does not last.
    let cell = &house.lab.network.cells[0];
    assert!(cell.links.ensure_kept(true).await.unwrap().is_empty());
    cell.ip("rule delete priority 100");
    cell.ip("route flush table 100");
    cell.ip("rule add fwmark 0x04000000 lookup main priority 50");
    assert_eq!(cell.links.ensure_kept(true).await.unwrap().iter().count(), 3);
    assert!(cell.links.ensure_kept(true).await.unwrap().is_empty());
    assert_eq!(house.ask(11, "x", "/").await, answer(12, 11));

    let state = house.place(0).state;
    let now = house.running(0);
    assert_eq!(reasons(&proxy::remove(&state, "proxy-test").await.unwrap()), ["ProxyStopped"]);
    assert!(!now.is_alive() && !state.exists());
    assert!(proxy::remove(&state, "proxy-test").await.unwrap().is_empty());
    cell.links.ensure_kept(false).await.unwrap();
    assert!(!cell.ip("rule list").contains("100") && cell.ip("route show table all").find("table 100").is_none());
}
