//! Links: whatever drifts is set right, and what is right is not written.

use std::time::Duration;

use host::link::{Bridge, Changes, Kind, LinkName, Port, Veth, watch_namespace};
use ipnet::IpNet;

use crate::lab::{DEADLINE, Room};

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn bridge() -> Bridge {
    Bridge { name: name("br-1"), addresses: nets(&["10.1.0.1/24", "fd00::1/64"]), mtu: 1450, alias: "owner-1".into() }
}

fn messages(changes: &Changes) -> Vec<&str> {
    changes.iter().map(|change| change.message.as_str()).collect()
}

#[tokio::test]
async fn a_bridge_is_made_whole_and_then_left_alone() {
    let room = Room::new().await;
    let changes = room.links.ensure_bridge(&bridge()).await.unwrap();
    assert_eq!(changes.iter().next().unwrap().reason, "LinkCreated");
    let shown = room.ip("-d addr show br-1");
    for part in ["mtu 1450", "alias owner-1", "inet 10.1.0.1/24", "inet6 fd00::1/64", "stp_state 0", "UP"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let mut watch = watch_namespace(&room.namespace).await.unwrap();
    let changes = room.links.ensure_bridge(&bridge()).await.unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    let woken = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
    assert!(woken.is_err(), "a converged verb wrote to the kernel");
}

#[tokio::test]
async fn drift_is_set_right_and_nothing_else_is_written() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let drifts: [(&str, &[&str]); 5] = [
        ("link set br-1 mtu 1300", &["set MTU 1450 of link br-1"]),
        ("link set br-1 alias thief", &["set alias \"owner-1\" of link br-1"]),
        ("addr add 10.9.0.1/24 dev br-1", &["removed address 10.9.0.1/24 from link br-1"]),
        ("addr del 10.1.0.1/24 dev br-1", &["added address 10.1.0.1/24 to link br-1"]),
        ("addr replace 10.1.0.1/16 dev br-1", &["removed address 10.1.0.1/16 from link br-1"]),
    ];
    for (drift, expected) in drifts {
        room.ip(drift);
        let changes = room.links.ensure_bridge(&bridge()).await.unwrap();
        assert_eq!(messages(&changes), expected, "after {drift}");
        assert!(room.links.ensure_bridge(&bridge()).await.unwrap().is_empty(), "after {drift}");
    }
    room.ip("link set br-1 down");
    let changes = room.links.ensure_bridge(&bridge()).await.unwrap();
    assert!(messages(&changes).contains(&"set state up of link br-1"), "{changes:?}");
    assert!(room.links.ensure_bridge(&bridge()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_bridge_keeps_its_mtu_when_ports_of_another_come_and_go() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    room.ip("link add v-1 mtu 1400 type veth peer name v-2");
    for change in ["link set v-1 master br-1", "link set v-1 nomaster", "link delete v-1"] {
        room.ip(change);
        let changes = room.links.ensure_bridge(&bridge()).await.unwrap();
        assert!(changes.is_empty(), "after {change}: {changes:?}");
    }
}

#[tokio::test]
async fn an_address_survives_that_the_kernel_held_second_to_a_wrong_one() {
    let room = Room::new().await;
    room.links.ensure_bridge(&Bridge { addresses: nets(&[]), ..bridge() }).await.unwrap();
    room.ip("addr add 10.1.0.77/24 dev br-1");
    room.ip("addr add 10.1.0.1/24 dev br-1");
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let link = room.links.find("br-1").await.unwrap().unwrap();
    let mut addresses = link.addresses;
    addresses.sort();
    assert_eq!(addresses, bridge().addresses);
}

#[tokio::test]
async fn a_deleted_bridge_comes_back_with_its_hardware_address() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let first = room.links.find("br-1").await.unwrap().unwrap();
    room.ip("link del br-1");
    assert_eq!(room.links.find("br-1").await.unwrap(), None);
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let second = room.links.find("br-1").await.unwrap().unwrap();
    assert_eq!((second.mac, second.kind), (first.mac, Kind::Bridge));
    assert_ne!(second.index, first.index, "whoever is bound to the old one must notice");
}

#[tokio::test]
async fn what_carries_a_bridges_name_but_is_none_is_replaced() {
    let room = Room::new().await;
    room.ip("link add br-1 type veth peer name other");
    room.links.ensure_bridge(&bridge()).await.unwrap();
    assert_eq!(room.links.find("br-1").await.unwrap().unwrap().kind, Kind::Bridge);
}

#[tokio::test]
async fn a_cable_joins_two_namespaces() {
    let (room, other) = (Room::new().await, Room::new().await);
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let veth = Veth { name: name("near"), peer: name("far"), peer_namespace: Some(other.namespace.clone()) };
    let near = Port {
        name: name("near"),
        bridge: Some(name("br-1")),
        mtu: 1450,
        alias: "port-1".into(),
        addresses: None,
        mac: None,
    };
    let far = Port {
        name: name("far"),
        bridge: None,
        addresses: Some(nets(&["10.1.0.2/24"])),
        mac: Some([2, 0, 0, 0, 0, 9]),
        ..near.clone()
    };
    assert!(!room.links.ensure_veth(&veth).await.unwrap().is_empty());
    room.links.ensure_port(&near).await.unwrap();
    other.links.ensure_port(&far).await.unwrap();
    other.shell("ping -c 1 -W 5 10.1.0.1");

    assert!(room.links.ensure_veth(&veth).await.unwrap().is_empty());
    assert!(room.links.ensure_port(&near).await.unwrap().is_empty());
    assert!(other.links.ensure_port(&far).await.unwrap().is_empty());

    room.ip("link set near nomaster");
    let changes = room.links.ensure_port(&near).await.unwrap();
    assert_eq!(changes.iter().count(), 1, "{changes:?}");
    other.shell("ping -c 1 -W 5 10.1.0.1");

    let links = room.links.observe().await.unwrap();
    let bridge = links.iter().find(|link| link.name == "br-1").unwrap();
    let near = links.iter().find(|link| link.name == "near").unwrap();
    assert_eq!((near.master, near.alias.as_deref()), (Some(bridge.index), Some("port-1")));
    assert_eq!(bridge.addresses.len(), 2);
}

#[tokio::test]
async fn deleting_what_is_absent_is_no_error() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    assert!(!room.links.delete(&name("br-1")).await.unwrap().is_empty());
    assert!(room.links.delete(&name("br-1")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_port_whose_bridge_is_missing_is_an_error_that_names_it() {
    let room = Room::new().await;
    let error = room.links.enslave(&name("lo"), &name("br-9")).await.unwrap_err();
    assert!(error.to_string().contains("br-9"), "{error}");
}

#[tokio::test]
async fn a_watch_wakes_for_every_kind_of_change_and_only_in_its_namespace() {
    let (room, other) = (Room::new().await, Room::new().await);
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let mut watch = watch_namespace(&room.namespace).await.unwrap();
    for change in [
        "link set br-1 mtu 1400",
        "addr add 10.7.0.1/24 dev br-1",
        "route add 10.8.0.0/24 via 10.7.0.2",
        "link set br-1 alias x",
        "link del br-1",
    ] {
        room.ip(change);
        let woken = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(woken.expect(change), "{change}");
        while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
    }
    other.ip("link add elsewhere type bridge");
    let woken = tokio::time::timeout(Duration::from_millis(200), watch.changed()).await;
    assert!(woken.is_err(), "a change in another namespace is none of ours");
}

#[tokio::test]
async fn a_slow_watcher_loses_no_wake_up() {
    let room = Room::new().await;
    let mut watch = watch_namespace(&room.namespace).await.unwrap();
    for number in 0..100 {
        room.links.ensure_bridge(&Bridge { name: name(&format!("br-{number}")), ..bridge() }).await.unwrap();
    }
    assert!(tokio::time::timeout(DEADLINE, watch.changed()).await.unwrap());
    while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
    room.ip("link del br-7");
    assert!(tokio::time::timeout(DEADLINE, watch.changed()).await.unwrap(), "the watch outlived the flood");
}
