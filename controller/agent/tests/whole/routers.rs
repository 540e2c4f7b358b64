//! Routers over three hosts: networks of a tenant reach each other as groups allow, by one router or by two; another tenant with the same
//! ranges never meets them; when the elected host dies, another one takes over; and nothing stays behind.

use std::process::Command;

use reachability::Conversation;
use serde_json::{Value, json};

use crate::derived::all_end_as_derived;
use crate::house::House;

/// A namespace with one card, whose other end is named as the port's tap would be: what the tap's guest may say, it may.
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) netns: String,
}

impl Guest {
    /// In network `10.NETWORK.0.0/24`, as `10.NETWORK.0.LAST`.
    pub(crate) async fn new(house: &House, host: &str, tenant: &str, place: (&str, u8, u8), groups: &[&str]) -> Guest {
        let (network, range, last) = place;
        let (port, ip) = (format!("{network}{last}"), format!("10.{range}.0.{last}"));
        let mac = format!("52:54:00:00:{range:02x}:{last:02x}");
        let spec = json!({"network": network, "ip": ip, "mac": mac, "host": host, "securityGroups": groups});
        create(house, tenant, ("Port", "ports"), &port, spec, Value::Null).await;
        let ready = |port: &Value| port["status"]["conditions"][0]["reason"] == json!("Realised");
        let told = house.api.until("ports", &format!("{tenant}/{port}"), "ready", ready).await;
        let [netns, tap] = ["netns", "device"].map(|field| told["status"][field].as_str().unwrap().to_owned());
        let name = format!("guest-{}-{port}", netns.trim_start_matches("photon-"));
        let bridge = house.bridge(&netns);
        run(&["netns", "add", &name]);
        let guest = Guest { name, netns };
        let name = guest.name.as_str();
        run(&["-n", &guest.netns, "link", "add", &tap, "type", "veth", "peer", "name", "eth0", "netns", name]);
        run(&["-n", name, "link", "set", "eth0", "address", &mac, "mtu", "1450", "up"]);
        run(&["-n", name, "address", "add", &format!("{ip}/24"), "dev", "eth0"]);
        run(&["-n", name, "route", "add", "default", "via", &format!("10.{range}.0.1")]);
        run(&["-n", &guest.netns, "link", "set", &tap, "mtu", "1450", "master", &bridge, "up"]);
        guest
    }

    /// What `ping` printed.
    fn ping(&self, to: &str) -> String {
        // Numbers alone: a name would be asked of whoever the machine asks, who cannot be reached from here.
        let words = ["netns", "exec", &self.name, "ping", "-n", "-c", "1", "-W", "1", to];
        String::from_utf8_lossy(&Command::new("ip").args(words).output().unwrap().stdout).into_owned()
    }

