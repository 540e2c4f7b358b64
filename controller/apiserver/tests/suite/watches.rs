//! Watches: from where, what, and how they end.

use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::Options;
use serde_json::json;

use crate::lab::{Door, Lab, WIDGETS, revision, widget};

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_where_it_was_left() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let made = lab.widget("a", json!({})).await?;
    let mut watch = lab.watch(&format!("{WIDGETS}?watch=1")).await?;
    assert_eq!(watch.word().await?, "ADDED a");
    lab.merge(&path, json!({"spec": {"size": 2}})).await?.expect(200)?;
    assert_eq!(watch.word().await?, "MODIFIED a");
    drop(watch);
    lab.delete(&path).await?.expect(200)?;
    lab.widget("b", json!({})).await?;
    let mut watch = lab.watch(&format!("{WIDGETS}?watch=1&resourceVersion={}", revision(&made))).await?;
    assert_eq!(watch.word().await?, "MODIFIED a");
    let deleted = watch.next().await?.context("ended")?;
    assert_eq!((&deleted["type"], &deleted["object"]["spec"]["size"]), (&json!("DELETED"), &json!(2)));
    assert!(revision(&deleted["object"]).parse::<u64>()? > revision(&made).parse::<u64>()? + 1);
    assert_eq!(watch.word().await?, "ADDED b");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_leaving_the_selection_is_deleted_for_the_watcher() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    lab.widget("a", json!({"host": "h1"})).await?;
    let mut h1 = lab.watch(&format!("{WIDGETS}?watch=1&fieldSelector=spec.host%3Dh1")).await?;
    let mut h2 = lab.watch(&format!("{WIDGETS}?watch=1&fieldSelector=spec.host%3Dh2")).await?;
    assert_eq!(h1.word().await?, "ADDED a");
    let moved = lab.merge(&path, json!({"spec": {"host": "h2"}})).await?.expect(200)?;
    let left = h1.next().await?.context("ended")?;
    assert_eq!((&left["type"], &left["object"]["spec"]["host"]), (&json!("DELETED"), &json!("h1")));
    assert_eq!(revision(&left["object"]), revision(&moved));
    assert_eq!(h2.word().await?, "ADDED a");
    lab.delete(&path).await?.expect(200)?;
    assert_eq!(h2.word().await?, "DELETED a");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn initial_events_end_with_their_bookmark() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({})).await?;
    let path =
        format!("{WIDGETS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan");
    let mut watch = lab.watch(&path).await?;
    assert_eq!(watch.word().await?, "ADDED a");
    let bookmark = watch.next().await?.context("ended")?;
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["kind"], "Widget");
    let blueprint = &bookmark["object"]["metadata"]["annotations"]["kubernetes.io/initial-events-list-blueprint"];
    let blueprint = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, blueprint.as_str().unwrap_or(""))?;
    let empty = json!({"kind": "WidgetList", "apiVersion": "example.dev/v1", "metadata": {}, "items": []});
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&blueprint)?, empty);
    lab.widget("b", json!({})).await?;
    assert_eq!(watch.word().await?, "ADDED b");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bookmarks_come_when_something_happened_and_watches_end_in_time() -> Result<()> {
    let options = Options { bookmark_interval: Duration::from_millis(50), ..Options::default() };
    let lab = Lab::with(options).await?;
    let made = lab.widget("a", json!({})).await?;
    let query = format!("watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds=2", revision(&made));
    let mut watch = lab.watch(&format!("{WIDGETS}?{query}")).await?;
    let changed = lab.merge(&format!("{WIDGETS}/a"), json!({"spec": {"size": 3}})).await?.expect(200)?;
    assert_eq!(watch.word().await?, "MODIFIED a");
    let bookmark = watch.next().await?.context("ended")?;
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert!(revision(&bookmark["object"]).parse::<u64>()? >= revision(&changed).parse::<u64>()?);
    while let Some(event) = watch.next().await? {
        assert_eq!(event["type"], "BOOKMARK");
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_the_history_is_expired() -> Result<()> {
    let lab = Lab::new().await?;
    let mut options = lab.etcd_options();
    options.history = store::History { events: 4, bytes: 1 << 20 };
    let store = store::Store::connect(options).await?;
    let api = apiserver::ApiServer::new(store, Options::default()).await?;
    let small = Door { api };
    let first = small.widget("a", json!({})).await?;
    for n in 0..20 {
        small
            .merge(&format!("{WIDGETS}/a"), json!({"metadata": {"labels": {"n": n.to_string()}}}))
            .await?
            .expect(200)?;
    }
    let mut watch = small.watch(&format!("{WIDGETS}?watch=1&resourceVersion={}", revision(&first))).await?;
    let event = watch.next().await?.context("ended")?;
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(watch.next().await?.is_none());
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_watched_with_headers_once() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({})).await?;
    let request = http::Request::get(format!("{WIDGETS}?watch=1"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(axum::body::Body::empty())?;
    let mut watch = lab.events(request).await?;
    let first = watch.next().await?.context("ended")?;
    assert_eq!(first["object"]["kind"], "Table");
    assert!(first["object"]["columnDefinitions"].as_array().is_some_and(|c| !c.is_empty()));
    lab.call("POST", WIDGETS, &widget("b", json!({}))).await?.expect(201)?;
    let second = watch.next().await?.context("ended")?;
    assert_eq!(second["object"]["rows"][0]["object"]["metadata"]["name"], "b");
    assert!(second["object"]["columnDefinitions"].as_array().is_none_or(Vec::is_empty));
    lab.end().await
}

/// Reads until the watch ends; fails when it goes on for too long.
async fn ends(mut events: crate::lab::Events) -> Result<()> {
    while events.next().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_the_right_to_it() -> Result<()> {
    let often = Duration::from_millis(1);
    let lab = Lab::with(Options { watch_recheck: often, ..Options::default() }).await?;
    let roles = |kind: &str| crate::access::in_namespace("default", kind);
    let mut reader = crate::access::role("reader", &["example.dev"], &["widgets"], &["watch"]);
    reader["rules"][0]["resourceNames"] = json!(["a"]);
    lab.call("POST", &roles("roles"), &reader).await?.expect(201)?;
    let mut bound = crate::access::binding("jane", ("Role", "reader"), "jane");
    let robot = json!({"kind": "ServiceAccount", "name": "robot", "namespace": "default"});
    if let Some(subjects) = bound["subjects"].as_array_mut() {
        subjects.push(robot);
    }
    lab.call("POST", &roles("rolebindings"), &bound).await?.expect(201)?;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    lab.call("POST", accounts, &account).await?.expect(201)?;
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let given = lab.call("POST", &format!("{accounts}/robot/token"), &asked).await?.expect(201)?;
    let token = given["status"]["token"].as_str().unwrap_or_default().to_owned();

    let path = format!("{WIDGETS}?watch=1&fieldSelector=metadata.name%3Da");
    let watch = || http::Request::get(path.as_str()).body(axum::body::Body::empty());
    let mut by_jane = watch()?;
    by_jane.extensions_mut().insert(apiserver::Identity::new("jane", &[]));
    let mut by_robot = watch()?;
    by_robot.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let open = async |request| {
        let Ok(response) = tower::ServiceExt::oneshot(lab.api.router(), request).await;
        crate::lab::Events::of(response)
    };
    let (mut jane, mut robot) = (open(by_jane).await?, open(by_robot).await?);
    // Many looks later, both still hear.
    lab.widget("a", json!({})).await?;
    for events in [&mut jane, &mut robot] {
        let event = events.next().await?;
        assert_eq!(event.map(|event| event["type"].clone()), Some(json!("ADDED")));
    }
    lab.delete(&format!("{accounts}/robot")).await?.expect(200)?;
    ends(robot).await?;
    lab.merge(&format!("{WIDGETS}/a"), json!({"spec": {"size": 7}})).await?.expect(200)?;
    assert!(jane.next().await?.is_some(), "jane's ended with the robot's account");
    lab.delete(&format!("{}/jane", roles("rolebindings"))).await?.expect(200)?;
    ends(jane).await?;
    lab.end().await
}
