//! A network with IPv4 and IPv6 on two hosts, and one of IPv6 alone: guests get their addresses by what their kernel does with a router's
//! advertisement and by a real DHCPv6 client, find each other here and over the tunnel as their groups allow, and what another hand does to
//! that does not last.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use reachability::Conversation;
use serde_json::{Value, json};

use crate::derived::all_end_as_derived;
use crate::house::{House, key};

/// How a client answers what it was given.
const SCRIPT: &str = "#!/bin/sh\ncase \"$reason\" in\nBOUND6) echo \"$new_dhcp6_name_servers $new_dhcp6_domain_search\" >\"${0%script}told\"; ip -6 address add $new_ip6_address/128 dev $interface nodad;;\nesac\n";

/// A namespace with one card, whose other end is named as the port's tap would be.
struct Guest {
    name: String,
    netns: String,
    /// Where it asks for names.
    servers: &'static [&'static str],
    dir: tempfile::TempDir,
}

/// By which the guests of a network of both families ask for names.
const BOTH: &[&str] = &["10.77.0.1", "fd00:77::1"];
/// The same where there is no IPv4.
const ALONE: &[&str] = &["fd00:77::1"];

impl Guest {
    async fn new(house: &House, host: &str, port: &str, number: u8, six: &str, groups: &[&str]) -> Guest {
        let ip = format!("10.77.0.{number}");
        let mut guest = Guest::on(house, host, port, (Some(&ip), six, number), groups).await;
        ip_do(&["-n", &guest.name, "address", "add", &format!("{ip}/24"), "dev", "eth0"]);
        guest.servers = BOTH;
        guest
    }

    /// One of a network without IPv4, unless it has such an address; the guest sets none.
    async fn on(
        house: &House,
        host: &str,
        port: &str,
        (ip, six, number): (Option<&str>, &str, u8),
        groups: &[&str],
    ) -> Guest {
        let mac = format!("52:54:00:00:00:{number:02x}");
        let mut spec = json!({"network": "net", "ipv6": six, "mac": mac, "host": host, "securityGroups": groups});
        if let Some(ip) = ip {
            spec["ip"] = json!(ip);
        }
        create(house, "Port", "ports", port, spec).await;
        let ready = |port: &Value| port["status"]["conditions"][0]["reason"] == json!("Realised");
        let told = house.api.until("ports", &key(port), "ready", ready).await;
        let [netns, tap] = ["netns", "device"].map(|field| told["status"][field].as_str().unwrap().to_owned());
        let name = format!("guest6-{}-{port}", netns.trim_start_matches("photon-"));
        let bridge = house.bridge(&netns);
        ip_do(&["netns", "add", &name]);
        let guest = Guest { name, netns, servers: ALONE, dir: tempfile::tempdir().unwrap() };
        let name = &guest.name;
        ip_do(&["-n", &guest.netns, "link", "add", &tap, "type", "veth", "peer", "name", "eth0", "netns", name]);
        ip_do(&["-n", &guest.netns, "link", "set", &tap, "mtu", "1450", "master", &bridge, "up"]);
        ip_do(&["-n", name, "link", "set", "eth0", "address", &mac, "mtu", "1450", "up"]);
        guest
    }

