//! Creating and changing: what the server fills in, what it keeps, what it refuses to write twice.

use anyhow::Result;
use serde_json::json;

use crate::lab::{JSON, Lab, MERGE, WIDGETS, revision, widget};

#[tokio::test(flavor = "multi_thread")]
async fn a_created_object_has_identity_and_defaults() -> Result<()> {
    let lab = Lab::new().await?;
    let mut wanted = widget("a", json!({"colour": "red"}));
    wanted["status"] = json!({"phase": "Forged"});
    wanted["metadata"]["uid"] = json!("forged");
    wanted["metadata"]["generation"] = json!(7);
    let made = lab.call("POST", WIDGETS, &wanted).await?.expect(201)?;
    assert_eq!(made["spec"], json!({"colour": "red", "size": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(made.get("status"), None);
    assert_ne!(made["metadata"]["uid"], "forged");
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert!(made["metadata"]["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    let got = lab.get(&format!("{WIDGETS}/a")).await?.expect(200)?;
    assert_eq!(got, made);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_names_differ() -> Result<()> {
    let lab = Lab::new().await?;
    let mut wanted = widget("", json!({}));
    wanted["metadata"] = json!({"generateName": "w-"});
    let first = lab.call("POST", WIDGETS, &wanted).await?.expect(201)?;
    let second = lab.call("POST", WIDGETS, &wanted).await?.expect(201)?;
    let name = first["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("w-") && name.len() == 7, "{name}");
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn generation_counts_wishes_only() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    lab.widget("a", json!({"size": 1})).await?;
    let labelled = lab.merge(&path, json!({"metadata": {"labels": {"x": "y"}}})).await?.expect(200)?;
    assert_eq!(labelled["metadata"]["generation"], 1);
    let wished = lab.merge(&path, json!({"spec": {"size": 2}})).await?.expect(200)?;
    assert_eq!(wished["metadata"]["generation"], 2);
    let status = json!({"status": {"phase": "Ready"}, "spec": {"size": 9}});
    let observed = lab.merge(&format!("{path}/status"), status).await?.expect(200)?;
    assert_eq!(observed["metadata"]["generation"], 2);
    assert_eq!((&observed["spec"]["size"], &observed["status"]["phase"]), (&json!(2), &json!("Ready")));
    let main = lab.merge(&path, json!({"status": {"phase": "Forged"}})).await?.expect(200)?;
    assert_eq!(main["status"]["phase"], "Ready");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_changes_nothing_writes_nothing() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let made = lab.widget("a", json!({"size": 5})).await?;
    let patched = lab.merge(&path, json!({"spec": {"size": 5}})).await?.expect(200)?;
    assert_eq!(revision(&patched), revision(&made));
    let put = lab.call("PUT", &path, &made).await?.expect(200)?;
    assert_eq!(revision(&put), revision(&made));
    let status = lab.merge(&format!("{path}/status"), json!({"status": {"phase": "A"}})).await?.expect(200)?;
    let again = lab.merge(&format!("{path}/status"), json!({"status": {"phase": "A"}})).await?.expect(200)?;
    assert_eq!(revision(&again), revision(&status));
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_put_is_a_conflict() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let made = lab.widget("a", json!({"size": 1})).await?;
    lab.merge(&path, json!({"spec": {"size": 2}})).await?.expect(200)?;
    let refused = lab.call("PUT", &path, &made).await?.expect(409)?;
    assert_eq!(
        refused["message"],
        "Operation cannot be fulfilled on widgets.example.dev \"a\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
    assert_eq!(refused["reason"], "Conflict");
    assert_eq!(refused["details"], json!({"name": "a", "group": "example.dev", "kind": "widgets"}));
    let stale = json!({"metadata": {"resourceVersion": revision(&made)}, "spec": {"size": 3}});
    lab.merge(&path, stale).await?.expect(409)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_patches_all_arrive() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    lab.widget("a", json!({})).await?;
    let patches = (0..32).map(|n| {
        let (lab, path) = (&lab, &path);
        async move { lab.merge(path, json!({"metadata": {"labels": {format!("k{n}"): "v"}}})).await?.expect(200) }
    });
    futures::future::try_join_all(patches).await?;
    let got = lab.get(&path).await?.expect(200)?;
    assert_eq!(got["metadata"]["labels"].as_object().unwrap().len(), 32);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_checks_and_writes_nothing() -> Result<()> {
    let lab = Lab::new().await?;
    lab.call("POST", &format!("{WIDGETS}?dryRun=All"), &widget("a", json!({}))).await?.expect(201)?;
    lab.get(&format!("{WIDGETS}/a")).await?.expect(404)?;
    let bad = widget("a", json!({"size": 1000}));
    lab.call("POST", &format!("{WIDGETS}?dryRun=All"), &bad).await?.expect(422)?;
    let made = lab.widget("a", json!({})).await?;
    let path = format!("{WIDGETS}/a?dryRun=All");
    let wished = lab.merge(&path, json!({"spec": {"size": 9}})).await?.expect(200)?;
    assert_eq!(wished["spec"]["size"], 9);
    lab.delete(&path).await?.expect(200)?;
    assert_eq!(lab.get(&format!("{WIDGETS}/a")).await?.expect(200)?, made);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_warned_of_or_ignored() -> Result<()> {
    let lab = Lab::new().await?;
    let wanted = widget("a", json!({"sise": 1}));
    let strict = lab.call("POST", &format!("{WIDGETS}?fieldValidation=Strict"), &wanted).await?.expect(400)?;
    assert_eq!(
        strict["message"],
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.sise\""
    );
    let warned = lab.call("POST", WIDGETS, &wanted).await?;
    assert_eq!(warned.headers["warning"], r#"299 - "unknown field \"spec.sise\"""#);
    assert_eq!(warned.expect(201)?["spec"], json!({"size": 1}));
    let ignored = lab.call("PUT", &format!("{WIDGETS}/a?fieldValidation=Ignore"), &wanted).await?;
    assert!(!ignored.headers.contains_key("warning"));

    let twice = r#"{"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": "b"},
        "spec": {"size": 1, "size": 2, "sise": 3}}"#;
    let strict = lab.raw("POST", &format!("{WIDGETS}?fieldValidation=Strict"), JSON, twice).await?.expect(400)?;
    let complaint = "strict decoding error: duplicate field \"spec.size\", unknown field \"spec.sise\"";
    assert!(strict["message"].as_str().unwrap().ends_with(complaint), "{strict}");
    let warned = lab.raw("POST", WIDGETS, JSON, twice).await?;
    let warnings: Vec<_> = warned.headers.get_all("warning").iter().collect();
    assert_eq!(warnings, [r#"299 - "duplicate field \"spec.size\"""#, r#"299 - "unknown field \"spec.sise\"""#]);
    assert_eq!(warned.expect(201)?["spec"], json!({"size": 2}));
    let patch = r#"{"spec": {"size": 3, "size": 4}}"#;
    lab.raw("PATCH", &format!("{WIDGETS}/b?fieldValidation=Strict"), MERGE, patch).await?.expect(422)?;
    let warned = lab.raw("PATCH", &format!("{WIDGETS}/b"), MERGE, patch).await?;
    assert_eq!(warned.headers["warning"], r#"299 - "duplicate field \"spec.size\"""#);
    assert_eq!(warned.expect(200)?["spec"], json!({"size": 4}));
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn yaml_and_json_patches_are_read() -> Result<()> {
    let lab = Lab::new().await?;
    let yaml = "apiVersion: example.dev/v1\nkind: Widget\nmetadata:\n  name: a\nspec:\n  size: 3\n";
    lab.raw("POST", WIDGETS, "application/yaml", yaml).await?.expect(201)?;
    let path = format!("{WIDGETS}/a");
    let patch =
        json!([{"op": "test", "path": "/spec/size", "value": 3}, {"op": "replace", "path": "/spec/size", "value": 4}]);
    let json_patch = "application/json-patch+json";
    let patched = lab.raw("PATCH", &path, json_patch, patch.to_string()).await?.expect(200)?;
    assert_eq!(patched["spec"]["size"], 4);
    lab.raw("PATCH", &path, json_patch, patch.to_string()).await?.expect(422)?;
    let answer = lab.get_as(&path, "application/yaml").await?;
    assert_eq!(answer.headers["content-type"], "application/yaml");
    assert!(answer.body.as_str().unwrap().contains("size: 4"));
    lab.end().await
}
