//! Random groups and Ports, judged by a second reading that spells everything out: each rule as the list of all it allows.

use std::collections::BTreeSet;

use crds::security_group::{RuleDirection, SecurityRule};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const ADDRESSES: [&str; 4] = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];
const GROUPS: [&str; 3] = ["a", "b", "c"];
/// Ports above are none that a rule names.
const HIGHEST: u16 = 9;

/// Everything that is ever said here.
fn all() -> Vec<Conversation> {
    let ports = 1..=HIGHEST + 1;
    let both = ports.flat_map(|port| [Conversation::Tcp(port), Conversation::Udp(port)]);
    both.chain([(8, 0), (8, 3), (13, 0), (3, 1)].map(|(kind, code)| Conversation::Icmp(kind, code)))
        .chain([47, 50].map(Conversation::Other))
        .collect()
}

/// What a rule allows, as a list.
fn allowed(rule: &SecurityRule) -> Vec<Conversation> {
    let last = rule.end_port.or(rule.port);
    let ports: Vec<u16> =
        (1..=HIGHEST + 1).filter(|port| rule.port.is_none_or(|first| (first..=last.unwrap()).contains(port))).collect();
    let of_icmp = |kind: u8, code: u8| {
        rule.icmp_type.is_none_or(|wanted| wanted == kind) && rule.icmp_code.is_none_or(|wanted| wanted == code)
    };
    let kept = |one: &Conversation| match (rule.protocol.as_str(), *one) {
        ("Any", _) => true,
        ("TCP" | "6", Conversation::Tcp(port)) | ("UDP" | "17", Conversation::Udp(port)) => ports.contains(&port),
        ("ICMP" | "1", Conversation::Icmp(kind, code)) => of_icmp(kind, code),
        (number, Conversation::Other(other)) => number == other.to_string(),
        _ => false,
    };
    all().into_iter().filter(kept).collect()
}

/// Whose addresses a rule means.
fn meant(rule: &SecurityRule, ports: &[Port]) -> BTreeSet<String> {
    let everybody = || ports.iter().filter_map(|port| port.spec.ip.clone());
    match (&rule.cidr, &rule.security_group) {
        (Some(cidr), _) => {
            let (network, length) = cidr.split_once('/').unwrap();
            let number = |text: &str| u32::from(text.parse::<std::net::Ipv4Addr>().unwrap());
            let mask = u32::MAX.checked_shl(32 - length.parse::<u32>().unwrap()).unwrap_or(0);
            everybody().filter(|ip| number(ip) & mask == number(network) & mask).collect()
        }
        (None, Some(group)) => {
            let of_it = ports.iter().filter(|port| port.spec.security_groups.contains(group));
            let own = |ip: &String| ports.iter().any(|port| port.spec.ip.as_ref() == Some(ip));
            let usable = |ip: &&String| {
                let last = ip.strip_prefix("10.0.0.").and_then(|last| last.parse::<u8>().ok());
                last.is_some_and(|last| last > 1 && last < 255) && !own(ip)
            };
            let addresses = |port: &Port| -> Vec<String> {
                let further = port.spec.allowed_addresses.iter().filter(usable);
                port.spec.ip.iter().chain(further).cloned().collect()
            };
            of_it.flat_map(addresses).collect()
        }
        (None, None) => everybody().collect(),
    }
}

/// Whether one end lets it pass.
fn passes(
    at: &Port,
    other: &str,
    direction: RuleDirection,
    what: Conversation,
    ports: &[Port],
    groups: &[SecurityGroup],
) -> bool {
    let named = &at.spec.security_groups;
    if named.is_empty() {
        return true;
    }
    let found = |name: &String| groups.iter().find(|group| group.metadata.name.as_ref() == Some(name));
    if named.iter().any(|name| found(name).is_none()) {
        return false;
    }
    let rules: Vec<&SecurityRule> = named.iter().filter_map(found).flat_map(|group| &group.spec.rules).collect();
    let speaking: Vec<&&SecurityRule> = rules.iter().filter(|rule| rule.direction == direction).collect();
    if direction == RuleDirection::Egress && speaking.is_empty() {
        return true;
    }
    speaking.iter().any(|rule| allowed(rule).contains(&what) && meant(rule, ports).contains(other))
}

