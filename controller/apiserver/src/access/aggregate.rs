//! Roles made of other roles.
//!
//! A ClusterRole with an `aggregationRule` holds the rules of all ClusterRoles whose labels it selects: a new kind adds
//! itself to `view` and `edit` by a labelled role of its own. Its rules are the server's; what somebody writes there is
//! overwritten. Roles that aggregate may be aggregated in turn, so one round may call for another.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use store::{Consistency, Entry, Event};

use super::policy::GROUP;
use crate::error::Error;
use crate::object::{Object, meta};
use crate::server::Server;
use crate::storage;
use crate::tasks::{Follower, follow};
use crate::write::Change;

/// Wait after a failed round.
const AGAIN: Duration = Duration::from_secs(1);
/// Rounds in one go. Roles that select each other settle too, because rules are only ever added up.
const ROUNDS: usize = 16;

struct Aggregation {
    server: Arc<Server>,
    look: bool,
}

/// Runs for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let follower = Aggregation { server: server.clone(), look: true };
    follow(&server, server.options.garbage_scan, follower).await;
}

impl Follower for Aggregation {
    fn relisted(&mut self, _: &[Entry]) {
        self.look = true;
    }

    fn seen(&mut self, event: &Event) {
        let key = storage::parse_key(&self.server.store, &event.entry.key);
        self.look |= key.is_some_and(|key| key.is(GROUP, "clusterroles"));
    }

    async fn settle(&mut self) -> Option<Duration> {
        if std::mem::take(&mut self.look)
            && let Err(error) = self.server.aggregate_roles().await
        {
            tracing::warn!(%error, "cluster roles not aggregated");
            self.look = true;
            return Some(AGAIN);
        }
        None
    }
}

impl Server {
    /// Makes every aggregating role hold the rules it selects.
    pub(super) async fn aggregate_roles(&self) -> Result<(), Error> {
        let resource = self.builtin(GROUP, "clusterroles")?;
        for _ in 0..ROUNDS {
            let prefix = storage::prefix(&self.store, &resource.definition, None);
            let (entries, _) = self.store.list(&prefix, Consistency::Any).await?;
            let roles: Vec<Arc<Object>> = entries.iter().filter_map(|entry| Object::of(entry).ok()).collect();
            let all: Vec<&Value> = roles.iter().map(|role| &role.value).collect();
            let mut changed = false;
            for role in &all {
                let Some(rules) = aggregated(role, &all) else { continue };
                if role["rules"] == rules {
                    continue;
                }
                changed = true;
                let change = |object: &Arc<Object>| {
                    let mut new = object.value.clone();
                    if new["rules"] == rules || selectors(&new).is_empty() {
                        return Ok(Change::Keep);
                    }
                    new["rules"] = rules.clone();
                    Ok(Change::Put(new))
                };
                match self.modify(&resource, (None, meta(role, "name")), false, change).await {
                    Ok(_) | Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            if !changed {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn selectors(role: &Value) -> &[Value] {
    role["aggregationRule"]["clusterRoleSelectors"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The rules an aggregating role should hold; `None` when it is none.
fn aggregated(role: &Value, all: &[&Value]) -> Option<Value> {
    let selectors = selectors(role);
    if selectors.is_empty() {
        return None;
    }
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        // In order of their names, as the store has them: the result does not depend on who came first.
        let chosen = all.iter().filter(|other| meta(other, "name") != meta(role, "name") && selects(selector, other));
        for rule in chosen.flat_map(|other| other["rules"].as_array().into_iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(json!(rules))
}

/// Whether a label selector chooses an object; one that demands what we do not know chooses nothing.
fn selects(selector: &Value, object: &Value) -> bool {
    let label = |key: &str| object["metadata"]["labels"][key].as_str();
    let labels = selector["matchLabels"].as_object();
    let mut labels = labels.into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array();
    labels.all(|(key, value)| label(key).is_some_and(|found| value == found))
        && expressions.into_iter().flatten().all(|expression| {
            let found = expression["key"].as_str().and_then(label);
            let values = || expression["values"].as_array().into_iter().flatten();
            match expression["operator"].as_str() {
                Some("In") => found.is_some_and(|found| values().any(|value| value == found)),
                Some("NotIn") => found.is_none_or(|found| values().all(|value| value != found)),
                Some("Exists") => found.is_some(),
                Some("DoesNotExist") => found.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, labels: Value, rules: Value) -> Value {
        json!({"metadata": {"name": name, "labels": labels}, "rules": rules})
    }

    #[test]
    fn the_rules_of_all_selected_roles_are_put_together_once() {
        let mut view = role("view", json!({}), json!([{"verbs": ["stale"]}]));
        view["aggregationRule"] = json!({"clusterRoleSelectors": [
            {"matchLabels": {"to-view": "true"}}, {"matchExpressions": [{"key": "extra", "operator": "Exists"}]},
        ]});
        let one = role("one", json!({"to-view": "true"}), json!([{"verbs": ["get"]}, {"verbs": ["list"]}]));
        let two = role("two", json!({"extra": ""}), json!([{"verbs": ["list"]}, {"verbs": ["watch"]}]));
        let other = role("other", json!({"to-view": "false"}), json!([{"verbs": ["delete"]}]));
        let all = [&view, &one, &two, &other];
        let wanted = json!([{"verbs": ["get"]}, {"verbs": ["list"]}, {"verbs": ["watch"]}]);
        assert_eq!(aggregated(&view, &all), Some(wanted));
        assert_eq!(aggregated(&one, &all), None);
    }

    #[test]
    fn an_unknown_demand_selects_nothing() {
        let object = role("a", json!({"k": "v"}), json!([]));
        for (selector, chosen) in [
            (json!({}), true),
            (json!({"matchLabels": {"k": "v"}}), true),
            (json!({"matchLabels": {"k": "w"}}), false),
            (json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}), true),
            (json!({"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["v"]}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "k", "operator": "Loves"}]}), false),
        ] {
            assert_eq!(selects(&selector, &object), chosen, "{selector}");
        }
    }
}
