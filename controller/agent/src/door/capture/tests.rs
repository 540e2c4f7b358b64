//! Real frames on a real device, in a namespace of the test's own; judged by tcpdump and by a reading of the bytes. Needs root,
//! and fails without.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use control_loop::Cache;
use crds::Port;
use host::link::{self, LinkName, Links, Veth};
use host::netns::Namespace;
use kube::runtime::watcher;
use pcapng::{Ending, Follower};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;
use crate::layout::Layout;
use crate::network::plan::samples;

const DEADLINE: Duration = Duration::from_secs(30);
/// What the guest sends to, and what is sent to the guest: on either side of the device.
const FROM_GUEST: &str = "192.0.2.2:7777";
const TO_GUEST: &str = "198.51.100.2:7777";
/// The same ways, for what is said before anybody hears.
const BEFORE: [&str; 2] = ["192.0.2.2:9", "198.51.100.2:9"];

/// A namespace with a device like a port's, whose other end is the guest's. Both have an address, so both can be spoken through.
struct Room {
    namespace: Namespace,
    device: LinkName,
}

impl Room {
    async fn new() -> Room {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let name = format!("test-capture-{}-{since:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (namespace, _) = Namespaces::default().ensure(&name).await.expect("this test needs root");
        let links = Links::open(&namespace).await.unwrap();
        let device: LinkName = crate::names::tap(samples::port(2).metadata.uid.as_deref().unwrap()).parse().unwrap();
        let far: LinkName = "eth0".parse().unwrap();
        let room = Room { namespace, device: device.clone() };
        links.ensure_veth(&Veth { name: device.clone(), peer: far.clone(), peer_namespace: None }).await.unwrap();
        for (name, address, neighbour) in
            [(far, "192.0.2.1/24", "192.0.2.2"), (device, "198.51.100.1/24", "198.51.100.2")]
        {
            let text = name.to_string();
            let (addresses, alias) = (Some(vec![address.parse().unwrap()]), "end".into());
            links
                .ensure_port(&link::Port { name, bridge: None, mtu: 1450, alias, addresses, mac: None })
                .await
                .unwrap();
            room.ip(&format!("neigh add {neighbour} lladdr 02:00:00:00:00:02 dev {text} nud permanent"));
        }
        // A link that was just brought up drops what it is given, until the kernel has got round to it.
        let (socket, begun) = (room.socket().await, Instant::now());
        while room.received(room.device.as_str()) == 0 || room.received("eth0") == 0 {
            assert!(begun.elapsed() < DEADLINE, "the device carries nothing");
            BEFORE.iter().for_each(|way| drop(socket.send_to(&[0], way)));
        }
        room
    }

    fn ip(&self, words: &str) -> String {
        let ran = Command::new("ip").args(["-n", self.namespace.name()]).args(words.split(' ')).output().unwrap();
        assert!(ran.status.success(), "ip {words}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    async fn socket(&self) -> UdpSocket {
        netns::enter(&self.namespace, || UdpSocket::bind("0.0.0.0:0")).await.unwrap().unwrap()
    }

    /// Frames that one end has received from the other.
    fn received(&self, end: &str) -> u64 {
        let told: serde_json::Value = serde_json::from_str(&self.ip(&format!("-s -j link show {end}"))).unwrap();
        told[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    }

    /// Packet sockets in the namespace.
    async fn packet_sockets(&self) -> usize {
        let read = || std::fs::read_to_string("/proc/thread-self/net/packet");
        netns::enter(&self.namespace, read).await.unwrap().unwrap().lines().count() - 1
    }

    /// Waits until no packet socket is left: a child that was just forked holds what we have closed until it runs its program.
    async fn until_nobody_hears(&self) {
        let begun = Instant::now();
        while self.packet_sockets().await > 0 {
            assert!(begun.elapsed() < DEADLINE, "a capture that has ended holds the namespace");
        }
    }

    /// Begins to capture; `room` bytes wait for whoever reads the other end.
    async fn capture(
        &self,
        query: CaptureQuery,
        queue: usize,
        room: usize,
    ) -> (DuplexStream, JoinHandle<io::Result<()>>) {
        let snaplen = query.snaplen.unwrap_or(capture::WHOLE);
        let socket = PacketSocket::open(&self.namespace, &self.device, snaplen, queue).await.unwrap();
        let (ours, mut theirs) = tokio::io::duplex(room);
        let mut begin = BytesMut::new();
        pcapng::begin(&mut begin, "test", self.device.as_str(), "Port t/p2", snaplen);
        (ours, tokio::spawn(async move { stream(socket, &mut theirs, begin, query).await }))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", self.namespace.name()]).output();
    }
}

/// One captured frame: length kept, whole length, and the flags of its direction.
type Told = (usize, usize, u32);

/// The frames of a capture that a datagram to port 7777 is in, read by the format's own words.
fn frames(capture: &[u8]) -> Vec<Told> {
    let number = |at: usize| capture.get(at..at + 4).map(|word| u32::from_le_bytes(word.try_into().unwrap()) as usize);
    let (mut at, mut found) = (0, Vec::new());
    while let (Some(kind), Some(length)) = (number(at), number(at + 4)) {
        if at + length > capture.len() {
            break;
        }
        let (kept, whole) = (number(at + 20).unwrap_or(0), number(at + 24).unwrap_or(0));
        // Ethernet, IPv4 without options, UDP: the destination's port.
        if kind == 6
            && kept >= 38
            && capture[at + 28 + 12..][..2] == [8, 0]
            && capture[at + 28 + 36..][..2] == [0x1e, 0x61]
        {
            found.push((kept, whole, number(at + 28 + kept.next_multiple_of(4) + 4).unwrap() as u32));
        }
        at += length;
    }
    found
}

/// Reads until so many of our frames are there.
async fn until(reader: &mut DuplexStream, wanted: usize) -> Vec<u8> {
    let mut capture = Vec::new();
    let reading = async {
        while frames(&capture).len() < wanted {
            assert!(reader.read_buf(&mut capture).await.unwrap() > 0, "it ended at {} frames", frames(&capture).len());
        }
    };
    let read = tokio::time::timeout(DEADLINE, reading).await;
    assert!(read.is_ok(), "{} of {wanted} frames came", frames(&capture).len());
    capture
}

/// Reads what is left, once the capture has ended.
async fn rest(reader: &mut DuplexStream, capture: &mut Vec<u8>) -> (u64, Ending) {
    tokio::time::timeout(DEADLINE, reader.read_to_end(capture)).await.expect("an end").unwrap();
    let mut follower = Follower::default();
    follower.follow(capture).unwrap();
    (follower.frames, follower.ending.expect("an end is told"))
}

/// What tcpdump reads in it, a line for each of our frames.
fn read_by_tcpdump(capture: &[u8]) -> Vec<String> {
    let words = ["-nn", "-tt", "--time-stamp-precision=nano", "-r", "-", "udp port 7777"];
    let mut tcpdump = Command::new("tcpdump")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tcpdump is among the packages that tests need");
    tcpdump.stdin.take().unwrap().write_all(capture).unwrap();
    let ran = tcpdump.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_both_ways_come_as_they_were_and_another_program_reads_the_same() {
    let room = Room::new().await;
    let (mut reader, task) = room.capture(CaptureQuery::default(), QUEUE, 1 << 16).await;
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let socket = room.socket().await;
    for (to, length) in [(FROM_GUEST, 100), (TO_GUEST, 33), (FROM_GUEST, 1)] {
        socket.send_to(&vec![b'x'; length], to).unwrap();
    }
    let mut capture = until(&mut reader, 3).await;
    // Whoever captures has seen enough: the end comes with what was counted.
    reader.shutdown().await.unwrap();
    let (seen, ending) = rest(&mut reader, &mut capture).await;
    task.await.unwrap().unwrap();
    assert_eq!((ending.counted, ending.why), (host::capture::Counted { seen, lost: 0 }, None));
    let mut told = frames(&capture);
    told.sort_unstable();
    assert_eq!(told, [(43, 43, 2), (75, 75, 1), (142, 142, 2)], "what the guest sends is outbound");
    let lines = read_by_tcpdump(&capture);
    for length in ["UDP, length 100", "UDP, length 33", "UDP, length 1"] {
        assert_eq!(lines.iter().filter(|line| line.ends_with(length)).count(), 1, "{lines:#?}");
    }
    for line in &lines {
        let (seconds, nanoseconds) = line.split(' ').next().unwrap().split_once('.').unwrap();
        assert_eq!(nanoseconds.len(), 9, "{line}");
        assert!(seconds.parse::<u64>().unwrap() >= before.as_secs(), "{line}");
    }
    room.until_nobody_hears().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_by_itself_when_enough_was_captured_and_keeps_the_beginnings() {
    let room = Room::new().await;
    let query = CaptureQuery { count: Some(2), snaplen: Some(60), seconds: None };
    let (mut reader, task) = room.capture(query, QUEUE, 1 << 16).await;
    let socket = room.socket().await;
    for _ in 0..5 {
        socket.send_to(&[0; 200], FROM_GUEST).unwrap();
    }
    let mut capture = Vec::new();
    let (count, ending) = rest(&mut reader, &mut capture).await;
    task.await.unwrap().unwrap();
    assert_eq!((count, ending.why), (2, None));
    assert!(frames(&capture).iter().all(|one| *one == (60, 242, 2)), "{:?}", frames(&capture));

    let query = CaptureQuery { seconds: Some(0), ..CaptureQuery::default() };
    let (mut reader, task) = room.capture(query, QUEUE, 1 << 16).await;
    let (_, ending) = rest(&mut reader, &mut Vec::new()).await;
    assert_eq!(ending.why, None, "time was over");
    task.await.unwrap().unwrap();
}

/// A queue that is full harms nobody but who reads it, and what it lost is counted to the last frame.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_up_nobody_and_is_told_what_it_has_lost() {
    let room = Room::new().await;
    let (mut reader, task) = room.capture(CaptureQuery::default(), 32 << 10, 1024).await;
    let socket = room.socket().await;
    let begun = Instant::now();
    // Nobody reads: 256 KiB wait here, 64 KiB in the kernel, and all the rest passes by.
    let device = room.device.as_str();
    while room.received(device) < 3000 {
        assert!(begun.elapsed() < DEADLINE, "the guest is held up at {} frames", room.received(device));
        for _ in 0..500 {
            socket.send_to(&[0; 500], FROM_GUEST).unwrap();
        }
    }
    reader.shutdown().await.unwrap();
    let mut capture = Vec::new();
    let (count, ending) = rest(&mut reader, &mut capture).await;
    task.await.unwrap().unwrap();
    let counted = ending.counted;
    assert!(counted.lost > 1000 && count > 100, "{count} came, {counted:?}");
    assert_eq!(count + counted.lost, counted.seen);
    assert!(!read_by_tcpdump(&capture).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_the_device_and_holds_nothing_though_nobody_reads() {
    let room = Room::new().await;
    let (mut reader, task) = room.capture(CaptureQuery::default(), QUEUE, 1 << 16).await;
    let (mut deaf, deaf_task) = room.capture(CaptureQuery::default(), QUEUE, 64).await;
    let socket = room.socket().await;
    socket.send_to(&[0; 500], FROM_GUEST).unwrap();
    let mut capture = until(&mut reader, 1).await;
    assert_eq!(room.packet_sockets().await, 2);
    room.ip(&format!("link del {}", room.device));
    let (_, ending) = rest(&mut reader, &mut capture).await;
    assert_eq!(ending.why.as_deref(), Some(GONE));
    task.await.unwrap().unwrap();
    room.until_nobody_hears().await;
    let (_, ending) = rest(&mut deaf, &mut Vec::new()).await;
    assert_eq!(ending.why.as_deref(), Some(GONE), "who reads late is told, too");
    deaf_task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_its_caller_also_while_nothing_passes() {
    let room = Room::new().await;
    let (reader, task) = room.capture(CaptureQuery::default(), QUEUE, 1 << 16).await;
    drop(reader);
    // What is left cannot be said to anybody.
    assert!(tokio::time::timeout(DEADLINE, task).await.expect("it ends").unwrap().is_err());
    room.until_nobody_hears().await;
}

/// What is answered to who asks for the capture of `p2`.
async fn asked(port: Option<Port>, captures: Captures) -> (StatusCode, String) {
    let dir = tempfile::tempdir().unwrap();
    let (ports, mut writer) = Cache::new();
    if let Some(port) = port {
        writer.apply_watcher_event(&watcher::Event::Apply(port));
    }
    let layout = Layout::new(dir.path()).unwrap();
    let lookup = Arc::new(Lookup { vms: Cache::new().0, ports, machines: Arc::default(), layout, captures });
    let path = ObjectPath { namespace: "t".into(), name: "p2".into() };
    let request = Request::get("/").body(Body::empty()).unwrap();
    let answer = capture(State(lookup), Path(path), Query(CaptureQuery::default()), request).await;
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.unwrap();
    (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap()["message"].as_str().unwrap().to_owned())
}

fn realised(netns: &str) -> Port {
    let mut port = (*samples::port(2)).clone();
    port.status = serde_json::from_value(serde_json::json!({"netns": netns, "device": "lo"})).ok();
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_not_here_not_realised_or_without_a_machine_is_told() {
    let (status, told) = asked(None, Captures::default()).await;
    assert!(status == StatusCode::NOT_FOUND && told.contains("not on this host"), "{status} {told}");
    let (status, told) = asked(Some((*samples::port(2)).clone()), Captures::default()).await;
    assert!(status == StatusCode::CONFLICT && told.contains("not realised"), "{status} {told}");
    let room = Room::new().await;
    // Once asked for as a stream it would begin; a device that the status makes up counts for nothing.
    let (status, _) = asked(Some(realised(room.namespace.name())), Captures::default()).await;
    assert_eq!(status, StatusCode::UPGRADE_REQUIRED);
    // What was not asked for as a stream holds nothing.
    room.until_nobody_hears().await;
    room.ip(&format!("link del {}", room.device));
    for netns in [room.namespace.name(), "test-capture-never-made"] {
        let (status, told) = asked(Some(realised(netns)), Captures::default()).await;
        assert!(status == StatusCode::CONFLICT && told.contains("no device now"), "{status} {told}");
    }
    let none = Captures(Arc::new(Semaphore::new(0)));
    let (status, told) = asked(Some(realised(room.namespace.name())), none).await;
    assert!(status == StatusCode::TOO_MANY_REQUESTS && told.contains("captures run"), "{status} {told}");
}
