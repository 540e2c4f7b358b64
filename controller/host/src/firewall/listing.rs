//! What nft lists of our two tables.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Element;

/// The tables as they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Sets' types, chains and rules, without the numbers that the kernel gives them; none when there is no table.
    pub(super) rules: Option<String>,
    pub(super) elements: BTreeSet<Element>,
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
                let set = fields.get("name").and_then(Value::as_str).unwrap_or_default();
                found.elements.extend(elements.as_array().into_iter().flatten().map(|one| element(set, one)));
            }
        }
        rules.push_str(&format!("{kind} {object}\n"));
    }
    found.rules = Some(rules).filter(|rules| !rules.is_empty());
    Ok(found)
}

fn element(set: &str, listed: &Value) -> Element {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match listed.as_array().map(Vec::as_slice) {
        Some([tap, verdict]) => Element {
            set: set.to_owned(),
            key: format!("\"{}\"", text(tap)),
            leads_to: Some(match verdict.as_str() {
                Some(limit) => format!("\"{limit}\""),
                None => format!("goto {}", text(&verdict["goto"]["target"])),
            }),
        },
        _ => Element { set: set.to_owned(), key: text(listed), leads_to: None },
    }
}
