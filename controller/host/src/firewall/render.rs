//! The table of a policy.

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
        table.beside = answers(name);
    }
    for map in [SAID_BY, HEARD_BY] {
        table.sets.insert(map.to_owned(), "type ifname : verdict".to_owned());
    }
    for map in [SENT_BY, RECEIVED_BY] {
        table.sets.insert(map.to_owned(), "type ifname : limit".to_owned());
    }
    base_chains(&mut table, policy);
    for group in &policy.groups {
        add_group(&mut table, group);
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
pub(super) fn answers(name: &LinkName) -> String {
    let chain = |hook, check: String| {
        format!(
            "  chain {hook} {{\n    type filter hook {hook} priority -150; policy accept;\n    \
             ct direction reply meta mark set meta mark or {ANSWER:#x}\n    \
             ct state related ip protocol icmp meta mark set meta mark or {ABOUT:#x}\n    {check}\n  }}\n"
        )
    };
    let asked = format!("meta mark and {CHECK:#x} == {CHECK:#x} ct mark set ct mark or {CHECK:#x}");
    let answered = format!("ct mark and {CHECK:#x} == {CHECK:#x} meta mark set meta mark or {CHECK:#x}");
    format!("table inet {name} {{\n{}{}}}\n", chain("prerouting", answered), chain("output", asked))
}

/// Where packets come by. What no map knows is a guest without groups, or no guest, and goes on.
fn base_chains(table: &mut Table, policy: &Policy) {
    let gateways: Vec<String> = policy.gateways.iter().map(ToString::to_string).collect();
    let gateways = gateways.join(", ");
    let chain = |hook: &str, priority: i32, lines: Vec<String>| {
        let mut all = vec![format!("type filter hook {hook} priority {priority}; policy accept;")];
        all.extend(lines);
        all
    };
    let passes = |limit: String, dhcp: String, map: String| {
        let about = format!("meta mark and {ABOUT:#x} == {ABOUT:#x} accept");
        let check = format!("meta mark and {CHECK:#x} == {CHECK:#x} accept");
        vec![limit, "ether type arp accept".to_owned(), about, check, dhcp, map]
    };
    let asked = format!("ip daddr {{ 255.255.255.255, {gateways} }} udp sport 68 udp dport 67 accept");
    let served = format!("ip saddr {{ {gateways} }} udp sport 67 udp dport 68 accept");
    let nothing = !(ANSWER | ABOUT | CHECK);
    // Before and after br_netfilter, which has priority 0 at this hook.
    table.chains.insert(
        "fresh".to_owned(),
        chain("prerouting", -400, vec![format!("meta mark set meta mark and {nothing:#x}")]),
    );
    let said = passes(format!("limit name iifname map @{SENT_BY} drop"), asked, format!("iifname vmap @{SAID_BY}"));
    table.chains.insert("said".to_owned(), chain("prerouting", 100, said));
    // Before br_netfilter's last, which confirms the connection: what is dropped here never was one.
    let heard =
        passes(format!("limit name oifname map @{RECEIVED_BY} drop"), served, format!("oifname vmap @{HEARD_BY}"));
    table.chains.insert("heard".to_owned(), chain("postrouting", 0, heard));
}

fn add_group(table: &mut Table, group: &Group) {
    let members = format!("members_{}", group.id);
    table.sets.insert(members.clone(), "type ipv4_addr".to_owned());
    let element = |ip: &std::net::Ipv4Addr| Element { set: members.clone(), key: ip.to_string(), leads_to: None };
    table.elements.extend(group.members.iter().map(element));
    for (way, direction) in [("in", Direction::Ingress), ("out", Direction::Egress)] {
        let of_it = || group.rules.iter().filter(move |rule| rule.direction == direction);
        table.chains.insert(format!("{way}_{}", group.id), of_it().map(question).collect());
        table.chains.insert(format!("{way}_back_{}", group.id), of_it().filter_map(answer).collect());
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

/// What begins a conversation that the rule allows.
fn question(rule: &Rule) -> String {
    let side = match rule.direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    let said = match rule.traffic {
        Traffic::Icmp(kind, Some(code)) => Some(format!("icmp type {kind} icmp code {code}")),
        Traffic::Icmp(kind, None) => Some(format!("icmp type {kind}")),
        traffic => said(traffic, "dport"),
    };
    line(side, rule.remote, said)
}

/// What answers it; nothing does where there are no answers.
fn answer(rule: &Rule) -> Option<String> {
    let side = match rule.direction {
        Direction::Ingress => "daddr",
        Direction::Egress => "saddr",
    };
    let said = match rule.traffic {
        // Echo, timestamp, information and address mask: RFC 792 and RFC 950.
        Traffic::Icmp(kind, _) => {
            let answer = [(8, 0), (13, 14), (15, 16), (17, 18)].into_iter().find(|(asked, _)| *asked == kind)?.1;
            Some(format!("icmp type {answer}"))
        }
        traffic => said(traffic, "sport"),
    };
    Some(line(side, rule.remote, said))
}

fn said(traffic: Traffic, end: &str) -> Option<String> {
    match traffic {
        Traffic::Any | Traffic::Icmp(..) => None,
        Traffic::Protocol(number) => Some(format!("ip protocol {number}")),
        Traffic::Ports(transport, first, last) if first == last => Some(format!("{transport} {end} {first}")),
        Traffic::Ports(transport, first, last) => Some(format!("{transport} {end} {first}-{last}")),
    }
}

fn line(side: &str, remote: Remote, said: Option<String>) -> String {
    let whom = match remote {
        Remote::Anybody => None,
        Remote::Range(range) if range.prefix_len() == 0 => None,
        Remote::Range(range) => Some(format!("ip {side} {}", range.trunc())),
        Remote::Members(group) => Some(format!("ip {side} @members_{group}")),
    };
    let all = ["ether type ip".to_owned()].into_iter().chain(whom).chain(said).chain(["accept".to_owned()]);
    all.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
