//! `diff`: what `apply` would change, as the server would store it.

use super::apply::{self, DryRun};
use super::catalog::Catalog;
use super::manifest::Sources;
use super::output;
use crate::print::{colour, failure};
use anyhow::Result;
use kube::Client;
use serde_json::Value;
use similar::TextDiff;
use std::process::ExitCode;

/// What to compare.
#[derive(clap::Args, Debug)]
pub struct DiffArgs {
    /// The manifests.
    #[command(flatten)]
    pub sources: Sources,
}

/// Exit code when nothing could be compared: 1 would mean a difference.
const TROUBLE: u8 = 3;

/// Prints the differences: 0 when there is none, 1 when there are, more when something went wrong.
pub async fn run(client: &Client, namespace: &str, args: &DiffArgs) -> ExitCode {
    match differences(client, namespace, args).await {
        Ok(text) if text.is_empty() => ExitCode::SUCCESS,
        Ok(text) => {
            for line in text.lines() {
                println!("{}", if colour::wanted() { colour::difference(line) } else { line.to_owned() });
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            failure(&error);
            ExitCode::from(TROUBLE)
        }
    }
}

async fn differences(client: &Client, namespace: &str, args: &DiffArgs) -> Result<String> {
    let documents = args.sources.read()?;
    let catalog = Catalog::load(client).await?;
    let mut text = String::new();
    for document in &documents {
        let plan = apply::plan(client, &catalog, namespace, document)
            .await
            .map_err(|error| error.context(document.origin.clone()))?;
        let merged = plan.send(client, DryRun::Server).await.map_err(|error| error.context(document.origin.clone()))?;
        if let Some(merged) = merged {
            let name = plan.resource.object_name(&plan.name);
            text.push_str(&unified(&name, plan.live.as_ref(), &merged)?);
        }
    }
    Ok(text)
}

/// The unified difference of two objects as YAML; empty when nothing differs that a user wrote.
fn unified(name: &str, live: Option<&Value>, merged: &Value) -> Result<String> {
    let render = |object: &Value| output::yaml(&comparable(object.clone()));
    let (old, new) = (live.map(render).transpose()?.unwrap_or_default(), render(merged)?);
    let difference = TextDiff::from_lines(&old, &new);
    let text = difference
        .unified_diff()
        .context_radius(3)
        .header(&format!("live/{name}"), &format!("merged/{name}"))
        .to_string();
    Ok(text)
}

/// The object without what changes with every write.
fn comparable(object: Value) -> Value {
    let mut object = output::shown(object);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["resourceVersion", "generation", "uid", "creationTimestamp"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(apply::LAST_APPLIED);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_a_user_wrote_makes_a_difference() {
        let object = |version: &str, cpus: u32| {
            json!({"kind": "VirtualMachine", "metadata": {"name": "a", "resourceVersion": version,
                "annotations": {apply::LAST_APPLIED: version}}, "spec": {"cpus": cpus}})
        };
        assert_eq!(unified("vm/a", Some(&object("1", 1)), &object("2", 1)).unwrap(), "");
        insta::assert_snapshot!(unified("vm/a", Some(&object("1", 1)), &object("2", 4)).unwrap(), @r"
        --- live/vm/a
        +++ merged/vm/a
        @@ -2,4 +2,4 @@
         metadata:
           name: a
         spec:
        -  cpus: 1
        +  cpus: 4
        ");
        assert!(unified("vm/a", None, &object("1", 1)).unwrap().contains("+kind: VirtualMachine"));
    }
}
