//! Two agents, one network: the guests of both hosts reach each other, whatever is broken, and nothing stays behind.

use std::process::Command;
use std::time::Duration;

use host::link::{Watch, watch_namespace};
use host::netns::Namespaces;
use serde_json::json;

use crate::house::{House, key};

/// A port of a network with a guest's stand-in on it: a namespace with one card that bears the port's addresses.
pub struct Guest {
    pub name: String,
    pub netns: String,
}

impl Guest {
    pub async fn new(house: &House, port: &str, number: u8) -> Guest {
        house.apply_port(port, "net", &format!("10.77.0.{number}"), number).await;
        let netns = cell(house, port).await;
        // Not under the host's mark, or the host would sweep it.
        let name = format!("guest-{}-{port}", netns.trim_start_matches("photon-"));
        let bridge = house.bridge(&netns);
        run(&["netns", "add", &name]);
        run(&[
            "-n",
            &netns,
            "link",
            "add",
            &format!("g{number}"),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &name,
        ]);
        run(&["-n", &netns, "link", "set", &format!("g{number}"), "mtu", "1450", "master", &bridge, "up"]);
        let mac = format!("52:54:00:00:00:{number:02x}");
        run(&["-n", &name, "link", "set", "eth0", "address", &mac, "mtu", "1450", "up"]);
        run(&["-n", &name, "address", "add", &format!("10.77.0.{number}/24"), "dev", "eth0"]);
        Guest { name, netns }
    }

    /// Whether that guest answers; what was known of it is forgotten first.
    fn reaches(&self, number: u8) -> bool {
        run(&["-n", &self.name, "neighbour", "flush", "dev", "eth0"]);
        let ping = ["netns", "exec", &self.name, "ping", "-c", "1", "-W", "1", &format!("10.77.0.{number}")];
        Command::new("ip").args(ping).output().unwrap().status.success()
    }

