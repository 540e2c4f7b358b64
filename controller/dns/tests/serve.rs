//! The process itself, in namespaces of the test's own and as the host starts it. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dns::{Kind, Part, Record, Zone, part};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use host::nameserver::{self, Place};
use host::netns::{Namespace, Namespaces, run_in};

const DEADLINE: Duration = Duration::from_secs(20);
const SERVER: &str = "10.9.0.1";
const USER: u32 = 424_242;

/// No test: what the tests start as a name server is this program, with this function. Handed no sockets, it has nothing to
/// do.
#[test]
fn name_server() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        let directory = std::env::args_os().next_back().unwrap();
        dns::serve::run(Path::new(&directory), dns::serve::Limits::default()).unwrap();
    }
}

/// A network with a name server.
struct Room {
    namespace: Namespace,
    dir: tempfile::TempDir,
    place: Place,
}

impl Room {
    async fn new(outside: bool) -> Room {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dns-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (namespace, _) = Namespaces::default().ensure(&name).await.expect("this test needs root");
        let added = Command::new("ip").args(["-n", &name, "address", "add", "10.9.0.1/24", "dev", "lo"]).status();
        assert!(added.unwrap().success());
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let state = dir.path().join("dns");
        let place = Place {
            owner: "11111111-2222-4333-8444-555555555555".into(),
            namespace: namespace.clone(),
            addresses: vec![SERVER.parse().unwrap()],
            outside,
            state: state.clone(),
            uid_gid: (USER, USER),
            program: PathBuf::from("/proc/self/exe"),
            arguments: ["--exact", "name_server", "--nocapture"].map(str::to_owned).to_vec(),
        };
        nameserver::lay_out(&state, place.uid_gid).unwrap();
        Room { namespace, dir, place }
    }