    pub(crate) fn reaches(&self, to: &str) -> bool {
        self.ping(to).contains(" 0% packet loss")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

pub(crate) fn run(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn create(house: &House, tenant: &str, kind: (&str, &str), name: &str, spec: Value, owners: Value) {
    let object = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind.0,
        "metadata": {"name": name, "ownerReferences": owners}, "spec": spec});
    house.request_of(tenant, "POST", &format!("/{}", kind.1), object).await;
}

pub(crate) async fn network(house: &House, tenant: &str, name: &str, range: u8, vni: u32) {
    // Guests here know their addresses.
    let spec = json!({"subnet": format!("10.{range}.0.0/24"), "dhcp": {"enabled": false}});
    create(house, tenant, ("TenantNetwork", "tenantnetworks"), name, spec, Value::Null).await;
    let status = json!({"status": {"vni": vni}});
    house.request_of(tenant, "PATCH", &format!("/tenantnetworks/{name}/status"), status).await;
}

/// What the router reconciler would write of a router on `host` that is `.LAST` in each of its networks.
pub(crate) async fn elect(
    house: &House,
    tenant: &str,
    name: &str,
    legs: &[(&str, u8)],
    last: u8,
    fixed: Value,
    host: &str,
) {
    let there = |one: &Value| one["metadata"]["name"] == json!(name) && one["metadata"]["namespace"] == json!(tenant);
    let found = house.api.objects("routers").into_iter().find(there);
    let first = found.is_none();
    if first {
        let networks: Vec<&str> = legs.iter().map(|(network, _)| *network).collect();
        create(house, tenant, ("Router", "routers"), name, json!({"networks": networks}), Value::Null).await;
    }
    let router = house.api.objects("routers").into_iter().find(there).unwrap();
    let interface = |(network, range): &(&str, u8)| {
        json!({"network": network, "port": format!("{name}.{network}"), "address": format!("10.{range}.0.{last}"),
            "ranges": [format!("10.{range}.0.0/24")]})
    };
    let interfaces: Vec<Value> = legs.iter().map(interface).collect();
    let term = router["status"]["term"].as_i64().unwrap_or_default() + 1;
    let status = json!({"status": {"host": host, "term": term, "interfaces": interfaces, "staticRoutes": fixed}});
    house.request_of(tenant, "PATCH", &format!("/routers/{name}/status"), status).await;
    let owners = json!([{"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router", "name": name,
        "uid": router["metadata"]["uid"], "controller": true}]);
    for (network, range) in legs {
        let port = format!("{name}.{network}");
        if first {
            let spec = json!({"network": network, "ip": format!("10.{range}.0.{last}"), "host": host,
                "mac": format!("52:54:00:01:{range:02x}:{last:02x}")});
            create(house, tenant, ("Port", "ports"), &port, spec, owners.clone()).await;
        } else {
            let spec = json!({"spec": {"host": host}});
            house.request_of(tenant, "PATCH", &format!("/ports/{port}"), spec).await;
        }
    }
    for (network, _) in legs {
        let port = format!("{name}.{network}");
        let here = |port: &Value| {
            port["status"]["conditions"][0]["reason"] == json!("Realised")
                && port["status"]["device"].as_str().is_some_and(|device| device.starts_with("rt"))
        };
        house.api.until("ports", &format!("{tenant}/{port}"), "the router's", here).await;
    }
}

const A_B: [(&str, u8); 2] = [("a", 77), ("b", 78)];

#[tokio::test(flavor = "multi_thread")]
async fn networks_reach_each_other_by_routers_which_move_when_their_host_dies() {
    let mut one = House::new().await;
    let (mut two, mut three) = (one.beside("host1"), one.beside("host2"));
    for house in [&mut one, &mut two, &mut three] {
        house.start().await;
    }
    for (tenant, name, range, vni) in [
        ("t", "a", 77, 10_080),
        ("t", "b", 78, 10_081),
        ("t", "c", 79, 10_082),
        ("u", "a", 77, 10_083),
        ("u", "b", 78, 10_084),
    ] {
        network(&one, tenant, name, range, vni).await;
    }
    let rule = json!([{"direction": "Ingress", "protocol": "ICMP", "cidr": "10.77.0.2/32"}]);
    one.apply_group("from-a2", rule).await;
    // The other tenant has the same ranges, and others in them.
    let (a, other, b, c, ua, ub) = tokio::join!(
        Guest::new(&two, "host1", "t", ("a", 77, 2), &[]),
        Guest::new(&two, "host1", "t", ("a", 77, 3), &[]),
        Guest::new(&three, "host2", "t", ("b", 78, 4), &["from-a2"]),
        Guest::new(&two, "host1", "t", ("c", 79, 5), &[]),
        Guest::new(&two, "host1", "u", ("a", 77, 12), &[]),
        Guest::new(&three, "host2", "u", ("b", 78, 14), &[]),
    );
    assert!(!a.reaches("10.78.0.4"), "no router is there yet");

    // The elected host carries the networks though no guest is on it.
    let to_c = json!([{"destination": "10.79.0.0/24", "nextHop": "10.78.0.8"}]);
    elect(&one, "t", "r", &A_B, 9, to_c.clone(), "host0").await;
    one.until(|| a.ping("10.78.0.4").contains("ttl=62")).await;
    assert!(!other.reaches("10.78.0.4"), "the group names another address");
    assert!(b.reaches("10.77.0.3"), "whoever it speaks to may answer");
    let to_a = json!([{"destination": "10.77.0.0/24", "nextHop": "10.78.0.9"}]);
    elect(&one, "t", "q", &[("b", 78), ("c", 79)], 8, to_a, "host2").await;
    one.until(|| a.ping("10.79.0.5").contains("ttl=61") && c.reaches("10.77.0.2")).await;

    let of_t = [(&a, "a2", "10.77.0.2"), (&other, "a3", "10.77.0.3"), (&b, "b4", "10.78.0.4"), (&c, "c5", "10.79.0.5")];
    let closed = all_end_as_derived(&one, Conversation::PING, Guest::reaches, &of_t);
    assert_eq!(closed, ["a3 → b4", "c5 → b4"], "what is tried is not all alike");

    elect(&one, "u", "r", &A_B, 9, json!([]), "host0").await;
    one.until(|| ua.reaches("10.78.0.14") && ub.reaches("10.77.0.12")).await;
    for (guest, strangers) in [(&a, "10.78.0.14"), (&ua, "10.78.0.4"), (&ub, "10.77.0.2"), (&ub, "10.79.0.5")] {
        assert!(!guest.reaches(strangers), "{strangers} is another tenant's");
    }
    what_is_broken_heals(&one, &a).await;
    the_elected_host_dies(&mut one, &three, &a, to_c).await;

    drop((a, other, b, c, ua, ub));
    for (tenant, plural, name) in [("t", "routers", "r"), ("t", "routers", "q"), ("u", "routers", "r")] {
        one.request_of(tenant, "DELETE", &format!("/{plural}/{name}"), Value::Null).await;
    }
    for port in one.api.objects("ports") {
        let [tenant, name] = ["namespace", "name"].map(|field| port["metadata"][field].as_str().unwrap().to_owned());
        one.request_of(&tenant, "DELETE", &format!("/ports/{name}"), Value::Null).await;
    }
    one.until(|| [&one, &two, &three].iter().all(|house| house.leftovers().is_empty())).await;
    for house in [&mut one, &mut two, &mut three] {
        house.stop().await;
    }
}

/// The router's cable on the elected host, whose namespace has nothing of a guest's.
async fn what_is_broken_heals(one: &House, a: &Guest) {
    let cables = |netns: &String| one.ip_quiet(netns, &["-o", "link", "show", "type", "veth"]);
    let netns = one.namespaces().into_iter().find(|netns| cables(netns).contains(": rt")).unwrap();
    let cable = cables(&netns).split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned();
    one.ip(&netns, &["link", "delete", &cable]);
    one.until(|| cables(&netns).contains(&cable) && a.reaches("10.78.0.4")).await;
    // A route that somebody took away where the guest is.
    let bridge = one.bridge(&a.netns);
    one.ip(&a.netns, &["route", "delete", "10.78.0.0/24"]);
    one.until(|| one.ip(&a.netns, &["route", "show", "dev", &bridge]).contains("10.78.0.0/24 via 10.77.0.9")).await;
    assert!(a.reaches("10.78.0.4"));
}

async fn the_elected_host_dies(one: &mut House, three: &House, a: &Guest, fixed: Value) {
    // Nobody is here to end what only one host may do: the kernel has to.
    let address = |netns: &String| one.ip_quiet(netns, &["-o", "-4", "address", "show", "to", "10.77.0.9"]);
    let mine = || one.namespaces().into_iter().filter(|netns| !address(netns).is_empty()).collect::<Vec<_>>();
    // One of each tenant, of which one has just been repaired.
    one.until(|| mine().len() == 2).await;
    for netns in &mine() {
        assert!(!address(netns).contains("forever"), "{}", address(netns));
    }
    let underlay = one.names().underlay();
    one.kill().await;
    run(&["-n", &underlay, "link", "set", "uplink", "down"]);
    let begun = std::time::Instant::now();
    elect(three, "t", "r", &A_B, 9, fixed, "host2").await;
    three.until(|| a.reaches("10.78.0.4") && a.reaches("10.79.0.5")).await;
    println!("traffic flows again {} ms after another host was elected", begun.elapsed().as_millis());
    elect(three, "u", "r", &A_B, 9, json!([]), "host2").await;
    // When it comes back it has no part in it any more.
    one.start().await;
    three.until(|| one.namespaces().is_empty() && one.networks().is_empty()).await;
    assert!(a.reaches("10.78.0.4"));
}
