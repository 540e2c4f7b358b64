use proptest::prelude::*;
use traffic::Transport;

use super::super::policy::{Guest, Policy, Rate};
use super::super::{FAMILIES, Stands};
use super::*;
use crate::nft::{self, Family};

fn name() -> LinkName {
    "fw1".parse().unwrap()
}

fn id(of: &str) -> GroupId {
    GroupId::of_owner(of)
}

fn rule(direction: Direction, traffic: Traffic, remote: Remote) -> Rule {
    Rule { direction, traffic, remote }
}

fn policy() -> Policy {
    let web = vec![
        rule(Direction::Ingress, Traffic::Ports(Transport::Tcp, 80, 90), Remote::Members(id("clients"))),
        rule(Direction::Ingress, Traffic::Icmp(8, None), Remote::Range("10.1.0.7/24".parse().unwrap())),
        rule(Direction::Ingress, Traffic::Icmp(3, Some(1)), Remote::Anybody),
        rule(Direction::Egress, Traffic::Ports(Transport::Udp, 53, 53), Remote::Range("0.0.0.0/0".parse().unwrap())),
        rule(Direction::Egress, Traffic::Protocol(47), Remote::Anybody),
    ];
    let group = |of: &str, rules: Vec<Rule>, members: &[u8]| Group {
        id: id(of),
        rules,
        members: members.iter().map(|last| IpAddr::from([10, 1, 0, *last])).collect(),
    };
    let guest = |tap: &str, groups: Option<&[&str]>| Guest {
        tap: tap.parse().unwrap(),
        access: groups.map_or(Access::Closed, |all| Access::Groups(all.iter().map(|of| id(of)).collect())),
        rate: Rate::default(),
    };
    let limited = Guest {
        tap: "tap4".parse().unwrap(),
        access: Access::Open,
        rate: Rate { ingress: Some(100), egress: Some(1) },
    };
    Policy {
        guests: vec![guest("tap1", Some(&["web"])), guest("tap2", Some(&["clients"])), guest("tap3", None), limited],
        groups: vec![group("web", web, &[11]), group("clients", Vec::new(), &[12, 13])],
        gateways: vec![[10, 1, 0, 1].into()],
        six: false,
        stateful: true,
        complete: true,
    }
}

fn written(policy: &Policy) -> (Stands, Table) {
    let table = table(&name(), policy);
    let stands = Stands {
        chains: table.chains.clone(),
        sets: table.sets.clone(),
        limits: table.limits.clone(),
        beside: table.beside.clone(),
        listed: Some("as written".into()),
    };
    (stands, table)
}

#[test]
fn a_firewall_of_two_groups_and_a_guest_that_is_closed() {
    insta::assert_snapshot!(nft::whole(&FAMILIES, &name(), &table(&name(), &policy())));
}

#[test]
fn with_ipv6_each_rule_counts_for_both_families_but_what_is_of_one() {
    let mut both = policy();
    both.six = true;
    both.groups[0].rules.extend([
        rule(Direction::Ingress, Traffic::Icmp6(128, None), Remote::Members(id("clients"))),
        rule(Direction::Egress, Traffic::Any, Remote::Range("fd00:1::/64".parse().unwrap())),
    ]);
    both.groups[1].members.insert("fd00::c".parse().unwrap());
    insta::assert_snapshot!(nft::whole(&FAMILIES, &name(), &table(&name(), &both)));
}

#[test]
fn a_member_more_is_one_element_and_nothing_is_nothing() {
    let (stands, before) = written(&policy());
    assert_eq!(nft::difference(Family::Bridge, &name(), &stands, &before, &before.elements), "");
    let mut more = policy();
    more.groups[1].members.insert(IpAddr::from([10, 1, 0, 99]));
    let set = format!("members_{}", id("clients"));
    let script = nft::difference(Family::Bridge, &name(), &stands, &table(&name(), &more), &before.elements);
    assert_eq!(script, format!("add element bridge fw1 {set} {{ 10.1.0.99 }}\n"));
}

#[test]
fn a_rule_changes_its_groups_chains_and_a_group_that_goes_takes_its_own_along() {
    let (stands, before) = written(&policy());
    let mut other = policy();
    other.groups[0].rules.remove(1);
    let said = nft::difference(Family::Bridge, &name(), &stands, &table(&name(), &other), &before.elements);
    let touched = |line: &&str| !line.contains(&format!("_{}", id("web")));
    assert_eq!(said.lines().filter(touched).collect::<Vec<_>>(), Vec::<&str>::new());
    let mut fewer = policy();
    fewer.guests.truncate(1);
    fewer.groups[0].rules.remove(0);
    fewer.groups.truncate(1);
    let said = nft::difference(Family::Bridge, &name(), &stands, &table(&name(), &fewer), &before.elements);
    assert!(said.contains(&format!("delete set bridge fw1 members_{}\n", id("clients"))));
    assert!(said.contains("delete chain bridge fw1 to_closed\n") && !said.contains("answers"));
}

#[test]
fn another_rate_is_another_limit_and_the_old_one_goes() {
    let (stands, before) = written(&policy());
    let mut other = policy();
    other.guests[3].rate = Rate { ingress: Some(200), egress: Some(1) };
    let script = nft::difference(Family::Bridge, &name(), &stands, &table(&name(), &other), &before.elements);
    let tap = id("tap4");
    assert_eq!(
        script,
        format!(
            "add limit bridge fw1 received_by_{tap}_200 {{ rate over 25000000 bytes/second burst 65536 bytes; }}\n\
             delete element bridge fw1 received_by {{ \"tap4\" : \"received_by_{tap}_100\" }}\n\
             add element bridge fw1 received_by {{ \"tap4\" : \"received_by_{tap}_200\" }}\n\
             delete limit bridge fw1 received_by_{tap}_100\n"
        )
    );
}

proptest! {
    #[test]
    fn whatever_owners_and_taps_are_called_adds_no_line_and_no_sign(owner in "\\PC{0,40}|[a-z\"{};\n#@$.-]{0,15}", tap in "\\PC{0,20}|[a-z\"{};\n#.-]{0,15}") {
        let mut odd = policy();
        odd.groups[1].id = id(&owner);
        odd.guests[1].access = Access::Groups([id(&owner)].into());
        if let Ok(tap) = tap.parse::<LinkName>() {
            odd.guests[0].tap = tap;
        }
        let text = |policy: &Policy| nft::whole(&FAMILIES, &name(), &table(&name(), policy));
        let (odd, plain) = (text(&odd), text(&policy()));
        prop_assert_eq!(odd.lines().count(), plain.lines().count());
        for sign in ['{', '}', '"', ';', '#', '@', '$'] {
            prop_assert_eq!(odd.matches(sign).count(), plain.matches(sign).count());
        }
    }
}
