//! The table as a script, from values that cannot hold anything else.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{Element, Elements, Guest};
use crate::link::LinkName;

/// Rules; what they look up is in the sets. Braces are Rust's.
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

/// Tells these rules from those of another version.
pub(super) fn digest() -> String {
    Sha256::digest(CHAINS)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn elements(guests: &[Guest]) -> Elements {
    let mut all = Elements::new();
    for guest in guests {
        let mac = guest.mac.map(|byte| format!("{byte:02x}")).join(":");
        let guest_key = format!("\"{}\" . {mac}", guest.tap);
        let address = |ip: &std::net::Ipv4Addr| element("addresses", format!("{guest_key} . {ip}"));
        all.extend(guest.addresses.iter().map(address));
        all.insert(element("guests", guest_key));
    }
    all
}

fn element(set: &str, key: String) -> Element {
    Element { set: set.to_owned(), key, leads_to: None }
}

/// The whole table, put in place of what carries its name.
pub(super) fn table(name: &LinkName, elements: &Elements) -> String {
    // Making it first lets the deletion succeed where there is none.
    let mut text = format!("table bridge {name}\ndelete table bridge {name}\ntable bridge {name} {{\n");
    for (set, types) in [("guests", "ifname . ether_addr"), ("addresses", "ifname . ether_addr . ipv4_addr")] {
        let of_it: Vec<String> = elements.iter().filter(|one| one.set == set).map(|one| one.key.clone()).collect();
        let elements =
            if of_it.is_empty() { String::new() } else { format!("; elements = {{ {} }}", of_it.join(", ")) };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  set {set} {{ type {types}{elements}; }}");
    }
    text.push_str(CHAINS);
    text.push_str("}\n");
    text
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
    use super::*;
    use proptest::prelude::*;

    fn guest(number: u8) -> Guest {
        Guest {
            tap: format!("tap{number}").parse().unwrap(),
            mac: [0x52, 0x54, 0, 0, 0, number],
            addresses: vec![[10, 1, 0, number].into()],
        }
    }

    fn name() -> LinkName {
        "photon_1".parse().unwrap()
    }

    #[test]
    fn a_table_of_two_guests() {
        insta::assert_snapshot!(table(&name(), &elements(&[guest(10), guest(11)])));
    }

    #[test]
    fn one_guest_more_is_two_elements_and_a_new_address_one_for_one() {
        let (one, two) = (elements(&[guest(10)]), elements(&[guest(10), guest(11)]));
        assert_eq!(difference(&name(), &two, &two), "");
        assert_eq!(difference(&name(), &two, &one).lines().count(), 2);
        let moved = elements(&[Guest { addresses: vec![[10, 1, 0, 99].into()], ..guest(10) }]);
        let script = difference(&name(), &moved, &one);
        assert_eq!(
            script,
            "delete element bridge photon_1 addresses { \"tap10\" . 52:54:00:00:00:0a . 10.1.0.10 }\n\
             add element bridge photon_1 addresses { \"tap10\" . 52:54:00:00:00:0a . 10.1.0.99 }\n"
        );
    }

    proptest! {
        #[test]
        fn no_name_or_address_adds_a_line_or_a_brace(tap in "\\PC{0,20}|[a-z\"{};\n#.-]{0,15}", mac: [u8; 6], ip: u32) {
            if let Ok(tap) = tap.parse::<LinkName>() {
                let guest = Guest { tap, mac, addresses: vec![ip.into()] };
                let (odd, plain) = (table(&name(), &elements(&[guest])), table(&name(), &elements(&[self::guest(10)])));
                prop_assert_eq!(odd.lines().count(), plain.lines().count());
                for sign in ['{', '}', '"', ';', '#'] {
                    prop_assert_eq!(odd.matches(sign).count(), plain.matches(sign).count());
                }
            }
        }
    }
}
