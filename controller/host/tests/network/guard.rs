//! What a guest says under another's name goes nowhere, what it says under its own goes on, and who changes the rules
//! changes nothing for long.

use std::net::{IpAddr, Ipv6Addr};

use host::guard::{self, Guest, Place, Stands};
use host::link::{Bridge, Changes, LinkName, watch_namespace};
use host::tap::{Spec, Tap};

use crate::lab::{DEADLINE, Room};
use crate::overlay::lab::{discovery, link_local, mac, packet6, received, send, six, through, udp as packet};

const NOBODY: [u8; 6] = [0x52, 0x54, 0, 9, 9, 9];
const ALL: [u8; 6] = [0xff; 6];
const MARK: &[u8] = b"as somebody else";

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

fn ip(number: u8) -> [u8; 4] {
    [10, 1, 0, number]
}

fn guest(number: u8) -> Guest {
    Guest { tap: name(&format!("tap{number}")), mac: mac(number), addresses: vec![IpAddr::from(ip(number))] }
}

/// A network of one host with two guests.
struct Network {
    room: Room,
    place: Place,
    stands: Stands,
    taps: Vec<Tap>,
}

impl Network {
    async fn new() -> Network {
        let room = Room::new().await;
        let bridge = Bridge {
            name: name("br-1"),
            addresses: vec!["10.1.0.1/24".parse().unwrap()],
            mtu: 1450,
            alias: "network-1".into(),
        };
        room.links.ensure_bridge(&bridge).await.unwrap();
        let program = process::find_program("nft", "CLUSTERCTL_NFT").unwrap();
        let place = Place { namespace: room.namespace.clone(), program, table: name("pf1") };
        let mut taps = Vec::new();
        for number in [10, 11] {
            let spec = Spec {
                name: name(&format!("tap{number}")),
                owner_uid: 300_001,
                bridge: name("br-1"),
                mtu: 1450,
                alias: "port".into(),
            };
            taps.push(Tap::create(&room.namespace, &spec).await.unwrap().0);
        }
        Network { room, place, stands: Stands::default(), taps }
    }

    async fn ensure(&mut self, guests: &[Guest]) -> Changes {
        guard::ensure(&self.place, guests, &mut self.stands).await.unwrap()
    }

    /// Whether the first guest's frame comes to the second.
    async fn passes(&self, frame: &[u8]) -> bool {
        send(&self.taps[0], frame);
        let all = through(&self.taps[0], &self.taps[1], &udp(mac(11), mac(10), ip(10), ip(11), (9, 9))).await;
        received(&self.taps[1]).iter().chain(&all).any(|came| came.windows(MARK.len()).any(|part| part == MARK))
    }
}

fn ether(to: [u8; 6], from: [u8; 6], kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

fn arp(from: [u8; 6], operation: u8, mac: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &ip, &[0; 6], &self::ip(11), MARK].concat();
    ether(ALL, from, 0x0806, &body)
}

fn udp(to: [u8; 6], from: [u8; 6], source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    // The knock, by which the test knows that all is through, says nothing.
    let data: &[u8] = if ports == (9, 9) { &[0; 16] } else { MARK };
    [&to[..], &from, &packet(source, destination, ports, data)].concat()
}

