//! Answers about the server itself: discovery, OpenAPI, version, metrics.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use prometheus::Encoder;
use serde_json::{Value, json};

use crate::access::Attributes;
use crate::answer;
use crate::error::Error;
use crate::registry::Catalog;
use crate::request::accept::{Accept, clauses, parameter};
use crate::request::path::Route;
use crate::schema::discovery::{self, Form};
use crate::server::Server;

/// Paths that are there whatever kinds are.
const SERVED: [&str; 10] =
    ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
/// The protobuf form of OpenAPI v2 that kubectl asks for, and as the official server labels it.
const GNOSTIC: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const GNOSTIC_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers everything that is not about objects.
pub(crate) fn answer(server: &Server, route: &Route, request: &Request<Body>) -> Result<Response, Error> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Error::MethodNotAllowed);
    }
    let catalog = server.registry.catalog();
    let headers = request.headers();
    match route {
        Route::Root => answer::document(200, &paths(&catalog), Accept::PLAIN),
        Route::CoreVersions => groups(headers, &catalog, true),
        Route::Groups => groups(headers, &catalog, false),
        Route::Group(group) => found(discovery::api_group(&catalog.definitions, group)),
        Route::Resources { group, version } => {
            found(discovery::api_resource_list(&catalog.definitions, group, version))
        }
        Route::OpenApiV3Index => json_answer(catalog.openapi_v3_index(), headers),
        Route::OpenApiV3 { group, version } => {
            let document = catalog.openapi_v3(group, version).ok_or(Error::NoRoute)?;
            let mut response = json_answer(document, headers)?;
            if is_current(&catalog, request.uri()) {
                keep_for_ever(&mut response);
            }
            Ok(response)
        }
        Route::OpenApiV2 => openapi_v2(headers, &catalog),
        Route::Resource(_) => Err(Error::NoRoute),
    }
}

fn found(document: Option<Value>) -> Result<Response, Error> {
    answer::document(200, &document.ok_or(Error::NoRoute)?, Accept::PLAIN)
}

/// Everything that can be asked for besides objects, as `/` lists it.
fn paths(catalog: &Catalog) -> Value {
    let mut paths: BTreeSet<String> = SERVED.iter().map(|path| (*path).to_owned()).collect();
    let groups = discovery::api_group_list(&catalog.definitions);
    for group in groups["groups"].as_array().into_iter().flatten() {
        let versions = group["versions"].as_array().into_iter().flatten().map(|version| &version["groupVersion"]);
        let below = std::iter::once(&group["name"]).chain(versions);
        paths.extend(below.filter_map(|path| Some(format!("/apis/{}", path.as_str()?))));
    }
    for definition in &catalog.definitions {
        for version in definition.versions.iter().filter(|version| version.served) {
            let (group, version) = (&definition.group, &version.name);
            let under = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            paths.insert(format!("/openapi/v3/{under}"));
        }
    }
    json!({"paths": paths})
}

fn json_answer(bytes: Bytes, headers: &HeaderMap) -> Result<Response, Error> {
    let gzip = Accept::negotiate(headers)?.gzip;
    Ok(answer::bytes_of(200, bytes, "application/json", gzip))
}

/// Whether the URL is one that the index names, hash and all: then what is there never changes.
fn is_current(catalog: &Catalog, uri: &http::Uri) -> bool {
    let Some(query) = uri.query().filter(|query| query.starts_with("hash=")) else { return false };
    let wanted = format!("\"{}?{query}\"", uri.path());
    let index = catalog.openapi_v3_index();
    std::str::from_utf8(&index).is_ok_and(|index| index.contains(&wanted))
}

/// kubectl reads these documents for every create and explain; so it reads each of them once.
fn keep_for_ever(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
    headers.append(header::VARY, HeaderValue::from_static("Accept"));
}

fn openapi_v2(headers: &HeaderMap, catalog: &Catalog) -> Result<Response, Error> {
    let gzip = Accept::negotiate(headers).is_ok_and(|accept| accept.gzip);
    let media = |clause: &str| clause.split(';').next().unwrap_or("").trim().to_owned();
    let wanted =
        clauses(headers).map(media).find(|m| [GNOSTIC, GNOSTIC_ANSWER, "application/json"].contains(&m.as_str()));
    match wanted.as_deref() {
        Some(GNOSTIC | GNOSTIC_ANSWER) => {
            Ok(answer::bytes_of(200, catalog.openapi_v2_protobuf(), GNOSTIC_ANSWER, gzip))
        }
        _ => json_answer(Bytes::from(catalog.openapi_v2().to_string()), headers),
    }
}

/// `/api` and `/apis`: aggregated for clients that know how to ask, else the old lists.
fn groups(headers: &HeaderMap, catalog: &Catalog, core: bool) -> Result<Response, Error> {
    let (form, media) = clauses(headers).find_map(form_of).unwrap_or((None, "application/json"));
    let document = match (form, core) {
        (Some(form), _) => discovery::aggregated(&catalog.definitions, core, form),
        (None, true) => discovery::api_versions(),
        (None, false) => discovery::api_group_list(&catalog.definitions),
    };
    let mut response = answer::document(200, &document, Accept::PLAIN)?;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// The first discovery form a client accepts that we speak.
fn form_of(clause: &str) -> Option<(Option<Form>, &'static str)> {
    let media = clause.split(';').next()?.trim();
    if !matches!(media, "application/json" | "*/*" | "application/*") {
        return None;
    }
    let version = parameter(clause, "v");
    match (parameter(clause, "as"), version) {
        (None, _) => Some((None, "application/json")),
        (Some("APIGroupDiscoveryList"), Some("v2")) => {
            Some((Some(Form::V2), "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"))
        }
        (Some("APIGroupDiscoveryList"), Some("v2beta1")) => {
            Some((Some(Form::V2Beta1), "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"))
        }
        _ => None,
    }
}

/// `/version`
pub(crate) async fn version(State(server): State<Arc<Server>>) -> axum::Json<Value> {
    let git = &server.options.git_version;
    let mut numbers = git.trim_start_matches('v').split('.');
    axum::Json(json!({
        "major": numbers.next().unwrap_or("1"),
        "minor": numbers.next().unwrap_or("0"),
        "gitVersion": git, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }))
}

/// `/metrics`, for callers who may read that path.
pub(crate) async fn metrics(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let asked = Attributes::of_path("/metrics", "get");
    let allowed = server.caller(&request).and_then(|caller| server.access.authorize(&caller, &asked));
    if let Err(error) = allowed {
        return error.into_response();
    }
    let mut text = Vec::new();
    let encoder = prometheus::TextEncoder::new();
    if let Err(error) = encoder.encode(&prometheus::gather(), &mut text) {
        return Error::Internal(format!("metrics cannot be written: {error}")).into_response();
    }
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}
