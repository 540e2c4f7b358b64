//! What is derived of a house's objects, against what comes through.

use reachability::{Conversation, Objects, World};
use serde::de::DeserializeOwned;

use crate::house::House;

/// Tries all pairs of these guests of one tenant, with their Ports and addresses; returns those that are closed. `reaches`: whether
/// `what` is answered from there.
pub(crate) fn all_end_as_derived<G>(
    house: &House,
    what: Conversation,
    reaches: fn(&G, &str) -> bool,
    guests: &[(&G, &str, &str)],
) -> Vec<String> {
    let world = World::of(Objects {
        networks: all(house, "tenantnetworks"),
        ports: all(house, "ports"),
        groups: all(house, "securitygroups"),
        routers: all(house, "routers"),
        ..Objects::default()
    });
    let end = |port: &str| world.find("t", port).unwrap();
    let mut closed = Vec::new();
    for (guest, from, _) in guests {
        for (_, to, address) in guests.iter().filter(|(_, to, _)| to != from) {
            let verdict = world.verdict(end(from), end(to), what);
            assert_eq!(reaches(guest, address), verdict.is_open(), "{from} → {to}: {verdict}");
            closed.extend((!verdict.is_open()).then(|| format!("{from} → {to}")));
        }
    }
    closed
}

fn all<K: DeserializeOwned>(house: &House, resource: &str) -> Vec<K> {
    house.api.objects(resource).into_iter().map(|object| serde_json::from_value(object).unwrap()).collect()
}
