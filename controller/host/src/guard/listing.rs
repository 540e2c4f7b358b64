//! What nft lists, as far as we compare it.

use serde_json::Value;

use super::{Element, Elements};

/// One table as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Its sets' types, chains and rules, without the numbers that the kernel gives them; none when there is no table.
    pub(super) rules: Option<String>,
    pub(super) elements: Elements,
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
            if let Some(elements) = fields.remove("elem") {
                found.elements.extend(elements.as_array().into_iter().flatten().map(element));
            }
        }
        rules.push_str(&format!("{kind} {object}\n"));
    }
    found.rules = Some(rules).filter(|rules| !rules.is_empty());
    Ok(found)
}

fn element(listed: &Value) -> Element {
    let parts = listed["concat"].as_array().map(Vec::as_slice).unwrap_or_default();
    let part = |index: usize| parts.get(index).and_then(Value::as_str).unwrap_or_default().to_owned();
    match parts.len() {
        2 => Element::Guest(part(0), part(1)),
        _ => Element::Address(part(0), part(1), part(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_kernel_and_other_tables_do_not_count_but_every_rule_does() {
        let listed = |handle: u32, verdict: &str, other: &str| {
            format!(
                r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}},
                {{"table": {{"family": "bridge", "name": "ours", "handle": {handle}}}}},
                {{"set": {{"family": "bridge", "name": "guests", "table": "ours", "handle": 4,
                  "elem": [{{"concat": ["tap1", "52:54:00:00:00:0a"]}}]}}}},
                {{"rule": {{"table": "ours", "chain": "guard", "handle": {handle}, "expr": [{{"{verdict}": null}}]}}}},
                {{"rule": {{"table": "{other}", "chain": "guard", "handle": 9, "expr": [{{"accept": null}}]}}}}]}}"#
            )
        };
        let read = |text: String| parse(text.as_bytes(), "ours").unwrap();
        let first = read(listed(1, "drop", "theirs"));
        assert_eq!(first.elements, [Element::Guest("tap1".into(), "52:54:00:00:00:0a".into())].into());
        assert_eq!(read(listed(2, "drop", "theirs")), first);
        assert_ne!(read(listed(1, "accept", "theirs")).rules, first.rules);
        assert_ne!(read(listed(1, "drop", "ours")).rules, first.rules);
        assert_eq!(read(r#"{"nftables": []}"#.into()), Found::default());
    }
}
