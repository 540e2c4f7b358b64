//! From a request to the code that answers it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, Method, Request};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::access::reviews::{self, Review};
use crate::access::{Access, Attributes};
use crate::callers::ByToken;
use crate::callers::requests::{self, About};
use crate::error::Error;
use crate::identity::Identity;
use crate::registry::Resource;
use crate::request::accept::Accept;
use crate::request::path::{self, Route, Target, Verb};
use crate::request::query::Query;
use crate::request::{body, field_manager};
use crate::server::{ApiServer, Server};
use crate::write::DeleteOptions;
use crate::{answer, connect, documents, front, health};

/// A request that is not a watch must be answered within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Set by the code that serves a listener: turns true when its watches shall end.
#[derive(Debug, Clone)]
pub(crate) struct Closing(pub(crate) watch::Receiver<bool>);

/// A request about objects, understood.
pub(crate) struct Call {
    /// Who asks.
    pub identity: Identity,
    /// The token that proved it, if one did.
    pub token: Option<Arc<str>>,
    /// Who decides about it.
    pub access: Arc<Access>,
    /// What is to be done.
    pub verb: Verb,
    /// The addressed kind and version.
    pub resource: Resource,
    /// The namespace in the path.
    pub namespace: Option<String>,
    /// The object's name; empty for a collection.
    pub name: String,
    /// The part of the object that is meant.
    pub subresource: Option<String>,
    /// The query.
    pub query: Query,
    /// Fields that come twice in the body.
    pub repeated: Vec<String>,
    /// In whose name fields are written.
    pub manager: String,
    /// The wished answer.
    pub accept: Accept,
    /// When watches shall end.
    pub closing: watch::Receiver<bool>,
}

impl ApiServer {
    /// The whole API as an axum router; see [`Identity`] for who is calling.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(health::routes())
            .route("/version", get(documents::version))
            .route("/metrics", get(documents::metrics))
            .fallback(entry)
            .layer(axum::middleware::from_fn_with_state(self.server.clone(), front::pass))
            .with_state(self.server.clone())
    }
}

async fn entry(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let mut label = Label::default();
    let only_head = request.method() == Method::HEAD;
    let response = match route(&server, request, &mut label).await {
        Ok(response) => response,
        Err(error) => {
            if error.code() >= 500 {
                tracing::warn!(verb = label.verb, resource = label.resource, %error, "request failed");
            }
            error.into_response()
        }
    };
    server.metrics.answered(label.verb, &label.resource, response.status().as_u16(), started.elapsed());
    if only_head { answer::without_body(response) } else { response }
}

/// How a request is counted.
#[derive(Default)]
struct Label {
    verb: &'static str,
    resource: String,
}

async fn route(server: &Arc<Server>, request: Request<Body>, label: &mut Label) -> Result<Response, Error> {
    let identity = server.caller(&request)?;
    let route = path::parse(request.uri().path());
    if let Some(Route::Resource(target)) = route {
        let query = Query::parse(request.uri().query())?;
        let verb = verb_word(&target, &query, request.method());
        let name = query.selected_name().filter(|_| matches!(verb, "list" | "watch"));
        server.access.authorize(&identity, &Attributes::of(&target, verb, name))?;
        return match (Review::of(&target), About::of(server, &target)) {
            (Some(review), _) => reviews::answer(server, review, &target, &identity, request).await,
            (None, Some(about)) => requests::answer(server, about, &target, &identity, request).await,
            (None, None) => objects(server, (target, query, identity), request, label).await,
        };
    }
    let method = request.method().as_str().to_ascii_lowercase();
    server.access.authorize(&identity, &Attributes::of_path(request.uri().path(), &method))?;
    documents::answer(server, &route.ok_or(Error::NoRoute)?, &request)
}

/// The verb that the access rules are asked for; a method that is not served anywhere is asked for by its own name.
///
/// A subresource cannot be watched, so a `watch` in the query must not turn reading a console into watching it.
fn verb_word<'a>(target: &Target, query: &Query, method: &'a http::Method) -> &'a str {
    let named = target.name.is_some();
    let watching = (query.watch || target.legacy_watch) && target.subresource.is_none();
    match (method.as_str(), Verb::of(method, named, watching)) {
        (_, Some(verb)) => verb.word(),
        // Subresources are posted to by the name of their object.
        ("POST", None) => Verb::Create.word(),
        (other, None) => other,
    }
}

