//! Deleting: finalizers, preconditions, collections.

use anyhow::Result;
use serde_json::json;

use crate::lab::{Lab, WIDGETS, revision, widget};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_goes_with_its_last_finalizer() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let mut wanted = widget("a", json!({}));
    wanted["metadata"]["finalizers"] = json!(["example.dev/one", "example.dev/two"]);
    lab.call("POST", WIDGETS, &wanted).await?.expect(201)?;
    let marked = lab.delete(&path).await?.expect(200)?;
    assert_eq!(marked["kind"], "Widget");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(marked["metadata"]["generation"], 2);
    let again = lab.delete(&path).await?.expect(200)?;
    assert_eq!(revision(&again), revision(&marked));
    let refused = json!({"metadata": {"finalizers": ["example.dev/one", "example.dev/two", "example.dev/three"]}});
    lab.merge(&path, refused).await?.expect(422)?;
    lab.merge(&path, json!({"metadata": {"deletionTimestamp": null}})).await?.expect(200)?;
    lab.merge(&path, json!({"metadata": {"finalizers": ["example.dev/two"]}})).await?.expect(200)?;
    let still = lab.get(&path).await?.expect(200)?;
    assert!(still["metadata"]["deletionTimestamp"].is_string());
    lab.merge(&path, json!({"metadata": {"finalizers": null}})).await?.expect(200)?;
    lab.get(&path).await?.expect(404)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_object_is_answered_with_a_status() -> Result<()> {
    let lab = Lab::new().await?;
    let made = lab.widget("a", json!({})).await?;
    let gone = lab.delete(&format!("{WIDGETS}/a")).await?.expect(200)?;
    assert_eq!(gone["status"], "Success");
    let details = json!({"name": "a", "group": "example.dev", "kind": "widgets", "uid": made["metadata"]["uid"]});
    assert_eq!(gone["details"], details);
    lab.delete(&format!("{WIDGETS}/a")).await?.expect(404)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_are_kept() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let made = lab.widget("a", json!({})).await?;
    let refused = lab.call("DELETE", &path, &json!({"preconditions": {"uid": "other"}})).await?.expect(409)?;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        refused["message"],
        format!(
            "Operation cannot be fulfilled on widgets.example.dev \"a\": Precondition failed: UID in precondition: \
             other, UID in object meta: {uid}"
        )
    );
    lab.call("DELETE", &path, &json!({"preconditions": {"resourceVersion": "1"}})).await?.expect(409)?;
    lab.call("DELETE", &path, &json!({"preconditions": {"uid": uid}})).await?.expect(200)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_deleted_by_selector() -> Result<()> {
    let lab = Lab::new().await?;
    for (name, host) in [("a", "h1"), ("b", "h2"), ("c", "h1")] {
        lab.widget(name, json!({"host": host})).await?;
    }
    let gone = lab.delete(&format!("{WIDGETS}?fieldSelector=spec.host%3Dh1")).await?.expect(200)?;
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    let left = lab.get(WIDGETS).await?.expect(200)?;
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collections_deletion_keeps_its_options() -> Result<()> {
    let lab = Lab::new().await?;
    let owner = lab.widget("owner", json!({})).await?;
    let mut dependent = widget("dependent", json!({}));
    dependent["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.dev/v1", "kind": "Widget", "name": "owner",
        "uid": owner["metadata"]["uid"]}]);
    lab.call("POST", WIDGETS, &dependent).await?.expect(201)?;
    let owners = format!("{WIDGETS}?fieldSelector=metadata.name%3Downer");
    lab.delete(&format!("{owners}&dryRun=All")).await?.expect(200)?;
    lab.get(&format!("{WIDGETS}/owner")).await?.expect(200)?;
    lab.call("DELETE", &owners, &json!({"preconditions": {"uid": "other"}})).await?.expect(409)?;
    let refused = lab.call("DELETE", &owners, &json!({"propagationPolicy": "Sideways"})).await?.expect(422)?;
    assert_eq!(refused["details"]["causes"][0]["field"], "propagationPolicy", "{refused}");
    assert_eq!(refused["details"]["kind"], "DeleteOptions", "{refused}");
    lab.delete(&format!("{owners}&dryRun=Some")).await?.expect(422)?;
    lab.call("DELETE", &owners, &json!({"propagationPolicy": "Orphan"})).await?.expect(200)?;
    lab.until_code(&format!("{WIDGETS}/owner"), 404).await?;
    let left = lab.get(&format!("{WIDGETS}/dependent")).await?.expect(200)?;
    assert!(left["metadata"]["ownerReferences"].is_null() && left["metadata"]["deletionTimestamp"].is_null(), "{left}");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_goes_page_by_page() -> Result<()> {
    let lab = Lab::new().await?;
    for name in ["a", "b", "c", "d", "e"] {
        lab.widget(name, json!({"host": if name == "c" { "h2" } else { "h1" }})).await?;
    }
    let names = |page: &serde_json::Value| -> Vec<String> {
        let items = page["items"].as_array().into_iter().flatten();
        items.filter_map(|item| item["metadata"]["name"].as_str()).map(str::to_owned).collect()
    };
    let path = format!("{WIDGETS}?fieldSelector=spec.host%3Dh1&limit=2");
    let first = lab.delete(&path).await?.expect(200)?;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(names(&lab.get(WIDGETS).await?.expect(200)?), ["c", "d", "e"], "nothing but the page went");
    let token = first["metadata"]["continue"].as_str().unwrap_or("");
    let second = lab.delete(&format!("{path}&continue={token}")).await?.expect(200)?;
    assert_eq!(names(&second), ["d", "e"]);
    assert!(second["metadata"]["continue"].is_null(), "{second}");
    assert_eq!(names(&lab.get(WIDGETS).await?.expect(200)?), ["c"]);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_delete_options_deletes_nothing() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let made = lab.widget("a", json!({})).await?;
    for body in
        [made, json!({"propagationPolicy": 5}), json!({"preconditions": "uid"}), json!({"dryRun": "All"}), json!(["a"])]
    {
        let refused = lab.call("DELETE", &path, &body).await?.expect(400)?;
        assert!(refused["message"].as_str().unwrap_or("").contains("no DeleteOptions"), "{refused}");
    }
    lab.get(&path).await?.expect(200)?;
    let options = json!({"kind": "DeleteOptions", "apiVersion": "example.dev/v1", "gracePeriodSeconds": 0});
    lab.call("DELETE", &path, &options).await?.expect(200)?;
    lab.get(&path).await?.expect(404)?;
    lab.end().await
}
