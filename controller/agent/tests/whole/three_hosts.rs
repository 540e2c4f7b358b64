//! Three hosts, random networks, groups and ports that come, change, move and go, with agents killed at any moment and started again on
//! what they left. Whenever all is settled, packets do what the objects are derived to allow, both what must come through and what must
//! not, and each host holds what its objects demand and nothing else.
//!
//! `SEED=…` repeats the choices that were printed, `SOAK_SECONDS=…` goes on for so long (`make soak-net`).

mod census;
mod guests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::names;
use serde_json::{Value, json};
use testkit::Random;

use crate::house::{House, key};
use guests::{Card, probe};

/// How long it may take until everything is as the objects say.
const SETTLED: Duration = Duration::from_secs(60);
/// Rounds of the short form.
const ROUNDS: usize = 5;
/// Things done in each round, before it is waited for.
const CHANGES: usize = 6;
/// Ports that there are at most.
const PORTS: usize = 7;
const NETWORKS: [&str; 3] = ["a", "b", "c"];
const GROUPS: [&str; 3] = ["web", "clients", "jail"];

/// A port as it was made.
#[derive(Clone, Debug)]
pub struct Placed {
    network: &'static str,
    /// Last number of its addresses, which no other port ever had.
    number: u8,
    /// The house it is in.
    host: usize,
    groups: Vec<&'static str>,
}

/// Everything.
struct World {
    houses: Vec<House>,
    up: [bool; 3],
    random: Random,
    networks: BTreeMap<&'static str, String>,
    ports: BTreeMap<String, Placed>,
    cards: BTreeMap<String, Card>,
    numbers: u8,
    numbered: u32,
}

impl World {
    async fn new(random: Random) -> World {
        let one = House::new().await;
        let (two, three) = (one.beside("host1"), one.beside("host2"));
        let mut world = World {
            houses: vec![one, two, three],
            up: [false; 3],
            random,
            networks: BTreeMap::new(),
            ports: BTreeMap::new(),
            cards: BTreeMap::new(),
            numbers: 2,
            numbered: 10_100,
        };
        for house in 0..3 {
            world.start(house).await;
        }
        world
    }

    async fn start(&mut self, house: usize) {
        if !self.up[house] {
            self.houses[house].start().await;
            self.up[house] = true;
        }
    }