async fn objects(
    server: &Arc<Server>,
    (target, query, identity): (Target, Query, Identity),
    request: Request<Body>,
    label: &mut Label,
) -> Result<Response, Error> {
    let resource = server.registry.catalog().resource(&target.group, &target.version, &target.resource)?;
    label.resource.clone_from(&resource.definition.plural);
    let named = target.name.is_some();
    if let Some(service) = connected(server, &resource, &target) {
        label.verb = "connect";
        let place = (target.namespace.as_deref(), target.name.as_deref().unwrap_or(""));
        let asked = Attributes::of(&target, "connect", None);
        let may_see = |object: &Value| server.access.may_reach(&identity, &resource, &asked, object);
        return connect::relay(server, &resource, place, service, may_see, request).await;
    }
    let watching = query.watch || target.legacy_watch;
    let verb = Verb::of(request.method(), named, watching).ok_or(Error::MethodNotAllowed)?;
    label.verb = verb.word();
    check_door(&resource, &target, verb)?;
    let closing = request.extensions().get::<Closing>().map(|c| c.0.clone());
    let token = request.extensions().get::<ByToken>().map(|token| token.0.clone());
    let manager = match verb.options() {
        Some(kind) => {
            query.check_options(kind)?;
            field_manager::of(&query, &request, kind)?
        }
        None => String::new(),
    };
    let call = Call {
        identity,
        token,
        access: server.access.clone(),
        verb,
        resource,
        namespace: target.namespace,
        name: target.name.unwrap_or_default(),
        subresource: target.subresource,
        query,
        repeated: Vec::new(),
        manager,
        accept: Accept::negotiate(request.headers())?,
        closing: closing.unwrap_or_else(|| server.closing.subscribe()),
    };
    // What writes answer says it itself, beside what else they warn of.
    let deprecated = || call.resource.version().warning(&call.resource.definition);
    let warning = if verb.writes_an_object() { None } else { deprecated() };
    let answer = if verb == Verb::Watch {
        server.watch(call).await
    } else {
        tokio::time::timeout(REQUEST_TIMEOUT, perform(server, verb, call, request))
            .await
            .unwrap_or_else(|_| Err(Error::Timeout("request did not complete within the allotted timeout".to_owned())))
    };
    let mut response = answer?;
    answer::warn(&mut response, warning.as_slice());
    Ok(response)
}

/// Who answers the addressed subresource, when it is a connect one.
fn connected(server: &Server, resource: &Resource, target: &Target) -> Option<connect::ConnectService> {
    let subresource = target.subresource.as_deref()?;
    server.connects.find(&resource.definition.group, &resource.definition.plural, subresource)
}

/// Whether the path's shape fits the kind: scope, subresource and verb.
fn check_door(resource: &Resource, target: &Target, verb: Verb) -> Result<(), Error> {
    let definition = &resource.definition;
    if !definition.namespaced && target.namespace.is_some() {
        return Err(Error::NoRoute);
    }
    let needs_namespace = target.name.is_some() && verb != Verb::Watch || verb == Verb::Create;
    if definition.namespaced && target.namespace.is_none() && needs_namespace {
        return Err(Error::NoRoute);
    }
    // One slip would take all tenants along; discovery does not offer it either.
    let everywhere = definition.namespaced && target.namespace.is_none() || resource.is("", "namespaces");
    if verb == Verb::DeleteCollection && everywhere {
        return Err(Error::MethodNotAllowed);
    }
    match target.subresource.as_deref() {
        None => Ok(()),
        Some("status") if resource.version().status_subresource => match verb {
            Verb::Get | Verb::Update | Verb::Patch => Ok(()),
            _ => Err(Error::MethodNotAllowed),
        },
        Some("scale") if resource.version().scale.is_some() => match verb {
            Verb::Get | Verb::Update | Verb::Patch => Ok(()),
            _ => Err(Error::MethodNotAllowed),
        },
        Some("finalize") if resource.is("", "namespaces") => match verb {
            Verb::Update => Ok(()),
            _ => Err(Error::MethodNotAllowed),
        },
        Some(_) => Err(Error::NoRoute),
    }
}

async fn perform(server: &Arc<Server>, verb: Verb, mut call: Call, request: Request<Body>) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let headers: &HeaderMap = &parts.headers;
    if call.subresource.as_deref() == Some("scale") {
        let bytes = body::read(body).await?;
        let scale = match verb {
            Verb::Update => server.put_scale(&call, &body::decode(headers, &bytes)?).await?,
            Verb::Patch => server.patch_scale(&call, headers, &bytes).await?,
            _ => server.scale(&call).await?,
        };
        return answer::document(200, &scale, call.accept);
    }
    match verb {
        Verb::Get => {
            let view = server.get(&call).await?;
            answer::object(&call, 200, &view, &[])
        }
        Verb::List => {
            let page = server.list(&call).await?;
            answer::list(&call, &page).await
        }
        Verb::Create => {
            let document = body::decode_noting(headers, &body::read(body).await?, &mut call.repeated)?;
            let written = server.create(&call, document).await?;
            answer::written(&call, &written)
        }
        Verb::Update => {
            let document = body::decode_noting(headers, &body::read(body).await?, &mut call.repeated)?;
            let written = server.update(&call, document).await?;
            answer::written(&call, &written)
        }
        Verb::Patch => {
            let bytes = body::read(body).await?;
            let written = server.patch(&call, headers, &bytes).await?;
            answer::written(&call, &written)
        }
        Verb::Delete => {
            let options = DeleteOptions::read(&call.query, headers, &body::read(body).await?)?;
            delete(server, &call, &options).await
        }
        Verb::DeleteCollection => {
            let options = DeleteOptions::read(&call.query, headers, &body::read(body).await?)?;
            answer::list(&call, &server.delete_collection(&call, &options).await?).await
        }
        // Answered before, as its life has no limit of time.
        Verb::Watch => Err(Error::MethodNotAllowed),
    }
}

/// A removed object is answered with a Status, a marked one with itself.
async fn delete(server: &Arc<Server>, call: &Call, options: &DeleteOptions) -> Result<Response, Error> {
    if call.is_confined() {
        server.get(call).await?;
    }
    let place = (call.namespace.as_deref(), call.name.as_str());
    let done = server.delete(&call.resource, place, options).await?;
    if !done.removed {
        return answer::object(call, 200, &done.view, &[]);
    }
    let definition = &call.resource.definition;
    let mut details = json!({
        "name": call.name, "kind": definition.plural, "uid": crate::object::meta(done.view.value(), "uid"),
    });
    if !definition.group.is_empty() {
        details["group"] = json!(definition.group);
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    answer::document(200, &status, call.accept)
}
