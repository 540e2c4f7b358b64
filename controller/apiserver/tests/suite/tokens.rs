//! ServiceAccount tokens: issued, checked, taken back; and speaking as somebody else.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::access::{binding, in_namespace, role};
use crate::kubectl::Kubectl;
use crate::lab::{Answer, Lab, WIDGETS, read};
use crate::tls::{Served, serve};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// A server with an account `robot` that may list widgets.
async fn lab() -> Result<Lab> {
    let lab = Lab::new().await?;
    let robot = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    lab.call("POST", ACCOUNTS, &robot).await?.expect(201)?;
    let reader = role("reader", &["example.dev"], &["widgets"], &["list"]);
    lab.call("POST", &in_namespace("default", "roles"), &reader).await?.expect(201)?;
    let mut bound = binding("robot", ("Role", "reader"), "");
    bound["subjects"] = json!([{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]);
    lab.call("POST", &in_namespace("default", "rolebindings"), &bound).await?.expect(201)?;
    Ok(lab)
}

async fn request(lab: &Lab, spec: Value) -> Result<Answer> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    lab.call("POST", &format!("{ACCOUNTS}/robot/token"), &body).await
}

async fn token(lab: &Lab, spec: Value) -> Result<String> {
    let answer = request(lab, spec).await?.expect(201)?;
    answer["status"]["token"].as_str().map(str::to_owned).context("no token")
}

/// A request of somebody whom no mount has proven.
async fn unproven(lab: &Lab, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match lab.api.router().oneshot(request.body(Body::empty())?).await {
        Ok(response) => read(response).await,
        Err(never) => match never {},
    }
}

async fn with_token(lab: &Lab, path: &str, token: &str) -> Result<u16> {
    Ok(unproven(lab, path, &[("authorization", &format!("Bearer {token}"))]).await?.code)
}

