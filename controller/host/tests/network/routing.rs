//! Addresses for a time, and routes of ours.

use std::time::Duration;

use host::link::{LinkName, Port, Route, Veth};
use ipnet::Ipv4Net;

use crate::lab::{Room, eventually};

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn route(destination: &str, via: Option<[u8; 4]>) -> Route {
    Route { destination: net(destination), via: via.map(Into::into) }
}

/// A room with a cable from `near` to `far`, both up.
async fn room() -> Room {
    let room = Room::new().await;
    let cable = Veth { name: name("near"), peer: name("far"), peer_namespace: None };
    room.links.ensure_veth(&cable).await.unwrap();
    for end in ["near", "far"] {
        let port =
            Port { name: name(end), bridge: None, mtu: 1500, alias: "owner-1".into(), addresses: None, mac: None };
        room.links.ensure_port(&port).await.unwrap();
    }
    room
}

#[tokio::test]
async fn an_address_that_nobody_prolongs_goes_by_itself_and_takes_the_routes_along() {
    let room = room().await;
    let (near, place) = (name("near"), net("10.4.0.2/24"));
    let lease = Duration::from_secs(600);
    let made = room.links.ensure_leased(&near, place, lease).await.unwrap();
    assert_eq!(made.iter().map(|change| change.reason).collect::<Vec<_>>(), ["AddressAdded"]);
    assert!(room.links.ensure_leased(&near, place, lease).await.unwrap().is_empty(), "prolonging is no change");
    let routes = [route("10.5.0.0/24", None), route("10.6.0.0/16", Some([10, 5, 0, 9]))];
    room.links.ensure_routes(&near, &routes).await.unwrap();
    let shown = room.ip("-4 -o address show dev near");
    assert!(shown.contains("10.4.0.2/24") && !shown.contains("forever"), "{shown}");

    // Another place: the one before goes at once.
    room.links.ensure_leased(&near, net("10.4.0.3/24"), lease).await.unwrap();
    let shown = room.ip("-4 -o address show dev near");
    assert!(shown.contains("10.4.0.3/24") && !shown.contains("10.4.0.2/24"), "{shown}");
    room.links.ensure_routes(&near, &routes).await.unwrap();
    assert!(room.ip("route show dev near").contains("10.6.0.0/16 via 10.5.0.9"));

    room.links.ensure_leased(&near, net("10.4.0.3/24"), Duration::from_secs(1)).await.unwrap();
    let nothing = || async { room.ip("-4 -o address show dev near").is_empty() && room.ip("route show").is_empty() };
    eventually("the kernel took address and routes", nothing).await;
}

#[tokio::test]
async fn exactly_our_routes_are_there_and_nobody_elses_are_touched() {
    let room = room().await;
    for (end, address) in [("near", "10.4.0.2/24"), ("far", "10.8.0.2/24")] {
        room.ip(&format!("address add {address} dev {end}"));
    }
    room.ip("route add 172.16.0.0/12 via 10.4.0.7 dev near");
    let near = name("near");
    let first = [route("10.5.0.0/24", Some([10, 4, 0, 9])), route("0.0.0.0/0", Some([10, 4, 0, 9]))];
    assert_eq!(room.links.ensure_routes(&near, &first).await.unwrap().iter().count(), 2);
    assert!(room.links.ensure_routes(&near, &first).await.unwrap().is_empty(), "a second look has nothing to do");
    room.links.ensure_routes(&name("far"), &[route("10.9.0.0/24", Some([10, 8, 0, 9]))]).await.unwrap();

    let next = [route("10.5.0.0/24", Some([10, 4, 0, 8]))];
    room.links.ensure_routes(&near, &next).await.unwrap();
    let shown = room.ip("route show");
    for line in ["172.16.0.0/12 via 10.4.0.7", "10.5.0.0/24 via 10.4.0.8", "10.9.0.0/24 via 10.8.0.9"] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(!shown.contains("default") && !shown.contains("10.4.0.9"), "{shown}");
}
