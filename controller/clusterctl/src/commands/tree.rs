//! `tree`: who owns an object, and what it owns in turn.

use super::api::read;
use super::catalog::{Catalog, Resource};
use super::get;
use crate::print::Ending;
use crate::print::age;
use crate::print::table::Table;
use anyhow::{Result, bail};
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;

/// Whose tree.
#[derive(clap::Args, Debug)]
pub struct TreeArgs {
    /// The object.
    #[arg(required = true, num_args = 1..=2, value_name = "TYPE/NAME")]
    pub target: Vec<String>,
}

/// An object and its kind.
type Item = (Resource, Value);

/// Prints the tree.
pub async fn run(client: &Client, namespace: &str, args: &TreeArgs) -> Result<()> {
    let catalog = Catalog::load(client).await?;
    let target = get::targets(&catalog, &args.target)?.remove(0);
    let [name] = target.names.as_slice() else { bail!(Ending::Usage("name one object".to_owned())) };
    let object = read(client, &target.resource.object(namespace, name)).await?;
    let items = collect(client, &catalog, namespace).await?;
    print!("{}", render(&(target.resource, object), &items, Timestamp::now()));
    Ok(())
}

/// Everything that may own or be owned: all that can be listed, but for events.
async fn collect(client: &Client, catalog: &Catalog, namespace: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for resource in catalog.iter().filter(|r| r.verbs.iter().any(|verb| verb == "list") && r.kind != "Event") {
        let mut list = read(client, &resource.collection(Some(namespace))).await?;
        if let Value::Array(objects) = list["items"].take() {
            items.extend(objects.into_iter().map(|object| (resource.clone(), object)));
        }
    }
    Ok(items)
}

fn render(start: &Item, items: &[Item], now: Timestamp) -> String {
    let mut above: Vec<&Item> = Vec::new();
    let mut at = start;
    // An owner that owns itself by way of others would go on for ever.
    while let Some(owner) = owner(at, items).filter(|owner| above.len() < 32 && uid(owner) != uid(start)) {
        above.insert(0, owner);
        at = owner;
    }
    let mut table = Table::new(["NAME", "READY", "REASON", "AGE"].map(str::to_owned).to_vec());
    for (depth, item) in above.iter().enumerate() {
        table.push(row(&stem(depth), item, now));
    }
    let depth = above.len();
    table.push(row(&stem(depth), start, now));
    below(&mut table, start, items, &"   ".repeat(depth), now);
    table.render(true)
}

fn stem(depth: usize) -> String {
    if depth == 0 { String::new() } else { format!("{}└─ ", "   ".repeat(depth - 1)) }
}

fn below(table: &mut Table, item: &Item, items: &[Item], indent: &str, now: Timestamp) {
    let children: Vec<&Item> = items.iter().filter(|child| is_owner(uid(item), child)).collect();
    // Names are at most 253 long; a tree this deep is a ring.
    if indent.len() > 300 {
        return;
    }
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        table.push(row(&format!("{indent}{}", if last { "└─ " } else { "├─ " }), child, now));
        below(table, child, items, &format!("{indent}{}", if last { "   " } else { "│  " }), now);
    }
}

fn uid(item: &Item) -> &str {
    item.1["metadata"]["uid"].as_str().unwrap_or_default()
}

fn is_owner(uid: &str, child: &Item) -> bool {
    let owners = child.1["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.into_iter().any(|owner| owner["uid"] == uid)
}

/// The object's owner: the one that controls it, if any does.
fn owner<'a>(item: &Item, items: &'a [Item]) -> Option<&'a Item> {
    let owners = item.1["metadata"]["ownerReferences"].as_array()?;
    let main = owners.iter().find(|owner| owner["controller"] == true).or(owners.first())?;
    items.iter().find(|candidate| main["uid"] == uid(candidate))
}

fn row(stem: &str, (resource, object): &Item, now: Timestamp) -> Vec<String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let wanted = if resource.kind == "TestRun" { crds::condition::COMPLETE } else { crds::condition::READY };
    let condition = conditions.into_iter().find(|condition| condition["type"] == wanted);
    let text = |field: &str| condition.and_then(|c| c[field].as_str()).unwrap_or("-").to_owned();
    let created = object["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    vec![format!("{stem}{}/{name}", resource.singular), text("status"), text("reason"), age::of(created, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(kind: &str, name: &str, owner: Option<&str>) -> Item {
        let references = owner.map(|uid| json!([{"uid": uid, "controller": true}])).unwrap_or(Value::Null);
        let resource = Resource {
            group: "photoncloud.dev".to_owned(),
            version: "v1alpha1".to_owned(),
            plural: format!("{kind}s"),
            singular: kind.to_owned(),
            kind: kind.to_owned(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: Vec::new(),
        };
        let object = json!({"metadata": {"name": name, "uid": name, "ownerReferences": references,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Booted"}]}});
        (resource, object)
    }

    #[test]
    fn owners_stand_above_and_dependents_below() {
        let items = [
            item("cluster", "smoke", None),
            item("node", "node01", Some("smoke")),
            item("node", "node02", Some("smoke")),
            item("virtualmachine", "vm01", Some("node01")),
            item("port", "p1", Some("vm01")),
            item("port", "p2", Some("vm01")),
        ];
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        insta::assert_snapshot!(render(&items[1], &items, now), @r"
        NAME                        READY   REASON   AGE
        cluster/smoke               True    Booted   60s
        └─ node/node01              True    Booted   60s
           └─ virtualmachine/vm01   True    Booted   60s
              ├─ port/p1            True    Booted   60s
              └─ port/p2            True    Booted   60s
        ");
    }

    #[test]
    fn a_ring_of_owners_ends() {
        let items = [item("a", "x", Some("y")), item("a", "y", Some("x"))];
        assert!(render(&items[0], &items, Timestamp::UNIX_EPOCH).lines().count() < 200);
    }
}