#[tokio::test]
async fn a_guest_is_heard_as_itself_alone() {
    let mut network = Network::new().await;
    network.ensure(&[guest(10), guest(11)]).await;
    let (me, other) = (mac(10), mac(11));
    let tagged = [&other[..], &me, &[0x81, 0, 0, 7], &udp(other, me, ip(10), ip(11), (1, 2))[12..]].concat();
    let advertisement =
        [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &[0xfe, 0x80], &[0; 14], &[0xff, 2], &[0; 14], &[134, 0], MARK];
    let forged = [
        ("another's hardware address", udp(other, mac(11), ip(10), ip(11), (1, 2))),
        ("a hardware address of nobody", udp(other, NOBODY, ip(10), ip(11), (1, 2))),
        ("another's address", udp(other, me, ip(11), ip(11), (1, 2))),
        ("the gateway's address", udp(other, me, ip(1), ip(11), (1, 2))),
        ("an address of nobody", udp(other, me, ip(77), ip(11), (1, 2))),
        ("no address, and no question for one", udp(other, me, [0; 4], ip(11), (1, 2))),
        ("an answer of a DHCP server", udp(ALL, me, ip(10), [255; 4], (67, 68))),
        ("ARP for the gateway", arp(me, 2, me, ip(1))),
        ("ARP for another", arp(me, 1, me, ip(11))),
        ("ARP with another's hardware address", arp(me, 2, other, ip(10))),
        ("ARP that claims no address in answer", arp(me, 2, me, [0; 4])),
        ("a VLAN tag", tagged),
        ("a router's advertisement", ether([0x33, 0x33, 0, 0, 0, 1], me, 0x86dd, &advertisement.concat())),
        ("another protocol", ether(other, me, 0x88cc, MARK)),
    ];
    for (what, frame) in forged {
        assert!(!network.passes(&frame).await, "{what} passed");
    }
    let honest = [
        ("its own packet", udp(other, me, ip(10), ip(11), (1, 2))),
        ("its own ARP", arp(me, 1, me, ip(10))),
        ("its own answer", arp(me, 2, me, ip(10))),
        ("a probe for an address that may be taken", arp(me, 1, me, [0; 4])),
        ("its question for an address", udp(ALL, me, [0; 4], [255; 4], (68, 67))),
    ];
    for (what, frame) in honest {
        assert!(network.passes(&frame).await, "{what} did not pass");
    }
    // Without the guard all of it passes: it is the guard that keeps it.
    network.room.shell("nft delete table bridge pf1");
    assert!(network.passes(&udp(other, NOBODY, ip(1), ip(11), (67, 68))).await);
}

fn with_six(number: u8) -> Guest {
    let mut guest = guest(number);
    guest.addresses.extend([six(number), link_local(number)].map(IpAddr::V6));
    guest
}

/// From the first guest's card to everybody's.
fn ether6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, data: &[u8]) -> Vec<u8> {
    [&mac(11)[..], &mac(10), &packet6(from, to, protocol, &[data, MARK].concat())].concat()
}

/// UDP's header.
fn ports(from: u16, to: u16) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0, 8 + MARK.len() as u8, 0, 0]].concat()
}

