//! Data of an earlier version: put into etcd as that version stored it, then served by this one.

use anyhow::{Context, Result, ensure};
use apiserver::{ApiServer, Options};
use serde_json::{Value, json};
use store::Store;

use crate::lab::{Door, Lab, WIDGETS, widget_crd};

/// What the first version of Widget's author stored: another version of the kind, and none of today's defaults.
fn first_crd() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"colour": {"type": "string"}, "size": {"type": "integer"}}}}});
    let mut crd = widget_crd();
    crd["metadata"]["uid"] = json!("0b4f5b0e-0000-4000-8000-000000000001");
    crd["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    crd["spec"]["versions"] = json!([{"name": "v1alpha1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": schema}}]);
    crd["status"] = json!({"storedVersions": ["v1alpha1"]});
    crd
}

fn first_widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.dev/v1alpha1", "kind": "Widget", "metadata": {
        "name": name, "namespace": "default", "uid": format!("0b4f5b0e-0000-4000-8000-0000000000{name}"),
        "creationTimestamp": "2020-01-01T00:00:00Z", "generation": 3}, "spec": spec})
}

/// The lab's etcd, emptied of today's Widget and filled as the first version left it.
async fn served_from_first_version(lab: &Lab) -> Result<Door> {
    let raw = Store::connect(lab.etcd_options()).await?;
    let crd = "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.dev";
    let today = raw.get(crd).await?.context("no CRD")?;
    raw.update(crd, first_crd().to_string().into(), today.mod_revision).await?;
    let widgets = [
        ("01", json!({"colour": "red"})),
        ("02", json!({"size": 7})),
        // Today's schema has no such colour.
        ("03", json!({"colour": "mauve", "size": 2})),
    ];
    for (name, spec) in widgets {
        let key = format!("/registry/example.dev/widgets/default/{name}");
        raw.create(&key, first_widget(name, spec).to_string().into()).await?;
    }
    let api = ApiServer::new(Store::connect(lab.etcd_options()).await?, Options::default()).await?;
    let mut crd = widget_crd();
    let old = json!({"name": "v1alpha1", "served": true, "storage": false,
        "schema": {"openAPIV3Schema": crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]}});
    crd["spec"]["versions"].as_array_mut().context("no versions")?.push(old);
    api.ensure_crds(&[crd]).await?;
    Ok(Door { api })
}

#[tokio::test]
async fn objects_of_the_first_version_are_served_with_todays_defaults() -> Result<()> {
    let lab = Lab::with(Options { chores: false, ..Options::default() }).await?;
    let door = served_from_first_version(&lab).await?;
    let now = door.until(&format!("{WIDGETS}/01"), |widget| widget["spec"]["size"] == 1).await?;
    ensure!(now["spec"] == json!({"colour": "red", "size": 1}) && now["apiVersion"] == "example.dev/v1", "{now}");
    ensure!(now["metadata"]["generation"] == 3 && now["metadata"]["uid"].as_str().is_some_and(|u| u.ends_with("01")));
    // Stored so, not only shown so.
    let raw = Store::connect(lab.etcd_options()).await?;
    for name in ["01", "02", "03"] {
        door.until(&format!("{WIDGETS}/{name}"), |_| {
            let entry = raw.get_stale(&format!("/registry/example.dev/widgets/default/{name}"));
            entry.is_some_and(|entry| String::from_utf8_lossy(&entry.value).contains("\"example.dev/v1\""))
        })
        .await?;
    }
    // The other version goes on being served, from the same object.
    let old = door.get("/apis/example.dev/v1alpha1/namespaces/default/widgets/02").await?.expect(200)?;
    ensure!(old["apiVersion"] == "example.dev/v1alpha1" && old["spec"]["size"] == 7, "{old}");
    // What today's schema would refuse is served as it is, and can be mended.
    let odd = door.get(&format!("{WIDGETS}/03")).await?.expect(200)?;
    ensure!(odd["spec"]["colour"] == "mauve", "{odd}");
    door.merge(&format!("{WIDGETS}/03"), json!({"spec": {"colour": "blue"}})).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn what_is_up_to_date_is_not_written_again() -> Result<()> {
    let lab = Lab::with(Options { chores: false, ..Options::default() }).await?;
    for number in 0..20 {
        lab.widget(&format!("w{number}"), json!({})).await?;
    }
    let before = lab.get(WIDGETS).await?.expect(200)?;
    // A server that does the chores starts, and shows by an old object that it has done this one.
    let raw = Store::connect(lab.etcd_options()).await?;
    let mut late = first_widget("zz", json!({}));
    late["apiVersion"] = json!("example.dev/v1");
    raw.create("/registry/example.dev/widgets/default/zz", late.to_string().into()).await?;
    let api = ApiServer::new(Store::connect(lab.etcd_options()).await?, Options::default()).await?;
    let door = Door { api };
    door.until(&format!("{WIDGETS}/zz"), |widget| widget["spec"]["size"] == 1).await?;
    let after = door.get(WIDGETS).await?.expect(200)?;
    let without = |list: &Value| -> Vec<Value> {
        list["items"].as_array().into_iter().flatten().filter(|w| w["metadata"]["name"] != "zz").cloned().collect()
    };
    ensure!(without(&before) == without(&after) && without(&after).len() == 20);
    Ok(())
}
