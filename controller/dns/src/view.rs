//! Everything that one server knows, ready to be asked.
//!
//! Earlier parts win: a name of which an earlier part has records is not added to by a later one, so a tenant's own record
//! is what it says, and not what it says plus what was made by itself.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::part::{Part, Zone};
use crate::value;

/// How long the zone's own records may be remembered, in seconds.
const OWN_TTL: u32 = 300;
/// SOA timers that only secondaries read, of which there are none.
const REFRESH: i32 = 3600;
const RETRY: i32 = 600;
const EXPIRE: i32 = 86_400;

/// What is at a name.
pub(crate) type Node = HashMap<RecordType, Vec<Record>>;

/// All names of a tenant as one network sees them.
#[derive(Debug, Default)]
pub struct View {
    /// SOA by zone.
    zones: HashMap<String, Record>,
    /// Records by name; a name that only has others below it is here, empty.
    nodes: HashMap<String, Node>,
    /// Whether the rest is asked of others.
    pub(crate) forward: bool,
}

impl View {
    /// Puts the parts together. What is no record is left out: it was judged before, and a server must not stop for it.
    pub fn compile(parts: &[Part], serial: u32) -> View {
        let mut view = View { forward: parts.iter().any(|part| part.forward), ..View::default() };
        let server = parts.iter().find_map(|part| part.server);
        for part in parts {
            let mut taken = HashSet::new();
            for zone in &part.zones {
                view.add_soa(zone, serial);
            }
            for record in part.zones.iter().flat_map(|zone| &zone.records) {
                if !taken.contains(&record.name) {
                    if view.nodes.get(&record.name).is_some_and(|node| !node.is_empty()) {
                        continue;
                    }
                    taken.insert(record.name.clone());
                }
                view.add(record);
            }
        }
        view.add_own_records(server);
        view.add_names_between();
        view
    }

    fn add_soa(&mut self, zone: &Zone, serial: u32) {
        let Some(name) = value::on_the_wire(&zone.domain) else { return };
        let (server, mailbox) = (beneath("ns", &zone.domain), beneath("hostmaster", &zone.domain));
        let (Some(server), Some(mailbox)) = (value::on_the_wire(&server), value::on_the_wire(&mailbox)) else { return };
        let soa = SOA::new(server, mailbox, serial, REFRESH, RETRY, EXPIRE, zone.negative_ttl);
        self.zones.entry(zone.domain.clone()).or_insert_with(|| Record::from_rdata(name, OWN_TTL, RData::SOA(soa)));
    }

    fn add(&mut self, record: &crate::part::Record) {
        let Some(name) = value::on_the_wire(&record.name) else { return };
        let data = record.values.iter().filter_map(|text| value::parse(record.kind, text).ok());
        let records: Vec<Record> = data.map(|data| Record::from_rdata(name.clone(), record.ttl, data)).collect();
        if !records.is_empty() {
            let node = self.nodes.entry(record.name.clone()).or_default();
            node.entry(record.kind.on_the_wire()).or_insert(records);
        }
    }

    /// SOA and name server of each zone, and the name server's address unless the tenant has said otherwise.
    fn add_own_records(&mut self, server: Option<IpAddr>) {
        for (domain, soa) in &self.zones {
            if domain.is_empty() {
                continue;
            }
            let node = self.nodes.entry(domain.clone()).or_default();
            node.insert(RecordType::SOA, vec![soa.clone()]);
            let (text, Some(server)) = (beneath("ns", domain), server) else { continue };
            let Some(name) = value::on_the_wire(&text) else { continue };
            let own = |name: &Name, data| Record::from_rdata(name.clone(), OWN_TTL, data);
            node.insert(RecordType::NS, vec![own(&soa.name, RData::NS(NS(name.clone())))]);
            let data = match server {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            };
            let there = self.nodes.entry(text).or_default();
            if there.is_empty() {
                there.insert(data.record_type(), vec![own(&name, data)]);
            }
        }
    }

    /// A name above another one is there, even without records of its own (RFC 8020).
    fn add_names_between(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            let Some(zone) = self.zone_of(&name).map(|(domain, _)| domain.len()) else { continue };
            let mut rest = name.as_str();
            while let Some((_, above)) = rest.split_once('.') {
                if above.len() <= zone || self.nodes.contains_key(above) {
                    break;
                }
                self.nodes.insert(above.to_owned(), Node::new());
                rest = above;
            }
        }
    }

    /// The zone that the name is in, and its SOA. The one without a name has single labels alone, and of those that are asked
    /// of others only the known ones.
    pub(crate) fn zone_of(&self, name: &str) -> Option<(&str, &Record)> {
        let mut rest = name;
        loop {
            if let Some((domain, soa)) = self.zones.get_key_value(rest)
                && !domain.is_empty()
            {
                return Some((domain, soa));
            }
            match rest.split_once('.') {
                Some((_, above)) => rest = above,
                None => break,
            }
        }
        let single = !name.is_empty() && !name.contains('.') && (!self.forward || self.nodes.contains_key(name));
        single.then(|| self.zones.get("").map(|soa| ("", soa)))?
    }

    /// What is at the name: its own records, or those of the asterisk that stands for it (RFC 4592).
    pub(crate) fn node(&self, name: &str, zone: &str) -> Option<&Node> {
        if let Some(node) = self.nodes.get(name) {
            return Some(node);
        }
        let mut rest = name;
        while rest.len() > zone.len() {
            let (_, above) = rest.split_once('.')?;
            if let Some(node) = self.nodes.get(&format!("*.{above}")) {
                return Some(node);
            }
            if self.nodes.contains_key(above) {
                return None;
            }
            rest = above;
        }
        None
    }
}

fn beneath(label: &str, domain: &str) -> String {
    if domain.is_empty() { label.to_owned() } else { format!("{label}.{domain}") }
}
