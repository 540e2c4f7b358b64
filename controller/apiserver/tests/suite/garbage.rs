//! Owners and dependents.

use std::time::Duration;

use anyhow::Result;
use apiserver::Options;
use serde_json::{Value, json};

use crate::lab::{Lab, WIDGETS, widget};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

fn reference(owner: &Value, block: bool) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": block,
    })
}

fn owned(name: &str, owners: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners}})
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_go_after_their_last_owner() -> Result<()> {
    let lab = Lab::new().await?;
    let (a, b) = (lab.widget("a", json!({})).await?, lab.widget("b", json!({})).await?);
    let both = owned("both", &[reference(&a, false), reference(&b, false)]);
    lab.call("POST", CONFIGMAPS, &both).await?.expect(201)?;
    lab.call("POST", CONFIGMAPS, &owned("one", &[reference(&a, false)])).await?.expect(201)?;
    lab.delete(&format!("{WIDGETS}/a")).await?.expect(200)?;
    lab.until_code(&format!("{CONFIGMAPS}/one"), 404).await?;
    lab.until(&format!("{CONFIGMAPS}/both"), |cm| {
        cm["metadata"]["ownerReferences"].as_array().is_some_and(|r| r.len() == 1)
    })
    .await?;
    lab.delete(&format!("{WIDGETS}/b")).await?.expect(200)?;
    lab.until_code(&format!("{CONFIGMAPS}/both"), 404).await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependent_of_nobody_goes() -> Result<()> {
    let lab = Lab::new().await?;
    let mut ghost = lab.widget("a", json!({})).await?;
    ghost["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    lab.call("POST", CONFIGMAPS, &owned("lost", &[reference(&ghost, false)])).await?.expect(201)?;
    lab.until_code(&format!("{CONFIGMAPS}/lost"), 404).await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_owner_waits_for_blocking_dependents() -> Result<()> {
    let lab = Lab::new().await?;
    let a = lab.widget("a", json!({})).await?;
    let mut dependent = widget("dependent", json!({}));
    dependent["metadata"]["ownerReferences"] = json!([reference(&a, true)]);
    dependent["metadata"]["finalizers"] = json!(["example.dev/wait"]);
    lab.call("POST", WIDGETS, &dependent).await?.expect(201)?;
    let path = format!("{WIDGETS}/a");
    let marked = lab.call("DELETE", &path, &json!({"propagationPolicy": "Foreground"})).await?.expect(200)?;
    assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let held = format!("{WIDGETS}/dependent");
    lab.until(&held, |w| w["metadata"]["deletionTimestamp"].is_string()).await?;
    lab.get(&path).await?.expect(200)?;
    lab.merge(&held, json!({"metadata": {"finalizers": ["foregroundDeletion"]}})).await?;
    lab.merge(&held, json!({"metadata": {"finalizers": null}})).await?;
    lab.until_code(&held, 404).await?;
    lab.until_code(&path, 404).await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay_and_forget() -> Result<()> {
    let lab = Lab::new().await?;
    let a = lab.widget("a", json!({})).await?;
    lab.call("POST", CONFIGMAPS, &owned("kept", &[reference(&a, false)])).await?.expect(201)?;
    let path = format!("{WIDGETS}/a");
    lab.call("DELETE", &path, &json!({"propagationPolicy": "Orphan"})).await?.expect(200)?;
    lab.until_code(&path, 404).await?;
    let kept = lab.get(&format!("{CONFIGMAPS}/kept")).await?.expect(200)?;
    assert_eq!(kept["metadata"].get("ownerReferences"), None);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_go() -> Result<()> {
    let lab = Lab::with(Options { event_ttl: Duration::from_secs(1), ..Options::default() }).await?;
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2020-01-01T00:00:00.000000Z", "reason": "Made", "action": "Make", "type": "Normal",
        "note": "it was made", "reportingController": "example.dev/test", "reportingInstance": "one",
        "regarding": {"kind": "Widget", "name": "a", "namespace": "default"},
    });
    lab.call("POST", path, &event).await?.expect(201)?;
    let core = lab.get("/api/v1/namespaces/default/events/e").await?.expect(200)?;
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("it was made"), &json!("a")));
    lab.until_code(&format!("{path}/e"), 404).await?;
    lab.end().await
}