fn a_rule() -> impl Strategy<Value = Value> {
    let protocol = prop_oneof![
        Just(json!({"protocol": "Any"})),
        (prop_oneof![Just("TCP"), Just("UDP")], 1..=HIGHEST, 0..4u16).prop_map(|(protocol, port, more)| {
            json!({"protocol": protocol, "port": port, "endPort": (port + more).min(HIGHEST)})
        }),
        prop_oneof![Just("TCP"), Just("UDP"), Just("ICMP"), Just("47"), Just("6"), Just("1")]
            .prop_map(|protocol| json!({"protocol": protocol})),
        prop_oneof![Just(8), Just(13)].prop_map(|kind| json!({"protocol": "ICMP", "icmpType": kind})),
        Just(json!({"protocol": "ICMP", "icmpType": 8, "icmpCode": 3})),
    ];
    let remote = prop_oneof![
        Just(json!({})),
        prop_oneof![Just("10.0.0.2/31"), Just("10.0.0.4/32"), Just("0.0.0.0/0"), Just("10.9.0.0/16")]
            .prop_map(|cidr| json!({"cidr": cidr})),
        prop_oneof![Just("a"), Just("b"), Just("ghost")].prop_map(|group| json!({"securityGroup": group})),
    ];
    let direction = prop_oneof![Just("Ingress"), Just("Egress")];
    (direction, protocol, remote).prop_map(|(direction, protocol, remote)| {
        let mut rule = Map::from_iter([("direction".to_owned(), json!(direction))]);
        rule.extend(protocol.as_object().cloned().unwrap());
        rule.extend(remote.as_object().cloned().unwrap());
        rule.into()
    })
}

fn some_groups() -> impl Strategy<Value = Vec<SecurityGroup>> {
    let rules = proptest::collection::vec(proptest::collection::vec(a_rule(), 0..4), GROUPS.len());
    rules.prop_map(|all| all.into_iter().zip(GROUPS).map(|(rules, name)| group(name, json!(rules))).collect())
}

fn some_ports() -> impl Strategy<Value = Vec<Port>> {
    let named = proptest::sample::subsequence(vec!["a", "b", "c", "missing"], 0..3);
    // Free ones, those of other Ports, and what no Port can have.
    let further = ["10.0.0.100", "10.0.0.101", "10.0.0.2", "10.0.0.5", "10.0.0.1", "10.0.0.255", "10.1.0.2"];
    let further = proptest::sample::subsequence(further.to_vec(), 0..4);
    proptest::collection::vec((named, further), ADDRESSES.len()).prop_map(|all| {
        let each = all.into_iter().zip(ADDRESSES).enumerate();
        each.map(|(number, ((named, further), ip))| {
            let mut port = port(&format!("p{number}"), "net", ip, &named, "host01");
            port.spec.allowed_addresses = further.into_iter().map(str::to_owned).collect();
            port
        })
        .collect()
    })
}

/// Whether a question stands for the conversation.
fn stands_for(question: &Question, what: Conversation, others: &[&Question]) -> bool {
    if question.example == what {
        return true;
    }
    let (Some((protocol, range)), text) = (question.label.split_once('/'), what.to_string()) else {
        return what.to_string().starts_with(&format!("{}/", question.label)) && question.label != "icmp";
    };
    let Some(port) = text.strip_prefix(&format!("{protocol}/")).and_then(|port| port.parse::<u16>().ok()) else {
        return false;
    };
    match range.split_once('-') {
        Some((first, last)) => (first.parse().unwrap()..=last.parse().unwrap()).contains(&port),
        None if range == "other" => {
            !others.iter().any(|other| other.label != question.label && stands_for(other, what, &[]))
        }
        None => false,
    }
}

proptest! {
    #[test]
    fn the_derivation_is_the_long_reading_and_one_question_speaks_for_its_sort(groups in some_groups(), ports in some_ports()) {
        let objects = Objects {
            networks: vec![network("net", "10.0.0.0/24")], ports: ports.clone(), groups: groups.clone(), ..Objects::default()
        };
        let world = World::of(objects);
        let everybody: Vec<&Endpoint> = world.endpoints().iter().collect();
        let questions = world.questions(&everybody);
        let questions: Vec<&Question> = questions.iter().collect();
        for (from, to) in ports.iter().flat_map(|from| ports.iter().map(move |to| (from, to))).filter(|(a, b)| a != b) {
            let end = |port: &Port| world.find("t", port.metadata.name.as_ref().unwrap()).unwrap();
            let ip = |port: &Port| port.spec.ip.clone().unwrap();
            for what in all() {
                let verdict = world.verdict(end(from), end(to), what);
                let expected = passes(from, &ip(to), RuleDirection::Egress, what, &ports, &groups)
                    && passes(to, &ip(from), RuleDirection::Ingress, what, &ports, &groups);
                prop_assert_eq!(verdict.is_open(), expected, "{} {} {}: {}", end(from).name, end(to).name, what, verdict);
                // Those of a sort fare alike.
                for question in questions.iter().filter(|question| stands_for(question, what, &questions)) {
                    let of_sort = world.verdict(end(from), end(to), question.example);
                    prop_assert_eq!(of_sort.is_open(), expected, "{} stands for {}", question.label, what);
                }
            }
        }
    }

    #[test]
    fn every_tcp_and_udp_port_belongs_to_exactly_one_question(groups in some_groups(), port in 1u16..) {
        let rules: Vec<Rule> = groups.iter().flat_map(|group| rule::rules(group).unwrap()).collect();
        let questions = question::questions(&rules);
        let all: Vec<&Question> = questions.iter().collect();
        for what in [Conversation::Tcp(port), Conversation::Udp(port)] {
            let of_it = all.iter().filter(|one| stands_for(one, what, &all)).count();
            prop_assert_eq!(of_it, 1, "{}", what);
        }
    }
}
