//! Scripts for nft: each is one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::{Element, Stands, Table};
use crate::link::LinkName;

/// Whatever carries the name, taken away.
pub(super) fn removal(name: &LinkName) -> String {
    // Making it first lets the deletion succeed where there is none.
    ["bridge", "inet"].map(|family| format!("table {family} {name}\ndelete table {family} {name}\n")).concat()
}

/// Both tables, put in place of what carries the name.
pub(super) fn whole(name: &LinkName, table: &Table) -> String {
    let mut text = removal(name);
    text.push_str(&format!("table bridge {name} {{\n"));
    for (limit, rate) in &table.limits {
        text.push_str(&format!("  limit {limit} {{ {rate}; }}\n"));
    }
    for (set, types) in &table.sets {
        text.push_str(&format!("  {} {set} {{ type {types}; }}\n", noun(types)));
    }
    for (chain, lines) in &table.chains {
        text.push_str(&format!("  chain {chain} {{\n"));
        lines.iter().for_each(|line| text.push_str(&format!("    {line}\n")));
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text.push_str(&elements("add", name, table.elements.iter()));
    text.push_str(&table.answers);
    text
}

/// From what was written before to what is wanted; empty when that is there. First makes what is new, so that the rest can
/// speak of it, and last takes away what nobody speaks of any more.
pub(super) fn difference(name: &LinkName, before: &Stands, wanted: &Table, found: &BTreeSet<Element>) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let new_limits = wanted.limits.iter().filter(|(limit, _)| !before.limits.contains_key(*limit));
    new_limits.for_each(|(limit, rate)| say(format!("add limit bridge {name} {limit} {{ {rate}; }}")));
    let new_sets = wanted.sets.iter().filter(|(set, _)| !before.sets.contains_key(*set));
    new_sets.for_each(|(set, types)| say(format!("add {} bridge {name} {set} {{ type {types}; }}", noun(types))));
    for chain in wanted.chains.keys().filter(|chain| !before.chains.contains_key(*chain)) {
        say(format!("add chain bridge {name} {chain}"));
    }
    let changed = || wanted.chains.iter().filter(|(chain, lines)| before.chains.get(*chain) != Some(lines));
    let gone = |chain: &&String| !wanted.chains.contains_key(*chain);
    for chain in changed().map(|(chain, _)| chain).filter(|chain| before.chains.contains_key(*chain)) {
        say(format!("flush chain bridge {name} {chain}"));
    }
    let excess = found.iter().filter(|one| !wanted.elements.contains(*one) && wanted.sets.contains_key(&one.set));
    let deleted = elements("delete", name, excess);
    deleted.lines().for_each(|line| say(line.to_owned()));
    for (chain, lines) in changed() {
        // The first line of a chain with a hook declares it, which a flush leaves.
        let rules = lines.iter().filter(|line| !line.starts_with("type "));
        rules.for_each(|line| say(format!("add rule bridge {name} {chain} {line}")));
    }
    let added = elements("add", name, wanted.elements.difference(found));
    added.lines().for_each(|line| say(line.to_owned()));
    before.chains.keys().filter(gone).for_each(|chain| say(format!("flush chain bridge {name} {chain}")));
    before.chains.keys().filter(gone).for_each(|chain| say(format!("delete chain bridge {name} {chain}")));
    for limit in before.limits.keys().filter(|limit| !wanted.limits.contains_key(*limit)) {
        say(format!("delete limit bridge {name} {limit}"));
    }
    for (set, types) in before.sets.iter().filter(|(set, _)| !wanted.sets.contains_key(*set)) {
        say(format!("delete {} bridge {name} {set}", noun(types)));
    }
    text
}

/// One line for each set concerned.
fn elements<'a>(verb: &str, name: &LinkName, all: impl Iterator<Item = &'a Element>) -> String {
    let mut by_set: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in all {
        let key = &one.key;
        let text = one.leads_to.as_ref().map_or_else(|| key.clone(), |chain| format!("{key} : {chain}"));
        by_set.entry(&one.set).or_default().push(text);
    }
    let line =
        |(set, all): (&str, Vec<String>)| format!("{verb} element bridge {name} {set} {{ {} }}\n", all.join(", "));
    by_set.into_iter().map(line).collect()
}

fn noun(types: &str) -> &'static str {
    if types.contains(':') { "map" } else { "set" }
}
