//! Namespaces: nothing without one, nothing left in one.

use anyhow::Result;
use serde_json::json;

use crate::lab::{Lab, widget};

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_takes_its_content_along() -> Result<()> {
    let lab = Lab::new().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant"}});
    let made = lab.call("POST", "/api/v1/namespaces", &namespace).await?.expect(201)?;
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "tenant");
    let widgets = "/apis/example.dev/v1/namespaces/tenant/widgets";
    let mut held = widget("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.dev/wait"]);
    lab.call("POST", widgets, &held).await?.expect(201)?;
    lab.call("POST", widgets, &widget("free", json!({}))).await?.expect(201)?;

    let terminating = lab.delete("/api/v1/namespaces/tenant").await?.expect(200)?;
    assert_eq!(terminating["status"]["phase"], "Terminating");
    lab.until_code(&format!("{widgets}/free"), 404).await?;
    let refused = lab.call("POST", widgets, &widget("late", json!({}))).await?.expect(403)?;
    assert_eq!(
        refused["message"],
        "widgets.example.dev \"late\" is forbidden: unable to create new content in namespace tenant because it is \
         being terminated"
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let told = |namespace: &serde_json::Value| namespace["status"]["conditions"][1]["message"].is_string();
    let waiting = lab.until("/api/v1/namespaces/tenant", told).await?;
    assert_eq!(
        waiting["status"]["conditions"][0]["message"],
        "Some resources are remaining: widgets.example.dev has 1 resource instances"
    );
    assert_eq!(
        waiting["status"]["conditions"][1]["message"],
        "Some content in the namespace has finalizers remaining: example.dev/wait in 1 resource instances"
    );
    lab.merge(&format!("{widgets}/held"), json!({"metadata": {"finalizers": null}})).await?.expect(200)?;
    lab.until_code("/api/v1/namespaces/tenant", 404).await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_namespaces_are_there_and_stay() -> Result<()> {
    let lab = Lab::new().await?;
    for name in ["default", "photon-system"] {
        lab.get(&format!("/api/v1/namespaces/{name}")).await?.expect(200)?;
        lab.delete(&format!("/api/v1/namespaces/{name}")).await?.expect(403)?;
    }
    lab.end().await
}
