//! Who may speak with whom, on two hosts, with real connections: what is allowed goes on, what no longer is stops at once.

pub mod lab;

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use host::firewall::{self, Access, Group, Place, Policy, Rate, Remote, Stands, Traffic};
use host::link::watch_namespace;

use crate::lab::{DEADLINE, Room, eventually};
use crate::overlay::lab::name;
use lab::{Lab, NEVER, address, comes, egress, id, ingress, reasons, speaks, stays_away, tcp, udp, udp_at};

#[tokio::test]
async fn what_a_group_allows_passes_with_its_answers_and_nothing_else_does() {
    let mut lab = Lab::new(10_030).await;
    let (_web, _other) = (lab.listen(13, 80).await, lab.listen(13, 81).await);
    let _plain = lab.listen(12, 80).await;
    // Without groups everything is open.
    for from in [11, 12] {
        lab.connect(from, 13, 81).await;
    }
    let range = |text: &str| Remote::Range(text.parse().unwrap());
    let web = vec![
        ingress(tcp(80), Remote::Members(id("clients"))),
        ingress(udp(53), Remote::Members(id("clients"))),
        ingress(Traffic::Icmp(8, None), range("10.1.0.12/32")),
    ];
    lab.group("web", web);
    lab.group("clients", Vec::new());
    lab.put(13, &["web"]);
    lab.put(11, &["clients"]);
    lab.ensure().await;

    lab.connect(11, 13, 80).await;
    assert!(lab.is_dropped(12, 13, 80).await, "who is in no group");
    assert!(lab.is_dropped(11, 13, 81).await, "a port that no rule names");
    // Egress is open without a rule about it, and answers come back.
    lab.connect(13, 12, 80).await;
    assert!(lab.is_dropped(13, 11, 80).await, "a group without rules denies");
    let cell = &lab.network.cells[1];
    cell.shell("ping -c 1 -W 5 10.1.0.11 && exit 1; exit 0");
    lab.room(12).shell("ping -c 1 -W 5 10.1.0.13");
    lab.room(11).shell("! ping -c 1 -W 1 10.1.0.13");
    lab.room(13).shell("ping -c 1 -W 5 10.1.0.1");

    // One larger than the network's packets comes whole, and its answer too.
    let (client, server) = (lab.udp(11, 1000).await, lab.udp(13, 53).await);
    assert!(comes(&client, &server, 4000) && comes(&server, &client, 4000));
    let stranger = lab.udp(13, 54).await;
    assert!(stays_away(&client, &stranger) && comes(&stranger, &lab.udp(12, 54).await, 10));
    assert!(comes(&stranger, &client, 10), "an answer, though the question was not let in");
    assert!(stays_away(&lab.udp(13, 55).await, &client), "an answer to nothing");
    // That nobody listens is told by an error about the conversation.
    drop(server);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.connect((address(13), 53)).unwrap();
    client.send(b"anybody?").unwrap();
    assert_eq!(client.recv(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn egress_is_limited_once_a_rule_speaks_of_it_and_a_closed_guest_has_dhcp_alone() {
    let mut lab = Lab::new(10_031).await;
    let (_on, _off) = (lab.listen(12, 443).await, lab.listen(12, 444).await);
    let _in = lab.listen(11, 22).await;
    lab.group(
        "jail",
        vec![egress(tcp(443), Remote::Range("10.1.0.0/28".parse().unwrap())), ingress(tcp(22), Remote::Anybody)],
    );
    lab.put(11, &["jail"]);
    lab.ensure().await;
    lab.connect(11, 12, 443).await;
    assert!(lab.is_dropped(11, 12, 444).await);
    // Answers leave by the rule that let the question in.
    lab.connect(12, 11, 22).await;
    lab.room(11).shell("! ping -c 1 -W 1 10.1.0.1");
    // Several groups: what any of them allows.
    lab.group("more", vec![egress(tcp(444), Remote::Anybody)]);
    lab.put(11, &["jail", "more"]);
    lab.ensure().await;
    lab.connect(11, 12, 443).await;
    lab.connect(11, 12, 444).await;

    lab.placed = vec![(11, Access::Closed)];
    lab.ensure().await;
    assert!(lab.is_dropped(11, 12, 443).await && lab.is_dropped(12, 11, 22).await);
    let gateway = &lab.network.cells[0];
    let (client, server) = (lab.udp(11, 68).await, udp_at(gateway, address(1), 67).await);
    assert!(comes(&client, &server, 10) && comes(&server, &client, 10), "DHCP is nobody's to forbid");
    assert!(stays_away(&client, &udp_at(gateway, address(1), 53).await));
    assert!(stays_away(&client, &lab.udp(12, 67).await), "to the network's own address alone");
    firewall::remove(&lab.place(0)).await.unwrap();
    firewall::remove(&lab.place(0)).await.unwrap();
    // It was the firewall.
    lab.connect(11, 12, 443).await;
}

#[tokio::test]
async fn a_flow_that_stays_allowed_goes_on_and_one_that_is_revoked_stops_both_ways_until_it_is_allowed_again() {
    let mut lab = Lab::new(10_032).await;
    lab.group("web", vec![ingress(tcp(80), Remote::Members(id("clients")))]);
    lab.group("clients", Vec::new());
    lab.put(13, &["web"]);
    lab.put(11, &["clients"]);
    lab.put(12, &["clients"]);
    lab.ensure().await;
    let listener = lab.listen(13, 80).await;
    let mut one = (lab.connect(11, 13, 80).await, listener.accept().unwrap().0);
    let mut two = (lab.connect(12, 13, 80).await, listener.accept().unwrap().0);
    let both = |flow: &mut (TcpStream, TcpStream), deadline| {
        (speaks(&mut flow.0, &mut flow.1, deadline), speaks(&mut flow.1, &mut flow.0, deadline))
    };
    assert_eq!((both(&mut one, DEADLINE), both(&mut two, DEADLINE)), ((true, true), (true, true)));

    // Rules that concern neither, and all of it written anew.
    lab.group("web", vec![ingress(tcp(80), Remote::Members(id("clients"))), ingress(udp(53), Remote::Anybody)]);
    assert_eq!(lab.ensure().await.each_ref().map(reasons), [["FirewallChanged"]; 2]);
    lab.stands = Default::default();
    assert_eq!(lab.ensure().await.each_ref().map(reasons), [["FirewallWritten"]; 2]);
    assert_eq!((both(&mut one, DEADLINE), both(&mut two, DEADLINE)), ((true, true), (true, true)));

    // One leaves the group: its flow is cut in both directions, the other's is not.
    lab.put(11, &["web"]);
    lab.ensure().await;
    assert_eq!((both(&mut one, NEVER), both(&mut two, DEADLINE)), ((false, false), (true, true)));
    // The rule goes, and comes back.
    lab.put(11, &["clients"]);
    lab.group("web", vec![ingress(udp(53), Remote::Anybody)]);
    lab.ensure().await;
    assert_eq!(both(&mut two, NEVER), (false, false));
    lab.group("web", vec![ingress(tcp(80), Remote::Members(id("clients")))]);
    lab.ensure().await;
    assert_eq!((both(&mut one, DEADLINE), both(&mut two, DEADLINE)), ((true, true), (true, true)));
}

#[tokio::test]
async fn a_member_is_an_element_ten_thousand_are_listed_and_another_hand_is_undone() {
    let mut lab = Lab::new(10_033).await;
    lab.group("web", vec![ingress(tcp(80), Remote::Members(id("crowd")))]);
    lab.put(11, &["web"]);
    let place = lab.place(0);
    let mut policy = lab.policy(0);
    let crowd = (0..10_000u32).map(|number| IpAddr::from(Ipv4Addr::from(0x0a02_0000 + number)));
    policy.groups.push(Group { id: id("crowd"), rules: Vec::new(), members: crowd.collect() });
    let mut stands = Stands::default();
    let begun = Instant::now();
    assert_eq!(reasons(&firewall::ensure(&place, &policy, &mut stands).await.unwrap()), ["FirewallWritten"]);
    println!("10,000 members written in {} ms", begun.elapsed().as_millis());
    let begun = Instant::now();
    assert!(firewall::ensure(&place, &policy, &mut stands).await.unwrap().is_empty());
    println!("10,000 members compared in {} ms", begun.elapsed().as_millis());

    // Every rule, chain and set keeps the number that the kernel gave it.
    let numbers = |room: &Room| room.shell("nft -a -t list ruleset");
    let cell = &lab.network.cells[0];
    let before = numbers(cell);
    policy.groups[1].members.insert(address(99).into());
    let begun = Instant::now();
    assert_eq!(reasons(&firewall::ensure(&place, &policy, &mut stands).await.unwrap()), ["FirewallChanged"]);
    println!("one member more of 10,000 in {} ms", begun.elapsed().as_millis());
    assert_eq!(numbers(cell), before);
    assert!(cell.shell("nft list ruleset").contains("10.1.0.99"));
    // Before everybody was heard nobody is taken out.
    policy.groups[1].members.remove(&address(99).into());
    let young = Policy { complete: false, ..policy.clone() };
    assert!(firewall::ensure(&place, &young, &mut stands).await.unwrap().is_empty());
    assert_eq!(reasons(&firewall::ensure(&place, &policy, &mut stands).await.unwrap()), ["FirewallChanged"]);

    let mut watch = watch_namespace(&place.namespace).await.unwrap();
    let web = id("web");
    for (harm, expected) in [
        ("delete table inet fw1".to_owned(), "FirewallWritten"),
        ("delete table bridge fw1".to_owned(), "FirewallWritten"),
        (format!("insert rule bridge fw1 in_{web} accept"), "FirewallWritten"),
        ("flush chain bridge fw1 heard".to_owned(), "FirewallWritten"),
        ("delete element bridge fw1 heard_by { \"g11\" }".to_owned(), "FirewallChanged"),
        (format!("add element bridge fw1 members_{} {{ 10.1.0.12 }}", id("crowd")), "FirewallChanged"),
    ] {
        lab.network.cells[0].shell(&format!("nft '{harm}'"));
        assert!(tokio::time::timeout(DEADLINE, watch.changed()).await.expect(&harm), "{harm}");
        assert_eq!(reasons(&firewall::ensure(&place, &policy, &mut stands).await.unwrap()), [expected], "{harm}");
        assert!(firewall::ensure(&place, &policy, &mut stands).await.unwrap().is_empty(), "{harm}");
        while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
    }
    // What is not shown to the packet filter could not be judged.
    cell_setting(&lab.network.cells[0], "0");
    assert_eq!(reasons(&firewall::ensure(&place, &policy, &mut stands).await.unwrap()), ["FirewallWritten"]);
    let shown =
        || async { lab.network.cells[0].shell("cat /proc/sys/net/bridge/bridge-nf-call-iptables").trim() == "1" };
    eventually("bridged packets are shown", shown).await;
}

/// How many of a thousand datagrams of 1,400 bytes come, sent as fast as they are taken, and how long that took.
fn flood(from: &UdpSocket, to: &UdpSocket) -> (usize, Duration) {
    let (at, begun) = (to.local_addr().unwrap(), Instant::now());
    to.set_nonblocking(true).unwrap();
    let (mut heard, mut buffer) = (0, [0; 2048]);
    for _ in 0..1000 {
        from.send_to(&[7; 1400], at).unwrap();
        while to.recv(&mut buffer).is_ok() {
            heard += 1;
        }
    }
    (heard, begun.elapsed())
}

#[tokio::test]
async fn a_guest_sends_and_receives_no_faster_than_it_may() {
    let mut lab = Lab::new(10_034).await;
    let (limited, free) = (lab.udp(11, 9).await, lab.udp(12, 9).await);
    assert!(flood(&limited, &free).0 > 500 && flood(&free, &limited).0 > 500, "without a limit all of it comes");
    lab.placed = vec![(11, Access::Open)];
    lab.rate = Rate { ingress: Some(2), egress: Some(1) };
    assert_eq!(reasons(&lab.ensure().await[0]), ["FirewallWritten"]);
    for (megabits, (heard, time)) in [(1, flood(&limited, &free)), (2, flood(&free, &limited))] {
        println!("{heard} of 1000 came at {megabits} Mbit/s in {time:?}");
        // A second's worth and the burst at once, then as much as time has passed. The bridge counts the frame's header, too.
        let most = (125_000.0 * f64::from(megabits) * (1.0 + time.as_secs_f64()) + 65_536.0) / 1400.0;
        assert!(heard > 50 && (heard as f64) < most, "{heard} of 1000 at {megabits} Mbit/s in {time:?}");
    }
    lab.rate.egress = None;
    assert_eq!(reasons(&lab.ensure().await[0]), ["FirewallChanged"]);
    assert!(lab.ensure().await[0].is_empty());
    assert!(flood(&limited, &free).0 > 500, "it was the limit");
}

fn cell_setting(room: &Room, value: &str) {
    room.shell(&format!("echo {value} > /proc/sys/net/bridge/bridge-nf-call-iptables"));
}

#[tokio::test]
async fn a_machine_that_can_is_told_from_one_that_cannot_by_trying() {
    let room = Room::new().await;
    let program = process::find_program("nft", "CLUSTERCTL_NFT").unwrap();
    let place = Place { namespace: room.namespace.clone(), program, table: name("probe") };
    assert_eq!(firewall::probe(&place).await.unwrap(), None);
    // One whose packet filter refuses.
    let stub = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&stub, "#!/bin/sh\ncat > /dev/null\necho 'Error: no ct here' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&stub, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let why = firewall::probe(&Place { program: stub.to_path_buf(), ..place }).await.unwrap();
    assert_eq!(why.as_deref(), Some("the packet filter cannot track connections: Error: no ct here"));
}
