//! What a greedy client gets, what the others still get, and what is written down of all that.

use anyhow::{Context, Result, ensure};
use apiserver::{AuditOptions, Identity, Level, Limits, Options};
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use testkit::Scratch;
use tower::ServiceExt;

use crate::lab::{Lab, SOON, read, widget};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn as_user(user: &str, method: &str, path: &str, body: Body) -> Result<Request<Body>> {
    let mut request =
        Request::builder().method(method).uri(path).header("content-type", "application/json").body(body)?;
    request.extensions_mut().insert(Identity::new(user, &["system:masters"]));
    Ok(request)
}

#[tokio::test]
async fn a_client_with_its_share_under_way_is_told_to_wait_and_others_are_served() -> Result<()> {
    let limits = Limits { requests: 20, per_identity: 10, least: 2, bytes: 1 << 30, lasting: 3, ..Limits::default() };
    let lab = Lab::with(Options { limits, ..Options::default() }).await?;
    let router = lab.api.router();
    // Bodies that never come to their end keep requests under way.
    let mut hanging = Vec::new();
    for _ in 0..10 {
        let endless = Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
        let mut waiting = Box::pin(router.clone().oneshot(as_user("greedy", "POST", MAPS, endless)?));
        ensure!(futures::poll!(&mut waiting).is_pending(), "a request without its body was answered");
        hanging.push(waiting);
    }
    let refused = router.clone().oneshot(as_user("greedy", "GET", MAPS, Body::empty())?).await?;
    ensure!(refused.headers().get("retry-after").is_some_and(|v| v == "1"), "{:?}", refused.headers());
    let status = read(refused).await?.expect(429)?;
    ensure!(status["reason"] == "TooManyRequests" && status["details"]["retryAfterSeconds"] == 1, "{status}");
    for other in ["one", "two", "three"] {
        read(router.clone().oneshot(as_user(other, "GET", MAPS, Body::empty())?).await?).await?.expect(200)?;
    }
    hanging.pop();
    read(router.clone().oneshot(as_user("greedy", "GET", MAPS, Body::empty())?).await?).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn watches_have_a_bound_of_their_own_and_give_their_place_back() -> Result<()> {
    let limits = Limits { lasting: 3, ..Limits::default() };
    let lab = Lab::with(Options { limits, ..Options::default() }).await?;
    let path = format!("{MAPS}?watch=true");
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(lab.watch(&path).await?);
    }
    lab.get(&path).await?.expect(429)?;
    lab.get(MAPS).await?.expect(200)?;
    watches.pop();
    let again = lab.watch(&path).await;
    ensure!(again.is_ok(), "the place of a watch that ended is still taken");
    Ok(())
}

#[tokio::test]
async fn who_did_what_is_written_down_and_no_body_is() -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("audit.log");
    let audit = Some(AuditOptions::new(&path, Level::Writes));
    let lab = Lab::with(Options { audit, ..Options::default() }).await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "door-"},
        "stringData": {"word": "open-sesame"}});
    let made = lab.call("POST", "/api/v1/namespaces/default/secrets", &secret).await?;
    let id = made.headers.get("audit-id").context("no number")?.to_str()?.to_owned();
    let made = made.expect(201)?;
    let name = made["metadata"]["name"].as_str().context("no name")?.to_owned();
    lab.get(&format!("/api/v1/namespaces/default/secrets/{name}")).await?.expect(200)?;
    lab.get(MAPS).await?.expect(200)?;
    lab.call("POST", crate::lab::WIDGETS, &widget("bad", json!({"size": 1000}))).await?.expect(422)?;
    let lines = async {
        loop {
            let text = std::fs::read_to_string(&path)?;
            if text.contains("widgets") {
                return Ok::<_, anyhow::Error>(text);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let text = tokio::time::timeout(SOON, lines).await.context("nothing is written down")??;
    ensure!(!text.contains("sesame") && !text.contains("b3Blbi1z"), "the log shows a body: {text}");
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let told: Vec<_> = lines.iter().filter(|line| line["user"] == "tester").collect();
    ensure!(told.len() == 3, "a read of a ConfigMap is no news: {told:?}");
    let first = told[0];
    ensure!(first["verb"] == "create" && first["resource"] == "secrets" && first["code"] == 201, "{first}");
    ensure!(first["name"] == name.as_str() && first["id"] == id.as_str() && first["namespace"] == "default", "{first}");
    ensure!(first["revision"] == made["metadata"]["resourceVersion"], "{first}");
    ensure!(first["milliseconds"].as_f64().is_some_and(|took| took > 0.0), "{first}");
    ensure!(told[1]["verb"] == "get" && told[1]["name"] == name.as_str(), "{}", told[1]);
    ensure!(told[2]["code"] == 422 && told[2]["group"] == "example.dev", "{}", told[2]);
    Ok(())
}

#[tokio::test]
async fn what_the_server_does_on_its_own_is_written_down_too() -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("audit.log");
    let audit = Some(AuditOptions::new(&path, Level::Writes));
    let lab = Lab::with(Options { audit, ..Options::default() }).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}});
    lab.call("POST", "/api/v1/namespaces", &namespace).await?.expect(201)?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "goes-along"}});
    lab.call("POST", "/api/v1/namespaces/going/configmaps", &map).await?.expect(201)?;
    lab.until_code("/api/v1/namespaces/going/serviceaccounts/default", 200).await?;
    lab.delete("/api/v1/namespaces/going").await?.expect(200)?;
    lab.until_code("/api/v1/namespaces/going", 404).await?;

    let wanted = [
        ("system:chore:accounts", "create", "serviceaccounts", "default"),
        ("system:chore:namespaces", "delete", "configmaps", "goes-along"),
        ("system:chore:namespaces", "delete", "namespaces", "going"),
    ];
    let poll = async {
        loop {
            let text = std::fs::read_to_string(&path)?;
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let told = |(user, verb, resource, name): &(&str, &str, &str, &str)| {
                let said = |line: &&Value| {
                    let revision = line["revision"].as_str().is_some_and(|revision| revision != "0");
                    line["user"] == *user && line["verb"] == *verb && line["name"] == *name && revision
                };
                lines.iter().any(|line| said(&line) && line["resource"] == *resource)
            };
            if wanted.iter().all(told) {
                return Ok::<_, anyhow::Error>(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.context("chores are not written down")?
}
