//! The tables of a balancer: pure.

use std::net::Ipv4Addr;

use super::PROXY_MARK;
use super::service::{Backend, Balancer, Proxied, Service};
use crate::firewall::CHECK_MARK;
use crate::nft::{Element, Table};

/// Leads from protocol, address and port to a service's chain.
const SERVICES: &str = "services";
/// Backends here, each beside itself.
const SELVES: &str = "selves";
/// Links that may send back where they received from, each beside itself.
const REFLECTIONS: &str = "reflections";

/// Turns that a service's backends have before the first is next again, at most: finer weights are rounded.
const TURNS: u64 = 4096;
/// Clients that a service remembers at most; further ones are balanced as if nobody were remembered.
const CLIENTS: u32 = 65_536;

/// Where connections to a service are translated, and where what is asked of clients whose connections are forgotten is not tracked (see
/// [`crate::conntrack`]).
pub(super) fn translation(balancer: &Balancer) -> Table {
    let mut table = Table::default();
    let mut declare = |set: &str, as_what: &str| table.sets.insert(set.to_owned(), as_what.to_owned());
    declare(SERVICES, "type inet_proto . ipv4_addr . inet_service : verdict");
    declare(SELVES, "type ipv4_addr . ipv4_addr");
    let base = |hook: &str, priority: i32, line: String| {
        vec![format!("type nat hook {hook} priority {priority}; policy accept;"), line]
    };
    let find = base("prerouting", -100, format!("meta l4proto . ip daddr . th dport vmap @{SERVICES}"));
    table.chains.insert("arriving".to_owned(), find);
    let hide = base("postrouting", 100, format!("ip saddr . ip daddr @{SELVES} snat ip to {}", balancer.gateway));
    table.chains.insert("leaving".to_owned(), hide);
    // Before connections are tracked. Checks come from the network's own address, and are.
    let asking = vec![
        "type filter hook output priority -300; policy accept;".to_owned(),
        format!("meta mark and {CHECK_MARK:#x} == {CHECK_MARK:#x} ip saddr != {} notrack", balancer.gateway),
    ];
    table.chains.insert("asking".to_owned(), asking);
    if let Some(proxy) = &balancer.proxy {
        add_proxy(&mut table, proxy);
    }
    for (_, address) in &balancer.here {
        table.elements.insert(element(SELVES, format!("{address} . {address}"), None));
    }
    for service in balancer.services.iter().filter(|service| !service.backends.is_empty()) {
        add(&mut table, balancer, service);
    }
    table
}

/// Where what a proxy says under another's address is noted, and what answers it is marked: after connection tracking has looked (-200),
/// before addresses are translated.
fn add_proxy(table: &mut Table, proxy: &Proxied) {
    let own: Vec<String> = proxy.own.iter().map(Ipv4Addr::to_string).collect();
    let (base, own) = (|hook: &str| format!("type filter hook {hook} priority -150; policy accept;"), own.join(", "));
    let asks = format!("meta l4proto tcp ip saddr != {{ {own} }} ct mark set ct mark or {PROXY_MARK:#x}");
    table.chains.insert("proxy_asks".to_owned(), vec![base("output"), asks]);
    let answers = format!(
        "ct mark and {PROXY_MARK:#x} == {PROXY_MARK:#x} ct direction reply meta mark set meta mark or {PROXY_MARK:#x}"
    );
    table.chains.insert("proxy_answers".to_owned(), vec![base("prerouting"), answers]);
}

/// Where a frame that goes back where it came from is stopped, unless it is for one alone; and where an answer to a proxy is given to the
/// bridge itself.
pub(super) fn reflection(balancer: &Balancer) -> Table {
    let mut table = Table::default();
    table.sets.insert(REFLECTIONS.to_owned(), "type ifname . ifname".to_owned());
    let group = "01:00:00:00:00:00";
    let lines = [
        "type filter hook forward priority 0; policy accept;".to_owned(),
        // The bit of addresses that are a group's (IEEE 802).
        format!("iifname . oifname @{REFLECTIONS} ether daddr and {group} == {group} drop"),
    ];
    table.chains.insert("reflecting".to_owned(), lines.into());
    if let Some(proxy) = &balancer.proxy {
        let mac: Vec<String> = proxy.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let (mark, mac) = (format!("{PROXY_MARK:#x}"), mac.join(":"));
        // After br_netfilter, which has priority 0 at this hook.
        let lines = [
            "type filter hook prerouting priority 50; policy accept;".to_owned(),
            format!("meta mark and {mark} == {mark} meta pkttype set host ether daddr set {mac}"),
        ];
        table.chains.insert("kept".to_owned(), lines.into());
    }
    let both = |link| element(REFLECTIONS, format!("\"{link}\" . \"{link}\""), None);
    table.elements.extend(balancer.here.iter().map(|(link, _)| both(link)));
    table
}

