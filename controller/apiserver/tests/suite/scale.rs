//! `/scale` where a CRD declares it.

use anyhow::Result;
use serde_json::{Value, json};

use crate::lab::{JSON, Lab, MERGE, revision, widget_crd};

pub const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const POOLS: &str = "/apis/example.dev/v1/namespaces/default/pools";

pub fn pool_crd() -> Value {
    let mut crd = widget_crd();
    crd["metadata"]["name"] = json!("pools.example.dev");
    crd["spec"]["names"] = json!({"plural": "pools", "kind": "Pool"});
    let version = &mut crd["spec"]["versions"][0];
    version["selectableFields"] = json!([]);
    version["subresources"]["scale"] = json!({"specReplicasPath": ".spec.members", "statusReplicasPath": ".status.ready",
        "labelSelectorPath": ".status.selector"});
    version["schema"]["openAPIV3Schema"]["properties"] = json!({
        "spec": {"type": "object", "properties": {"members": {"type": "integer", "maximum": 9}, "note": {"type": "string"}}},
        "status": {"type": "object", "properties": {"ready": {"type": "integer"}, "selector": {"type": "string"}}},
    });
    crd
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_shows_and_changes_the_number_its_crd_names() -> Result<()> {
    let lab = Lab::new().await?;
    lab.call("POST", CRDS, &pool_crd()).await?.expect(201)?;
    let pool =
        json!({"apiVersion": "example.dev/v1", "kind": "Pool", "metadata": {"name": "p"}, "spec": {"members": 2}});
    let made = lab.call("POST", POOLS, &pool).await?.expect(201)?;
    let (path, scale) = (format!("{POOLS}/p"), format!("{POOLS}/p/scale"));
    let status = json!({"status": {"ready": 1, "selector": "pool=p"}});
    lab.merge(&format!("{path}/status"), status).await?.expect(200)?;

    let mut shown = lab.get(&scale).await?.expect(200)?;
    assert_eq!((&shown["kind"], &shown["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(shown["spec"], json!({"replicas": 2}));
    assert_eq!(shown["status"], json!({"replicas": 1, "selector": "pool=p"}));
    assert_eq!(shown["metadata"]["uid"], made["metadata"]["uid"]);

    shown["spec"]["replicas"] = json!(5);
    let put = lab.call("PUT", &scale, &shown).await?.expect(200)?;
    assert_eq!(put["spec"]["replicas"], 5);
    let stale = lab.call("PUT", &scale, &shown).await?.expect(409)?;
    assert_eq!(stale["reason"], "Conflict");
    let dry =
        lab.raw("PATCH", &format!("{scale}?dryRun=All"), MERGE, r#"{"spec":{"replicas":7}}"#).await?.expect(200)?;
    assert_eq!(dry["spec"]["replicas"], 7);
    let merged = lab.merge(&scale, json!({"spec": {"replicas": 6}})).await?.expect(200)?;
    assert_eq!(merged["spec"]["replicas"], 6);
    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 6},
        {"op": "replace", "path": "/spec/replicas", "value": 3}]);
    lab.raw("PATCH", &scale, "application/json-patch+json", patch.to_string()).await?.expect(200)?;
    let now = lab.get(&path).await?.expect(200)?;
    assert_eq!((&now["spec"]["members"], &now["metadata"]["generation"]), (&json!(3), &json!(4)));
    let openapi = lab.get("/openapi/v3/apis/example.dev/v1").await?.expect(200)?;
    let described = &openapi["paths"]["/apis/example.dev/v1/namespaces/{namespace}/pools/{name}/scale"]["put"];
    assert_eq!(described["x-kubernetes-group-version-kind"]["kind"], "Scale");
    assert!(openapi["components"]["schemas"]["io.k8s.api.autoscaling.v1.Scale"].is_object());
    assert!(lab.get("/openapi/v2").await?.expect(200)?["definitions"]["io.k8s.api.autoscaling.v1.Scale"].is_object());
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_that_makes_no_sense_is_refused() -> Result<()> {
    let lab = Lab::new().await?;
    lab.call("POST", CRDS, &pool_crd()).await?.expect(201)?;
    let pool = json!({"apiVersion": "example.dev/v1", "kind": "Pool", "metadata": {"name": "p"}, "spec": {}});
    let made = lab.call("POST", POOLS, &pool).await?.expect(201)?;
    let scale = format!("{POOLS}/p/scale");
    assert!(lab.get(&scale).await?.expect(500)?["message"].as_str().unwrap().contains(".spec.members"));
    let negative = lab.merge(&scale, json!({"spec": {"replicas": -1}})).await?.expect(422)?;
    assert_eq!(negative["details"]["causes"][0]["field"], "spec.replicas");
    lab.merge(&scale, json!({"spec": {"replicas": "many"}})).await?.expect(422)?;
    // The kind's own rules count, too.
    lab.merge(&scale, json!({"spec": {"replicas": 10}})).await?.expect(422)?;
    lab.merge(&scale, json!({"metadata": {"name": "q"}})).await?.expect(400)?;
    lab.merge(&scale, json!({"metadata": {"uid": "other"}, "spec": {"replicas": 1}})).await?.expect(409)?;
    lab.call("PUT", &scale, &json!({"kind": "Pool", "apiVersion": "example.dev/v1"})).await?.expect(400)?;
    lab.raw("PATCH", &scale, "text/plain", "x").await?.expect(415)?;
    lab.raw("DELETE", &scale, JSON, "").await?.expect(405)?;
    lab.get(&format!("{POOLS}/q/scale")).await?.expect(404)?;
    lab.get("/apis/example.dev/v1/namespaces/default/widgets/w/scale").await?.expect(404)?;
    assert_eq!(revision(&lab.get(&format!("{POOLS}/p")).await?.expect(200)?), revision(&made));
    lab.end().await
}
