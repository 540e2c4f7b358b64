//! Questions about the caller: who am I, may I.
//!
//! Until access rules exist every proven caller may do everything, so the answers need nothing of the question.

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::answer;
use crate::error::Error;
use crate::identity::Identity;
use crate::request::accept::Accept;
use crate::request::body;
use crate::request::path::Target;

/// The questions answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Review {
    /// May I do this?
    SelfAccess,
    /// May that user do this?
    Access,
    /// What may I do here?
    SelfRules,
    /// Who am I?
    SelfSubject,
}

/// The question a path asks, if it is one.
pub(crate) fn recognise(target: &Target) -> Option<Review> {
    match (target.group.as_str(), target.version.as_str(), target.resource.as_str()) {
        ("authorization.k8s.io", "v1", "selfsubjectaccessreviews") => Some(Review::SelfAccess),
        ("authorization.k8s.io", "v1", "subjectaccessreviews" | "localsubjectaccessreviews") => Some(Review::Access),
        ("authorization.k8s.io", "v1", "selfsubjectrulesreviews") => Some(Review::SelfRules),
        ("authentication.k8s.io", "v1", "selfsubjectreviews") => Some(Review::SelfSubject),
        _ => None,
    }
}

/// Answers a question.
pub(crate) async fn answer(review: Review, identity: &Identity, request: Request<Body>) -> Result<Response, Error> {
    if request.method() != Method::POST {
        return Err(Error::MethodNotAllowed);
    }
    let accept = Accept::negotiate(request.headers())?;
    let (parts, content) = request.into_parts();
    let bytes = body::read(content).await?;
    let asked = body::decode(&parts.headers, &bytes)?;
    answer::document(201, &reply(review, identity, &asked), accept)
}

fn reply(review: Review, identity: &Identity, asked: &Value) -> Value {
    let (api_version, kind, status) = match review {
        Review::SelfAccess => ("authorization.k8s.io/v1", "SelfSubjectAccessReview", allowed()),
        Review::Access => ("authorization.k8s.io/v1", "SubjectAccessReview", allowed()),
        Review::SelfRules => ("authorization.k8s.io/v1", "SelfSubjectRulesReview", everything()),
        Review::SelfSubject => (
            "authentication.k8s.io/v1",
            "SelfSubjectReview",
            json!({"userInfo": {"username": *identity.user, "groups": *identity.groups}}),
        ),
    };
    let spec = if asked["spec"].is_object() { asked["spec"].clone() } else { json!({}) };
    let mut document = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"creationTimestamp": null}, "spec": spec, "status": status,
    });
    if let (Review::SelfSubject, Some(map)) = (review, document.as_object_mut()) {
        map.remove("spec");
    }
    document
}

fn allowed() -> Value {
    json!({"allowed": true, "reason": "every proven caller is allowed"})
}

fn everything() -> Value {
    json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": false,
    })
}
