//! What a host holds beside what its objects demand.

use std::collections::{BTreeMap, BTreeSet};

use agent::names;

use super::Placed;
use crate::house::House;

/// What is there and should not be, and what is missing.
pub fn wrong(
    house: &House,
    host: usize,
    networks: &BTreeMap<&'static str, String>,
    ports: &BTreeMap<String, Placed>,
) -> Vec<String> {
    let here: BTreeSet<&str> = ports.values().filter(|port| port.host == host).map(|port| port.network).collect();
    let mut wrong = Vec::new();
    let mut compare = |what: &str, found: BTreeSet<String>, wanted: BTreeSet<String>| {
        if found != wanted {
            wrong.push(format!("host{host}: {what} {found:?}, not {wanted:?}"));
        }
    };
    let cells = here.iter().map(|network| house.names().cell(&networks[network]));
    let underlay = (!here.is_empty()).then(|| house.names().underlay());
    compare("namespaces", house.namespaces(), cells.chain(underlay).collect());
    compare("directories", house.networks(), here.iter().map(|network| networks[network].clone()).collect());
    for (what, found) in [("dnsmasq", house.dnsmasq_pids().len()), ("name servers", house.name_servers().len())] {
        compare(what, [found.to_string()].into(), [here.len().to_string()].into());
    }
    for network in here {
        let of_it = || ports.iter().filter(|(_, port)| port.network == network);
        let uid = &networks[network];
        let cell = house.names().cell(uid);
        let there: BTreeSet<String> =
            of_it().filter(|(_, port)| port.host != host).map(|(_, port)| format!("10.77.0.{}", port.number)).collect();
        let mut links = BTreeSet::from(["lo".to_owned(), names::bridge(uid)]);
        links.extend((!there.is_empty()).then(|| names::tunnel(uid)));
        links.extend(of_it().filter(|(_, port)| port.host == host).map(|(name, _)| tap(house, name)));
        compare("links", words(&house.ip_quiet(&cell, &["-o", "link", "show"]), 1), links);
        let neighbours = house.ip_quiet(&cell, &["neighbour", "show", "nud", "permanent"]);
        compare("neighbours", words(&neighbours, 0), there);
        let mut tables = BTreeSet::from([format!("bridge {}", names::filter(uid))]);
        if of_it().any(|(_, port)| port.host == host && !port.groups.is_empty()) {
            tables.extend(["bridge", "inet"].map(|family| format!("{family} {}", names::firewall(uid))));
        }
        let found = house.nft(&cell, &["list", "tables"]);
        compare("tables", found.lines().map(|line| line.trim_start_matches("table ").to_owned()).collect(), tables);
    }
    wrong
}

fn tap(house: &House, port: &str) -> String {
    let all = house.api.objects("ports");
    let found = all.iter().find(|one| one["metadata"]["name"] == port).and_then(|one| one["metadata"]["uid"].as_str());
    found.map(names::tap).unwrap_or_default()
}

/// The word at this place of each line, without the end that `ip` puts to a link's name.
fn words(text: &str, place: usize) -> BTreeSet<String> {
    let word = |line: &str| line.split_whitespace().nth(place).map(|word| word.trim_end_matches(':').to_owned());
    text.lines().filter_map(word).map(|word| word.split('@').next().unwrap_or_default().to_owned()).collect()
}