#[tokio::test]
async fn a_guest_is_heard_as_itself_alone_by_ipv6() {
    let mut network = Network::new().await;
    network.ensure(&[with_six(10), with_six(11)]).await;
    assert!(network.ensure(&[with_six(10), with_six(11)]).await.is_empty(), "what was written is what is listed");
    let (me, other, nobody) = (six(10), six(11), Ipv6Addr::UNSPECIFIED);
    let (on_link, all, asked) = (link_local(10), "ff02::1".parse().unwrap(), "ff02::1:ff00:b".parse().unwrap());
    let gateway: Ipv6Addr = "fd00:1::1".parse().unwrap();
    let about = |kind: u8, target| discovery(kind, target, &[]);
    // The protocol that follows, and that its own header is all there is of it.
    let behind = |protocol: u8, data: &[u8]| [&[protocol, 0, 0, 0, 0, 0, 0, 0][..], data].concat();
    let twice = |protocol: u8, data: &[u8]| behind(60, &behind(protocol, data));
    let forged = [
        ("another's address", ether6(other, other, 17, &ports(1, 2))),
        ("another's address on the link", ether6(link_local(11), other, 17, &ports(1, 2))),
        ("the gateway's address", ether6(gateway, other, 17, &ports(1, 2))),
        ("an address of nobody", ether6(six(77), other, 17, &ports(1, 2))),
        ("no address", ether6(nobody, all, 17, &ports(1, 2))),
        ("a router's advertisement", ether6(on_link, all, 58, &about(134, nobody))),
        ("a redirection", ether6(on_link, other, 58, &about(137, other))),
        ("an answer for another", ether6(me, other, 58, &about(136, other))),
        ("an answer for the gateway", ether6(me, all, 58, &about(136, gateway))),
        ("an answer as another", ether6(other, other, 58, &about(136, me))),
        ("a question as another", ether6(other, asked, 58, &about(135, other))),
        ("whether another's address is free", ether6(nobody, asked, 58, &about(135, other))),
        ("an answer of a DHCPv6 server", ether6(on_link, link_local(11), 17, &ports(547, 546))),
        ("an advertisement behind an option", ether6(on_link, all, 60, &behind(58, &about(134, nobody)))),
        ("an advertisement behind hops", ether6(on_link, all, 0, &behind(58, &about(134, nobody)))),
        ("an advertisement behind a route", ether6(on_link, all, 43, &behind(58, &about(134, nobody)))),
        ("an advertisement in a fragment", ether6(on_link, all, 44, &behind(58, &about(134, nobody)))),
        ("an advertisement behind options in a fragment", ether6(on_link, all, 44, &twice(58, &about(134, nobody)))),
        ("a fragment in a fragment", ether6(on_link, all, 44, &behind(44, &behind(17, &ports(1, 2))))),
        ("an answer for another in a fragment", ether6(me, other, 44, &behind(58, &about(136, other)))),
        ("a DHCPv6 server's answer in a fragment", ether6(on_link, other, 44, &behind(17, &ports(547, 546)))),
        ("a DHCPv6 server's answer behind options", ether6(on_link, other, 60, &behind(17, &ports(547, 546)))),
    ];
    for (what, frame) in forged {
        assert!(!network.passes(&frame).await, "{what} passed");
    }
    let honest = [
        ("its own packet", ether6(me, other, 17, &ports(1, 2))),
        ("its own packet on the link", ether6(on_link, link_local(11), 17, &ports(1, 2))),
        ("a fragment of its own", ether6(me, other, 44, &behind(17, &ports(1, 2)))),
        ("a later fragment", ether6(me, other, 44, &[&[17, 0, 0, 8, 0, 0, 0, 1][..], &ports(547, 546)].concat())),
        ("its question for a neighbour", ether6(me, asked, 58, &about(135, other))),
        ("its answer", ether6(me, other, 58, &about(136, me))),
        ("its answer on the link", ether6(on_link, other, 58, &about(136, on_link))),
        ("whether its own address is free", ether6(nobody, all, 58, &about(135, me))),
        ("its question for routers", ether6(on_link, "ff02::2".parse().unwrap(), 58, &about(133, nobody))),
        ("its question for an address", ether6(on_link, "ff02::1:2".parse().unwrap(), 17, &ports(546, 547))),
        ("an echo", ether6(me, other, 58, &[128, 0, 0, 0, 0, 1, 0, 1])),
    ];
    for (what, frame) in honest {
        assert!(network.passes(&frame).await, "{what} did not pass");
    }
    // With the last guest that has it what is said of IPv6 goes.
    network.ensure(&[guest(10), guest(11)]).await;
    assert!(!network.passes(&ether6(me, other, 17, &ports(1, 2))).await);
}

#[tokio::test]
async fn a_guest_with_several_addresses_is_heard_under_each_and_no_other() {
    let mut network = Network::new().await;
    let several = Guest { addresses: vec![IpAddr::from(ip(10)), IpAddr::from(ip(100))], ..guest(10) };
    network.ensure(&[several, guest(11)]).await;
    let (me, other) = (mac(10), mac(11));
    for number in [10, 100] {
        assert!(network.passes(&udp(other, me, ip(number), ip(11), (1, 2))).await, "packet of {number}");
        assert!(network.passes(&arp(me, 2, me, ip(number))).await, "ARP of {number}");
    }
    assert!(!network.passes(&udp(other, me, ip(101), ip(11), (1, 2))).await);
    assert!(!network.passes(&arp(me, 2, me, ip(101))).await);
}