    pub fn resolves(&self, host: &str) -> bool {
        let ask = ["netns", "exec", &self.name, "busybox", "nslookup", "-type=a", host, "10.77.0.1"];
        Command::new("ip").args(ask).output().unwrap().status.success()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn cell(house: &House, port: &str) -> String {
    let ready = |port: &serde_json::Value| port["status"]["netns"].is_string();
    let port = house.api.until("ports", &key(port), "ready", ready).await;
    port["status"]["netns"].as_str().unwrap().to_owned()
}

fn tunnels(house: &House, netns: &str) -> String {
    house.ip_quiet(netns, &["-o", "link", "show", "type", "vxlan"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_spans_two_hosts_heals_and_goes_without_a_trace() {
    let mut one = House::new().await;
    let mut two = one.beside("host1");
    one.start().await;
    two.start().await;
    one.apply_network("net", "10.77.0.0/24").await;
    one.number_network("net", 10_000).await;
    let a = Guest::new(&one, "a", 2).await;
    assert_eq!(tunnels(&one, &a.netns), "", "a network on one host needs no tunnel");
    let b = Guest::new(&two, "b", 3).await;
    one.until(|| a.reaches(3) && b.reaches(2)).await;
    one.until(|| a.resolves("b") && b.resolves("a")).await;
    assert!(!a.resolves("c") && !b.resolves("stranger"));

    nothing_is_written_when_all_is_well(&mut one, &mut two, &a, &b).await;
    what_is_broken_heals(&one, &a).await;

    // One more there is known here; one that goes is forgotten.
    let c = Guest::new(&two, "c", 4).await;
    one.until(|| a.reaches(4) && c.reaches(2)).await;
    two.delete("ports", "b").await;
    let knows = |ip: &str| run(&["-n", &a.netns, "neighbour", "show", "nud", "permanent"]).contains(ip);
    one.until(|| !knows("10.77.0.3 ") && knows("10.77.0.4 ")).await;
    drop(b);

    two.delete("ports", "c").await;
    one.until(|| tunnels(&one, &a.netns).is_empty() && !knows("10.77.0.")).await;
    drop(c);
    one.delete("ports", "a").await;
    drop(a);
    one.until(|| one.leftovers().is_empty() && two.leftovers().is_empty()).await;
    one.stop().await;
    two.stop().await;
}

async fn nothing_is_written_when_all_is_well(one: &mut House, two: &mut House, a: &Guest, b: &Guest) {
    let before = one.settled_writes().await;
    let mut watches: Vec<Watch> = Vec::new();
    for netns in [&a.netns, &b.netns, &one.names().underlay(), &two.names().underlay(), &one.names().switch()] {
        let namespace = Namespaces::default().open(netns).unwrap();
        watches.push(watch_namespace(&namespace).await.unwrap());
    }
    // Looks at the network on both hosts, one of them by an agent that has just come.
    two.stop().await;
    two.start().await;
    one.touch_port("a", "look").await;
    let mut after = one.settled_writes().await;
    for (resource, ours) in [("hosts", 1), ("ports", 1)] {
        assert_eq!(after.insert(resource.into(), before[resource]), Some(before[resource] + ours), "{resource}");
    }
    assert_eq!(before, after, "a converged look wrote to the API");
    for watch in &mut watches {
        let woken = tokio::time::timeout(Duration::from_millis(1), watch.changed()).await;
        assert!(woken.is_err(), "a converged look wrote to the kernel");
    }
    assert!(a.reaches(3), "the other agent's restart took nothing away");
}

async fn what_is_broken_heals(one: &House, a: &Guest) {
    let drifts = || {
        let events = one.api.objects("events");
        let repaired = events.iter().filter(|event| event["reason"] == json!("DriftRepaired"));
        // Like events are one, with a count.
        repaired.map(|event| event["series"]["count"].as_u64().unwrap_or(1)).sum::<u64>()
    };
    let bridge = one.bridge(&a.netns);
    let tunnel = bridge.replacen("br", "vx", 1);
    let (underlay, switch) = (one.names().underlay(), one.names().switch());
    let near = ["-n", &a.netns];
    let harms: [Vec<&str>; 5] = [
        [&near[..], &["link", "delete", &tunnel]].concat(),
        [&near[..], &["neighbour", "delete", "10.77.0.3", "dev", &bridge]].concat(),
        vec!["netns", "exec", &a.netns, "bridge", "fdb", "delete", "52:54:00:00:00:03", "dev", &tunnel, "self"],
        vec!["-n", &underlay, "link", "delete", "uplink"],
        vec!["-n", &switch, "link", "delete", "switch"],
    ];
    for harm in harms {
        let before = drifts();
        run(&harm);
        let begun = std::time::Instant::now();
        one.until(|| a.reaches(3)).await;
        println!("{harm:?}: healed after {} ms", begun.elapsed().as_millis());
        one.until(|| drifts() > before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_moves_to_another_host_leaves_nothing_behind() {
    let mut one = House::new().await;
    let mut two = one.beside("host1");
    one.start().await;
    two.start().await;
    one.apply_network("net", "10.77.0.0/24").await;
    one.number_network("net", 10_060).await;
    one.apply_port("a", "net", "10.77.0.2", 2).await;
    cell(&one, "a").await;
    // It was its network's last here, and nobody retires what is another's now.
    one.change_port("a", json!({"host": "host1"})).await;
    one.until(|| one.leftovers().is_empty()).await;
    let there = two.names().cell(one.api.objects("tenantnetworks")[0]["metadata"]["uid"].as_str().unwrap());
    two.until(|| two.namespaces().contains(&there)).await;
    two.delete("ports", "a").await;
    one.until(|| one.leftovers().is_empty() && two.leftovers().is_empty()).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_was_made_again_while_the_agent_was_away_leaves_nothing_of_the_first() {
    let mut house = House::new().await;
    house.start().await;
    house.apply_network("net", "10.77.0.0/24").await;
    house.apply_port("a", "net", "10.77.0.2", 2).await;
    let first = cell(&house, "a").await;
    house.stop().await;
    house.delete("ports", "a").await;
    house.delete("tenantnetworks", "net").await;
    house.apply_network("net", "10.77.0.0/24").await;
    house.apply_port("b", "net", "10.77.0.3", 3).await;
    house.start().await;
    let second = cell(&house, "b").await;
    assert_ne!(first, second);
    house.until(|| house.namespaces() == [second.clone(), house.names().underlay()].into()).await;
    house.until(|| house.networks().len() == 1 && house.dnsmasq_pids().len() == 1).await;
    house.delete("ports", "b").await;
    house.until(|| house.leftovers().is_empty()).await;
    house.stop().await;
}
