//! What k9s asks, in its order and its words: no registry has a binary of it. (Another terminal UI is itself in `kubetui`.)

use anyhow::{Result, ensure};
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::lab::{Events, Lab, WIDGETS, read};

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                         application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// The kinds that discovery names with a verb, as group, version and plural.
fn kinds(discovery: &Value, verb: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for group in discovery["items"].as_array().into_iter().flatten() {
        for version in group["versions"].as_array().into_iter().flatten() {
            for kind in version["resources"].as_array().into_iter().flatten() {
                if kind["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|v| v == verb)) {
                    let place = (text(&group["metadata"]["name"]), text(&version["version"]), text(&kind["resource"]));
                    found.push(place);
                }
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_terminal_ui_asks_is_answered() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({"size": 1})).await?;
    lab.get("/version").await?.expect(200)?;
    let mut all = Vec::new();
    for path in ["/api", "/apis"] {
        all.extend(kinds(&lab.get_as(path, DISCOVERY).await?.expect(200)?, "list"));
    }
    ensure!(all.iter().any(|(_, _, plural)| plural == "widgets") && all.len() > 10, "{all:?}");

    // For each kind whether it may be seen, all at once, over one connection.
    let mut asked = Vec::new();
    for (group, version, resource) in &all {
        for verb in ["get", "list", "watch"] {
            let attributes = json!({"verb": verb, "group": group, "version": version, "resource": resource});
            let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes}});
            let lab = &lab;
            asked.push(async move { lab.call("POST", REVIEWS, &review).await?.expect(201) });
        }
    }
    let answers = futures::future::try_join_all(asked).await?;
    ensure!(answers.iter().all(|answer| answer["status"]["allowed"] == true), "something is not allowed");

    // Every kind as a table, of all namespaces.
    for (group, version, resource) in &all {
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let path = format!("{root}/{version}/{resource}?includeObject=Object&limit=500");
        let table = lab.get_as(&path, TABLE).await?.expect(200)?;
        let columns = table["columnDefinitions"].as_array().map_or(0, Vec::len);
        ensure!(table["kind"] == "Table" && columns > 0, "{path}: {table}");
    }

    // What it looks at it keeps up to date: by an informer, and by a table.
    let list = lab.get("/apis/example.dev/v1/widgets?limit=500&resourceVersion=0").await?.expect(200)?;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let query = format!("allowWatchBookmarks=true&resourceVersion={revision}&timeoutSeconds=300&watch=true");
    let mut informer = lab.watch(&format!("/apis/example.dev/v1/widgets?{query}")).await?;
    let request = Request::get(format!("{WIDGETS}?{query}&includeObject=Object")).header("accept", TABLE);
    let mut table: Events = lab.events(request.body(Body::empty())?).await?;
    lab.merge(&format!("{WIDGETS}/a"), json!({"spec": {"size": 2}})).await?.expect(200)?;
    let event = informer.next().await?.unwrap_or_default();
    ensure!(event["type"] == "MODIFIED" && event["object"]["spec"]["size"] == 2, "{event}");
    let event = table.next().await?.unwrap_or_default();
    let row = &event["object"]["rows"][0];
    ensure!(event["object"]["kind"] == "Table" && row["cells"][0] == "a", "{event}");
    ensure!(row["object"]["spec"]["size"] == 2, "{event}");

    // And what it does on a key press.
    let yaml = Request::get(format!("{WIDGETS}/a")).header("accept", "application/yaml").body(Body::empty())?;
    read(lab.send(yaml).await?).await?.expect(200)?;
    lab.delete(&format!("{WIDGETS}/a?propagationPolicy=Background")).await?.expect(200)?;
    let event = table.next().await?.unwrap_or_default();
    ensure!(event["type"] == "DELETED", "{event}");
    lab.end().await
}
