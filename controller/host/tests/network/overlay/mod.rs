//! Networks that span hosts, with real tunnels.

mod isolation;
pub mod lab;
mod moves;

use std::time::Duration;

use host::link::{Changes, Peer, watch_namespace};

use crate::lab::{DEADLINE, Room};
use lab::{Hosts, MTU, Network};

fn reasons(changes: &Changes) -> Vec<&str> {
    changes.iter().map(|change| change.reason).collect()
}

#[tokio::test]
async fn guests_on_three_hosts_reach_each_other_and_nothing_else_crosses() {
    let hosts = Hosts::new(3).await;
    let mut network = Network::new(&hosts, 10_001).await;
    let guests = [network.guest(11, 0).await, network.guest(12, 1).await, network.guest(13, 2).await];
    network.ensure(&hosts).await;
    for guest in &guests {
        for number in [11, 12, 13] {
            guest.shell(&format!("ping -c 1 -W 5 10.1.0.{number}"));
        }
    }
    // The largest packet fits, and not because it was cut.
    guests[0].shell(&format!("ping -c 1 -W 5 -M do -s {} 10.1.0.13", MTU - 28));
    assert!(guests[0].shell("ip neigh show 10.1.0.12").contains("52:54:00:00:00:0c"), "the bridge answered for it");

    let before = network.sent(0);
    guests[0].shell("ping -c 1 -W 5 10.1.0.1");
    // A stranger's address, everybody's, and a group's: asked for by broadcast and multicast.
    guests[0].shell("ping -c 2 -W 1 10.1.0.99 || true");
    guests[0].shell("ping -b -c 2 -W 1 10.1.0.255 || true");
    guests[0].shell("ping -c 2 -W 1 224.0.0.1 || true");
    guests[0].shell("ip neigh replace 10.1.0.98 lladdr 52:54:00:00:00:98 dev eth0; ping -c 2 -W 1 10.1.0.98 || true");
    assert_eq!(network.sent(0), before, "a frame without a known guest's address crossed");
    guests[0].shell("ping -c 1 -W 5 10.1.0.12");
    assert!(network.sent(0) > before, "the count counts");
}

#[tokio::test]
async fn neighbours_are_found_by_ipv6_and_nobodys_question_crosses() {
    let hosts = Hosts::new(2).await;
    let mut network = Network::new(&hosts, 10_009).await;
    network.ensure_six().await;
    let guests = [network.guest(11, 0).await, network.guest(12, 1).await];
    network.ensure(&hosts).await;
    for (guest, number) in guests.iter().zip([11, 12]) {
        // A card that was made where links make none makes none.
        guest.shell("echo 0 > /proc/sys/net/ipv6/conf/eth0/addr_gen_mode");
        guest.shell(&format!("ip address add {}/64 dev eth0 nodad", lab::six(number)));
    }
    let known = |guest: &Room| {
        let told = guest.shell("ip -6 address show dev eth0 scope link");
        told.contains("inet6 fe80:") && !told.contains("tentative")
    };
    crate::lab::eventually("their cards are known", || async { guests.iter().all(known) }).await;
    for (guest, other) in guests.iter().zip([12, 11]) {
        guest.shell(&format!("ping -6 -c 1 -W 5 {}", lab::six(other)));
        guest.shell(&format!("ping -6 -c 1 -W 5 {}%eth0", lab::link_local(other)));
    }
    // One router for both, by one address on the link and one hardware address.
    let router = network.cells.iter().map(|cell| {
        let told = cell.shell("ip -6 -o address show dev br scope link");
        assert!(!told.contains("tentative"), "{told}");
        told.split_whitespace().nth(3).unwrap().trim_end_matches("/64").to_owned()
    });
    let router: Vec<String> = router.collect();
    assert_eq!(router[0], router[1]);
    for cell in &network.cells {
        let others = cell.shell("ip -6 -o address show | grep -v ' lo ' | grep -v ' br '; true");
        assert_eq!(others, "", "a link that is not the bridge has an address");
    }
    let before = network.sent(0);
    guests[0].shell(&format!("ping -6 -c 1 -W 5 fd00:1::1; ping -6 -c 1 -W 5 {}%eth0", router[0]));
    // A stranger's address, everybody's, all routers', and a claim that nobody asked for.
    guests[0].shell("ping -6 -c 2 -W 1 fd00:1::99 || true; ping -6 -c 2 -W 1 fe80::99%eth0 || true");
    guests[0].shell("ping -6 -c 2 -W 1 ff02::1%eth0 || true; ping -6 -c 2 -W 1 ff02::2%eth0 || true");
    guests[0].shell("echo 1 > /proc/sys/net/ipv6/conf/eth0/ndisc_notify; ip link set eth0 down; ip link set eth0 up");
    assert_eq!(network.sent(0), before, "a question or an answer about neighbours crossed");
    // Entries follow who is there.
    let cell = &network.cells[0];
    assert!(network.ensure_on(&hosts, 0).await.is_empty());
    cell.shell(&format!("ip neigh del {} dev br", lab::six(12)));
    assert_eq!(reasons(&network.ensure_on(&hosts, 0).await), ["PeersChanged"]);
    network.remove(12);
    network.ensure(&hosts).await;
    assert_eq!(network.cells[0].shell("ip -6 neigh show dev br nud permanent"), "");
}

