//! Questions about callers: who am I, may I, may they, what may I do here.
//!
//! A review is a question in the form of an object that is never stored. To ask about others is itself a right
//! (`create subjectaccessreviews`); to ask about oneself is `system:basic-user`'s.

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};
use serde_json::{Value, json};

use super::attributes::{Attributes, Named, What};
use super::rule::Rule;
use crate::answer;
use crate::error::{Error, Subject};
use crate::identity::Identity;
use crate::request::accept::Accept;
use crate::request::body;
use crate::request::path::Target;
use crate::schema::FieldError;
use crate::server::Server;

/// The questions answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Review {
    /// May I do this?
    SelfAccess,
    /// May that user do this?
    Access,
    /// May that user do this in this namespace?
    LocalAccess,
    /// What may I do here?
    SelfRules,
    /// Who am I?
    SelfSubject,
}

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

impl Review {
    /// The question a path asks, if it is one.
    pub(crate) fn of(target: &Target) -> Option<Self> {
        if target.version != "v1" || target.name.is_some() || target.subresource.is_some() {
            return None;
        }
        let here = target.namespace.is_some();
        match (target.group.as_str(), target.resource.as_str(), here) {
            (AUTHORIZATION, "selfsubjectaccessreviews", false) => Some(Self::SelfAccess),
            (AUTHORIZATION, "subjectaccessreviews", false) => Some(Self::Access),
            (AUTHORIZATION, "localsubjectaccessreviews", true) => Some(Self::LocalAccess),
            (AUTHORIZATION, "selfsubjectrulesreviews", false) => Some(Self::SelfRules),
            (AUTHENTICATION, "selfsubjectreviews", false) => Some(Self::SelfSubject),
            _ => None,
        }
    }

    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::SelfAccess => (AUTHORIZATION, "SelfSubjectAccessReview"),
            Self::Access => (AUTHORIZATION, "SubjectAccessReview"),
            Self::LocalAccess => (AUTHORIZATION, "LocalSubjectAccessReview"),
            Self::SelfRules => (AUTHORIZATION, "SelfSubjectRulesReview"),
            Self::SelfSubject => (AUTHENTICATION, "SelfSubjectReview"),
        }
    }
}

/// Answers a question, for a caller who may ask it.
pub(crate) async fn answer(
    server: &Server,
    review: Review,
    target: &Target,
    caller: &Identity,
    request: Request<Body>,
) -> Result<Response, Error> {
    if request.method() != Method::POST {
        return Err(Error::MethodNotAllowed);
    }
    let accept = Accept::negotiate(request.headers())?;
    let (parts, content) = request.into_parts();
    let asked = body::decode(&parts.headers, &body::read(content).await?)?;
    let spec = asked.get("spec").filter(|spec| spec.is_object()).cloned().unwrap_or_else(|| json!({}));
    let status = match review {
        Review::SelfAccess => access(server, review, caller, &spec)?,
        Review::Access => access(server, review, &subject(review, &spec)?, &spec)?,
        Review::LocalAccess => {
            let here = target.namespace.as_deref().unwrap_or("");
            if spec["resourceAttributes"]["namespace"].as_str().unwrap_or("") != here {
                let why = format!("must match metadata.namespace: {here}");
                return Err(invalid(
                    review,
                    "spec.resourceAttributes.namespace",
                    &spec["resourceAttributes"]["namespace"],
                    &why,
                ));
            }
            access(server, review, &subject(review, &spec)?, &spec)?
        }
        Review::SelfRules => rules(server, caller, spec["namespace"].as_str().unwrap_or("")),
        Review::SelfSubject => json!({"userInfo": caller.document()}),
    };
    let (group, kind) = review.kind();
    let mut document = json!({
        "apiVersion": format!("{group}/v1"), "kind": kind,
        "metadata": {"creationTimestamp": null}, "spec": spec, "status": status,
    });
    if review == Review::SelfSubject
        && let Some(map) = document.as_object_mut()
    {
        map.remove("spec");
    }
    answer::document(201, &document, accept)
}

fn invalid(review: Review, field: &str, value: &Value, why: &str) -> Error {
    let (group, kind) = review.kind();
    let subject = Subject { group: group.to_owned(), resource: kind.to_owned(), name: String::new() };
    Error::Invalid(subject, vec![FieldError::invalid(field, value, why)])
}

/// Whom a question about others is about.
fn subject(review: Review, spec: &Value) -> Result<Identity, Error> {
    let user = spec["user"].as_str().unwrap_or("");
    let groups: Vec<String> =
        spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if user.is_empty() && groups.is_empty() {
        return Err(invalid(review, "spec.user", &spec["user"], "at least one of user or group must be specified"));
    }
    // Exactly the groups that are asked about: nobody has vouched for this user.
    Ok(Identity::as_told(user, groups))
}

fn access(server: &Server, review: Review, caller: &Identity, spec: &Value) -> Result<Value, Error> {
    let asked = match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (resource @ Value::Object(_), Value::Null) => {
            let text = |field: &str| resource[field].as_str().unwrap_or("");
            let named = Named {
                group: text("group"),
                resource: text("resource"),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
            };
            Attributes::special(text("verb"), named)
        }
        (Value::Null, path @ Value::Object(_)) => {
            Attributes::of_path(path["path"].as_str().unwrap_or(""), path["verb"].as_str().unwrap_or(""))
        }
        _ => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(invalid(review, "spec.resourceAttributes", &spec["resourceAttributes"], why));
        }
    };
    if matches!(asked.what, What::Resource(named) if named.subresource.is_empty() && named.resource.is_empty()) {
        return Ok(json!({"allowed": false}));
    }
    Ok(match server.access.answer(caller, &asked) {
        Ok(reason) => json!({"allowed": true, "reason": reason.text()}),
        Err(why) if why.is_empty() => json!({"allowed": false}),
        Err(why) => json!({"allowed": false, "reason": why}),
    })
}

fn rules(server: &Server, caller: &Identity, namespace: &str) -> Value {
    let mut rules = server.access.index.current().rules_of(caller, namespace);
    if caller.is_master() {
        rules.extend(Rule::everything());
    }
    let (mut resource, mut other) = (Vec::new(), Vec::new());
    for rule in rules {
        let document = rule.document();
        let list = if rule.non_resource_urls.is_empty() { &mut resource } else { &mut other };
        if !list.contains(&document) {
            list.push(document);
        }
    }
    json!({"resourceRules": resource, "nonResourceRules": other, "incomplete": false})
}
