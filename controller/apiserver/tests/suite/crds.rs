//! Kinds made, changed and removed while the server runs.

use anyhow::Result;
use serde_json::json;

use crate::lab::{JSON, Lab, WIDGETS, widget, widget_crd};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn gadget_crd() -> serde_json::Value {
    let mut crd = widget_crd();
    crd["metadata"]["name"] = json!("gadgets.example.org");
    crd["spec"]["group"] = json!("example.org");
    crd["spec"]["scope"] = json!("Cluster");
    crd["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget"});
    crd
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_kind_is_served_when_its_creation_is_answered() -> Result<()> {
    let lab = Lab::new().await?;
    lab.get("/apis/example.org/v1/gadgets").await?.expect(404)?;
    lab.call("POST", CRDS, &gadget_crd()).await?.expect(201)?;
    let made = json!({"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {}});
    lab.call("POST", "/apis/example.org/v1/gadgets", &made).await?.expect(201)?;
    let crd = lab
        .until(&format!("{CRDS}/gadgets.example.org"), |crd| crd["status"]["conditions"][1]["status"] == "True")
        .await?;
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(crd["status"]["acceptedNames"]["listKind"], "GadgetList");
    let groups = lab.get("/apis").await?.expect(200)?;
    assert!(groups.to_string().contains("example.org"), "{groups}");

    lab.delete(&format!("{CRDS}/gadgets.example.org")).await?.expect(200)?;
    lab.until_code(&format!("{CRDS}/gadgets.example.org"), 404).await?;
    lab.until_code("/apis/example.org/v1/gadgets", 404).await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_schema_counts_at_once() -> Result<()> {
    let lab = Lab::new().await?;
    lab.call("POST", WIDGETS, &widget("a", json!({"colour": "pink"}))).await?.expect(422)?;
    let patch = json!([{"op": "add", "value": "pink",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/colour/enum/-"}]);
    let path = format!("{CRDS}/widgets.example.dev");
    lab.raw("PATCH", &path, "application/json-patch+json", patch.to_string()).await?.expect(200)?;
    lab.call("POST", WIDGETS, &widget("a", json!({"colour": "pink"}))).await?.expect(201)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_forbidden_crds_are_refused() -> Result<()> {
    let lab = Lab::new().await?;
    let mut broken = gadget_crd();
    broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["type"] = json!("sandwich");
    let refused = lab.call("POST", CRDS, &broken).await?.expect(422)?;
    assert!(refused["details"]["causes"][0]["field"].as_str().unwrap().starts_with("spec."), "{refused}");
    let mut open = gadget_crd();
    open["spec"]["preserveUnknownFields"] = json!(true);
    let refused = lab.call("POST", CRDS, &open).await?.expect(422)?;
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.preserveUnknownFields", "{refused}");
    let mut astray = gadget_crd();
    let selectable = json!([{"jsonPath": ".spec.host"}, {"jsonPath": ".spec.hots"}, {"jsonPath": ".spec"},
        {"jsonPath": ".metadata.name"}]);
    astray["spec"]["versions"][0]["selectableFields"] = selectable;
    let refused = lab.call("POST", CRDS, &astray).await?.expect(422)?;
    let causes = refused["details"]["causes"].as_array().cloned().unwrap_or_default();
    let fields: Vec<_> = causes.iter().filter_map(|cause| cause["field"].as_str()).collect();
    let at = |index: usize| format!("spec.versions[0].selectableFields[{index}].jsonPath");
    assert_eq!(fields, [at(1), at(2), at(3)], "{refused}");
    let mut ours = gadget_crd();
    ours["metadata"]["name"] = json!("gadgets.events.k8s.io");
    ours["spec"]["group"] = json!("events.k8s.io");
    lab.call("POST", CRDS, &ours).await?.expect(422)?;
    let mut moved = lab.get(&format!("{CRDS}/widgets.example.dev")).await?.expect(200)?;
    moved["spec"]["scope"] = json!("Cluster");
    lab.call("PUT", &format!("{CRDS}/widgets.example.dev"), &moved).await?.expect(422)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_changes_nothing() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{CRDS}/widgets.example.dev");
    let settled = |crd: &serde_json::Value| crd["status"]["conditions"][1]["status"] == "True";
    let before = lab.until(&path, settled).await?;
    lab.api.ensure_crds(&[widget_crd()]).await?;
    assert_eq!(lab.get(&path).await?.expect(200)?, before);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_names_every_kind() -> Result<()> {
    let lab = Lab::new().await?;
    let list = lab.get("/apis/example.dev/v1").await?.expect(200)?;
    let names: Vec<_> = list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"widgets") && names.contains(&"widgets/status"), "{names:?}");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = lab.get_as("/apis", accept).await?;
    assert_eq!(aggregated.headers["content-type"], accept);
    assert_eq!(aggregated.body["kind"], "APIGroupDiscoveryList");
    assert_eq!(lab.get("/api").await?.expect(200)?["kind"], "APIVersions");
    let index = lab.get("/openapi/v3").await?.expect(200)?;
    assert!(index["paths"]["apis/example.dev/v1"].is_object(), "{index}");
    let document = lab.get("/openapi/v3/apis/example.dev/v1").await?;
    assert_eq!(document.headers["cache-control"], "no-cache, private");
    assert!(document.expect(200)?["components"]["schemas"].is_object());
    // Where the index says by a hash what is there, it stays.
    let hashed = index["paths"]["apis/example.dev/v1"]["serverRelativeURL"].as_str().unwrap();
    let kept = lab.get(hashed).await?;
    assert!(kept.headers["cache-control"].to_str()?.contains("immutable"));
    assert_eq!(lab.get(&format!("{hashed}0")).await?.headers["cache-control"], "no-cache, private");
    let head = lab.raw("HEAD", "/apis/example.dev/v1", JSON, "").await?;
    assert_eq!((head.code, &head.body), (200, &json!("")));
    assert_eq!(
        head.headers["content-length"],
        lab.get("/apis/example.dev/v1").await?.body.to_string().len().to_string()
    );
    assert_eq!(lab.raw("OPTIONS", "/apis/example.dev/v1", JSON, "").await?.code, 405);
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "list", "resource": "secrets"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(lab.call("POST", path, &review).await?.expect(201)?["status"]["allowed"], true);
    lab.end().await
}