    fn say(&self, records: &[(&str, Kind, &str)]) {
        let record = |&(name, kind, value): &(&str, Kind, &str)| Record {
            name: name.into(),
            kind,
            ttl: 60,
            values: value.split('|').map(str::to_owned).collect(),
        };
        let zone =
            Zone { domain: "shop.internal".into(), negative_ttl: 9, records: records.iter().map(record).collect() };
        let part = Part { server: None, forward: false, zones: vec![zone] };
        nameserver::write(&self.place.state, part::ZONES, &serde_json::to_string(&part).unwrap()).unwrap();
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(SERVER.parse::<IpAddr>().unwrap(), 53)
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        let (server, bytes) = (self.server(), question(name, kind));
        run_in(&self.namespace, || {
            let socket = UdpSocket::bind((SERVER, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut buffer = [0; 4096];
            socket.send_to(&bytes, server).unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            Message::from_vec(&buffer[..length]).unwrap()
        })
        .unwrap()
    }

    fn values(&self, name: &str) -> Vec<String> {
        self.ask(name, RecordType::A).answers.iter().map(|one| one.data.to_string()).collect()
    }

    fn connect(&self) -> TcpStream {
        let server = self.server();
        let stream = run_in(&self.namespace, || TcpStream::connect(server).unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    fn pid(&self) -> i32 {
        nameserver::observe(&self.place.state).unwrap().expect("it runs").pid
    }

    fn statuses(&self) -> Vec<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap()).collect()
    }

    async fn end(self) {
        nameserver::remove(&self.place.state, &self.place.owner).await.unwrap();
        assert!(!self.place.state.exists() && self.dir.path().exists());
        assert_eq!(Namespaces::default().occupants(&self.namespace), Vec::<i32>::new());
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Ok(Some(id)) = nameserver::observe(&self.place.state) {
            let _ = id.signal(rustix::process::Signal::KILL);
        }
        let _ = Command::new("ip").args(["netns", "delete", self.namespace.name()]).output();
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Asks by an open connection; none when it was hung up.
fn ask_by(stream: &mut TcpStream, name: &str, kind: RecordType) -> Option<Message> {
    let bytes = question(name, kind);
    stream.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    Some(Message::from_vec(&answer).unwrap())
}

/// Waits until something holds; how long it took.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn it_answers_by_udp_and_tcp_without_any_privilege() {
    let room = Room::new(false).await;
    let many = (0..100).map(|at| format!("10.9.1.{at}")).collect::<Vec<_>>().join("|");
    room.say(&[("web.shop.internal", Kind::A, "10.9.0.7"), ("many.shop.internal", Kind::A, &many)]);
    nameserver::ensure(&room.place).await.unwrap();
    assert_eq!(room.values("web.shop.internal."), ["10.9.0.7"]);
    let missing = room.ask("no.shop.internal.", RecordType::A);
    assert_eq!((missing.metadata.response_code, missing.authorities[0].ttl), (ResponseCode::NXDomain, 9));
    let cut = room.ask("many.shop.internal.", RecordType::A);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let mut stream = room.connect();
    assert_eq!(ask_by(&mut stream, "many.shop.internal.", RecordType::A).unwrap().answers.len(), 100);
    assert_eq!(ask_by(&mut stream, "web.shop.internal.", RecordType::A).unwrap().answers.len(), 1, "and once more");

    let threads = room.statuses();
    for line in ["Uid:\t424242\t424242\t424242\t424242", "CapEff:\t0000000000000000"] {
        assert!(threads.iter().all(|status| status.contains(line)), "{line} is not in\n{threads:?}");
    }
    // Here a test's thread serves; alone it is the only one.
    assert!(threads.iter().any(|status| status.contains("NoNewPrivs:\t1")), "{threads:?}");
    assert!(Namespaces::default().occupants(&room.namespace).contains(&room.pid()), "it is where its guests are");
    room.end().await;
}

#[tokio::test]
async fn it_takes_up_changes_is_adopted_and_comes_back() {
    let room = Room::new(false).await;
    room.say(&[("web.shop.internal", Kind::A, "10.9.0.7")]);
    let started = nameserver::ensure(&room.place).await.unwrap();
    assert_eq!(started.into_iter().map(|change| change.reason).collect::<Vec<_>>(), ["DnsStarted"]);
    let pid = room.pid();
    assert_eq!(room.values("web.shop.internal."), ["10.9.0.7"]);

    room.say(&[("web.shop.internal", Kind::A, "10.9.0.8")]);
    let took = eventually("the change", || room.values("web.shop.internal.") == ["10.9.0.8"]).await;
    println!("a changed record was known after {took:?}");
    // A part that is damaged changes nothing, and the next whole one does.
    std::fs::write(room.place.state.join(part::ZONES), "{").unwrap();
    assert_eq!(room.values("web.shop.internal."), ["10.9.0.8"]);
    room.say(&[("web.shop.internal", Kind::A, "10.9.0.9")]);
    eventually("the change after the damage", || room.values("web.shop.internal.") == ["10.9.0.9"]).await;

    // Whoever starts anew finds it, and starts nothing.
    assert!(nameserver::ensure(&room.place).await.unwrap().into_iter().next().is_none());
    assert_eq!(room.pid(), pid);
    nameserver::observe(&room.place.state).unwrap().unwrap().signal(rustix::process::Signal::KILL).unwrap();
    eventually("its end", || nameserver::observe(&room.place.state).unwrap().is_none()).await;
    nameserver::ensure(&room.place).await.unwrap();
    assert_ne!(room.pid(), pid);
    assert_eq!(room.values("web.shop.internal."), ["10.9.0.9"]);
    // Without its record it is found by its tag: two would fight for the port.
    std::fs::remove_file(room.place.state.join("process.json")).unwrap();
    nameserver::ensure(&room.place).await.unwrap();
    assert_eq!(room.values("web.shop.internal."), ["10.9.0.9"]);
    room.end().await;
}

#[tokio::test]
async fn two_tenants_with_one_zone_hear_their_own_names_alone() {
    let (blue, red) = (Room::new(false).await, Room::new(false).await);
    blue.say(&[("web.shop.internal", Kind::A, "10.9.0.7")]);
    red.say(&[("web.shop.internal", Kind::A, "10.9.0.99"), ("only.shop.internal", Kind::A, "10.9.0.98")]);
    nameserver::ensure(&blue.place).await.unwrap();
    nameserver::ensure(&red.place).await.unwrap();
    assert_eq!(blue.values("web.shop.internal."), ["10.9.0.7"]);
    assert_eq!(red.values("web.shop.internal."), ["10.9.0.99"]);
    assert_eq!(blue.ask("only.shop.internal.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    blue.end().await;
    red.end().await;
}

#[tokio::test]
async fn a_guest_that_means_ill_is_hung_up_on_and_the_next_one_is_served() {
    let room = Room::new(true).await;
    room.say(&[("web.shop.internal", Kind::A, "10.9.0.7")]);
    nameserver::ensure(&room.place).await.unwrap();
    assert_eq!(room.values("web.shop.internal."), ["10.9.0.7"]);
    assert!(
        !Namespaces::default().occupants(&room.namespace).contains(&room.pid()),
        "it can reach the machine's resolvers"
    );

    let mut long = room.connect();
    long.write_all(&[0xff, 0xff, 0, 0]).unwrap();
    assert_eq!(long.read(&mut [0; 8]).unwrap_or(0), 0, "a question of 65535 bytes is not waited for");
    let mut held: Vec<TcpStream> = (0..16).map(|_| room.connect()).collect();
    for stream in &mut held {
        assert!(ask_by(stream, "web.shop.internal.", RecordType::A).is_some());
    }
    assert!(ask_by(&mut room.connect(), "web.shop.internal.", RecordType::A).is_none(), "one connection too many");
    drop(held);
    eventually("a free place", || ask_by(&mut room.connect(), "web.shop.internal.", RecordType::A).is_some()).await;

    let server = room.server();
    run_in(&room.namespace, || {
        let socket = UdpSocket::bind((SERVER, 0)).unwrap();
        for length in [0, 1, 11, 12, 13, 512, 1232, 1233, 9000] {
            socket.send_to(&vec![0x41; length], server).unwrap();
        }
    })
    .unwrap();
    assert_eq!(room.values("web.shop.internal."), ["10.9.0.7"]);
    room.end().await;
}
