//! Every refusal in the official server's words: one table.

use anyhow::Result;
use serde_json::{Value, json};

use crate::lab::{JSON, Lab, MERGE, WIDGETS, widget};

struct Case {
    what: &'static str,
    method: &'static str,
    path: String,
    media: &'static str,
    body: Value,
    code: u16,
    reason: &'static str,
    message: &'static str,
}

fn case(what: &'static str, method: &'static str, path: impl Into<String>, body: Value) -> Case {
    Case { what, method, path: path.into(), media: JSON, body, code: 0, reason: "", message: "" }
}

impl Case {
    fn gives(mut self, code: u16, reason: &'static str, message: &'static str) -> Self {
        (self.code, self.reason, self.message) = (code, reason, message);
        self
    }

    fn sent_as(mut self, media: &'static str) -> Self {
        self.media = media;
        self
    }
}

fn cases() -> Vec<Case> {
    let mut other_version = widget("b", json!({}));
    other_version["apiVersion"] = json!("example.dev/v9");
    let mut other_kind = widget("b", json!({}));
    other_kind["kind"] = json!("Gadget");
    let mut other_namespace = widget("b", json!({}));
    other_namespace["metadata"]["namespace"] = json!("elsewhere");
    let mut with_revision = widget("b", json!({}));
    with_revision["metadata"]["resourceVersion"] = json!("5");
    let at = |name: &str| format!("{WIDGETS}/{name}");
    vec![
        case("missing object", "GET", at("zz"), Value::Null)
            .gives(404, "NotFound", "widgets.example.dev \"zz\" not found"),
        case("missing kind", "GET", "/apis/example.dev/v1/gadgets", Value::Null)
            .gives(404, "NotFound", "the server could not find the requested resource"),
        case("missing version", "GET", "/apis/example.dev/v2/widgets", Value::Null)
            .gives(404, "NotFound", "the server could not find the requested resource"),
        case("namespaced kind without namespace", "POST", "/apis/example.dev/v1/widgets", widget("b", json!({})))
            .gives(404, "NotFound", "the server could not find the requested resource"),
        case("missing namespace", "POST", "/apis/example.dev/v1/namespaces/nowhere/widgets", widget("b", json!({})))
            .gives(404, "NotFound", "namespaces \"nowhere\" not found"),
        case("existing name", "POST", WIDGETS, widget("a", json!({})))
            .gives(409, "AlreadyExists", "widgets.example.dev \"a\" already exists"),
        case("no name", "POST", WIDGETS, widget("", json!({}))).gives(
            422,
            "Invalid",
            "Widget.example.dev \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        case("wrong version", "POST", WIDGETS, other_version).gives(
            400,
            "BadRequest",
            "the API version in the data (example.dev/v9) does not match the expected API version (example.dev/v1)",
        ),
        case("wrong kind", "POST", WIDGETS, other_kind).gives(
            422,
            "Invalid",
            "Widget.example.dev \"b\" is invalid: kind: Invalid value: \"Gadget\": must be Widget",
        ),
        case("wrong namespace", "POST", WIDGETS, other_namespace).gives(
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        case("revision on create", "POST", WIDGETS, with_revision).gives(
            400,
            "BadRequest",
            "resourceVersion should not be set on objects to be created",
        ),
        case("unconditional put", "PUT", at("a"), widget("a", json!({}))).gives(
            422,
            "Invalid",
            "Widget.example.dev \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
        ),
        case("put of what is not there", "PUT", at("zz"), widget("zz", json!({}))).gives(
            404,
            "NotFound",
            "widgets.example.dev \"zz\" not found",
        ),
        case("all namespaces at once", "DELETE", "/api/v1/namespaces", Value::Null).gives(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        case("name against the path", "PUT", at("a"), widget("b", json!({}))).gives(
            400,
            "BadRequest",
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        case("put to a collection", "PUT", WIDGETS, widget("a", json!({}))).gives(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        case("server-side apply by nobody", "PATCH", at("a"), json!({})).sent_as("application/apply-patch+yaml").gives(
            422,
            "Invalid",
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        case("patch of nothing", "PATCH", at("zz"), json!({})).sent_as(MERGE).gives(
            404,
            "NotFound",
            "widgets.example.dev \"zz\" not found",
        ),
        case("no such subresource", "GET", format!("{WIDGETS}/a/scale"), Value::Null).gives(
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        case("protected namespace", "DELETE", "/api/v1/namespaces/default", Value::Null).gives(
            403,
            "Forbidden",
            "namespaces \"default\" is forbidden: this namespace may not be deleted",
        ),
        case("bad revision", "GET", format!("{WIDGETS}?resourceVersion=x"), Value::Null).gives(
            400,
            "BadRequest",
            "resourceVersion: Invalid value: \"x\": must be a non-negative number",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_speak_as_the_official_server_does() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({})).await?;
    for case in cases() {
        let body = if case.body.is_null() { String::new() } else { case.body.to_string() };
        let answer = lab.raw(case.method, &case.path, case.media, body).await?;
        let status = &answer.body;
        assert_eq!(answer.code, case.code, "{}: {status}", case.what);
        assert_eq!(status["kind"], "Status", "{}", case.what);
        assert_eq!(status["code"], case.code, "{}", case.what);
        assert_eq!(status["reason"], case.reason, "{}", case.what);
        assert_eq!(status["message"], case.message, "{}", case.what);
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_fields_are_all_named() -> Result<()> {
    let lab = Lab::new().await?;
    let refused = lab.call("POST", WIDGETS, &widget("a", json!({"size": 0, "colour": "pink"}))).await?.expect(422)?;
    let fields: Vec<_> = refused["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].as_str()).collect();
    assert!(fields.contains(&Some("spec.size")) && fields.contains(&Some("spec.colour")), "{refused}");
    assert_eq!(refused["details"]["kind"], "Widget");
    lab.get(&format!("{WIDGETS}/a")).await?.expect(404)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_how_it_is_and_what_it_has() -> Result<()> {
    let lab = Lab::new().await?;
    let told = async |path: &str| Ok::<_, anyhow::Error>(lab.get(path).await?.expect(200)?);
    for path in ["/healthz", "/livez", "/livez/ping", "/readyz", "/readyz/etcd", "/readyz/etcd-space"] {
        assert_eq!(told(path).await?, "ok", "{path}");
    }
    assert_eq!(told("/livez?verbose").await?, "[+]ping ok\nlivez check passed\n");
    assert_eq!(
        told("/readyz?verbose=true&exclude=etcd").await?,
        "[+]ping ok\n[+]etcd excluded: ok\n[+]etcd-space ok\nreadyz check passed\n"
    );
    lab.get("/readyz/weather").await?.expect(404)?;
    let paths = told("/").await?["paths"].clone();
    for path in ["/api/v1", "/apis/example.dev/v1", "/apis/authorization.k8s.io", "/openapi/v3/apis/example.dev/v1"] {
        assert!(paths.as_array().is_some_and(|paths| paths.iter().any(|there| there == path)), "{path}: {paths}");
    }
    let binary = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    assert_eq!(lab.get_as("/openapi/v3/apis/example.dev/v1", binary).await?.code, 406);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused() -> Result<()> {
    use tower::ServiceExt;
    let lab = Lab::new().await?;
    for (path, code) in
        [(WIDGETS, 401), ("/metrics", 401), ("/apis", 401), ("/", 401), ("/healthz", 200), ("/version", 200)]
    {
        let request = http::Request::get(path).body(axum::body::Body::empty())?;
        let response = lab.api.router().oneshot(request).await?;
        assert_eq!(response.status(), code, "{path}");
    }
    lab.end().await
}