fn element(set: &str, key: String, leads_to: Option<String>) -> Element {
    Element { set: set.to_owned(), key, leads_to }
}

fn add(table: &mut Table, balancer: &Balancer, service: &Service) {
    let (id, protocol) = (service.id, service.protocol.word());
    let key = format!("{protocol} . {} . {}", service.address, service.port);
    // What a set holds cannot change once it is there: the two kinds have names of their own.
    let slots = format!("{}_{id}", if service.affinity.is_some() { "marks" } else { "slots" });
    let chain = format!("service_{id}");
    table.elements.insert(element(SERVICES, key, Some(format!("goto {chain}"))));
    let turns = turns(&service.backends);
    let next = format!("numgen inc mod {} map @{slots}", turns.len());
    let number = |address: Ipv4Addr| balancer.number(address);
    let lines = match service.affinity {
        None => {
            table.sets.insert(slots.clone(), "typeof numgen inc mod 2 : ip daddr".to_owned());
            vec![format!("meta l4proto {protocol} dnat ip to {next} : {}", service.target_port)]
        }
        Some(seconds) => {
            // A set cannot be declared otherwise once it is there, so its name says how long.
            let (live, clients) = (format!("live_{id}"), format!("clients_{id}_{seconds}"));
            table.sets.insert(slots.clone(), "typeof numgen inc mod 2 : meta mark".to_owned());
            table.sets.insert(live.clone(), "type mark : ipv4_addr".to_owned());
            let remembered =
                format!("type ipv4_addr : mark; flags dynamic,timeout; timeout {seconds}s; size {CLIENTS}");
            table.sets.insert(clients.clone(), remembered);
            let alive = |one: &Backend| element(&live, number(one.address).to_string(), Some(one.address.to_string()));
            table.elements.extend(service.backends.iter().map(alive));
            let to_marked =
                format!("meta l4proto {protocol} dnat ip to meta mark map @{live} : {}", service.target_port);
            vec![
                format!("meta mark set ip saddr map @{clients}"),
                // Whom it was remembered for and who is no more, is chosen anew below.
                format!("meta mark @{live} update @{clients} {{ ip saddr : meta mark }}"),
                to_marked.clone(),
                // An element's value cannot be changed.
                format!("delete @{clients} {{ ip saddr : meta mark }}"),
                format!("meta mark set {next}"),
                // When there is no room this rule alone ends here.
                format!("update @{clients} {{ ip saddr : meta mark }}"),
                to_marked,
            ]
        }
    };
    table.chains.insert(chain, lines);
    for (turn, address) in turns.into_iter().enumerate() {
        let whose = if service.affinity.is_some() { number(address).to_string() } else { address.to_string() };
        table.elements.insert(element(&slots, turn.to_string(), Some(whose)));
    }
}