    fn run(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new("ip").args(["netns", "exec", &self.name]).args(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn addresses(&self) -> String {
        self.run(&["ip", "-6", "-o", "address", "show", "dev", "eth0"]).1
    }

    /// Whether the guest has the address for good.
    fn has(&self, address: &str) -> bool {
        let told = self.addresses();
        told.lines().any(|line| line.contains(&format!(" {address}/")) && !line.contains("tentative"))
    }

    /// What leads everywhere: the router, by its address on the link.
    fn router(&self) -> Option<String> {
        let told = self.run(&["ip", "-6", "route", "show", "default"]).1;
        told.split_whitespace().find(|word| word.starts_with("fe80::")).map(str::to_owned)
    }

    fn reaches(&self, to: &str) -> bool {
        self.run(&["ping", "-c", "1", "-W", "1", to]).0
    }

    /// Whether the network's name server says so of a name of IPv6, or of an address; by each of its own addresses.
    fn resolves(&self, asked: &str, value: &str) -> bool {
        let kind: &[&str] = if asked.contains(':') { &[] } else { &["-type=aaaa"] };
        self.servers
            .iter()
            .all(|server| self.run(&[&["busybox", "nslookup"], kind, &[asked, server]].concat()).1.contains(value))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Asks by DHCPv6, and waits for the answer.
    fn ask_for_an_address(&self) {
        let [script, leases, config, pid] = ["script", "leases", "config", "pid"].map(|name| self.file(name));
        std::fs::write(&script, SCRIPT).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&config, "").unwrap();
        let [script, leases, config, pid] = [&script, &leases, &config, &pid].map(|path| path.to_str().unwrap());
        let files = ["-sf", script, "-lf", leases, "-cf", config, "-pf", pid];
        let client = process::find_program("dhclient", "DHCLIENT").unwrap();
        let client = ["timeout", "60", client.to_str().unwrap(), "-6", "-1", "-q"];
        let words = [&client[..], &files, &["eth0"]].concat();
        let (bound, said) = self.run(&words);
        self.end_client();
        assert!(bound, "{said}");
    }

    /// Ends the client, which goes on by itself once it has an address.
    fn end_client(&self) {
        let pid = std::fs::read_to_string(self.file("pid")).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if let Some(id) = pid.and_then(process::ProcessId::of) {
            let _ = id.signal(rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end_client();
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn ip_do(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn create(house: &House, kind: &str, plural: &str, name: &str, spec: Value) {
    let object =
        json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    house.request_of("t", "POST", &format!("/{plural}"), object).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_of_two_families_reach_each_other_over_two_hosts_as_groups_allow() {
    let mut one = House::new().await;
    let mut two = one.beside("host1");
    one.start().await;
    two.start().await;
    let subnets = json!([
        {"name": "four", "cidr": "10.77.0.0/24"},
        {"name": "made", "cidr": "fd00:77::/64"},
        {"name": "given", "cidr": "fd00:77:1::/64", "allocation": {"first": "fd00:77:1::10", "last": "fd00:77:1::20"}},
    ]);
    create(
        &one,
        "TenantNetwork",
        "tenantnetworks",
        "net",
        json!({"subnets": subnets, "dhcp": {"searchDomains": ["lab.example"]}}),
    )
    .await;
    one.number_network("net", 10_071).await;
    one.apply_group("clients", json!([{"direction": "Ingress", "protocol": "ICMPv6"}])).await;
    let served = json!([{"direction": "Ingress", "protocol": "ICMPv6", "icmpType": 128, "securityGroup": "clients"}]);
    one.apply_group("server", served).await;
    let [front_six, near_six, far_six] = ["fd00:77::5054:ff:fe00:2", "fd00:77:1::10", "fd00:77::5054:ff:fe00:4"];
    let front = Guest::new(&one, "host0", "front", 2, front_six, &["clients"]).await;
    let near = Guest::new(&one, "host0", "near", 3, near_six, &[]).await;
    let far = Guest::new(&two, "host1", "far", 4, far_six, &["server"]).await;

    // By the advertisement alone, and by a client where cards make no address.
    one.until(|| front.has(front_six) && far.has(far_six)).await;
    one.until(|| {
        near.router().is_some() && near.addresses().contains("fe80::") && !near.addresses().contains("tentative")
    })
    .await;
    one.until(|| near.has("fd00:77::5054:ff:fe00:3")).await;
    assert!(!near.addresses().contains("fd00:77:1:0:"), "nobody told it to make one: {}", near.addresses());
    near.ask_for_an_address();
    assert!(near.has(near_six), "{}", near.addresses());
    let told = std::fs::read_to_string(near.file("told")).unwrap();
    assert_eq!(told.trim().trim_end_matches('.'), "fd00:77::1 lab.example");
    one.until(|| [&front, &near, &far].iter().all(|guest| guest.router() == front.router())).await;

    // Over the tunnel and here, in whichever range. What a card makes in another than its Port's own is heard, too.
    one.until(|| front.reaches(far_six) && front.reaches(near_six) && near.reaches(front_six)).await;
    assert!(!near.reaches(far_six), "it is in none of the groups that the rule names");
    one.until(|| front.reaches("10.77.0.3")).await;
    one.until(|| front.resolves("far", far_six)).await;
    one.until(|| far.resolves(near_six, "near.net.internal")).await;

    let guests = [(&front, "front", front_six), (&near, "near", near_six), (&far, "far", far_six)];
    assert_eq!(all_end_as_derived(&one, Conversation::PING6, Guest::reaches, &guests), ["near → far"]);
    nothing_is_written_when_all_is_well(&one).await;
    what_is_broken_heals(&one, &front, [far_six, near_six]).await;

    drop((front, near, far));
    nothing_stays(one, two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_without_ipv4_have_addresses_names_groups_other_hosts_and_the_way_to_the_api() {
    let mut one = House::new().await;
    let mut two = one.beside("host1");
    one.start().await;
    two.start().await;
    let subnets = json!([
        {"name": "made", "cidr": "fd00:77::/64"},
        {"name": "given", "cidr": "fd00:77:1::/64", "allocation": {"first": "fd00:77:1::10", "last": "fd00:77:1::20"}},
    ]);
    let spec = json!({"subnets": subnets, "apiAccess": true, "dhcp": {"searchDomains": ["lab.example"]}});
    create(&one, "TenantNetwork", "tenantnetworks", "net", spec).await;
    one.number_network("net", 10_072).await;
    one.apply_group("clients", json!([{"direction": "Ingress", "protocol": "ICMPv6"}])).await;
    let served = json!([{"direction": "Ingress", "protocol": "ICMPv6", "icmpType": 128, "securityGroup": "clients"}]);
    one.apply_group("server", served).await;
    let [front_six, near_six, far_six] = ["fd00:77::5054:ff:fe00:2", "fd00:77:1::10", "fd00:77::5054:ff:fe00:4"];
    let front = Guest::on(&one, "host0", "front", (None, front_six, 2), &["clients"]).await;
    let near = Guest::on(&one, "host0", "near", (None, near_six, 3), &[]).await;
    let far = Guest::on(&two, "host1", "far", (None, far_six, 4), &["server"]).await;

    one.until(|| front.has(front_six) && far.has(far_six) && near.has("fd00:77::5054:ff:fe00:3")).await;
    near.ask_for_an_address();
    assert!(near.has(near_six), "{}", near.addresses());
    let told = std::fs::read_to_string(near.file("told")).unwrap();
    assert_eq!(told.trim().trim_end_matches('.'), "fd00:77::1 lab.example");

    one.until(|| front.reaches(far_six) && front.reaches(near_six) && near.reaches(front_six)).await;
    assert!(!near.reaches(far_six), "it is in none of the groups that the rule names");
    one.until(|| front.resolves("far", far_six)).await;
    one.until(|| far.resolves(near_six, "near.net.internal")).await;
    let door = ["busybox", "nc", "-w", "5", "fd00:77::1", "6443", "-e", "true"];
    assert!(near.run(&door).0, "{}", near.run(&door).1);

    // Nobody is heard by a family that the network has not.
    for (guest, own) in [(&front, "10.77.0.2/24"), (&near, "10.77.0.3/24")] {
        ip_do(&["-n", &guest.name, "address", "add", own, "dev", "eth0"]);
    }
    assert!(!near.reaches("10.77.0.2"));

    let guests = [(&front, "front", front_six), (&near, "near", near_six), (&far, "far", far_six)];
    assert_eq!(all_end_as_derived(&one, Conversation::PING6, Guest::reaches, &guests), ["near → far"]);
    nothing_is_written_when_all_is_well(&one).await;
    what_is_broken_heals(&one, &front, [far_six, near_six]).await;

    drop((front, near, far));
    nothing_stays(one, two).await;
}

/// Whatever is left goes with the Ports.
async fn nothing_stays(mut one: House, mut two: House) {
    for (house, port) in [(&one, "front"), (&one, "near"), (&two, "far")] {
        house.delete("ports", port).await;
    }
    one.until(|| one.leftovers().is_empty() && two.leftovers().is_empty()).await;
    one.stop().await;
    two.stop().await;
}

async fn nothing_is_written_when_all_is_well(one: &House) {
    let before = one.settled_writes().await;
    one.touch_port("front", "look").await;
    let mut after = one.settled_writes().await;
    assert_eq!(after.insert("ports".into(), before["ports"]), Some(before["ports"] + 1));
    assert_eq!(before, after, "a converged look wrote to the API");
}

async fn what_is_broken_heals(one: &House, front: &Guest, others: [&str; 2]) {
    let bridge = one.bridge(&front.netns);
    let off = "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding".to_owned();
    let harms = [
        vec!["netns", "exec", &front.netns, "sh", "-c", &off],
        vec!["-n", &front.netns, "address", "delete", "fd00:77::1/64", "dev", &bridge],
        vec!["-n", &front.netns, "neighbour", "flush", "dev", &bridge, "nud", "permanent"],
    ];
    for harm in harms {
        let events =
            || one.api.objects("events").iter().filter(|event| event["reason"] == json!("DriftRepaired")).count();
        let before = events();
        ip_do(&harm);
        let begun = Instant::now();
        one.until(|| events() > before).await;
        one.until(|| others.iter().all(|other| front.reaches(other))).await;
        println!("{harm:?}: healed after {} ms", begun.elapsed().as_millis());
    }
}