#[tokio::test]
async fn every_host_answers_for_the_gateway_with_one_address() {
    let hosts = Hosts::new(2).await;
    let mut network = Network::new(&hosts, 10_002).await;
    let guests = [network.guest(11, 0).await, network.guest(12, 1).await];
    network.ensure(&hosts).await;
    let gateway = network.gateway().map(|byte| format!("{byte:02x}")).join(":");
    for guest in &guests {
        guest.shell("ping -c 1 -W 5 10.1.0.1");
        assert!(guest.shell("ip neigh show 10.1.0.1").contains(&gateway));
    }
    assert_eq!((network.sent(0), network.sent(1)), (0, 0));
}

#[tokio::test]
async fn whatever_is_broken_wakes_and_is_set_right_and_what_is_right_is_not_written() {
    let hosts = Hosts::new(2).await;
    let mut network = Network::new(&hosts, 10_003).await;
    let (guest, _other) = (network.guest(11, 0).await, network.guest(12, 1).await);
    network.ensure(&hosts).await;
    let cell = &network.cells[0];
    let mut watch = watch_namespace(&cell.namespace).await.unwrap();
    assert_eq!(reasons(&network.ensure_on(&hosts, 0).await), Vec::<&str>::new());
    // Guests that talk are none of our business either.
    guest.shell("ip neigh flush dev eth0; ping -c 3 -i 0.2 10.1.0.12; ping -c 1 -W 5 10.1.0.1");
    let woken = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
    assert!(woken.is_err(), "a converged verb wrote to the kernel, or talk woke us");

    let broken: [(&str, &[&str]); 9] = [
        (
            "ip link del vx",
            &["LinkCreated", "LinkChanged", "LinkChanged", "LinkChanged", "LinkChanged", "PeersChanged"],
        ),
        ("ip link set vx nomaster", &["LinkChanged", "LinkChanged", "PeersChanged"]),
        ("ip link set vx down", &["LinkChanged"]),
        ("bridge link set dev vx flood on learning on", &["LinkChanged"]),
        ("bridge fdb del 52:54:00:00:00:0c dev vx self", &["PeersChanged"]),
        ("bridge fdb del 52:54:00:00:00:0c dev vx master", &["PeersChanged"]),
        ("bridge fdb replace 52:54:00:00:00:0c dev vx dst 100.64.0.9 self permanent", &["PeersChanged"]),
        ("bridge fdb append 00:00:00:00:00:00 dev vx dst 100.64.0.2 self permanent", &["PeersChanged"]),
        ("ip neigh del 10.1.0.12 dev br", &["PeersChanged"]),
    ];
    for (harm, expected) in broken {
        while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
        cell.shell(harm);
        let woken = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(woken.expect(harm), "{harm}");
        let changes = network.ensure_on(&hosts, 0).await;
        assert_eq!(reasons(&changes), expected, "{harm}: {changes:?}");
        assert!(network.ensure_on(&hosts, 0).await.is_empty(), "{harm}");
        guest.shell("ip neigh flush dev eth0; ping -c 1 -W 5 10.1.0.12");
    }
}