/// Whose turn it is, one after the other: each as often as its weight says, and spread evenly.
fn turns(backends: &[Backend]) -> Vec<Ipv4Addr> {
    let weights = || backends.iter().map(|one| u64::from(one.weight.max(1)));
    let common = weights().fold(0, greatest_common_divisor).max(1);
    let total: u64 = weights().map(|weight| weight / common).sum();
    let share = |one: &Backend| {
        let weight = u64::from(one.weight.max(1)) / common;
        if total <= TURNS { weight } else { (weight * TURNS / total).max(1) }
    };
    let mut all: Vec<((u64, u64), Ipv4Addr)> = Vec::new();
    for one in backends {
        let count = share(one);
        // The middle of each of its parts, as a fraction of the whole.
        all.extend((0..count).map(|part| ((2 * part + 1, 2 * count), one.address)));
    }
    all.sort_by(|((a, of_a), one), ((b, of_b), other)| (a * of_b).cmp(&(b * of_a)).then(one.cmp(other)));
    all.into_iter().map(|(_, address)| address).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::service::{Protocol, ServiceId};
    use super::*;
    use crate::nft::{Family, Stands, difference, whole};
    use proptest::prelude::*;

    fn backend(last: u8, weight: u32) -> Backend {
        Backend { address: [10, 1, 0, last].into(), weight }
    }

    fn service(port: u16, backends: &[Backend], affinity: Option<u32>) -> Service {
        Service {
            id: ServiceId::of("owner", Protocol::Tcp, port),
            protocol: Protocol::Tcp,
            address: [10, 1, 0, 50].into(),
            port,
            target_port: 8080,
            backends: backends.to_vec(),
            affinity,
        }
    }

    fn balancer(services: Vec<Service>) -> Balancer {
        let here = vec![("tap1".parse().unwrap(), [10, 1, 0, 11].into())];
        let subnets = vec!["10.1.0.0/24".parse().unwrap()];
        Balancer { services, here, gateway: [10, 1, 0, 1].into(), subnets, proxy: None }
    }

    fn written(table: &Table) -> Stands {
        let Table { sets, limits, chains, beside, .. } = table.clone();
        Stands { sets, limits, chains, beside, listed: Some("as written".into()) }
    }

    #[test]
    fn two_services_one_of_which_remembers_its_clients() {
        let both = [backend(11, 2), backend(12, 1)];
        let balancer = balancer(vec![service(80, &both, None), service(81, &both, Some(60)), service(82, &[], None)]);
        let name = "lb1".parse().unwrap();
        let text = [
            whole(&[Family::Inet], &name, &translation(&balancer)),
            whole(&[Family::Bridge], &name, &reflection(&balancer)),
        ];
        insta::assert_snapshot!(text.concat());
    }

    #[test]
    fn a_proxy_gets_the_answers_that_are_addressed_to_its_clients() {
        let proxy = Proxied { mac: [2, 0, 0, 0, 0, 9], own: vec![[10, 1, 0, 1].into(), [10, 1, 0, 50].into()] };
        let balancer = Balancer { proxy: Some(proxy), ..balancer(Vec::new()) };
        let (name, chains) = ("lb1".parse().unwrap(), ["proxy_asks", "proxy_answers", "kept"]);
        let text = [
            whole(&[Family::Inet], &name, &translation(&balancer)),
            whole(&[Family::Bridge], &name, &reflection(&balancer)),
        ]
        .concat();
        let said =
            chains.map(|chain| text.split_once(&format!("chain {chain} {{")).unwrap().1.split('}').next().unwrap());
        assert!(said[0].contains("ip saddr != { 10.1.0.1, 10.1.0.50 "), "{text}");
        assert!(said[1].contains("ct direction reply meta mark set meta mark or 0x4000000"), "{text}");
        assert!(said[2].contains("ether daddr set 02:00:00:00:00:09"), "{text}");
    }

    #[test]
    fn a_backend_that_is_exchanged_is_its_elements_and_one_service_more_leaves_the_others_alone() {
        let name = "lb1".parse().unwrap();
        let before = translation(&balancer(vec![service(80, &[backend(11, 1), backend(12, 1)], None)]));
        let same = difference(Family::Inet, &name, &written(&before), &before, &before.elements);
        assert_eq!(same, "");
        let after = translation(&balancer(vec![service(80, &[backend(11, 1), backend(13, 1)], None)]));
        let id = ServiceId::of("owner", Protocol::Tcp, 80);
        assert_eq!(
            difference(Family::Inet, &name, &written(&before), &after, &before.elements),
            format!(
                "delete element inet lb1 slots_{id} {{ 1 : 10.1.0.12 }}\nadd element inet lb1 slots_{id} {{ 1 : 10.1.0.13 }}\n"
            )
        );
        let both = [service(80, &[backend(11, 1), backend(12, 1)], None), service(81, &[backend(11, 1)], None)];
        let more = translation(&balancer(both.into()));
        let script = difference(Family::Inet, &name, &written(&before), &more, &before.elements);
        assert!(!script.contains(&id.to_string()) && !script.contains("flush"), "{script}");
    }

    #[test]
    fn backends_of_two_ranges_have_numbers_of_their_own() {
        let subnets = ["10.1.0.0/24", "10.2.0.0/16"].map(|text| text.parse().unwrap()).to_vec();
        let balancer = Balancer { subnets, ..balancer(Vec::new()) };
        assert_eq!(balancer.number([10, 1, 0, 11].into()), 11);
        assert_eq!(balancer.number([10, 2, 0, 11].into()), 256 + 11);
    }

    proptest! {
        #[test]
        fn each_has_its_share_of_the_turns_and_nobody_waits_for_long(weights in proptest::collection::vec(1u32..=256, 1..20)) {
            let backends: Vec<Backend> =
                weights.iter().zip(1u8..).map(|(weight, last)| backend(last, *weight)).collect();
            let turns = turns(&backends);
            prop_assert!(turns.len() <= 4096 + 20);
            let total: u32 = weights.iter().sum();
            for one in &backends {
                let has = turns.iter().filter(|address| **address == one.address).count();
                let wanted = turns.len() as f64 * f64::from(one.weight) / f64::from(total);
                prop_assert!((has as f64 - wanted).abs() <= 1.0 + wanted / 100.0, "{has} of {wanted}");
                // Between two of its turns, 1/has apart, another with k turns has k/has and perhaps one more.
                let longest = turns.len() / has + weights.len();
                let twice: Vec<_> = turns.iter().chain(&turns).collect();
                let waits = twice.split(|address| **address == one.address).map(<[_]>::len).max().unwrap_or(0);
                prop_assert!(waits <= longest, "waits {waits} of {longest}");
            }
        }
    }
}
