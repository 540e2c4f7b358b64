//! The documents about tokens: asking for one (TokenRequest), and asking whose one is (TokenReview).

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};
use serde_json::{Value, json};

use super::jwt::{Bound, Caller, Named};
use super::tokens::{ISSUER, claims};
use crate::access::Attributes;
use crate::answer;
use crate::error::{Error, Subject};
use crate::identity::{Identity, account_user};
use crate::object::{Object, meta};
use crate::request::accept::Accept;
use crate::request::body;
use crate::request::path::Target;
use crate::schema::FieldError;
use crate::server::Server;
use crate::storage;

const GROUP: &str = "authentication.k8s.io";
/// Life of a token whose asker does not say.
const DEFAULT_SECONDS: i64 = 3600;
/// Shortest and longest life that may be asked for, as in Kubernetes.
const SECONDS: std::ops::RangeInclusive<i64> = 600..=(1 << 32);

/// The documents answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// A new token for an account, or for another object that calls as itself.
    Request,
    /// Whose token is this?
    Review,
}

impl About {
    /// The document that a path is for, if it is one.
    pub(crate) fn of(server: &Server, target: &Target) -> Option<Self> {
        let Target { group, version, namespace, resource, name, subresource, .. } = target;
        let catalog = server.registry.catalog();
        let served = || catalog.resource(group, version, resource).is_ok();
        let whole = namespace.is_some() && name.is_some();
        match (group.as_str(), resource.as_str(), subresource.as_deref()) {
            ("", "serviceaccounts", Some("token")) if version == "v1" && whole => Some(Self::Request),
            (group, resource, Some("token")) if whole && server.caller_kind(group, resource).is_some() && served() => {
                Some(Self::Request)
            }
            (GROUP, "tokenreviews", None) if version == "v1" && namespace.is_none() && name.is_none() => {
                Some(Self::Review)
            }
            _ => None,
        }
    }
}

/// Answers a document, for a caller who may send it.
pub(crate) async fn answer(
    server: &Server,
    about: About,
    target: &Target,
    identity: &Identity,
    request: Request<Body>,
) -> Result<Response, Error> {
    if request.method() != Method::POST {
        return Err(Error::MethodNotAllowed);
    }
    let accept = Accept::negotiate(request.headers())?;
    let (parts, content) = request.into_parts();
    let asked = body::decode(&parts.headers, &body::read(content).await?)?;
    let document = match about {
        About::Request => issue(server, target, identity, &asked).await?,
        About::Review => review(server, &asked),
    };
    answer::document(201, &document, accept)
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A token for an account or a caller of another kind, bound to it as it is now.
async fn issue(server: &Server, target: &Target, identity: &Identity, asked: &Value) -> Result<Value, Error> {
    let (namespace, name) = (target.namespace.as_deref().unwrap_or(""), target.name.as_deref().unwrap_or(""));
    let (user, mut bound) = caller(server, target, identity, namespace, name).await?;
    let spec = &asked["spec"];
    let mut audiences = words(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    check_seconds(&spec["expirationSeconds"], seconds)?;
    bound.secret = match &spec["boundObjectRef"] {
        Value::Null => None,
        reference => Some(bound_secret(server, namespace, reference).await?),
    };
    let claims = claims(user, bound, audiences.clone(), seconds);
    let expires = jiff::Timestamp::from_second(claims.exp).map_or_else(|_| String::new(), |at| at.to_string());
    Ok(json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "TokenRequest",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": crate::text::now()},
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec["boundObjectRef"]},
        "status": {"token": server.tokens.issue(&claims)?, "expirationTimestamp": expires},
    }))
}

/// Whose token it will be: the user name, and what the token is bound to.
async fn caller(
    server: &Server,
    target: &Target,
    asker: &Identity,
    namespace: &str,
    name: &str,
) -> Result<(String, Bound), Error> {
    let (group, resource) = (target.group.as_str(), target.resource.as_str());
    let (named, object) = find(server, (group, resource), namespace, name).await?;
    let bound = Bound { namespace: namespace.to_owned(), serviceaccount: None, object: None, secret: None };
    let Some(kind) = server.caller_kind(group, resource) else {
        return Ok((account_user(namespace, name), Bound { serviceaccount: Some(named), ..bound }));
    };
    let resource = server.builtin(group, resource)?;
    server.access.may_reach(asker, &resource, &Attributes::of(target, "create", None), &object.value)?;
    let caller =
        Caller { group: kind.group.clone(), resource: kind.resource.clone(), name: named.name, uid: named.uid };
    Ok((kind.user(namespace, name), Bound { object: Some(caller), ..bound }))
}

fn check_seconds(shown: &Value, seconds: i64) -> Result<(), Error> {
    if SECONDS.contains(&seconds) {
        return Ok(());
    }
    let why = match seconds < *SECONDS.start() {
        true => "may not specify a duration less than 10 minutes",
        false => "may not specify a duration larger than 2^32 seconds",
    };
    Err(invalid(FieldError::invalid("spec.expirationSeconds", shown, why)))
}

fn invalid(error: FieldError) -> Error {
    let subject = Subject { group: GROUP.to_owned(), resource: "TokenRequest".to_owned(), name: String::new() };
    Error::Invalid(subject, vec![error])
}

async fn bound_secret(server: &Server, namespace: &str, reference: &Value) -> Result<Named, Error> {
    let text = |field: &str| reference[field].as_str().unwrap_or("");
    if (text("apiVersion"), text("kind")) != ("v1", "Secret") {
        let what = format!("{}, Kind={}", text("apiVersion"), text("kind"));
        return Err(Error::BadRequest(format!("cannot bind token for serviceaccount to object type {what}")));
    }
    let (secret, _) = find(server, ("", "secrets"), namespace, text("name")).await?;
    if !text("uid").is_empty() && text("uid") != secret.uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might \
                           have been deleted and then recreated",
            text("uid")
        );
        return Err(Error::Conflict(server.builtin("", "secrets")?.subject(&secret.name), why));
    }
    Ok(secret)
}

async fn find(
    server: &Server,
    (group, plural): (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<(Named, Arc<Object>), Error> {
    let resource = server.builtin(group, plural)?;
    let key = storage::key(&server.store, &resource.definition, Some(namespace), name);
    let entry = server.store.get(&key).await?.ok_or_else(|| Error::NotFound(resource.subject(name)))?;
    let object = Object::of(&entry)?;
    Ok((Named { name: name.to_owned(), uid: meta(&object.value, "uid").to_owned() }, object))
}

/// Whose token it is; a token that does not count is no failure of the request.
fn review(server: &Server, asked: &Value) -> Value {
    let spec = &asked["spec"];
    let mut audiences = words(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let status = match server.prove(spec["token"].as_str().unwrap_or(""), &audiences) {
        Ok(proven) => json!({
            "authenticated": true, "user": proven.identity.document(), "audiences": proven.audiences,
        }),
        Err(refused) => json!({"authenticated": false, "user": {}, "error": refused.to_string()}),
    };
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "TokenReview",
        "metadata": {"creationTimestamp": null}, "spec": spec, "status": status,
    })
}
