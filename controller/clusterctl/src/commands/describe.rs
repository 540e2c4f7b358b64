//! `describe`: an object as a person reads it, and what happened to it.

use super::api::read;
use super::apply::LAST_APPLIED;
use super::catalog::{Catalog, Resource};
use super::get::{self, Target};
use super::{events, fields, jsonpath};
use crate::print::age;
use crate::print::table::Table;
use anyhow::Result;
use jiff::Timestamp;
use kube::Client;
use serde_json::{Map, Value};
use std::process::ExitCode;

/// What to describe.
#[derive(clap::Args, Debug)]
pub struct DescribeArgs {
    /// Kind, or `kind/name`; then names.
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    pub targets: Vec<String>,
    /// Label selector.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Leave out the events.
    #[arg(long)]
    pub no_events: bool,
}

/// Describes what was asked for; what is not there is reported and does not hold up the rest.
pub async fn run(client: &Client, namespace: &str, args: &DescribeArgs) -> Result<ExitCode> {
    let catalog = Catalog::load(client).await?;
    let mut code = ExitCode::SUCCESS;
    let mut texts = Vec::new();
    for target in get::targets(&catalog, &args.targets)? {
        for url in urls(namespace, args, &target) {
            let answer = match read(client, &url).await {
                Ok(answer) => answer,
                Err(error) if error.downcast_ref::<kube::Error>().is_none() => {
                    eprintln!("error: {error:#}");
                    code = ExitCode::FAILURE;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let objects = answer["items"].as_array().cloned().unwrap_or_else(|| vec![answer]);
            for object in objects {
                let events = if args.no_events { None } else { Some(happened(client, &object).await?) };
                texts.push(render(&target.resource, &object, events.as_deref(), Timestamp::now()));
            }
        }
    }
    if texts.is_empty() && code == ExitCode::SUCCESS {
        eprintln!("No resources found in {namespace} namespace.");
    }
    print!("{}", texts.join("\n\n"));
    Ok(code)
}

fn urls(namespace: &str, args: &DescribeArgs, target: &Target) -> Vec<String> {
    if target.names.is_empty() {
        let url = target.resource.collection((!args.all_namespaces).then_some(namespace));
        return vec![get::selected(&url, args.selector.as_deref(), None)];
    }
    target.names.iter().map(|name| target.resource.object(namespace, name)).collect()
}

async fn happened(client: &Client, object: &Value) -> Result<Vec<Value>> {
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let url = get::selected("/api/v1/events", None, Some(&format!("involvedObject.uid={uid}")));
    let list = read(client, &url).await?;
    let mut found = list["items"].as_array().cloned().unwrap_or_default();
    events::sort(&mut found);
    Ok(found)
}

/// The whole text.
fn render(resource: &Resource, object: &Value, events: Option<&[Value]>, now: Timestamp) -> String {
    let metadata = &object["metadata"];
    let mut head = vec![("Name", vec![metadata["name"].as_str().unwrap_or_default().to_owned()])];
    if let Some(namespace) = metadata["namespace"].as_str() {
        head.push(("Namespace", vec![namespace.to_owned()]));
    }
    head.push(("Labels", pairs(&metadata["labels"])));
    head.push(("Annotations", pairs(&metadata["annotations"])));
    head.push(("API Version", vec![resource.api_version()]));
    head.push(("Kind", vec![resource.kind.clone()]));
    let mut text = String::new();
    for (label, values) in head {
        for (index, value) in values.iter().enumerate() {
            let label = if index == 0 { format!("{label}:") } else { String::new() };
            text.push_str(format!("{label:<14}{value}\n").as_str());
        }
    }
    text.push_str("Metadata:\n");
    text.push_str(&fields::render(&without(metadata, &HEAD), 1));
    for (name, value) in body(resource, object) {
        let title = format!("{}:", fields::title(&name));
        if DATA.contains(&name.as_str()) {
            text.push_str(&format!("{title}\n{}", data(&value)));
        } else if value.is_object() || value.is_array() {
            text.push_str(&format!("{title}\n{}", fields::render(&value, 1)));
        } else {
            text.push_str(&format!("{title:<14}{}\n", jsonpath::word(&value)));
        }
    }
    if let Some(conditions) = object["status"]["conditions"].as_array().filter(|list| !list.is_empty()) {
        text.push_str("Conditions:\n");
        text.push_str(&indented(&conditions_table(conditions, now)));
    }
    match events {
        None => {}
        Some([]) => text.push_str("Events:         <none>\n"),
        Some(events) => {
            text.push_str("Events:\n");
            text.push_str(&indented(&events_table(events, now)));
        }
    }
    text
}

/// Fields whose keys are the user's own words.
const DATA: [&str; 3] = ["data", "stringData", "binaryData"];

fn data(map: &Value) -> String {
    let map = map.as_object().into_iter().flatten();
    map.map(|(key, value)| format!("  {key}: {}\n", jsonpath::word(value).trim_end().replace('\n', "\n    "))).collect()
}

/// Fields of the metadata that stand at the head, or nowhere.
const HEAD: [&str; 5] = ["name", "namespace", "labels", "annotations", "managedFields"];

fn without(value: &Value, names: &[&str]) -> Value {
    let map = value.as_object().into_iter().flatten();
    Value::Object(
        map.filter(|(name, _)| !names.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect(),
    )
}

/// Spec, status and what else the object has; conditions come by themselves, and a secret's values do not come at all.
fn body(resource: &Resource, object: &Value) -> Map<String, Value> {
    let mut body = Map::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let value = match name.as_str() {
            "apiVersion" | "kind" | "metadata" => continue,
            "status" => without(value, &["conditions"]),
            "data" | "stringData" if resource.kind == "Secret" => sizes(value),
            _ => value.clone(),
        };
        body.insert(name.clone(), value);
    }
    body
}

fn sizes(data: &Value) -> Value {
    use base64::Engine;
    let size = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD.decode(text).map_or(text.len(), |bytes| bytes.len())
    };
    let map = data.as_object().into_iter().flatten();
    Value::Object(map.map(|(name, value)| (name.clone(), format!("{} bytes", size(value)).into())).collect())
}

fn pairs(map: &Value) -> Vec<String> {
    let map = map.as_object().into_iter().flatten().filter(|(key, _)| *key != LAST_APPLIED);
    let pairs: Vec<String> = map.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { vec!["<none>".to_owned()] } else { pairs }
}

fn conditions_table(conditions: &[Value], now: Timestamp) -> Table {
    let headings = ["Type", "Status", "Reason", "Age", "Message"];
    let mut table = Table::new(headings.into_iter().map(str::to_owned).collect());
    for condition in conditions {
        let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        let since = age::of(&text("lastTransitionTime"), now);
        table.push(vec![text("type"), text("status"), text("reason"), since, text("message")]);
    }
    table
}

fn events_table(happened: &[Value], now: Timestamp) -> Table {
    let headings = ["Type", "Reason", "Age", "From", "Message"];
    let mut table = Table::new(headings.into_iter().map(str::to_owned).collect());
    for event in happened {
        let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
        let from = [&event["reportingComponent"], &event["source"]["component"]];
        let from = from.into_iter().map(text).find(|from| !from.is_empty()).unwrap_or_default();
        table.push(vec![
            text(&event["type"]),
            text(&event["reason"]),
            events::seen(event, now),
            from,
            text(&event["message"]),
        ]);
    }
    table
}

fn indented(table: &Table) -> String {
    table.render(true).lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> Resource {
        Resource {
            group: "photoncloud.dev".to_owned(),
            version: "v1alpha1".to_owned(),
            plural: "nodes".to_owned(),
            singular: "node".to_owned(),
            kind: "Node".to_owned(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: Vec::new(),
        }
    }

    #[test]
    fn an_object_is_nested_as_it_is_with_conditions_and_events_last() {
        let object = json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Node",
            "metadata": {"name": "node01", "namespace": "default", "generation": 2, "labels": {"a": "1", "b": "2"},
                "annotations": {LAST_APPLIED: "{}"}, "managedFields": [], "finalizers": ["photoncloud.dev/agent"],
                "ownerReferences": [{"kind": "Cluster", "name": "smoke", "uid": "u"}]},
            "spec": {"cluster": "smoke", "dependsOn": [{"node": "node00", "until": "Ready"}], "empty": {}},
            "status": {"phase": "Ready", "bootSeconds": 4.5, "conditions": [
                {"type": "Ready", "status": "True", "reason": "Booted", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "up"}]},
        });
        let event = json!({"type": "Normal", "reason": "Started", "message": "machine started", "reportingComponent": "agent",
            "eventTime": "2026-01-01T00:00:00Z"});
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        insta::assert_snapshot!(render(&node(), &object, Some(&[event]), now));
        assert!(
            render(&node(), &json!({"metadata": {"name": "x"}}), Some(&[]), now).ends_with("Events:         <none>\n")
        );
    }

    #[test]
    fn a_secrets_values_are_not_shown() {
        let secret = Resource { kind: "Secret".to_owned(), group: String::new(), ..node() };
        let object = json!({"metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}});
        let text = render(&secret, &object, None, Timestamp::UNIX_EPOCH);
        assert!(text.contains("  password: 7 bytes") && !text.contains("aHVudGVyMg"), "{text}");
    }
}