#[tokio::test]
async fn a_guest_more_or_less_is_an_element_and_a_rule_by_another_hand_does_not_last() {
    let mut network = Network::new().await;
    let reasons = |changes: &Changes| changes.iter().map(|change| change.reason).collect::<Vec<_>>();
    assert_eq!(reasons(&network.ensure(&[guest(10)]).await), ["FilterWritten"]);
    let both = [guest(10), guest(11)];
    assert_eq!(reasons(&network.ensure(&both).await), ["FilterChanged"]);
    assert!(network.ensure(&both).await.is_empty());
    let mut watch = watch_namespace(&network.room.namespace).await.unwrap();
    for (harm, expected) in [
        ("delete table bridge pf1", "FilterWritten"),
        ("flush chain bridge pf1 guard", "FilterWritten"),
        ("insert rule bridge pf1 guard accept", "FilterWritten"),
        ("add element bridge pf1 guests { \"tap10\" . 52:54:00:09:09:09 }", "FilterChanged"),
        ("flush set bridge pf1 addresses", "FilterChanged"),
    ] {
        network.room.shell(&format!("nft '{harm}'"));
        assert!(tokio::time::timeout(DEADLINE, watch.changed()).await.expect(harm), "{harm}");
        assert_eq!(reasons(&network.ensure(&both).await), [expected], "{harm}");
        assert!(network.ensure(&both).await.is_empty(), "{harm}");
        while tokio::time::timeout(std::time::Duration::from_millis(100), watch.changed()).await.is_ok() {}
    }
    assert_eq!(reasons(&network.ensure(&[guest(11)]).await), ["FilterChanged"]);
    // One that has just started cannot know what the rules were.
    network.stands = Stands::default();
    assert_eq!(reasons(&network.ensure(&[guest(11)]).await), ["FilterWritten"]);
    // What is not ours is not touched.
    network.room.shell("nft add table bridge theirs");
    assert!(network.ensure(&[guest(11)]).await.is_empty());
    assert!(network.room.shell("nft list tables").contains("theirs"));
}

#[tokio::test]
async fn nft_is_not_asked_again_what_nobody_changed() {
    let mut network = Network::new().await;
    // The same nft, which leaves a line for each time it is run.
    let dir = tempfile::tempdir().unwrap();
    let (counting, runs) = (dir.path().join("nft"), dir.path().join("runs"));
    let (nft, log) = (network.place.program.display(), runs.display());
    std::fs::write(&counting, format!("#!/bin/sh\necho \"$@\" >> {log}\nexec {nft} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&counting, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    network.place.program = counting;
    let since = |before: usize| {
        let all = std::fs::read_to_string(&runs).unwrap();
        all.lines().skip(before).map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    network.ensure(&[guest(10)]).await;
    let first = since(0).len();
    for _ in 0..3 {
        assert!(network.ensure(&[guest(10)]).await.is_empty());
    }
    assert_eq!(since(first), [""; 0], "all is known to be well");
    // Elements of ours come and go by one transaction each, and what they leave is known.
    for guests in [vec![guest(10), guest(11)], vec![guest(11)], vec![guest(10), guest(11)]] {
        assert!(!network.ensure(&guests).await.is_empty());
        assert!(network.ensure(&guests).await.is_empty());
    }
    assert_eq!(since(first), ["-f"; 3]);
    // Another's transaction, wherever in the namespace, is looked at; and what it left is then known again.
    network.room.shell("nft add table inet theirs");
    assert!(network.ensure(&[guest(10), guest(11)]).await.is_empty());
    assert!(network.ensure(&[guest(10), guest(11)]).await.is_empty());
    assert_eq!(since(first + 3), ["-j"]);
    network.room.shell("nft flush set bridge pf1 guests");
    assert!(!network.ensure(&[guest(10), guest(11)]).await.is_empty());
    assert_eq!(since(first + 4), ["-j", "-f"]);
    // Of a table that we write whole the rules are listed afterwards, and not what we put into it; nor does it concern other tables.
    let other = guard::Place { table: "pf2".parse().unwrap(), ..network.place.clone() };
    let mut stands = guard::Stands::default();
    for changed in [true, false] {
        assert_eq!(!guard::ensure(&other, &[guest(12)], &mut stands).await.unwrap().is_empty(), changed);
        assert!(network.ensure(&[guest(10), guest(11)]).await.is_empty());
    }
    assert_eq!(since(first + 6), ["-j", "-f", "-j"]);
    assert!(std::fs::read_to_string(&runs).unwrap().lines().last().unwrap().starts_with("-j -t"));
}
