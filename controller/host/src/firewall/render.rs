//! The table of a policy.

use std::net::IpAddr;

use traffic::Traffic;

use super::policy::{Access, Direction, Group, GroupId, Policy, Remote, Rule};
use crate::link::LinkName;
use crate::nft::{Element, Table};

/// Set on a packet that belongs to a conversation which the other side began.
const ANSWER: u32 = 0x1000_0000;
/// Set on an error that the network reports about a conversation (ICMP).
const ABOUT: u32 = 0x2000_0000;
/// Set on what the host itself asks its guests to see whether they answer, and on their answers.
pub(super) const CHECK: u32 = 0x0800_0000;

/// Leads from a tap to the chain that judges what its guest says.
const SAID_BY: &str = "said_by";
/// Leads from a tap to the chain that judges what its guest hears.
const HEARD_BY: &str = "heard_by";
/// Leads from a tap to the limit of what its guest sends.
const SENT_BY: &str = "sent_by";
/// Leads from a tap to the limit of what its guest receives.
const RECEIVED_BY: &str = "received_by";

pub(super) fn table(name: &LinkName, policy: &Policy) -> Table {
    let mut table = Table::default();
    if policy.stateful {
        table.beside = answers(name, policy.six);
    }
    for map in [SAID_BY, HEARD_BY] {
        table.sets.insert(map.to_owned(), "type ifname : verdict".to_owned());
    }
    for map in [SENT_BY, RECEIVED_BY] {
        table.sets.insert(map.to_owned(), "type ifname : limit".to_owned());
    }
    base_chains(&mut table, policy);
    for group in &policy.groups {
        add_group(&mut table, group, policy.six);
    }
    for guest in &policy.guests {
        let mut lead = |map: &str, to: String| {
            let key = format!("\"{}\"", guest.tap);
            table.elements.insert(Element { set: map.to_owned(), key, leads_to: Some(to) });
        };
        if let Some((mark, chains)) = combination(policy, &guest.access) {
            table.chains.extend(chains);
            lead(SAID_BY, format!("goto from_{mark}"));
            lead(HEARD_BY, format!("goto to_{mark}"));
        }
        for (map, rate) in [(SENT_BY, guest.rate.egress), (RECEIVED_BY, guest.rate.ingress)] {
            let Some(megabits) = rate else { continue };
            // Of this tap and this rate, for a limit cannot be changed.
            let limit = format!("{map}_{}_{megabits}", GroupId::of_owner(guest.tap.as_str()));
            lead(map, format!("\"{limit}\""));
            table.limits.insert(limit, limit_of(megabits));
        }
    }
    table
}

/// The kernel lets a second's worth and the burst come at once. The burst makes room for the largest packet that a tap passes on
/// (64 KiB), of which a slow limit would otherwise let none through.
fn limit_of(megabits: u32) -> String {
    format!("rate over {} bytes/second burst 65536 bytes", u64::from(megabits) * 125_000)
}

/// The table that marks what belongs to a conversation begun by the other side: after connection tracking has looked (-200),
/// before anybody translates addresses (-100).
pub(super) fn answers(name: &LinkName, six: bool) -> String {
    let about_six = match six {
        true => format!("ct state related meta l4proto ipv6-icmp meta mark set meta mark or {ABOUT:#x}\n    "),
        false => String::new(),
    };
    let chain = |hook, check: String| {
        format!(
            "  chain {hook} {{\n    type filter hook {hook} priority -150; policy accept;\n    \
             ct direction reply meta mark set meta mark or {ANSWER:#x}\n    \
             ct state related ip protocol icmp meta mark set meta mark or {ABOUT:#x}\n    {about_six}{check}\n  }}\n"
        )
    };
    let asked = format!("meta mark and {CHECK:#x} == {CHECK:#x} ct mark set ct mark or {CHECK:#x}");
    let answered = format!("ct mark and {CHECK:#x} == {CHECK:#x} meta mark set meta mark or {CHECK:#x}");
    format!("table inet {name} {{\n{}{}}}\n", chain("prerouting", answered), chain("output", asked))
}

/// What finding neighbours and an address takes, which is nobody's to forbid: the guard has seen that each speaks for itself alone, and that
/// no guest advertises a router or serves addresses (RFC 4890, 4.3).
const SAID_OF_SIX: [&str; 2] = [
    "ether type ip6 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept",
    "ether type ip6 ip6 daddr ff02::1:2 udp sport 546 udp dport 547 accept",
];
const HEARD_OF_SIX: [&str; 2] = [
    "ether type ip6 icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept",
    "ether type ip6 ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
];

