//! `auth can-i`: asks the server by a SelfSubjectAccessReview, or for all rules at once by a SelfSubjectRulesReview.

use super::super::api::{self, JSON};
use super::super::catalog::Catalog;
use super::super::output;
use crate::print::Ending;
use crate::print::table::Table;
use anyhow::{Context, Result, bail};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use std::process::ExitCode;

const GROUP: &str = "/apis/authorization.k8s.io/v1";

/// What may be done.
#[derive(clap::Args, Debug)]
pub struct CanIArgs {
    /// The verb (get, list, watch, create, update, patch, delete, deletecollection, impersonate, …, or `*`), and the kind,
    /// `kind/name`, `*`, or a path such as `/metrics`.
    #[arg(required_unless_present = "list", conflicts_with = "list", num_args = 2, value_names = ["VERB", "TYPE[/NAME]"])]
    pub question: Vec<String>,
    /// Print everything that may be done in the namespace.
    #[arg(long)]
    pub list: bool,
    /// Ask about this subresource, e.g. `exec`.
    #[arg(long, value_name = "NAME", conflicts_with = "list")]
    pub subresource: Option<String>,
    /// Ask about all namespaces at once.
    #[arg(short = 'A', long, conflicts_with = "list")]
    pub all_namespaces: bool,
    /// Print nothing; the exit code is the answer.
    #[arg(short, long, conflicts_with_all = ["list", "output"])]
    pub quiet: bool,
    /// Without headings.
    #[arg(long, requires = "list")]
    pub no_headers: bool,
    /// Print the server's answer: yaml, json.
    #[arg(short, long, value_parser = ["yaml", "json"], value_name = "FORM")]
    pub output: Option<String>,
}

/// Asks and prints.
pub async fn run(client: &Client, namespace: &str, args: &CanIArgs) -> Result<ExitCode> {
    if args.list {
        return list(client, namespace, args).await;
    }
    let [verb, thing] = args.question.as_slice() else {
        bail!(Ending::Usage("name a verb and a kind, or --list".to_owned()))
    };
    let spec = if thing.starts_with('/') {
        json!({"nonResourceAttributes": {"verb": verb, "path": thing}})
    } else {
        json!({"resourceAttributes": about(client, namespace, verb, thing, args).await?})
    };
    let document = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
    let answer = api::send(client, Method::POST, &format!("{GROUP}/selfsubjectaccessreviews"), JSON, &document).await?;
    let allowed = answer["status"]["allowed"] == true;
    if !args.quiet && !printed(args, &answer)? {
        println!("{}", said(&answer["status"]));
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The answer in a form for programs, when one is asked for.
fn printed(args: &CanIArgs, answer: &Value) -> Result<bool> {
    match args.output.as_deref() {
        Some("json") => println!("{}", serde_json::to_string_pretty(answer).context("failed to render JSON")?),
        Some(_) => print!("{}", output::yaml(answer)?),
        None => return Ok(false),
    }
    Ok(true)
}

/// `yes`, or `no` and why, as kubectl says it.
fn said(status: &Value) -> String {
    if status["allowed"] == true {
        return "yes".to_owned();
    }
    let mut line = "no".to_owned();
    for (field, before) in [("reason", " - "), ("evaluationError", " - ")] {
        if let Some(text) = status[field].as_str().filter(|text| !text.is_empty()) {
            line.push_str(before);
            line.push_str(text);
        }
    }
    line
}

/// The attributes of a request about objects. A kind that the server does not have is asked about under the name given: a
/// role may speak of it all the same.
async fn about(client: &Client, namespace: &str, verb: &str, thing: &str, args: &CanIArgs) -> Result<Value> {
    let (word, name) = thing.split_once('/').unwrap_or((thing, ""));
    let catalog = Catalog::load(client).await?;
    let known = if word == "*" { None } else { catalog.find(word).ok() };
    let (group, resource, namespaced) = match known {
        Some(found) => (found.group.clone(), found.plural.clone(), found.namespaced),
        None if word == "*" => ("*".to_owned(), "*".to_owned(), true),
        None => {
            eprintln!("Warning: the server doesn't have a resource type {word:?}");
            let (resource, group) = word.split_once('.').unwrap_or((word, ""));
            (group.to_owned(), resource.to_owned(), true)
        }
    };
    if !namespaced && namespace != "default" {
        eprintln!("Warning: resource {resource:?} is not namespace scoped");
    }
    let mut attributes = json!({"verb": verb, "group": group, "resource": resource});
    if namespaced && !args.all_namespaces {
        attributes["namespace"] = json!(namespace);
    }
    for (field, value) in [("name", name), ("subresource", args.subresource.as_deref().unwrap_or(""))] {
        if !value.is_empty() {
            attributes[field] = json!(value);
        }
    }
    Ok(attributes)
}

async fn list(client: &Client, namespace: &str, args: &CanIArgs) -> Result<ExitCode> {
    let document = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace}});
    let answer = api::send(client, Method::POST, &format!("{GROUP}/selfsubjectrulesreviews"), JSON, &document).await?;
    if answer["status"]["incomplete"] == true {
        eprintln!(
            "Warning: the list may be incomplete: {}",
            answer["status"]["evaluationError"].as_str().unwrap_or("")
        );
    }
    if !printed(args, &answer)? {
        print!("{}", rules(&answer["status"]).render(!args.no_headers));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each resource of each rule, and one for each rule about paths.
fn rules(status: &Value) -> Table {
    let headings = ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"];
    let mut table = Table::new(headings.map(str::to_owned).to_vec());
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let shown = |value: &Value| format!("[{}]", words(value).join(" "));
    let mut rows = Vec::new();
    for rule in status["resourceRules"].as_array().into_iter().flatten() {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let full = if group.is_empty() { resource } else { format!("{resource}.{group}") };
                rows.push(vec![full, "[]".to_owned(), shown(&rule["resourceNames"]), shown(&rule["verbs"])]);
            }
        }
    }
    rows.sort();
    for rule in status["nonResourceRules"].as_array().into_iter().flatten() {
        rows.push(vec![String::new(), shown(&rule["nonResourceURLs"]), "[]".to_owned(), shown(&rule["verbs"])]);
    }
    rows.into_iter().for_each(|row| table.push(row));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_says_why_and_a_yes_needs_no_reason() {
        assert_eq!(said(&json!({"allowed": true, "reason": "RBAC: …"})), "yes");
        assert_eq!(said(&json!({"allowed": false})), "no");
        assert_eq!(said(&json!({"allowed": false, "reason": "because"})), "no - because");
    }

    #[test]
    fn rules_are_listed_by_resource_and_paths_come_last() {
        let status = json!({
            "resourceRules": [
                {"apiGroups": ["", "photoncloud.dev"], "resources": ["b"], "verbs": ["get", "list"]},
                {"apiGroups": [""], "resources": ["a"], "verbs": ["get"], "resourceNames": ["x"]},
            ],
            "nonResourceRules": [{"nonResourceURLs": ["/healthz"], "verbs": ["get"]}],
        });
        insta::assert_snapshot!(rules(&status).render(true), @r"
        Resources           Non-Resource URLs   Resource Names   Verbs
        a                   []                  [x]              [get]
        b                   []                  []               [get list]
        b.photoncloud.dev   []                  []               [get list]
                            [/healthz]          []               [get]
        ");
    }
}
