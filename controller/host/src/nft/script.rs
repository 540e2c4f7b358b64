//! Scripts for nft: each is one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::Element;
use super::table::{Family, Stands, Table};
use crate::link::LinkName;

/// Whatever carries the name in these families, taken away.
pub(crate) fn removal(families: &[Family], name: &LinkName) -> String {
    // Making it first lets the deletion succeed where there is none.
    let one = |family: &Family| {
        let family = family.word();
        format!("table {family} {name}\ndelete table {family} {name}\n")
    };
    families.iter().map(one).collect()
}

/// The table in the first family, and what is beside it in the others, put in place of what carries the name.
pub(crate) fn whole(families: &[Family], name: &LinkName, table: &Table) -> String {
    let mut text = removal(families, name);
    let Some(family) = families.first().copied() else { return text };
    text.push_str(&format!("table {} {name} {{\n", family.word()));
    for (limit, rate) in &table.limits {
        text.push_str(&format!("  limit {limit} {{ {rate}; }}\n"));
    }
    for (set, types) in &table.sets {
        text.push_str(&format!("  {} {set} {{ {types}; }}\n", noun(types)));
    }
    for (chain, lines) in &table.chains {
        text.push_str(&format!("  chain {chain} {{\n"));
        lines.iter().for_each(|line| text.push_str(&format!("    {line}\n")));
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text.push_str(&elements("add", family, name, table.elements.iter()));
    text.push_str(&table.beside);
    text
}

/// From what was written before to what is wanted; empty when that is there. First makes what is new, so that the rest can
/// speak of it, and last takes away what nobody speaks of any more.
pub(crate) fn difference(
    family: Family,
    name: &LinkName,
    before: &Stands,
    wanted: &Table,
    found: &BTreeSet<Element>,
) -> String {
    let table = format!("{} {name}", family.word());
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let new_limits = wanted.limits.iter().filter(|(limit, _)| !before.limits.contains_key(*limit));
    new_limits.for_each(|(limit, rate)| say(format!("add limit {table} {limit} {{ {rate}; }}")));
    let new_sets = wanted.sets.iter().filter(|(set, _)| !before.sets.contains_key(*set));
    new_sets.for_each(|(set, types)| say(format!("add {} {table} {set} {{ {types}; }}", noun(types))));
    for chain in wanted.chains.keys().filter(|chain| !before.chains.contains_key(*chain)) {
        say(format!("add chain {table} {chain}"));
    }
    let changed = || wanted.chains.iter().filter(|(chain, lines)| before.chains.get(*chain) != Some(lines));
    let gone = |chain: &&String| !wanted.chains.contains_key(*chain);
    for chain in changed().map(|(chain, _)| chain).filter(|chain| before.chains.contains_key(*chain)) {
        say(format!("flush chain {table} {chain}"));
    }
    let excess = found.iter().filter(|one| !wanted.elements.contains(*one) && wanted.sets.contains_key(&one.set));
    let deleted = elements("delete", family, name, excess);
    deleted.lines().for_each(|line| say(line.to_owned()));
    for (chain, lines) in changed() {
        // The first line of a chain with a hook declares it, which a flush leaves.
        let rules = lines.iter().filter(|line| !line.starts_with("type "));
        rules.for_each(|line| say(format!("add rule {table} {chain} {line}")));
    }
    let added = elements("add", family, name, wanted.elements.difference(found));
    added.lines().for_each(|line| say(line.to_owned()));
    before.chains.keys().filter(gone).for_each(|chain| say(format!("flush chain {table} {chain}")));
    before.chains.keys().filter(gone).for_each(|chain| say(format!("delete chain {table} {chain}")));
    for limit in before.limits.keys().filter(|limit| !wanted.limits.contains_key(*limit)) {
        say(format!("delete limit {table} {limit}"));
    }
    for (set, types) in before.sets.iter().filter(|(set, _)| !wanted.sets.contains_key(*set)) {
        say(format!("delete {} {table} {set}", noun(types)));
    }
    text
}

/// One line for each set concerned.
fn elements<'a>(verb: &str, family: Family, name: &LinkName, all: impl Iterator<Item = &'a Element>) -> String {
    let family = family.word();
    let mut by_set: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in all {
        let key = &one.key;
        let text = one.leads_to.as_ref().map_or_else(|| key.clone(), |chain| format!("{key} : {chain}"));
        by_set.entry(&one.set).or_default().push(text);
    }
    let line =
        |(set, all): (&str, Vec<String>)| format!("{verb} element {family} {name} {set} {{ {} }}\n", all.join(", "));
    by_set.into_iter().map(line).collect()
}

/// A map's declaration says what its keys lead to.
fn noun(types: &str) -> &'static str {
    if types.contains(" : ") { "map" } else { "set" }
}