/// Where packets come by. What no map knows is a guest without groups, or no guest, and goes on.
fn base_chains(table: &mut Table, policy: &Policy) {
    let gateways: Vec<String> = policy.gateways.iter().map(ToString::to_string).collect();
    let chain = |hook: &str, priority: i32, lines: Vec<String>| {
        let mut all = vec![format!("type filter hook {hook} priority {priority}; policy accept;")];
        all.extend(lines);
        all
    };
    let passes = |limit: String, dhcp: Option<String>, six: &[&str], map: String| {
        let about = format!("meta mark and {ABOUT:#x} == {ABOUT:#x} accept");
        let check = format!("meta mark and {CHECK:#x} == {CHECK:#x} accept");
        let six = six.iter().filter(|_| policy.six).map(|line| (*line).to_owned());
        let mut all = vec![limit, "ether type arp accept".to_owned(), about, check];
        all.extend(dhcp.into_iter().chain(six).chain([map]));
        all
    };
    // None in a network without IPv4.
    let gateways = Some(gateways.join(", ")).filter(|all| !all.is_empty());
    let asked = gateways
        .as_ref()
        .map(|gateways| format!("ip daddr {{ 255.255.255.255, {gateways} }} udp sport 68 udp dport 67 accept"));
    let served = gateways.map(|gateways| format!("ip saddr {{ {gateways} }} udp sport 67 udp dport 68 accept"));
    let nothing = !(ANSWER | ABOUT | CHECK);
    // Before and after br_netfilter, which has priority 0 at this hook.
    table.chains.insert(
        "fresh".to_owned(),
        chain("prerouting", -400, vec![format!("meta mark set meta mark and {nothing:#x}")]),
    );
    let said = passes(
        format!("limit name iifname map @{SENT_BY} drop"),
        asked,
        &SAID_OF_SIX,
        format!("iifname vmap @{SAID_BY}"),
    );
    table.chains.insert("said".to_owned(), chain("prerouting", 100, said));
    // Before br_netfilter's last, which confirms the connection: what is dropped here never was one.
    let limit = format!("limit name oifname map @{RECEIVED_BY} drop");
    let heard = passes(limit, served, &HEARD_OF_SIX, format!("oifname vmap @{HEARD_BY}"));
    table.chains.insert("heard".to_owned(), chain("postrouting", 0, heard));
}

fn add_group(table: &mut Table, group: &Group, six: bool) {
    let families = if six { &FOUR_AND_SIX[..] } else { &FOUR_AND_SIX[..1] };
    for family in families {
        let members = family.members_of(group.id);
        table.sets.insert(members.clone(), format!("type {}", family.of_address));
        let of_it = group.members.iter().filter(|ip| family.is_of(ip));
        let element = |ip: &IpAddr| Element { set: members.clone(), key: ip.to_string(), leads_to: None };
        table.elements.extend(of_it.map(element));
    }
    for (way, direction) in [("in", Direction::Ingress), ("out", Direction::Egress)] {
        let of_it = || group.rules.iter().filter(move |rule| rule.direction == direction);
        let each = |line: fn(&Rule, &Family) -> Option<String>| {
            of_it().flat_map(|rule| families.iter().filter_map(move |family| line(rule, family))).collect()
        };
        table.chains.insert(format!("{way}_{}", group.id), each(question));
        table.chains.insert(format!("{way}_back_{}", group.id), each(answer));
    }
}

/// Chains with their lines.
type Chains = Vec<(String, Vec<String>)>;

/// The four chains of a combination of groups, and the mark in their names; none for a guest that is open.
fn combination(policy: &Policy, access: &Access) -> Option<(String, Chains)> {
    let groups = match access {
        Access::Open => return None,
        Access::Groups(groups) => groups,
        Access::Closed => {
            let shut = |way: &str| (format!("{way}_closed"), vec!["drop".to_owned()]);
            return Some(("closed".to_owned(), vec![shut("from"), shut("to")]));
        }
    };
    let mark = GroupId::of_all(groups).to_string();
    let of_them = || policy.groups.iter().filter(|group| groups.contains(&group.id));
    let limits_egress = of_them().flat_map(|group| &group.rules).any(|rule| rule.direction == Direction::Egress);
    let through = |first: Option<String>, way: &str| {
        let jumps = groups.iter().map(|group| format!("jump {way}_{group}"));
        first.into_iter().chain(jumps).chain(["drop".to_owned()]).collect::<Vec<String>>()
    };
    let answers = |chain: &str| format!("meta mark and {ANSWER:#x} == {ANSWER:#x} goto {chain}_back_{mark}");
    let free = |first: Option<String>| first.into_iter().chain(["accept".to_owned()]).collect::<Vec<String>>();
    let (from, to_back) = match limits_egress {
        true => (through(Some(answers("from")), "out"), through(None, "out_back")),
        false => (free(Some(answers("from"))), free(None)),
    };
    let chains = vec![
        (format!("from_{mark}"), from),
        (format!("from_back_{mark}"), through(None, "in_back")),
        (format!("to_{mark}"), through(Some(answers("to")), "in")),
        (format!("to_back_{mark}"), to_back),
    ];
    Some((mark, chains))
}

