//! `wait`: until a condition, a value, or the end of objects.

use super::catalog::Catalog;
use super::delete::{self, Doomed};
use super::get::{self, Target};
use super::jsonpath::Template;
use anyhow::{Context, Result, bail};
use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code when time was up.
const TIMED_OUT: u8 = 4;

/// What to wait for.
#[derive(clap::Args, Debug)]
pub struct WaitArgs {
    /// Kind and names, or `kind/name`.
    #[arg(required = true, value_name = "TYPE/NAME")]
    pub targets: Vec<String>,
    /// `condition=NAME[=STATUS]`, `jsonpath={PATH}[=VALUE]`, `delete` or `create`.
    #[arg(long = "for", value_name = "WHAT", default_value = "condition=Ready")]
    pub wanted: String,
    /// How long at most: `90s`, `20m`, `1h`.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
}

/// A duration as kubectl writes it: `90s`, `1m30s`, `2h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration; write it as 90s, 20m or 1h30m");
    let mut total = Duration::ZERO;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let number: u64 = digits.parse().map_err(|_| bad())?;
        digits.clear();
        let seconds = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(bad()),
        };
        total += Duration::from_secs(number.checked_mul(seconds).ok_or_else(bad)?);
    }
    if !digits.is_empty() || text.is_empty() {
        return Err(bad());
    }
    Ok(total)
}

/// What must be true of an object.
enum Wanted {
    Condition { name: String, status: String },
    Path { template: Template, value: Option<String> },
    Created,
}

impl Wanted {
    fn parse(text: &str) -> Result<Option<Self>> {
        if text == "delete" {
            return Ok(None);
        }
        if text == "create" {
            return Ok(Some(Self::Created));
        }
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, status) = rest.split_once('=').unwrap_or((rest, "True"));
            return Ok(Some(Self::Condition { name: name.to_owned(), status: status.to_owned() }));
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let (template, value) = match rest.rfind("}=") {
                Some(at) => (&rest[..=at], Some(rest[at + 2..].to_owned())),
                None if rest.starts_with('{') => (rest, None),
                None => rest.split_once('=').map_or((rest, None), |(path, value)| (path, Some(value.to_owned()))),
            };
            return Ok(Some(Self::Path { template: Template::parse(template)?, value }));
        }
        bail!("--for: {text:?} is none of condition=NAME, jsonpath={{PATH}}=VALUE, delete, create")
    }

    fn met(&self, object: &Value) -> Result<bool> {
        Ok(match self {
            Self::Created => true,
            Self::Condition { name, status } => {
                let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
                let current = |condition: &Value| {
                    let observed = condition["observedGeneration"].as_i64();
                    observed.is_none() || observed >= object["metadata"]["generation"].as_i64()
                };
                let is =
                    |value: &Value, wanted: &str| value.as_str().is_some_and(|word| word.eq_ignore_ascii_case(wanted));
                conditions.filter(|c| current(c)).any(|c| is(&c["type"], name) && is(&c["status"], status))
            }
            Self::Path { template, value } => {
                let text = template.render(object)?;
                value.as_ref().map_or(!text.is_empty(), |value| *value == text)
            }
        })
    }
}

/// Waits for every object named.
pub async fn run(client: &Client, namespace: &str, args: &WaitArgs) -> Result<ExitCode> {
    let catalog = Catalog::load(client).await?;
    let targets = get::targets(&catalog, &args.targets)?;
    if targets.iter().any(|target| target.names.is_empty()) {
        bail!("name the objects to wait for");
    }
    let deadline = tokio::time::Instant::now() + args.timeout;
    let Some(wanted) = Wanted::parse(&args.wanted)? else {
        let doomed: Vec<Doomed> = targets.into_iter().flat_map(|t| doomed(namespace, t)).collect();
        delete::gone(client, &doomed, args.timeout).await?;
        return Ok(ExitCode::SUCCESS);
    };
    for target in &targets {
        for name in &target.names {
            let met = tokio::time::timeout_at(deadline, until(client, namespace, target, name, &wanted)).await;
            let Ok(met) = met else {
                eprintln!("error: timed out waiting for {} on {}", args.wanted, target.resource.object_name(name));
                return Ok(ExitCode::from(TIMED_OUT));
            };
            if !met? {
                eprintln!(
                    "error: {} has ended and can no longer meet {}",
                    target.resource.object_name(name),
                    args.wanted
                );
                return Ok(ExitCode::FAILURE);
            }
            println!("{} condition met", target.resource.object_name(name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn doomed(namespace: &str, target: Target) -> Vec<Doomed> {
    let Target { resource, names, .. } = target;
    names.into_iter().map(|name| Doomed { resource: resource.clone(), namespace: namespace.to_owned(), name }).collect()
}

/// Whether the object came to meet what is wanted; false when it ended otherwise and never will.
async fn until(client: &Client, namespace: &str, target: &Target, name: &str, wanted: &Wanted) -> Result<bool> {
    let resource = &target.resource;
    let kind = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
    let resource_ = ApiResource::from_gvk_with_plural(&kind, &resource.plural);
    let api: Api<DynamicObject> = if resource.namespaced {
        Api::namespaced_with(client.clone(), namespace, &resource_)
    } else {
        Api::all_with(client.clone(), &resource_)
    };
    let mut seen = false;
    let mut states = watcher::watch_object(api, name).boxed();
    while let Some(state) = states.next().await {
        let object = match state {
            Ok(Some(object)) => object,
            Ok(None) if seen => bail!("{} was deleted", resource.object_name(name)),
            Ok(None) if matches!(wanted, Wanted::Created) => continue,
            Ok(None) => bail!("{} not found", resource.object_name(name)),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "watch interrupted");
                continue;
            }
        };
        seen = true;
        let object = serde_json::to_value(object).context("failed to read an object")?;
        if wanted.met(&object)? {
            return Ok(true);
        }
        let ended = matches!(object["status"]["phase"].as_str(), Some("Failed" | "Errored" | "TimedOut"));
        if resource.kind == "TestRun" && ended {
            return Ok(false);
        }
    }
    bail!("the server ended the watch over {}", resource.object_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_add_up_and_bad_ones_say_how() {
        assert_eq!(duration("1h30m5s"), Ok(Duration::from_secs(5405)));
        for bad in ["", "5", "m", "5d", "99999999999999999999s"] {
            assert!(duration(bad).unwrap_err().contains("is no duration"), "{bad}");
        }
    }

    #[test]
    fn a_condition_of_an_older_generation_does_not_count() {
        let object = |observed| {
            json!({"metadata": {"generation": 2},
                "status": {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": observed}], "phase": "Up"}})
        };
        let ready = Wanted::parse("condition=ready").unwrap().unwrap();
        assert!(!ready.met(&object(1)).unwrap());
        assert!(ready.met(&object(2)).unwrap());
        let path = Wanted::parse("jsonpath={.status.phase}=Up").unwrap().unwrap();
        assert!(path.met(&object(1)).unwrap());
        let bare = Wanted::parse("jsonpath=.status.phase=Down").unwrap().unwrap();
        assert!(!bare.met(&object(1)).unwrap());
        assert!(Wanted::parse("delete").unwrap().is_none());
        assert!(Wanted::parse("nonsense").is_err());
    }
}