async fn review(lab: &Lab, token: &str, audiences: Value) -> Result<Value> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    Ok(lab.call("POST", REVIEWS, &body).await?.expect(201)?["status"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_its_account_may_and_nothing_else() -> Result<()> {
    let lab = lab().await?;
    let token = token(&lab, json!({})).await?;
    assert_eq!(with_token(&lab, WIDGETS, &token).await?, 200);
    assert_eq!(with_token(&lab, "/api/v1/namespaces/default/secrets", &token).await?, 403);
    let status = review(&lab, &token, json!([])).await?;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        status["user"]["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    for (headers, why) in [
        (vec![], "nothing"),
        (vec![("authorization", "Bearer ")], "an empty token"),
        (vec![("authorization", "Bearer a.b.c")], "nonsense"),
        (vec![("authorization", "Basic dXNlcjpwYXNz")], "another scheme"),
        (vec![("x-remote-user", "admin"), ("x-remote-group", "system:masters")], "a proxy's word"),
        (vec![("impersonate-user", "admin"), ("impersonate-group", "system:masters")], "a wish"),
    ] {
        for path in [WIDGETS, "/apis", "/metrics", "/openapi/v3"] {
            assert_eq!(unproven(&lab, path, &headers).await?.code, 401, "{why}: {path}");
        }
    }
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(unproven(&lab, path, &[]).await?.code, 200, "{path}");
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_account_or_its_secret() -> Result<()> {
    let lab = lab().await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lease"}});
    lab.call("POST", "/api/v1/namespaces/default/secrets", &secret).await?.expect(201)?;
    let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "lease"}});
    let (free, bound) = (token(&lab, json!({})).await?, token(&lab, bound).await?);
    for token in [&free, &bound] {
        assert_eq!(with_token(&lab, WIDGETS, token).await?, 200);
    }
    lab.delete("/api/v1/namespaces/default/secrets/lease").await?.expect(200)?;
    assert_eq!(with_token(&lab, WIDGETS, &bound).await?, 401);
    // A Secret of the same name is another one.
    lab.call("POST", "/api/v1/namespaces/default/secrets", &secret).await?.expect(201)?;
    assert_eq!(with_token(&lab, WIDGETS, &bound).await?, 401);
    assert_eq!(with_token(&lab, WIDGETS, &free).await?, 200);
    lab.delete(&format!("{ACCOUNTS}/robot")).await?.expect(200)?;
    assert_eq!(with_token(&lab, WIDGETS, &free).await?, 401);
    let robot = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    lab.call("POST", ACCOUNTS, &robot).await?.expect(201)?;
    assert_eq!(with_token(&lab, WIDGETS, &free).await?, 401);
    let status = review(&lab, &free, json!([])).await?;
    assert_eq!(status["authenticated"], false);
    assert_eq!(status["error"], "the ServiceAccount \"robot\" that the token is bound to is gone");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_audience_does_not_open_this_door() -> Result<()> {
    let lab = lab().await?;
    let token = token(&lab, json!({"audiences": ["vault"]})).await?;
    assert_eq!(with_token(&lab, WIDGETS, &token).await?, 401);
    assert_eq!(review(&lab, &token, json!([])).await?["authenticated"], false);
    let status = review(&lab, &token, json!(["other", "vault"])).await?;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused() -> Result<()> {
    let lab = lab().await?;
    for seconds in [-1, 0, 599, (1_i64 << 32) + 1] {
        request(&lab, json!({"expirationSeconds": seconds})).await?.expect(422)?;
    }
    let pod = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    request(&lab, pod).await?.expect(400)?;
    let missing = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "none"}});
    request(&lab, missing).await?.expect(404)?;
    let nobody = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    lab.call("POST", &format!("{ACCOUNTS}/nobody/token"), &nobody).await?.expect(404)?;
    lab.person("jane", &[]).call("POST", &format!("{ACCOUNTS}/robot/token"), &nobody).await?.expect(403)?;
    lab.get(&format!("{ACCOUNTS}/robot/token")).await?.expect(405)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_server_is_refused() -> Result<()> {
    let lab = lab().await?;
    let token = token(&lab, json!({})).await?;
    let parts: Vec<&str> = token.split('.').collect();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1])?)?;
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
    // The same claims, well signed, by a key that is not this server's.
    let key = pki::TokenKey::generate()?;
    let signed = format!("{}.{}", parts[0], parts[1]);
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?));
    assert_eq!(with_token(&lab, WIDGETS, &forged).await?, 401);
    // A server with the key goes on where the first one was.
    let options = apiserver::Options { token_key: Some(Arc::new(key)), ..apiserver::Options::default() };
    let other = apiserver::ApiServer::new(store::Store::connect(lab.etcd_options()).await?, options).await?;
    let request = Request::get(WIDGETS).header("authorization", format!("Bearer {forged}")).body(Body::empty())?;
    let Ok(response) = other.router().oneshot(request).await;
    assert_eq!(response.status(), 200);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_a_default_account() -> Result<()> {
    let lab = lab().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fresh"}});
    lab.call("POST", "/api/v1/namespaces", &namespace).await?.expect(201)?;
    let path = "/api/v1/namespaces/fresh/serviceaccounts/default";
    let first = lab.until(path, |_| true).await?;
    lab.delete(path).await?.expect(200)?;
    lab.until(path, |again| again["metadata"]["uid"] != first["metadata"]["uid"]).await?;
    lab.delete("/api/v1/namespaces/fresh").await?.expect(200)?;
    lab.until_code("/api/v1/namespaces/fresh", 404).await?;
    lab.until_code(path, 404).await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn speaking_as_somebody_else_is_a_right() -> Result<()> {
    let lab = lab().await?;
    let as_robot = [("impersonate-user", "system:serviceaccount:default:robot")];
    let ask = |person: &'static str, groups: &'static [&'static str], headers: Vec<(&'static str, &'static str)>| {
        let identity = apiserver::Identity::new(person, groups);
        let mut request = Request::get(WIDGETS);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        (identity, request.body(Body::empty()))
    };
    let send = async |(identity, request): (apiserver::Identity, http::Result<Request<Body>>)| {
        read(lab.send_as(&identity, request?).await?).await
    };
    let masters: &[&str] = &["system:masters"];
    assert_eq!(send(ask("root", masters, as_robot.to_vec())).await?.code, 200);
    let nobody = send(ask("root", masters, vec![("impersonate-user", "nobody")])).await?.expect(403)?;
    assert!(nobody["message"].as_str().unwrap_or("").contains("User \"nobody\" cannot list"), "{nobody}");
    let refused = send(ask("jane", &[], as_robot.to_vec())).await?.expect(403)?;
    assert_eq!(
        refused["message"],
        "serviceaccounts \"robot\" is forbidden: User \"jane\" cannot impersonate resource \"serviceaccounts\" in API \
         group \"\" in the namespace \"default\""
    );
    send(ask("root", masters, vec![("impersonate-group", "x")])).await?.expect(400)?;
    // A right to one user is none to its groups.
    let mut one = role("as-nobody", &[""], &["users"], &["impersonate"]);
    one["kind"] = json!("ClusterRole");
    one["rules"][0]["resourceNames"] = json!(["nobody"]);
    lab.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", &one).await?.expect(201)?;
    let mut bound = binding("as-nobody", ("ClusterRole", "as-nobody"), "jane");
    bound["kind"] = json!("ClusterRoleBinding");
    lab.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &bound).await?.expect(201)?;
    let both = vec![("impersonate-user", "nobody"), ("impersonate-group", "system:masters")];
    let refused = send(ask("jane", &[], both)).await?.expect(403)?;
    assert!(
        refused["message"].as_str().unwrap_or("").starts_with("groups \"system:masters\" is forbidden"),
        "{refused}"
    );
    lab.end().await
}

