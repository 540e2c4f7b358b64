//! The commands of kubectl, one by one, against what they do to the objects.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::lab::{Lab, WIDGETS, widget};
use crate::scale::{CRDS, POOLS, pool_crd};
use crate::tls::{Served, serve};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Stage {
    lab: Lab,
    served: Served,
    kubectl: Kubectl,
    home: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Result<Stage> {
        let lab = Lab::new().await?;
        let home = tempfile::tempdir()?;
        let served = serve(&lab, home.path()).await?;
        let kubectl = Kubectl::new(home.path(), &served)?;
        Ok(Stage { lab, served, kubectl, home })
    }

    async fn end(self) -> Result<()> {
        self.served.stop().await?;
        self.lab.end().await
    }
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn editor(home: &Path, script: &str) -> Result<()> {
    let path = home.join("editor");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_created_replaced_edited_and_compared() -> Result<()> {
    let stage = Stage::new().await?;
    let kubectl = &stage.kubectl;
    let first = widget("a", json!({"size": 1, "note": "one"}));
    kubectl.run("create -f -", &first.to_string()).await?;
    ensure!(kubectl.fails("create -f -", &first.to_string()).await?.contains("AlreadyExists"));
    kubectl.run("replace -f -", &widget("a", json!({"size": 2})).to_string()).await?;
    assert_eq!(kubectl.run("get wd a -o jsonpath={.spec}", "").await?, r#"{"size":2}"#);
    kubectl.run("replace --force -f -", &first.to_string()).await?;
    editor(stage.home.path(), r#"sed -i 's/size: 1/size: 5/' "$1""#)?;
    kubectl.run("edit wd a", "").await?;
    assert_eq!(kubectl.run("get wd a -o jsonpath={.spec.size}", "").await?, "5");
    // What is refused goes back to the editor with the reason on top; an editor that changes nothing ends it.
    editor(stage.home.path(), r#"sed -i 's/size: 5$/size: 500/' "$1""#)?;
    let refused = kubectl.fails("edit wd a", "").await?;
    ensure!(refused.contains("is invalid") && refused.contains("no valid changes were saved"), "{refused}");

    kubectl.run("apply -f -", &config_map("m", json!({"k": "1", "gone": "x"})).to_string()).await?;
    let changed = config_map("m", json!({"k": "2"})).to_string();
    let diff = kubectl.output("diff -f -", &changed).await?;
    let shown = String::from_utf8_lossy(&diff.stdout).into_owned();
    ensure!(diff.status.code() == Some(1) && shown.contains("-  k: \"1\"") && shown.contains("-  gone: x"), "{shown}");
    assert_eq!(
        kubectl.run("apply --dry-run=server -f -", &changed).await?,
        "configmap/m configured (server dry run)\n"
    );
    assert_eq!(kubectl.run("get cm m -o jsonpath={.data.k}", "").await?, "1");
    kubectl.run("apply -f -", &changed).await?;
    assert_eq!(stage.lab.get(&format!("{MAPS}/m")).await?.expect(200)?["data"], json!({"k": "2"}));
    assert_eq!(kubectl.output("diff -f -", &changed).await?.status.code(), Some(0));
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_patches_and_marks_are_made() -> Result<()> {
    let stage = Stage::new().await?;
    let (kubectl, lab) = (&stage.kubectl, &stage.lab);
    kubectl.run("create cm m --from-literal=a=1 --from-literal=b=2", "").await?;
    kubectl.run(r#"patch cm m --type=strategic -p {"data":{"b":null,"c":"3"}}"#, "").await?;
    kubectl.run(r#"patch cm m --type=merge -p {"data":{"d":"4"}}"#, "").await?;
    kubectl.run(r#"patch cm m --type=json -p [{"op":"test","path":"/data/a","value":"1"},{"op":"remove","path":"/data/a"}]"#, "")
        .await?;
    let failed = kubectl.fails(r#"patch cm m --type=json -p [{"op":"test","path":"/data/c","value":"9"}]"#, "").await?;
    ensure!(failed.contains("is invalid") && failed.contains("testing path /data/c failed"), "{failed}");
    assert_eq!(lab.get(&format!("{MAPS}/m")).await?.expect(200)?["data"], json!({"c": "3", "d": "4"}));

    lab.widget("a", json!({"size": 1})).await?;
    let failed = kubectl.fails(r#"patch wd a --type=strategic -p {"spec":{"size":2}}"#, "").await?;
    ensure!(failed.contains("the body of the request was in an unknown format"), "{failed}");
    kubectl.run(r#"patch wd a --type=merge -p {"spec":{"size":2}}"#, "").await?;
    for kind in ["wd/a", "cm/m"] {
        kubectl.run(&format!("label {kind} tier=front team=x"), "").await?;
        ensure!(kubectl.fails(&format!("label {kind} tier=back"), "").await?.contains("already has a value"));
        kubectl.run(&format!("label {kind} tier=back team- --overwrite"), "").await?;
        kubectl.run(&format!("annotate {kind} example.dev/why=because"), "").await?;
    }
    let metadata = &lab.get(&format!("{WIDGETS}/a")).await?.expect(200)?["metadata"];
    assert_eq!(metadata["labels"], json!({"tier": "back"}));
    assert_eq!(metadata["annotations"]["example.dev/why"], "because");
    let selected = kubectl.run("get wd,cm -l tier=back -o name", "").await?;
    assert_eq!(selected, "widget.example.dev/a\nconfigmap/m\n");

    lab.call("POST", CRDS, &pool_crd()).await?.expect(201)?;
    let pool =
        json!({"apiVersion": "example.dev/v1", "kind": "Pool", "metadata": {"name": "p"}, "spec": {"members": 2}});
    kubectl.run("create -f -", &pool.to_string()).await?;
    kubectl.run("scale pool/p --replicas=4", "").await?;
    kubectl.run("scale pool/p --current-replicas=4 --replicas=5", "").await?;
    ensure!(kubectl.fails("scale pool/p --replicas=50", "").await?.contains("spec.members"));
    assert_eq!(lab.get(&format!("{POOLS}/p")).await?.expect(200)?["spec"]["members"], 5);
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_go_stay_or_go_first_as_delete_says() -> Result<()> {
    let stage = Stage::new().await?;
    let (kubectl, lab) = (&stage.kubectl, &stage.lab);
    for policy in ["background", "foreground", "orphan"] {
        let owner = lab.call("POST", MAPS, &config_map("owner", json!({}))).await?.expect(201)?;
        let mut dependent = config_map(&format!("of-{policy}"), json!({}));
        dependent["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
        // In the foreground the dependent is held for a moment: the owner must outlast it.
        if policy == "foreground" {
            dependent["metadata"]["finalizers"] = json!(["example.dev/held"]);
        }
        lab.call("POST", MAPS, &dependent).await?.expect(201)?;
        kubectl.run(&format!("delete cm owner --cascade={policy} --wait=false"), "").await?;
        let path = format!("{MAPS}/of-{policy}");
        match policy {
            "orphan" => {
                let kept = lab.until(&path, |map| map["metadata"]["ownerReferences"].is_null()).await?;
                assert_eq!(kept["metadata"]["deletionTimestamp"], Value::Null);
            }
            "foreground" => {
                lab.until(&path, |map| map["metadata"]["deletionTimestamp"].is_string()).await?;
                let owner = lab.get(&format!("{MAPS}/owner")).await?.expect(200)?;
                assert_eq!(owner["metadata"]["finalizers"], json!(["foregroundDeletion"]));
                kubectl.run(r#"patch cm of-foreground --type=merge -p {"metadata":{"finalizers":null}}"#, "").await?;
                lab.until_code(&path, 404).await?;
            }
            _ => {
                lab.until_code(&path, 404).await?;
            }
        }
        kubectl.run("wait --for=delete cm/owner --timeout=15s", "").await?;
        lab.get(&format!("{MAPS}/owner")).await?.expect(404)?;
    }
    kubectl.run("delete cm --all", "").await?;
    assert_eq!(kubectl.run("get cm -o name", "").await?, "");
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_kinds_are_shown() -> Result<()> {
    let stage = Stage::new().await?;
    let (kubectl, lab) = (&stage.kubectl, &stage.lab);
    let a = lab.widget("a", json!({"size": 3, "host": "h"})).await?;
    lab.widget("b", json!({"size": 1, "host": "h"})).await?;
    lab.widget("c", json!({"size": 2, "host": "h"})).await?;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Grew", "type": "Normal",
        "message": "grew to 3", "involvedObject": {"apiVersion": "example.dev/v1", "kind": "Widget", "name": "a",
        "namespace": "default", "uid": a["metadata"]["uid"]}, "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"});
    kubectl.run("create -f -", &event.to_string()).await?;
    for (words, expected) in [
        ("events --for wd/a", "grew to 3"),
        ("get events", "Grew"),
        ("describe wd a", "grew to 3"),
        ("get wd -A -o wide", "default"),
        ("get wd --sort-by=.spec.size -o name", "widget.example.dev/b\nwidget.example.dev/c\nwidget.example.dev/a\n"),
        ("get wd --chunk-size=1 -o name", "widget.example.dev/a\nwidget.example.dev/b\nwidget.example.dev/c\n"),
        (
            "get wd --field-selector spec.host=h,metadata.name!=a -o name",
            "widget.example.dev/b\nwidget.example.dev/c\n",
        ),
        ("get wd a -o yaml", "size: 3"),
        ("get wd a --subresource=status", "a"),
        ("api-resources --api-group=example.dev", "wd"),
        ("api-versions", "example.dev/v1"),
        ("explain wd.spec.colour", "ENUM:"),
        ("explain wd --recursive", "observedGeneration"),
        ("explain configmap.data", "FIELD: data"),
        ("explain selfsubjectaccessreview.spec.resourceAttributes", "subresource"),
        ("explain tokenreview.status", "authenticated"),
        ("explain wd.spec --output=plaintext-openapiv2", "colour"),
        ("get --raw /readyz", "ok"),
        ("version", "Server Version: v1."),
    ] {
        let shown = kubectl.run(words, "").await?;
        ensure!(shown.contains(expected), "kubectl {words}: {shown}");
    }
    stage.end().await
}
