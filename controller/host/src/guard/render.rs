//! The table as a script, from values that cannot hold anything else.

use std::fmt::Write as _;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::{Element, Elements, Guest};
use crate::link::LinkName;

/// Rules where guests have IPv4 alone; what they look up is in the sets. Braces are Rust's.
const CHAINS: &str = r#"
  chain guard {
    type filter hook prerouting priority -300; policy accept;
    iifname != "tap*" accept
    iifname . ether saddr != @guests drop
    ether type arp goto from_arp
    ether type ip goto from_ip
    drop
  }
  chain from_arp {
    arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . arp saddr ether . arp saddr ip @addresses accept
    arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . arp saddr ether @guests arp saddr ip 0.0.0.0 arp operation request accept
    drop
  }
  chain from_ip {
    udp sport 67 drop
    iifname . ether saddr . ip saddr @addresses accept
    ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
    drop
  }
"#;

/// Rules where guests have IPv6, too. Sources and targets of neighbour discovery are looked up as bare bits, because not every nft has a
/// word for the latter: after 8 bytes of its header, as the source is in IPv6's.
const CHAINS_WITH_SIX: &str = r#"
  chain guard {
    type filter hook prerouting priority -300; policy accept;
    iifname != "tap*" accept
    iifname . ether saddr != @guests drop
    ether type arp goto from_arp
    ether type ip goto from_ip
    ether type ip6 goto from_ip6
    drop
  }
  chain told {
    type filter hook output priority -300; policy accept;
    ether type ip6 icmpv6 type nd-redirect drop
  }
  chain from_arp {
    arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . arp saddr ether . arp saddr ip @addresses accept
    arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . arp saddr ether @guests arp saddr ip 0.0.0.0 arp operation request accept
    drop
  }
  chain from_ip {
    udp sport 67 drop
    iifname . ether saddr . ip saddr @addresses accept
    ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
    drop
  }
  chain from_ip6 {
    ip6 nexthdr { 0, 43, 51, 60, 135, 139, 140, 253, 254 } drop
    ip6 nexthdr 44 frag nexthdr { 0, 43, 44, 51, 60, 135, 139, 140, 253, 254 } drop
    ip6 nexthdr 44 icmpv6 type { 133-138, 141-142, 148-149 } drop
    icmpv6 type { nd-router-advert, nd-redirect, 138, 141, 142, 148, 149 } drop
    udp sport 547 drop
    ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . ether saddr . @th,64,128 @addresses6 accept
    ip6 saddr :: icmpv6 type nd-router-solicit accept
    icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @addresses6 drop
    iifname . ether saddr . @nh,64,128 @addresses6 accept
    drop
  }
"#;

/// A set with its declaration: of links, hardware addresses, and what else.
type Set = (&'static str, &'static str);

const SETS: [Set; 2] = [("guests", "type ifname . ether_addr"), ("addresses", "type ifname . ether_addr . ipv4_addr")];
const SETS_WITH_SIX: [Set; 3] = [SETS[0], SETS[1], ("addresses6", "typeof iifname . ether saddr . @th,64,128")];

/// Which rules there are. A network without IPv6 has none about it, whatever this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    chains: &'static str,
    sets: &'static [Set],
}

impl Rules {
    /// Those that the guests' addresses need.
    pub(super) fn of(guests: &[Guest]) -> Rules {
        match guests.iter().flat_map(|guest| &guest.addresses).any(IpAddr::is_ipv6) {
            true => Rules { chains: CHAINS_WITH_SIX, sets: &SETS_WITH_SIX },
            false => Rules { chains: CHAINS, sets: &SETS },
        }
    }

    /// Tells these rules from others, also from those of another version.
    pub(super) fn digest(self) -> String {
        Sha256::digest(self.chains)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The whole table, put in place of what carries its name.
    pub(super) fn table(self, name: &LinkName, elements: &Elements) -> String {
        // Making it first lets the deletion succeed where there is none.
        let mut text = format!("table bridge {name}\ndelete table bridge {name}\ntable bridge {name} {{\n");
        for (set, types) in self.sets {
            let of_it: Vec<String> = elements.iter().filter(|one| one.set == *set).map(|one| one.key.clone()).collect();
            let elements =
                if of_it.is_empty() { String::new() } else { format!("; elements = {{ {} }}", of_it.join(", ")) };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  set {set} {{ {types}{elements}; }}");
        }
        text.push_str(self.chains);
        text.push_str("}\n");
        text
    }
}

pub(super) fn elements(guests: &[Guest]) -> Elements {
    let mut all = Elements::new();
    for guest in guests {
        let mac = guest.mac.map(|byte| format!("{byte:02x}")).join(":");
        let guest_key = format!("\"{}\" . {mac}", guest.tap);
        let address = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => element("addresses", format!("{guest_key} . {ip}")),
            // As nft lists it.
            IpAddr::V6(ip) => element("addresses6", format!("{guest_key} . {:#x}", u128::from(*ip))),
        };
        all.extend(guest.addresses.iter().map(address));
        all.insert(element("guests", guest_key));
    }
    all
}

