//! Lists: selectors, pages of one revision, tables, metadata only, gzip.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use store::Compaction;

use crate::lab::{Door, JSON, Lab, WIDGETS, read, revision, widget};

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items.map(|item| item["metadata"]["name"].as_str().unwrap_or("?")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_select() -> Result<()> {
    let lab = Lab::new().await?;
    for (name, host, tier) in [("a", "h1", "front"), ("b", "h2", "front"), ("c", "h1", "back")] {
        let mut wanted = widget(name, json!({"host": host}));
        wanted["metadata"]["labels"] = json!({"tier": tier});
        lab.call("POST", WIDGETS, &wanted).await?.expect(201)?;
    }
    for (query, expected) in [
        ("labelSelector=tier%3Dfront", vec!["a", "b"]),
        ("labelSelector=tier%20in%20(back)", vec!["c"]),
        ("labelSelector=!tier", vec![]),
        ("fieldSelector=spec.host%3Dh1", vec!["a", "c"]),
        ("fieldSelector=spec.host%3Dh1&labelSelector=tier%3Dback", vec!["c"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
    ] {
        let list = lab.get(&format!("{WIDGETS}?{query}")).await?.expect(200)?;
        assert_eq!(names(&list), expected, "{query}");
    }
    lab.get(&format!("{WIDGETS}?fieldSelector=spec.colour%3Dx")).await?.expect(400)?;
    lab.get(&format!("{WIDGETS}?labelSelector=a%20b")).await?.expect(400)?;
    let everywhere = lab.get("/apis/example.dev/v1/widgets").await?.expect(200)?;
    assert_eq!((everywhere["kind"].as_str(), names(&everywhere).len()), (Some("WidgetList"), 3));
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_revision() -> Result<()> {
    let lab = Lab::new().await?;
    for n in 0..5 {
        lab.widget(&format!("w{n}"), json!({})).await?;
    }
    let first = lab.get(&format!("{WIDGETS}?limit=2")).await?.expect(200)?;
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    lab.delete(&format!("{WIDGETS}/w3")).await?.expect(200)?;
    lab.widget("w2a", json!({})).await?;
    let mut seen: Vec<String> = names(&first).into_iter().map(str::to_owned).collect();
    let mut token = first["metadata"]["continue"].as_str().map(str::to_owned);
    while let Some(at) = token {
        let page = lab.get(&format!("{WIDGETS}?limit=2&continue={at}")).await?.expect(200)?;
        assert_eq!(revision(&page), revision(&first));
        seen.extend(names(&page).into_iter().map(str::to_owned));
        token = page["metadata"]["continue"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, ["w0", "w1", "w2", "w3", "w4"]);
    let exact = format!("{WIDGETS}?resourceVersionMatch=Exact&resourceVersion={}", revision(&first));
    assert_eq!(names(&lab.get(&exact).await?.expect(200)?).len(), 5);
    let before = lab.get(&format!("{WIDGETS}?resourceVersionMatch=Exact&resourceVersion=2")).await?.expect(200)?;
    assert!(names(&before).is_empty(), "{before}");
    lab.get(&format!("{WIDGETS}?continue=forged")).await?.expect(400)?;
    lab.get(&format!("{WIDGETS}?resourceVersion=99999999")).await?.expect(504)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_on_at_another_server_until_the_past_is_compacted() -> Result<()> {
    let lab = Lab::new().await?;
    for n in 0..5 {
        lab.widget(&format!("w{n}"), json!({})).await?;
    }
    let first = lab.get(&format!("{WIDGETS}?limit=2")).await?.expect(200)?;
    let token = first["metadata"]["continue"].as_str().context("no token")?;
    lab.delete(&format!("{WIDGETS}/w3")).await?.expect(200)?;
    let other = another(&lab, |_| {}).await?;
    let second = other.get(&format!("{WIDGETS}?limit=2&continue={token}")).await?.expect(200)?;
    assert_eq!((names(&second), revision(&second)), (vec!["w2", "w3"], revision(&first)));

    let forgetful = another(&lab, |options| {
        options.compaction = Compaction { every: Duration::from_millis(20), age: Duration::ZERO, revisions: 1 };
    })
    .await?;
    // All that is left fits, so this server keeps nothing for a further page.
    let path = format!("{WIDGETS}?limit=10&continue={token}");
    for n in 0.. {
        let spec = json!({"spec": {"note": format!("{n}")}});
        forgetful.merge(&format!("{WIDGETS}/w0"), spec).await?.expect(200)?;
        let answer = forgetful.get(&path).await?;
        if answer.code == 200 {
            assert!(n < 500, "nothing was ever compacted");
            continue;
        }
        let expired = answer.expect(410)?;
        assert_eq!(expired["reason"], "Expired");
        let fresh = expired["metadata"]["continue"].as_str().context("no fresh token")?;
        let rest = forgetful.get(&format!("{WIDGETS}?limit=2&continue={fresh}")).await?.expect(200)?;
        assert_eq!(names(&rest), ["w2", "w4"]);
        break;
    }
    let exact = format!("{WIDGETS}?resourceVersionMatch=Exact&resourceVersion={}", revision(&first));
    assert_eq!(forgetful.get(&exact).await?.expect(410)?["reason"], "Expired");
    lab.end().await
}

/// One more server over the same etcd.
async fn another(lab: &Lab, change: impl FnOnce(&mut store::StoreOptions)) -> Result<Door> {
    let mut options = lab.etcd_options();
    change(&mut options);
    let store = store::Store::connect(options).await?;
    Ok(Door { api: apiserver::ApiServer::new(store, apiserver::Options::default()).await? })
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_metadata_are_served() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({"size": 7})).await?;
    let table = lab.get_as(WIDGETS, "application/json;as=Table;v=v1;g=meta.k8s.io").await?.expect(200)?;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 7]));
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = lab.get_as(WIDGETS, accept).await?.expect(200)?;
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][0]["metadata"]["name"], "a");
    assert_eq!(partial["items"][0].get("spec"), None);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_is_served_of_objects_and_watches_too() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({"size": 7})).await?;
    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let one = lab.get_as(&format!("{WIDGETS}/a"), partial).await?.expect(200)?;
    assert_eq!(
        (&one["kind"], &one["metadata"]["name"], one.get("spec")),
        (&json!("PartialObjectMetadata"), &json!("a"), None)
    );
    let request = http::Request::get(format!("{WIDGETS}?watch=1")).header("accept", partial);
    let event = lab.events(request.body(axum::body::Body::empty())?).await?.next().await?.context("no event")?;
    assert_eq!((&event["object"]["kind"], event["object"].get("spec")), (&json!("PartialObjectMetadata"), None));

    let table = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    for (include, kind) in
        [("None", Value::Null), ("Metadata", json!("PartialObjectMetadata")), ("Object", json!("Widget"))]
    {
        let shown = lab.get_as(&format!("{WIDGETS}?includeObject={include}"), table).await?.expect(200)?;
        assert_eq!((&shown["apiVersion"], &shown["rows"][0]["object"]["kind"]), (&json!("meta.k8s.io/v1beta1"), &kind));
    }
    assert_eq!(lab.get_as(&format!("{WIDGETS}?includeObject=All"), table).await?.code, 400);

    for path in [format!("{WIDGETS}/a?resourceVersion=99999999"), format!("{WIDGETS}?watch=1&resourceVersion=99999999")]
    {
        let refused = lab.get(&path).await?.expect(504)?;
        assert_eq!(refused["details"]["causes"][0]["reason"], "ResourceVersionTooLarge", "{path}");
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_lists_are_packed_for_those_who_unpack() -> Result<()> {
    let lab = Lab::new().await?;
    let note = "x".repeat(20_000);
    for n in 0..10 {
        lab.widget(&format!("w{n}"), json!({"note": note})).await?;
    }
    let request = http::Request::get(WIDGETS).header("accept-encoding", "gzip").header("accept", JSON);
    let packed = read(lab.send(request.body(axum::body::Body::empty())?).await?).await?;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(!lab.get(WIDGETS).await?.headers.contains_key("content-encoding"));
    lab.end().await
}
