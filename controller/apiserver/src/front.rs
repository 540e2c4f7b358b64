//! What every request passes on its way in and out: its share of the server, its number, and its line in the audit log.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use store::Revision;

use crate::audit::Line;
use crate::callers::{ByToken, Peer, bearer};
use crate::error::Error;
use crate::fair::Cost;
use crate::identity::Identity;
use crate::object::Object;
use crate::registry::Resource;
use crate::request::path::{self, Route, Target, Verb};
use crate::server::Server;
use crate::{storage, text};

/// The number of a request, in its answer and in the audit log.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// An extension of requests from within the process: reconcilers bound themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inside;

/// An extension of answers to writes: what was made, which the path does not tell.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// The object's name.
    pub(crate) name: Arc<str>,
    /// The version that was made; none when nothing had to be changed.
    pub(crate) revision: Option<Arc<str>>,
}

/// Lets a request pass when its identity has a place for it, and writes down what came of it.
pub(crate) async fn pass(State(server): State<Arc<Server>>, request: Request<Body>, next: Next) -> Response {
    let started = Instant::now();
    let identity = match server.proven(&request) {
        Ok(Some(identity)) => identity,
        Ok(None) => return pass_stranger(&server, request, next).await,
        Err(error) => {
            server.metrics.turned_away();
            return error.into_response();
        }
    };
    let mut request = request;
    if request.extensions().get::<Identity>().is_none()
        && let Some(token) = bearer(request.headers()).map(Arc::from)
    {
        request.extensions_mut().insert(ByToken(token));
    }
    request.extensions_mut().insert(identity.clone());
    let inside = request.extensions().get::<Inside>().is_some();
    if inside && server.audit.is_none() {
        return next.run(request).await;
    }
    let asked = Asked::of(&server, &request);
    let place = if inside { None } else { Some(server.shares.enter(&identity.user, asked.cost)) };
    let mut response = match place {
        Some(None) => {
            server.metrics.turned_away();
            Error::Overloaded("too many requests of yours are under way; try again".to_owned()).into_response()
        }
        Some(Some(place)) if asked.cost == Cost::Lasting => {
            // Given back when the last byte was sent, or the client has gone.
            next.run(request).await.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &place;
                    frame
                }))
            })
        }
        // Given back once the answer is there: it is in memory then, and sent at the client's pace.
        Some(Some(_place)) => next.run(request).await,
        None => next.run(request).await,
    };
    let id = uuid::Uuid::new_v4().to_string();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(AUDIT_ID, value);
    }
    let made = response.extensions().get::<Made>();
    asked.write_down(&server, &identity, (&id, made), response.status().as_u16(), started);
    response
}

/// Lets somebody pass who has proven nothing: all of one address have one share.
async fn pass_stranger(server: &Server, request: Request<Body>, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>() else { return next.run(request).await };
    let cost = Cost::of(http_body::Body::size_hint(request.body()).upper());
    match server.shares.enter(&peer.share().into(), cost) {
        Some(_place) => next.run(request).await,
        None => {
            server.metrics.turned_away();
            Error::Overloaded("too many requests from your address are under way; try again".to_owned()).into_response()
        }
    }
}

/// What a request is about, as far as its line and its headers tell.
struct Asked {
    target: Option<Target>,
    verb: &'static str,
    cost: Cost,
}

impl Asked {
    fn of(server: &Server, request: &Request<Body>) -> Self {
        let brief = Cost::of(http_body::Body::size_hint(request.body()).upper());
        let Some(Route::Resource(target)) = path::parse(request.uri().path()) else {
            return Self { target: None, verb: "get", cost: brief };
        };
        let query = request.uri().query().unwrap_or("");
        let wanted = |pair: &str| matches!(pair, "watch=true" | "watch=1" | "watch");
        let watch = target.legacy_watch || query.split('&').any(wanted);
        let connect = target
            .subresource
            .as_deref()
            .is_some_and(|sub| server.connects.find(&target.group, &target.resource, sub).is_some());
        let verb = match Verb::of(request.method(), target.name.is_some(), watch) {
            _ if connect => "connect",
            Some(verb) => verb.word(),
            None => "unknown",
        };
        let cost = if connect || verb == "watch" { Cost::Lasting } else { brief };
        Self { target: Some(target), verb, cost }
    }

    fn write_down(
        &self,
        server: &Server,
        identity: &Identity,
        (id, made): (&str, Option<&Made>),
        code: u16,
        started: Instant,
    ) {
        let (Some(audit), Some(target)) = (&server.audit, &self.target) else { return };
        if !audit.wants(self.verb, &target.group, &target.resource) {
            return;
        }
        let written = audit.write(&Line {
            time: text::now_precise(),
            id,
            user: &identity.user,
            groups: &identity.groups,
            verb: self.verb,
            group: &target.group,
            version: &target.version,
            resource: &target.resource,
            subresource: target.subresource.as_deref(),
            namespace: target.namespace.as_deref(),
            name: target.name.as_deref().or(made.map(|made| &*made.name)),
            revision: made.and_then(|made| made.revision.as_deref()),
            code,
            milliseconds: Some(started.elapsed().as_secs_f64() * 1000.0),
        });
        if !written {
            server.metrics.unwritten();
        }
    }
}

impl Server {
    /// Writes down what a chore has done; what clients do has its line from the request.
    pub(crate) fn note_chore(&self, verb: &'static str, resource: &Resource, object: &Object, revision: Revision) {
        let (Some(user), Some(audit)) = (self.acting, &self.audit) else { return };
        let (definition, revision) = (&resource.definition, revision.to_string());
        let (namespace, name) = storage::place(&object.value);
        let written = audit.write(&Line {
            time: text::now_precise(),
            id: &uuid::Uuid::new_v4().to_string(),
            user,
            groups: &[],
            verb,
            group: &definition.group,
            version: &resource.version().name,
            resource: &definition.plural,
            subresource: None,
            namespace: namespace.as_deref(),
            name: Some(&name),
            revision: Some(&revision),
            code: 200,
            milliseconds: None,
        });
        if !written {
            self.metrics.unwritten();
        }
    }
}
