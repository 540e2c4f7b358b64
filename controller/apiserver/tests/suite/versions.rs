//! A kind with several versions, all of one stored form.

use anyhow::Result;
use serde_json::{Value, json};

use crate::lab::{Lab, revision, widget_crd};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const OLD: &str = "/apis/example.dev/v1/namespaces/default/notes";
const NEW: &str = "/apis/example.dev/v2/namespaces/default/notes";

fn version(name: &str, storage: bool, fields: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
        "type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}}})
}

/// Stored as v2 when `new`, else as v1, which knows less.
fn note_crd(new: bool) -> Value {
    let mut crd = widget_crd();
    crd["metadata"]["name"] = json!("notes.example.dev");
    crd["spec"]["names"] = json!({"plural": "notes", "kind": "Note"});
    let text = json!({"type": "string"});
    crd["spec"]["versions"] =
        json!([version("v1", !new, json!({"a": text})), version("v2", new, json!({"a": text, "b": text}))]);
    crd["spec"]["conversion"] = json!({"strategy": "None"});
    crd
}

fn note(version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.dev/{version}"), "kind": "Note", "metadata": {"name": "n"}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_served_in_every_version() -> Result<()> {
    let lab = Lab::new().await?;
    lab.call("POST", CRDS, &note_crd(true)).await?.expect(201)?;
    let made = lab.call("POST", NEW, &note("v2", json!({"a": "1", "b": "2"}))).await?.expect(201)?;
    assert_eq!((&made["apiVersion"], &made["spec"]), (&json!("example.dev/v2"), &json!({"a": "1", "b": "2"})));
    // A version shows what its schema knows.
    let old = lab.get(&format!("{OLD}/n")).await?.expect(200)?;
    assert_eq!((&old["apiVersion"], &old["spec"]), (&json!("example.dev/v1"), &json!({"a": "1"})));
    let list = lab.get(NEW).await?.expect(200)?;
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["apiVersion"]),
        (&json!("example.dev/v2"), &json!("example.dev/v2"))
    );
    let mut watch = lab.watch(&format!("{NEW}?watch=1&resourceVersion={}", revision(&made))).await?;
    lab.merge(&format!("{NEW}/n"), json!({"spec": {"a": "3"}})).await?.expect(200)?;
    let event = watch.next().await?.unwrap_or_default();
    assert_eq!(
        (&event["object"]["apiVersion"], &event["object"]["spec"]["a"]),
        (&json!("example.dev/v2"), &json!("3"))
    );
    lab.call("POST", OLD, &note("v2", json!({}))).await?.expect(400)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_moves_to_another_version_and_the_old_one_stays_named() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{CRDS}/notes.example.dev");
    lab.call("POST", CRDS, &note_crd(false)).await?.expect(201)?;
    // Only what the stored version knows is stored.
    let made = lab.call("POST", NEW, &note("v2", json!({"a": "1", "b": "2"}))).await?.expect(201)?;
    assert_eq!((&made["apiVersion"], &made["spec"]), (&json!("example.dev/v2"), &json!({"a": "1"})));
    let turn = json!([{"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
        {"op": "replace", "path": "/spec/versions/0/served", "value": false}]);
    lab.raw("PATCH", &path, "application/json-patch+json", turn.to_string()).await?.expect(200)?;
    let crd = lab.until(&path, |crd| crd["status"]["storedVersions"] == json!(["v1", "v2"])).await?;
    lab.get(OLD).await?.expect(404)?;
    assert_eq!(lab.get(&format!("{NEW}/n")).await?.expect(200)?["spec"], json!({"a": "1"}));
    // v1 may hold objects still, so it cannot go yet.
    let mut without = crd.clone();
    without["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let refused = lab.call("PUT", &path, &without).await?.expect(422)?;
    assert!(refused["message"].as_str().unwrap().contains("storedVersions"), "{refused}");
    // Written once more, the object is of v2; who has seen to that says so.
    lab.merge(&format!("{NEW}/n"), json!({"spec": {"b": "2"}})).await?.expect(200)?;
    lab.merge(&format!("{path}/status"), json!({"status": {"storedVersions": ["v2"]}})).await?.expect(200)?;
    let mut crd = lab.until(&path, |crd| crd["status"]["storedVersions"] == json!(["v2"])).await?;
    crd["spec"]["versions"].as_array_mut().unwrap().remove(0);
    lab.call("PUT", &path, &crd).await?.expect(200)?;
    assert_eq!(lab.get(&format!("{NEW}/n")).await?.expect(200)?["spec"], json!({"a": "1", "b": "2"}));
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_is_made_of_a_kind_that_goes() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{CRDS}/notes.example.dev");
    lab.call("POST", CRDS, &note_crd(false)).await?.expect(201)?;
    let mut held = note("v1", json!({}));
    held["metadata"]["finalizers"] = json!(["example.dev/held"]);
    lab.call("POST", OLD, &held).await?.expect(201)?;
    lab.delete(&path).await?.expect(200)?;
    let going = |crd: &Value| {
        let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| c["type"] == "Terminating" && c["status"] == "True")
    };
    lab.until(&path, going).await?;
    let mut other = note("v1", json!({}));
    other["metadata"]["name"] = json!("other");
    let refused = lab.call("POST", OLD, &other).await?.expect(405)?;
    assert_eq!(refused["message"], "create not allowed while custom resource definition is terminating");
    lab.until(&format!("{OLD}/n"), |note| note["metadata"]["deletionTimestamp"].is_string()).await?;
    lab.merge(&format!("{OLD}/n"), json!({"metadata": {"finalizers": null}})).await?.expect(200)?;
    lab.until_code(&path, 404).await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_will_go_says_so_in_every_answer() -> Result<()> {
    let lab = Lab::new().await?;
    let mut crd = note_crd(true);
    crd["spec"]["versions"][0]["deprecated"] = json!(true);
    lab.call("POST", CRDS, &crd).await?.expect(201)?;
    let warnings = |answer: &crate::lab::Answer| answer.headers.get_all("warning").iter().cloned().collect::<Vec<_>>();
    let said = ["299 - \"example.dev/v1 Note is deprecated\""];
    let made = lab.call("POST", OLD, &note("v1", json!({"a": "1"}))).await?;
    assert_eq!((made.code, warnings(&made)), (201, said.map(|text| text.parse().unwrap()).to_vec()));
    for path in [format!("{OLD}/n"), OLD.to_owned(), format!("{OLD}?watch=1&timeoutSeconds=1")] {
        let read = lab.get(&path).await?;
        assert_eq!((read.code, warnings(&read)), (200, said.map(|text| text.parse().unwrap()).to_vec()), "{path}");
    }
    let newer = lab.get(&format!("{NEW}/n")).await?;
    assert_eq!((newer.code, warnings(&newer)), (200, vec![]));
    lab.end().await
}
