//! A router's way out: under which address those inside are seen, and what leads in.
//!
//! ```text
//!  inside ─► router's namespace ─► link ─► outside
//!             postrouting: who has an address of its own is seen under that, all others under the router's
//!  inside ◄─ prerouting: floating[address] ◄─ link ◄─ outside
//! ```
//!
//! From outside nothing enters but what was asked for from inside, and what is sent to a floating address. Who is inside reaches floating
//! addresses of this router, too, and is seen there under the router's: the answer has to come back here.
//!
//! The kernel translates a conversation as it began, whatever the maps say by then. So of those under way only such pass as would be
//! translated in the same way today: with an address that is taken away, or leads to somebody else, go the conversations by it.
//!
//! The namespace is the router's alone, and so is its table of connections: two routers may have the same ranges inside.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::link::{Change, Changes, LinkName};
use crate::nft::{self, Done, Element, Family, Table};

pub use crate::nft::{Error, Place, Result, Stands};

/// Which target a floating address leads to.
const FLOATING: &str = "floating";
/// Which floating address a target is seen under.
const OWN: &str = "own";
/// The same as in [`FLOATING`], as pairs: whom conversations from outside may have been led to.
const LED: &str = "led";
/// Under which addresses conversations to outside may be seen.
const SEEN: &str = "seen";

/// A way out as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The link that leads out.
    pub link: LinkName,
    /// The address under which all is seen that has none of its own.
    pub address: Ipv4Addr,
    /// Floating addresses, each with whom it leads to; each once. Of several that lead to one the first is the one it is seen under.
    pub floating: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// The ranges inside.
    pub inside: Vec<Ipv4Net>,
}

/// Makes the table be in the router's namespace. The link need not be there yet.
///
/// # Errors
/// nft's; until it succeeds what was there stands.
pub async fn ensure(place: &Place, wanted: &Outside, stands: &mut Stands) -> Result<Changes> {
    let found = nft::look_in(place, Family::Inet).await?;
    let name = &place.table;
    Ok(match nft::ensure(place, &[Family::Inet], table(wanted), &found, stands).await? {
        Done::Nothing => Changes::default(),
        Done::Whole => Change::new("WayOutWritten", format!("wrote the way out {name}")).into(),
        Done::Changed(lines) => {
            Change::new("WayOutChanged", format!("changed the way out {name} with {lines} instructions")).into()
        }
    })
}

/// Takes the table away. That there is none is as well.
///
/// # Errors
/// nft's.
pub async fn remove(place: &Place) -> Result<()> {
    nft::remove(place, &[Family::Inet]).await
}

fn table(wanted: &Outside) -> Table {
    let Outside { link, address, floating, inside } = wanted;
    let mut table = Table::default();
    for map in [FLOATING, OWN] {
        table.sets.insert(map.to_owned(), "type ipv4_addr : ipv4_addr".to_owned());
    }
    table.sets.insert(LED.to_owned(), "type ipv4_addr . ipv4_addr".to_owned());
    table.sets.insert(SEEN.to_owned(), "type ipv4_addr".to_owned());
    // Ranges that overlap cannot stand in one set.
    let inside: Vec<String> = Ipv4Net::aggregate(inside).iter().map(ToString::to_string).collect();
    let inside = format!("{{ {} }}", inside.join(", "));
    let mut chain = |name: &str, lines: Vec<String>| table.chains.insert(name.to_owned(), lines);
    chain(
        "arriving",
        vec![
            "type nat hook prerouting priority -100; policy accept;".to_owned(),
            format!("dnat ip to ip daddr map @{FLOATING}"),
        ],
    );
    chain(
        "leaving",
        vec![
            "type nat hook postrouting priority 100; policy accept;".to_owned(),
            format!("oifname \"{link}\" snat ip to ip saddr map @{OWN}"),
            format!("oifname \"{link}\" ip saddr != {address} snat ip to {address}"),
            format!("oifname != \"{link}\" ct status dnat ip saddr {inside} snat ip to {address}"),
        ],
    );
    chain(
        "passing",
        vec![
            "type filter hook forward priority 0; policy accept;".to_owned(),
            format!("ct status dnat ct original ip daddr . ct reply ip saddr != @{LED} drop"),
            format!("ct status snat ct reply ip daddr != @{SEEN} drop"),
            // What belongs to no connection would leave untranslated.
            format!("oifname \"{link}\" ct state invalid drop"),
            format!("iifname \"{link}\" ip saddr {inside} drop"),
            format!("iifname \"{link}\" ct state established,related accept"),
            format!("iifname \"{link}\" ct status dnat accept"),
            format!("iifname \"{link}\" drop"),
        ],
    );
    let member = |set: &str, key: String| Element { set: set.to_owned(), key, leads_to: None };
    table.elements.insert(member(SEEN, address.to_string()));
    for (at, (address, target)) in floating.iter().enumerate() {
        table.elements.insert(element(FLOATING, *address, *target));
        table.elements.insert(member(LED, format!("{address} . {target}")));
        table.elements.insert(member(SEEN, address.to_string()));
        if floating[..at].iter().all(|(_, other)| other != target) {
            table.elements.insert(element(OWN, *target, *address));
        }
    }
    table
}

fn element(map: &str, key: Ipv4Addr, leads_to: Ipv4Addr) -> Element {
    Element { set: map.to_owned(), key: key.to_string(), leads_to: Some(leads_to.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{difference, whole};

    fn outside(floating: &[([u8; 4], [u8; 4])]) -> Outside {
        Outside {
            link: "ux1".parse().unwrap(),
            address: [203, 0, 113, 1].into(),
            floating: floating.iter().map(|(address, target)| ((*address).into(), (*target).into())).collect(),
            inside: ["10.1.0.0/24", "10.1.0.0/16"].map(|text| text.parse().unwrap()).to_vec(),
        }
    }

    #[test]
    fn nothing_enters_that_is_not_asked_for_or_led_in() {
        let name = "nt1".parse().unwrap();
        let wanted = outside(&[([203, 0, 113, 9], [10, 1, 0, 7]), ([203, 0, 113, 8], [10, 1, 0, 7])]);
        insta::assert_snapshot!(whole(&[Family::Inet], &name, &table(&wanted)));
    }

    #[test]
    fn an_address_that_leads_to_another_is_two_elements_of_each_map_and_of_the_pairs() {
        let name = "nt1".parse().unwrap();
        let before = table(&outside(&[([203, 0, 113, 9], [10, 1, 0, 7])]));
        let Table { sets, limits, chains, beside, .. } = before.clone();
        let stands = Stands { sets, limits, chains, beside, listed: Some("as written".into()) };
        let after = table(&outside(&[([203, 0, 113, 9], [10, 1, 0, 8])]));
        let script = difference(Family::Inet, &name, &stands, &after, &before.elements);
        assert_eq!(script.lines().count(), 6, "{script}");
        assert!(script.lines().all(|line| line.contains(" element ")), "{script}");
    }
}
