//! `edit`: an object in the user's editor; what is refused comes back with the reason, until it is right or left alone.

use super::api::{self, read};
use super::catalog::{Catalog, Resource};
use super::{get, manifest, merge, output};
use crate::print::Ending;
use anyhow::{Context, Result, bail};
use http::Method;
use kube::Client;
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What to edit.
#[derive(clap::Args, Debug)]
pub struct EditArgs {
    /// The object.
    #[arg(required = true, num_args = 1..=2, value_name = "TYPE/NAME")]
    pub target: Vec<String>,
}

const HEAD: &str = "\
# Edit the object below; lines that begin with # are left out, and an empty file cancels.
# Status is written by the controller: what is changed there is not kept.
";

/// Edits one object.
pub async fn run(client: &Client, namespace: &str, args: &EditArgs) -> Result<()> {
    let catalog = Catalog::load(client).await?;
    let target = get::targets(&catalog, &args.target)?.remove(0);
    let [name] = target.names.as_slice() else { bail!(Ending::Usage("name one object".to_owned())) };
    let url = target.resource.object(namespace, name);
    let original = output::shown(read(client, &url).await?);
    let file = std::env::temp_dir().join(format!("clusterctl-edit-{}.yaml", uuid::Uuid::new_v4()));
    let done = session(client, &target.resource, &url, &original, &file).await;
    match done {
        Ok(what) => {
            std::fs::remove_file(&file).with_context(|| format!("failed to remove {}", file.display()))?;
            println!("{} {what}", target.resource.object_name(name));
            Ok(())
        }
        Err(error) if file.exists() => {
            Err(error.context(format!("not changed; your text is kept in {}", file.display())))
        }
        Err(error) => Err(error),
    }
}

async fn session(
    client: &Client,
    resource: &Resource,
    url: &str,
    original: &Value,
    file: &Path,
) -> Result<&'static str> {
    let mut text = output::yaml(original)?;
    let mut complaint: Option<String> = None;
    loop {
        let complaint_lines = complaint.iter().flat_map(|words| words.lines()).map(|line| format!("# {line}\n"));
        write(file, &format!("{HEAD}{}{text}", complaint_lines.collect::<String>()))?;
        open_editor(file).await?;
        let after = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
        let edited = without_comments(&after);
        if edited == text {
            return match complaint {
                Some(complaint) => Err(anyhow::anyhow!(complaint)),
                None => Ok("unchanged"),
            };
        }
        text = edited;
        if text.trim().is_empty() {
            return Ok("unchanged: the edit was cancelled");
        }
        match submit(client, resource, url, original, &text).await {
            Ok(changed) => return Ok(if changed { "edited" } else { "unchanged" }),
            // The server is not there to say what is wrong.
            Err(error) if error.downcast_ref::<kube::Error>().is_some() => return Err(error),
            Err(error) => complaint = Some(format!("{error:#}")),
        }
    }
}

async fn submit(client: &Client, resource: &Resource, url: &str, original: &Value, text: &str) -> Result<bool> {
    let patch = changes(original, text)?;
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(false);
    }
    let before = &original["metadata"]["resourceVersion"];
    let after = api::send(client, Method::PATCH, &format!("{url}?fieldValidation=Strict"), api::MERGE, &patch)
        .await
        .with_context(|| format!("{} was refused", resource.kind))?;
    Ok(after["metadata"]["resourceVersion"] != *before)
}

/// What the user changed, as a merge patch. The version is left out: the status moves all the time, and only what was
/// edited is written.
fn changes(original: &Value, text: &str) -> Result<Value> {
    let documents = manifest::parse("the edited text", text)?;
    let [document] = documents.as_slice() else { bail!("the edited text must hold one object") };
    for path in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
        if document.object.pointer(path) != original.pointer(path) {
            bail!("{} cannot be changed; create a new object instead", path.trim_start_matches('/').replace('/', "."));
        }
    }
    let mut patch = merge::patch(original, &document.object);
    if let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    Ok(patch)
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn write(file: &Path, text: &str) -> Result<()> {
    let opened = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(file);
    opened
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| format!("failed to write {}", file.display()))
}

/// Runs the editor: `KUBE_EDITOR`, `EDITOR`, or `vi`. It may come with arguments, so a shell takes it apart.
async fn open_editor(file: &Path) -> Result<()> {
    let named = ["KUBE_EDITOR", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let editor = named.unwrap_or_else(|| "vi".to_owned());
    let status = tokio::process::Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status()
        .await
        .context("failed to start the editor")?;
    if !status.success() {
        bail!("the editor {editor:?} failed ({status}); set EDITOR to one that works");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_edit_sends_what_was_changed_only() {
        let original = json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "a", "resourceVersion": "5"}, "spec": {"x": 1, "y": 2}});
        let text = |spec: &str| format!("apiVersion: v1\nkind: K\nmetadata: {{name: a}}\n{spec}\n");
        assert_eq!(
            changes(&original, &text("spec: {x: 3}")).unwrap(),
            json!({"metadata": {}, "spec": {"x": 3, "y": null}})
        );
        let error = changes(&original, &text("spec: {}").replace("name: a", "name: b")).unwrap_err().to_string();
        assert_eq!(error, "metadata.name cannot be changed; create a new object instead");
        assert!(changes(&original, "a: [").is_err());
        assert_eq!(without_comments("# no\nyes: 1\n"), "yes: 1\n");
    }
}