#[tokio::test]
async fn a_tunnel_of_another_identifier_or_host_is_made_anew() {
    let hosts = Hosts::new(2).await;
    let mut network = Network::new(&hosts, 10_004).await;
    let (guest, _other) = (network.guest(11, 0).await, network.guest(12, 1).await);
    network.ensure(&hosts).await;
    guest.shell("ping -c 1 -W 5 10.1.0.12");
    network.vni = 10_005;
    let changes = network.ensure_on(&hosts, 0).await;
    assert_eq!(reasons(&changes)[..2], ["LinkDeleted", "LinkCreated"], "{changes:?}");
    guest.shell("! ping -c 1 -W 1 10.1.0.12");
    network.ensure(&hosts).await;
    guest.shell("ping -c 1 -W 5 10.1.0.12");
}

#[tokio::test]
async fn a_guest_that_moves_is_found_where_it_is_by_everybody() {
    let hosts = Hosts::new(3).await;
    let mut network = Network::new(&hosts, 10_006).await;
    let (stays, leaves) = (network.guest(11, 0).await, network.guest(12, 1).await);
    network.ensure(&hosts).await;
    stays.shell("ping -c 1 -W 5 10.1.0.12");
    leaves.shell("ping -c 1 -W 5 10.1.0.11");
    drop(leaves);
    crate::lab::eventually("its cable is gone", || async {
        network.cells[1].links.find("g12").await.unwrap().is_none()
    })
    .await;
    let arrives = network.guest(12, 2).await;
    network.ensure(&hosts).await;
    stays.shell("ping -c 1 -W 5 10.1.0.12");
    arrives.shell("ping -c 1 -W 5 10.1.0.11");
    // Back to the very host of the other: from the tunnel to the tap.
    drop(arrives);
    let _home = network.guest(12, 0).await;
    network.ensure(&hosts).await;
    stays.shell("ping -c 1 -W 5 10.1.0.12");
    assert!(network.ensure_on(&hosts, 0).await.is_empty());
}

#[tokio::test]
async fn a_thousand_guests_elsewhere_are_written_once_and_one_more_is_little() {
    let hosts = Hosts::new(2).await;
    let network = Network::new(&hosts, 10_008).await;
    let (links, tunnel) = (&network.cells[0].links, network.tunnel(0));
    let peer = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Peer { mac: [0x52, 0x54, 0, 1, high, low], address: [10, 1, high, low].into(), host: lab::address(1) }
    };
    let mut peers: Vec<Peer> = (0..1000).map(peer).collect();
    for (what, changes) in [("a thousand", 1), ("the same again", 0), ("one more", 1)] {
        if what == "one more" {
            peers.push(peer(1000));
        }
        let begun = std::time::Instant::now();
        let done = links.ensure_peers(&tunnel.name, &tunnel.bridge, &peers).await.unwrap();
        println!("{what}: {} ms", begun.elapsed().as_millis());
        assert_eq!(done.iter().count(), changes, "{what}: {done:?}");
    }
    let shown = network.cells[0]
        .shell("bridge fdb show dev vx | grep -c 'dst 100.64.0.2'; ip neigh show dev br nud permanent | wc -l");
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["1001", "1001"]);
}

#[tokio::test]
async fn a_cut_underlay_heals_without_a_stale_entry() {
    let hosts = Hosts::new(2).await;
    let mut network = Network::new(&hosts, 10_007).await;
    let (guest, _other) = (network.guest(11, 0).await, network.guest(12, 1).await);
    network.ensure(&hosts).await;
    guest.shell("ping -c 1 -W 5 10.1.0.12");
    hosts.switch.ip("link set h1 down");
    guest.shell("! ping -c 2 -W 1 10.1.0.12");
    assert!(network.ensure_on(&hosts, 0).await.is_empty(), "a cut is no reason to forget");
    hosts.switch.ip("link set h1 up");
    crate::lab::eventually("the cut heals", || async {
        guest.shell("ping -c 1 -W 1 10.1.0.12 || true").contains(" 0% ")
    })
    .await;
}