/// The words of one family of addresses.
struct Family {
    /// Its packets.
    word: &'static str,
    /// Its addresses, as a set's type.
    of_address: &'static str,
    /// How its protocols are told.
    protocol: &'static str,
    /// Its ICMP.
    icmp: &'static str,
    /// Before a group's mark in the name of its members' set.
    members: &'static str,
    /// ICMP that asks, and what answers it: RFC 792 and RFC 950, RFC 4443.
    answers: &'static [(u8, u8)],
}

/// Guests cannot say anything behind IPv6's further headers, so the next header is the protocol, unless it is a fragment's.
const FOUR_AND_SIX: [Family; 2] = [
    Family {
        word: "ip",
        of_address: "ipv4_addr",
        protocol: "ip protocol",
        icmp: "icmp",
        members: "members_",
        answers: &[(8, 0), (13, 14), (15, 16), (17, 18)],
    },
    Family {
        word: "ip6",
        of_address: "ipv6_addr",
        protocol: "meta l4proto",
        icmp: "icmpv6",
        members: "members6_",
        answers: &[(128, 129)],
    },
];

impl Family {
    fn is_of(&self, ip: &IpAddr) -> bool {
        ip.is_ipv6() == (self.word == "ip6")
    }

    fn members_of(&self, group: GroupId) -> String {
        format!("{}{group}", self.members)
    }

    /// Type of this family's ICMP that the traffic is, if it is that.
    fn icmp_of(&self, traffic: Traffic) -> Option<(u8, Option<u8>)> {
        match traffic {
            Traffic::Icmp(kind, code) if self.word == "ip" => Some((kind, code)),
            Traffic::Icmp6(kind, code) if self.word == "ip6" => Some((kind, code)),
            _ => None,
        }
    }
}

/// What begins a conversation that the rule allows; nothing does where the family has none such.
fn question(rule: &Rule, family: &Family) -> Option<String> {
    let side = match rule.direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    let icmp = family.icmp;
    let said = match family.icmp_of(rule.traffic) {
        Some((kind, Some(code))) => Some(format!("{icmp} type {kind} {icmp} code {code}")),
        Some((kind, None)) => Some(format!("{icmp} type {kind}")),
        None => said(rule.traffic, "dport", family)?,
    };
    line(side, rule.remote, said, family)
}

/// What answers it; nothing does where there are no answers.
fn answer(rule: &Rule, family: &Family) -> Option<String> {
    let side = match rule.direction {
        Direction::Ingress => "daddr",
        Direction::Egress => "saddr",
    };
    let said = match family.icmp_of(rule.traffic) {
        Some((kind, _)) => {
            let answer = family.answers.iter().find(|(asked, _)| *asked == kind)?.1;
            Some(format!("{} type {answer}", family.icmp))
        }
        None => said(rule.traffic, "sport", family)?,
    };
    line(side, rule.remote, said, family)
}

/// What is said besides who says it, if anything; none at all for the other family's ICMP.
fn said(traffic: Traffic, end: &str, family: &Family) -> Option<Option<String>> {
    Some(match traffic {
        Traffic::Icmp(..) | Traffic::Icmp6(..) => return None,
        Traffic::Any => None,
        Traffic::Protocol(number) => Some(format!("{} {number}", family.protocol)),
        Traffic::Ports(transport, first, last) if first == last => Some(format!("{transport} {end} {first}")),
        Traffic::Ports(transport, first, last) => Some(format!("{transport} {end} {first}-{last}")),
    })
}

fn line(side: &str, remote: Remote, said: Option<String>, family: &Family) -> Option<String> {
    let word = family.word;
    let whom = match remote {
        Remote::Anybody => None,
        Remote::Range(range) if !family.is_of(&range.addr()) => return None,
        Remote::Range(range) if range.prefix_len() == 0 => None,
        Remote::Range(range) => Some(format!("{word} {side} {}", range.trunc())),
        Remote::Members(group) => Some(format!("{word} {side} @{}", family.members_of(group))),
    };
    let all = [format!("ether type {word}")].into_iter().chain(whom).chain(said).chain(["accept".to_owned()]);
    Some(all.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