/// Asks over TLS without a certificate.
async fn bare(served: &Served, path: &str, authorization: Option<&str>) -> Result<u16> {
    bare_from(served, "127.0.0.1", path, authorization).await
}

/// The same from another address of this machine's loopback.
async fn bare_from(served: &Served, from: &str, path: &str, authorization: Option<&str>) -> Result<u16> {
    let io = TokioIo::new(served.connect_bare(from.parse()?).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let mut request = Request::get(path).header("host", "127.0.0.1");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let response = sender.send_request(request.body(Body::empty())?).await?;
    let code = response.status().as_u16();
    response.into_body().collect().await?;
    Ok(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_makes_a_token_and_lives_by_it() -> Result<()> {
    let lab = lab().await?;
    let home = tempfile::tempdir()?;
    let served = serve(&lab, home.path()).await?;
    let admin = Kubectl::new(home.path(), &served)?;
    let token = admin.run("create token robot --duration=1h", "").await?;
    let token = token.trim();
    assert_eq!(bare(&served, WIDGETS, None).await?, 401);
    assert_eq!(bare(&served, "/version", None).await?, 200);
    assert_eq!(bare(&served, WIDGETS, Some(&format!("Bearer {token}"))).await?, 200);

    let robot_home = tempfile::tempdir()?;
    let robot = Kubectl::with_token(robot_home.path(), &served, token)?;
    assert_eq!(robot.run("get widgets", "").await?, "");
    assert!(robot.run("auth whoami", "").await?.contains("system:serviceaccount:default:robot"));
    assert!(robot.fails("get secrets", "").await?.contains("(Forbidden)"));
    let account = "--as=system:serviceaccount:default:robot";
    assert_eq!(admin.run(&format!("auth can-i list widgets {account}"), "").await?, "yes\n");
    assert_eq!(admin.output(&format!("auth can-i list secrets {account}"), "").await?.stdout, b"no\n");
    assert!(admin.run("auth whoami --as=jane --as-group=dev", "").await?.contains("jane"));
    admin.run("delete serviceaccount robot", "").await?;
    let refused = robot.fails("get widgets", "").await?;
    ensure!(refused.contains("Unauthorized") || refused.contains("must be logged in"), "{refused}");
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_tokens_costs_nobody_else() -> Result<()> {
    let limits = apiserver::Limits { guesses: 20, ..apiserver::Limits::default() };
    let lab = Lab::with(apiserver::Options { limits, ..apiserver::Options::default() }).await?;
    let robot = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    lab.call("POST", ACCOUNTS, &robot).await?.expect(201)?;
    let home = tempfile::tempdir()?;
    let served = serve(&lab, home.path()).await?;
    let bearer = format!("Bearer {}", token(&lab, json!({})).await?);
    let fresh = format!("Bearer {}", token(&lab, json!({})).await?);
    assert_eq!(bare(&served, "/api", Some(&bearer)).await?, 200);

    let mut codes = Vec::new();
    for guess in 0..60 {
        codes.push(bare(&served, "/api", Some(&format!("Bearer a.b.{guess}"))).await?);
    }
    ensure!(codes[..20].iter().all(|code| *code == 401), "{codes:?}");
    ensure!(codes.iter().all(|code| [401, 429].contains(code)) && codes.contains(&429), "{codes:?}");
    assert_eq!(bare(&served, "/api", Some(&bearer)).await?, 200, "who was proven before goes on");
    assert_eq!(bare_from(&served, "127.0.0.2", "/api", Some(&fresh)).await?, 200, "and so do others");
    assert_eq!(bare(&served, "/version", None).await?, 200);
    served.stop().await?;
    lab.end().await
}
