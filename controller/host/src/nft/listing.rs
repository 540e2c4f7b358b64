//! What nft lists, as far as we compare it.
//!
//! An element is read back in the words in which it was written, which the types of its set decide: names of links and of limits
//! are quoted. Elements that the kernel itself adds and forgets (of sets with a timeout) are nobody's to compare.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// One element of one set, or of a map when it leads somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) set: String,
    pub(crate) key: String,
    pub(crate) leads_to: Option<String>,
}

/// Everything that carries one table's name, as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Sets' types, chains and rules, without the numbers that the kernel gives them; none when there is no table.
    pub(crate) rules: Option<String>,
    pub(crate) elements: BTreeSet<Element>,
    /// How many transactions the namespace had seen then, if that is known.
    pub(crate) generation: Option<u32>,
}

/// Reads a listing in JSON.
pub(super) fn parse(listed: &[u8], table: &str) -> Result<Found, serde_json::Error> {
    let listed: Value = serde_json::from_slice(listed)?;
    let mut found = Found::default();
    let mut rules = String::new();
    for entry in listed["nftables"].as_array().into_iter().flatten() {
        let Some((kind, object)) = entry.as_object().and_then(|entry| entry.iter().next()) else { continue };
        let of_it = if kind == "table" { &object["name"] } else { &object["table"] };
        if of_it != table {
            continue;
        }
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("handle");
            if let Some(elements) = fields.remove("elem")
                && !fields.contains_key("timeout")
            {
                let elements = elements.as_array().into_iter().flatten();
                found.elements.extend(elements.map(|one| element(fields, one)));
            }
        }
        rules.push_str(&format!("{kind} {object}\n"));
    }
    found.rules = Some(rules).filter(|rules| !rules.is_empty());
    Ok(found)
}

/// An element of a set whose name and types stand in `fields`. Those of a map come as pairs.
fn element(fields: &Map<String, Value>, listed: &Value) -> Element {
    let set = fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let types = fields.get("type").unwrap_or(&Value::Null);
    match listed.as_array().map(Vec::as_slice) {
        Some([key, value]) => {
            let leads_to = match value["goto"]["target"].as_str() {
                Some(chain) => format!("goto {chain}"),
                None => word(value, fields.get("map").unwrap_or(&Value::Null)),
            };
            Element { set, key: words(key, types), leads_to: Some(leads_to) }
        }
        _ => Element { set, key: words(listed, types), leads_to: None },
    }
}

fn words(listed: &Value, types: &Value) -> String {
    match (listed["concat"].as_array(), types.as_array()) {
        (Some(parts), Some(types)) => {
            parts.iter().zip(types).map(|(part, of)| word(part, of)).collect::<Vec<_>>().join(" . ")
        }
        _ => word(listed, types),
    }
}

fn word(listed: &Value, of: &Value) -> String {
    match (listed.as_str(), of.as_str()) {
        (Some(name), Some("ifname" | "limit")) => format!("\"{name}\""),
        (Some(text), _) => text.to_owned(),
        (None, _) => listed.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Found {
        parse(text.as_bytes(), "ours").unwrap()
    }

    #[test]
    fn numbers_of_the_kernel_and_other_tables_do_not_count_but_every_rule_does() {
        let listed = |handle: u32, verdict: &str, other: &str| {
            read(&format!(
                r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}},
                {{"table": {{"family": "bridge", "name": "ours", "handle": {handle}}}}},
                {{"set": {{"family": "bridge", "name": "guests", "table": "ours", "type": ["ifname", "ether_addr"],
                  "handle": 4, "elem": [{{"concat": ["tap1", "52:54:00:00:00:0a"]}}]}}}},
                {{"rule": {{"table": "ours", "chain": "guard", "handle": {handle}, "expr": [{{"{verdict}": null}}]}}}},
                {{"rule": {{"table": "{other}", "chain": "guard", "handle": 9, "expr": [{{"accept": null}}]}}}}]}}"#
            ))
        };
        let first = listed(1, "drop", "theirs");
        let guest = Element { set: "guests".into(), key: "\"tap1\" . 52:54:00:00:00:0a".into(), leads_to: None };
        assert_eq!(first.elements, [guest].into());
        assert_eq!(listed(2, "drop", "theirs"), first);
        assert_ne!(listed(1, "accept", "theirs").rules, first.rules);
        assert_ne!(listed(1, "drop", "ours").rules, first.rules);
        assert_eq!(read(r#"{"nftables": []}"#), Found::default());
    }

    #[test]
    fn elements_are_read_in_the_words_they_were_written_in_unless_the_kernel_adds_them() {
        let found = read(
            r#"{"nftables": [
            {"map": {"name": "a", "table": "ours", "type": "ifname", "map": "verdict",
              "elem": [["tap1", {"goto": {"target": "to_1"}}]]}},
            {"map": {"name": "b", "table": "ours", "type": "ifname", "map": "limit", "elem": [["tap1", "slow"]]}},
            {"map": {"name": "c", "table": "ours", "type": ["inet_proto", "ipv4_addr", "inet_service"], "map": "verdict",
              "elem": [[{"concat": ["tcp", "10.1.0.50", 80]}, {"goto": {"target": "svc"}}]]}},
            {"map": {"name": "d", "table": "ours", "type": "integer", "map": "mark", "elem": [[0, 12]]}},
            {"map": {"name": "e", "table": "ours", "type": "ipv4_addr", "map": "mark", "timeout": 10,
              "elem": [[{"elem": {"val": "10.1.0.9", "expires": 3}}, 12]]}},
            {"set": {"name": "f", "table": "ours", "type": "ipv4_addr", "elem": ["10.1.0.7"]}}]}"#,
        );
        let all: Vec<_> = found.elements.iter().map(|one| (one.key.as_str(), one.leads_to.as_deref())).collect();
        let led = |key, to| (key, Some(to));
        assert_eq!(
            all,
            [
                led("\"tap1\"", "goto to_1"),
                led("\"tap1\"", "\"slow\""),
                led("tcp . 10.1.0.50 . 80", "goto svc"),
                led("0", "12"),
                ("10.1.0.7", None)
            ]
        );
    }
}