fn element(set: &str, key: String) -> Element {
    Element { set: set.to_owned(), key, leads_to: None }
}

/// One line for each element that differs; empty when none does. Removed first: what a tap was goes before what it is.
pub(super) fn difference(name: &LinkName, wanted: &Elements, found: &Elements) -> String {
    let line = |verb: &str, one: &Element| format!("{verb} element bridge {name} {} {{ {} }}\n", one.set, one.key);
    let excess = found.difference(wanted).map(|one| line("delete", one));
    let missing = wanted.difference(found).map(|one| line("add", one));
    excess.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use proptest::prelude::*;

    fn guest(number: u8) -> Guest {
        Guest {
            tap: format!("tap{number}").parse().unwrap(),
            mac: [0x52, 0x54, 0, 0, 0, number],
            addresses: vec![IpAddr::from([10, 1, 0, number])],
        }
    }

    fn with_six(number: u8) -> Guest {
        let six = [format!("fd00::{number:x}"), format!("fe80::5054:ff:fe00:{number:x}")];
        let mut guest = guest(number);
        guest.addresses.extend(six.map(|text| text.parse::<IpAddr>().unwrap()));
        guest
    }

    fn name() -> LinkName {
        "photon_1".parse().unwrap()
    }

    fn table(guests: &[Guest]) -> String {
        Rules::of(guests).table(&name(), &elements(guests))
    }

    #[test]
    fn a_table_of_two_guests() {
        insta::assert_snapshot!(table(&[guest(10), guest(11)]));
    }

    #[test]
    fn a_table_of_a_guest_with_ipv6() {
        insta::assert_snapshot!(table(&[with_six(10)]));
    }

    #[test]
    fn an_address_of_ipv6_more_is_an_element_and_without_one_no_rule_speaks_of_it() {
        let (one, two) = (elements(&[with_six(10)]), elements(&[with_six(10), with_six(11)]));
        assert_eq!(difference(&name(), &two, &one).lines().count(), 4);
        let four = table(&[guest(10)]);
        assert!(!four.contains("ip6") && !four.contains("addresses6"));
        assert_ne!(Rules::of(&[guest(10)]).digest(), Rules::of(&[with_six(10)]).digest());
    }

    #[test]
    fn one_guest_more_is_two_elements_and_a_new_address_one_for_one() {
        let (one, two) = (elements(&[guest(10)]), elements(&[guest(10), guest(11)]));
        assert_eq!(difference(&name(), &two, &two), "");
        assert_eq!(difference(&name(), &two, &one).lines().count(), 2);
        let moved = elements(&[Guest { addresses: vec![IpAddr::from([10, 1, 0, 99])], ..guest(10) }]);
        let script = difference(&name(), &moved, &one);
        assert_eq!(
            script,
            "delete element bridge photon_1 addresses { \"tap10\" . 52:54:00:00:00:0a . 10.1.0.10 }\n\
             add element bridge photon_1 addresses { \"tap10\" . 52:54:00:00:00:0a . 10.1.0.99 }\n"
        );
    }

    proptest! {
        #[test]
        fn no_name_or_address_adds_a_line_or_a_brace(tap in "\\PC{0,20}|[a-z\"{};\n#.-]{0,15}", mac: [u8; 6], ip: u32, six: u128) {
            if let Ok(tap) = tap.parse::<LinkName>() {
                let guest = Guest { tap, mac, addresses: vec![Ipv4Addr::from(ip).into(), Ipv6Addr::from(six).into()] };
                let plain = Guest { addresses: vec![[10, 1, 0, 10].into(), Ipv6Addr::LOCALHOST.into()], ..self::guest(10) };
                let (odd, plain) = (table(&[guest]), table(&[plain]));
                prop_assert_eq!(odd.lines().count(), plain.lines().count());
                for sign in ['{', '}', '"', ';', '#'] {
                    prop_assert_eq!(odd.matches(sign).count(), plain.matches(sign).count());
                }
            }
        }
    }
}
