//! A network with two subnets on two hosts: guests get their address and their gateway by DHCP, reach each other through the gateway
//! of their own host as their groups allow, and what another hand does to the routing does not last.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use host::link::watch_namespace;
use host::netns::Namespaces;
use serde_json::{Value, json};

use crate::house::{House, key};

/// A namespace with one card, whose other end is named as the port's tap would be: what the tap's guest may say, it may.
struct Guest {
    name: String,
    netns: String,
    _dir: tempfile::TempDir,
}

impl Guest {
    async fn new(house: &House, host: &str, port: &str, ip: &str, groups: &[&str]) -> Guest {
        let mac = format!("52:54:00:00:00:{:02x}", ip.rsplit('.').next().unwrap().parse::<u8>().unwrap());
        let spec = json!({"network": "net", "ip": ip, "mac": mac, "host": host, "securityGroups": groups});
        create(house, "Port", "ports", port, spec).await;
        let ready = |port: &Value| port["status"]["conditions"][0]["reason"] == json!("Realised");
        let told = house.api.until("ports", &key(port), "ready", ready).await;
        let [netns, tap] = ["netns", "device"].map(|field| told["status"][field].as_str().unwrap().to_owned());
        let name = format!("guest-{}-{port}", netns.trim_start_matches("photon-"));
        let bridge = house.bridge(&netns);
        ip_do(&["netns", "add", &name]);
        ip_do(&["-n", &netns, "link", "add", &tap, "type", "veth", "peer", "name", "eth0", "netns", &name]);
        ip_do(&["-n", &name, "link", "set", "eth0", "address", &mac, "mtu", "1450", "up"]);
        ip_do(&["-n", &netns, "link", "set", &tap, "mtu", "1450", "master", &bridge, "up"]);
        let guest = Guest { name, netns, _dir: tempfile::tempdir().unwrap() };
        guest.ask_for_an_address();
        guest
    }

    fn ask_for_an_address(&self) {
        let script = self._dir.path().join("script");
        let text = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev $interface\n\
                    ip addr add $ip/$mask dev $interface\nip route add default via $router dev $interface\n";
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let script = script.to_str().unwrap();
        let (bound, said) =
            self.run(&["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "30", "-T", "1", "-s", script]);
        assert!(bound, "{said}");
    }

    fn run(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new("ip").args(["netns", "exec", &self.name]).args(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Whether that address answers, and what was printed.
    fn ping(&self, to: &str) -> (bool, String) {
        self.run(&["ping", "-c", "1", "-W", "1", to])
    }

    fn reaches(&self, to: &str) -> bool {
        self.ping(to).0
    }

    fn resolves(&self, host: &str, address: &str) -> bool {
        let (_, said) = self.run(&["busybox", "nslookup", "-type=a", host, "10.77.0.1"]);
        said.contains(&format!("Address: {address}"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
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
async fn two_subnets_reach_each_other_over_two_hosts_as_groups_allow() {
    let mut one = House::new().await;
    let mut two = one.beside("host1");
    one.start().await;
    two.start().await;
    let subnets = json!([
        {"name": "front", "cidr": "10.77.0.0/24"},
        {"name": "back", "cidr": "10.77.1.0/24", "gateway": "10.77.1.254"},
    ]);
    create(&one, "TenantNetwork", "tenantnetworks", "net", json!({"subnets": subnets})).await;
    one.number_network("net", 10_070).await;
    one.apply_group("clients", json!([{"direction": "Ingress", "protocol": "ICMP"}])).await;
    one.apply_group("server", json!([{"direction": "Ingress", "protocol": "ICMP", "securityGroup": "clients"}])).await;
    let front = Guest::new(&one, "host0", "front", "10.77.0.2", &["clients"]).await;
    let near = Guest::new(&one, "host0", "near", "10.77.1.4", &[]).await;
    let far = Guest::new(&two, "host1", "far", "10.77.1.3", &["server"]).await;

    for (guest, gateway) in [(&front, "10.77.0.1"), (&near, "10.77.1.254"), (&far, "10.77.1.254")] {
        let (_, routes) = guest.run(&["ip", "route"]);
        assert!(routes.contains(&format!("default via {gateway} ")), "{routes}");
    }
    // By the gateway, and by it alone: one hop less to live, and nobody was told of a shorter way.
    for (from, to) in [(&front, "10.77.1.3"), (&front, "10.77.1.4"), (&near, "10.77.0.2"), (&far, "10.77.0.2")] {
        one.until(|| from.ping(to).1.contains("ttl=63")).await;
        let (_, told) = from.ping(to);
        let (_, route) = from.run(&["ip", "route", "get", to]);
        assert!(!told.contains("Redirect") && route.contains(" via "), "{told}\n{route}");
    }
    one.until(|| far.reaches("10.77.1.4")).await;
    assert!(!near.reaches("10.77.1.3"), "it is in none of the groups that the rule names");
    one.until(|| front.resolves("far", "10.77.1.3") && far.resolves("front", "10.77.0.2")).await;
    one.apply_service("vip", "net", "10.77.1.50").await;
    one.until(|| front.reaches("10.77.1.50") && far.reaches("10.77.1.50")).await;

    nothing_is_written_when_all_is_well(&one, &front).await;
    what_is_broken_heals(&one, &front).await;

    drop((front, near, far));
    for (house, port) in [(&one, "front"), (&one, "near"), (&two, "far")] {
        house.delete("ports", port).await;
    }
    one.until(|| one.leftovers().is_empty() && two.leftovers().is_empty()).await;
    one.stop().await;
    two.stop().await;
}

async fn nothing_is_written_when_all_is_well(one: &House, front: &Guest) {
    let before = one.settled_writes().await;
    let namespace = Namespaces::default().open(&front.netns).unwrap();
    let mut watch = watch_namespace(&namespace).await.unwrap();
    one.touch_port("front", "look").await;
    let mut after = one.settled_writes().await;
    assert_eq!(after.insert("ports".into(), before["ports"]), Some(before["ports"] + 1));
    assert_eq!(before, after, "a converged look wrote to the API");
    // Nor is it told to us whom guests look for in vain.
    let unknown = "10.77.1.99";
    assert!(!front.reaches(unknown));
    one.until(|| one.ip(&front.netns, &["neighbour", "show", "to", unknown]).contains("FAILED")).await;
    let woken = tokio::time::timeout(Duration::from_millis(1), watch.changed()).await;
    assert!(woken.is_err(), "a converged look wrote to the kernel, or talk woke us");
}

async fn what_is_broken_heals(one: &House, front: &Guest) {
    let bridge = one.bridge(&front.netns);
    let off = format!("echo 0 > /proc/sys/net/ipv4/conf/{bridge}/forwarding");
    let harms = [
        vec!["netns", "exec", &front.netns, "sh", "-c", &off],
        vec!["-n", &front.netns, "address", "delete", "10.77.1.254/24", "dev", &bridge],
    ];
    for harm in harms {
        ip_do(&harm);
        let begun = Instant::now();
        one.until(|| front.reaches("10.77.1.3") && front.reaches("10.77.1.4")).await;
        println!("{harm:?}: healed after {} ms", begun.elapsed().as_millis());
    }
    let repaired = || one.api.objects("events").iter().any(|event| event["action"] == json!("RoutingChanged"));
    one.until(repaired).await;
}