    fn any<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.random.index(all.len())].clone())
    }

    fn some_port(&mut self) -> Option<String> {
        let all: Vec<String> = self.ports.keys().cloned().collect();
        self.any(&all)
    }

    fn some_groups(&mut self) -> Vec<&'static str> {
        GROUPS.into_iter().filter(|_| self.random.below(3) == 0).collect()
    }

    /// One random change; what was done.
    async fn change(&mut self) -> String {
        match self.random.below(14) {
            0..=3 => self.add_port().await,
            4 | 5 => self.delete_port().await,
            6 | 7 => self.move_port().await,
            8 => self.regroup_port().await,
            9 | 10 => self.change_group().await,
            11 => self.delete_network().await,
            _ => self.kill().await,
        }
    }

    async fn add_port(&mut self) -> String {
        if self.ports.len() >= PORTS || self.numbers == u8::MAX {
            return self.delete_port().await;
        }
        let network = NETWORKS[self.random.index(NETWORKS.len())];
        self.ensure_network(network).await;
        let (number, host, groups) = (self.numbers, self.random.index(3), self.some_groups());
        self.numbers += 1;
        let name = format!("p{number}");
        self.houses[host].apply_port_in(&name, network, number, &groups).await;
        let told = format!("{name} on {network} at host{host} in {groups:?}");
        self.ports.insert(name, Placed { network, number, host, groups });
        told
    }

    /// All have one range.
    async fn ensure_network(&mut self, network: &'static str) {
        if self.networks.contains_key(network) {
            return;
        }
        let house = &self.houses[0];
        house.apply_network(network, "10.77.0.0/24").await;
        house.number_network(network, self.numbered).await;
        self.numbered += 1;
        let all = house.api.objects("tenantnetworks");
        let made = all.iter().find(|one| one["metadata"]["name"] == json!(network)).unwrap();
        self.networks.insert(network, made["metadata"]["uid"].as_str().unwrap().to_owned());
    }

    async fn delete_port(&mut self) -> String {
        let Some(name) = self.some_port() else { return "nothing to delete".to_owned() };
        self.remove_port(&name).await;
        format!("{name} deleted")
    }

    /// First its guest goes, as a machine does.
    async fn remove_port(&mut self, name: &str) {
        self.cards.remove(name);
        self.ports.remove(name);
        self.houses[0].delete("ports", name).await;
    }

    async fn move_port(&mut self) -> String {
        let Some(name) = self.some_port() else { return "nothing to move".to_owned() };
        self.cards.remove(&name);
        let host = self.random.index(3);
        self.houses[0].change_port(&name, json!({"host": format!("host{host}")})).await;
        let placed = self.ports.get_mut(&name).unwrap();
        let told = format!("{name} of {} moved from host{} to host{host}", placed.network, placed.host);
        placed.host = host;
        told
    }

    async fn regroup_port(&mut self) -> String {
        let Some(name) = self.some_port() else { return "nothing to regroup".to_owned() };
        let groups = self.some_groups();
        self.houses[0].change_port(&name, json!({"securityGroups": groups})).await;
        let told = format!("{name} now in {groups:?}");
        self.ports.get_mut(&name).unwrap().groups = groups;
        told
    }

    async fn change_group(&mut self) -> String {
        let name = GROUPS[self.random.index(GROUPS.len())];
        let there =
            self.houses[0].api.objects("securitygroups").iter().any(|one| one["metadata"]["name"] == json!(name));
        if there && self.random.below(4) == 0 {
            self.houses[0].delete("securitygroups", name).await;
            return format!("group {name} deleted");
        }
        let rules: Vec<Value> = (0..self.random.below(3)).map(|_| self.rule()).collect();
        match there {
            true => self.houses[0].change_group(name, json!(rules)).await,
            false => self.houses[0].apply_group(name, json!(rules)).await,
        }
        format!("group {name}: {}", json!(rules))
    }

    fn rule(&mut self) -> Value {
        let direction = ["Ingress", "Ingress", "Egress"][self.random.index(3)];
        let mut rule = json!({"direction": direction, "protocol": "TCP"});
        match self.random.below(3) {
            0 => rule["port"] = json!(80),
            1 => (rule["port"], rule["endPort"]) = (json!(81), json!(90)),
            _ => {}
        }
        match self.random.below(3) {
            0 => rule["securityGroup"] = json!(GROUPS[self.random.index(GROUPS.len())]),
            1 => rule["cidr"] = json!(["10.77.0.0/29", "10.77.0.8/29", "10.77.0.0/24"][self.random.index(3)]),
            _ => {}
        }
        rule
    }

    /// One that has ports loses them first.
    async fn delete_network(&mut self) -> String {
        let all: Vec<&'static str> = self.networks.keys().copied().collect();
        let Some(network) = self.any(&all) else { return "no network to delete".to_owned() };
        let of_it: Vec<String> =
            self.ports.iter().filter(|(_, port)| port.network == network).map(|(name, _)| name.clone()).collect();
        for name in &of_it {
            self.remove_port(name).await;
        }
        self.networks.remove(network);
        self.houses[0].delete("tenantnetworks", network).await;
        format!("network {network} deleted, with {of_it:?}")
    }

    /// Wherever it is with what was asked of it just now; it comes back at once, or when all shall settle.
    async fn kill(&mut self) -> String {
        let house = self.random.index(3);
        let moment = Duration::from_millis(self.random.below(120));
        // Nothing is waited for: the moment is what is random.
        let _ = tokio::time::timeout(moment, std::future::pending::<()>()).await;
        self.houses[house].kill().await;
        self.up[house] = false;
        let back = self.random.below(2) == 0;
        if back {
            self.start(house).await;
        }
        format!("agent of host{house} killed after {moment:?}{}", if back { " and started" } else { "" })
    }

    /// Everything is as the objects say, or this fails.
    async fn settle(&mut self, history: &[String]) {
        for house in 0..3 {
            self.start(house).await;
        }
        self.join_all().await;
        let end = Instant::now() + SETTLED;
        loop {
            let mut wrong = probe(&self.houses[0].api, &self.ports, &self.cards).await;
            for (host, house) in self.houses.iter().enumerate() {
                wrong.extend(census::wrong(house, host, &self.networks, &self.ports));
            }
            if wrong.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "it never settled:\n{}\nafter\n{}", wrong.join("\n"), history.join("\n"));
        }
    }

    /// Each port has a guest on its host.
    async fn join_all(&mut self) {
        let api = self.houses[0].api.clone();
        for (name, placed) in &self.ports {
            let house = &self.houses[placed.host];
            let cell = house.names().cell(&self.networks[placed.network]);
            // One that is closed does not tell where it is.
            let told = |port: &Value| port["status"]["observedGeneration"] == port["metadata"]["generation"];
            let port = api.until("ports", &key(name), "seen as it is now", told).await;
            let bridge = names::bridge(&self.networks[placed.network]);
            house.until_link(&cell, &bridge, true).await;
            if !self.cards.contains_key(name) {
                let tap = names::tap(port["metadata"]["uid"].as_str().unwrap());
                self.cards.insert(name.clone(), Card::new(&cell, &bridge, &tap, placed.number).await);
            }
        }
    }

    async fn end(mut self) {
        for name in self.ports.keys().cloned().collect::<Vec<_>>() {
            self.remove_port(&name).await;
        }
        for house in &self.houses {
            house.until(|| house.leftovers().is_empty()).await;
        }
        for house in &mut self.houses {
            house.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_the_network_is_what_the_objects_say() {
    let (random, seed) = Random::seeded("what happens").unwrap();
    let soak = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let mut world = World::new(random).await;
    let begun = Instant::now();
    let mut history = vec![format!("SEED={seed}")];
    for round in 0.. {
        match soak {
            None if round == ROUNDS => break,
            Some(time) if begun.elapsed() > time => break,
            _ => {}
        }
        // The first round has something on every host.
        for _ in 0..3 * usize::from(round == 0) {
            history.push(world.add_port().await);
        }
        for _ in 0..CHANGES {
            history.push(world.change().await);
        }
        world.settle(&history).await;
        history.push(format!("settled with {} ports after {:?}", world.ports.len(), begun.elapsed()));
    }
    println!("{}", history.join("\n"));
    world.end().await;
}
