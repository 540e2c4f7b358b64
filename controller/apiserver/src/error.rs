//! Failures in Kubernetes' own words.
//!
//! Clients branch on `reason` and people read `message`; both are part of the protocol. Every failure of this crate is
//! one of these variants and leaves the server as a `metav1.Status`, so that client-go's `IsNotFound` and kubectl's
//! output behave as they do against the official server.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::schema::{FieldError, aggregate};

/// What a request was about: the plural, its group, and the object's name where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural resource name (or the kind, in `Invalid`).
    pub resource: String,
    /// The object's name; empty for collections.
    pub name: String,
}

impl Subject {
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.clone() } else { format!("{}.{}", self.resource, self.group) }
    }
}

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("{} \"{}\" not found", .0.qualified(), .0.name)]
    NotFound(Subject),
    /// No such path.
    #[error("the server could not find the requested resource")]
    NoRoute,
    /// A create met an existing object.
    #[error("{} \"{}\" already exists", .0.qualified(), .0.name)]
    AlreadyExists(Subject),
    /// A write lost its race or a precondition failed.
    #[error("Operation cannot be fulfilled on {} \"{}\": {}", .0.qualified(), .0.name, .1)]
    Conflict(Subject, String),
    /// Applied fields are another manager's: the sentence, and for each field its manager and its path.
    #[error("{0}")]
    ApplyConflict(String, Vec<(String, String)>),
    /// The object breaks its schema.
    #[error("{} \"{}\" is invalid: {}", .0.qualified(), .0.name, aggregate(.1))]
    Invalid(Subject, Vec<FieldError>),
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The caller may not do this.
    #[error("{}forbidden: {}", forbidden_subject(subject), why)]
    Forbidden {
        /// What it was about.
        subject: Subject,
        /// Why not.
        why: String,
        /// A cause clients branch on: its reason, message and field.
        cause: Option<Box<(&'static str, String, &'static str)>>,
    },
    /// Nobody has vouched for the caller.
    #[error("Unauthorized")]
    Unauthorized,
    /// The verb is not served here.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// The kind is going: nothing of it is made any more.
    #[error("create not allowed while custom resource definition is terminating")]
    Terminating,
    /// None of the accepted media types can be produced.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(String),
    /// The body is in a format this resource does not read.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// The body is over the limit.
    #[error("{0}")]
    TooLarge(String),
    /// History before this revision is gone.
    #[error("{0}")]
    Expired(String),
    /// The list that a `continue` token was cut from is gone.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )]
    ExpiredPage {
        /// A token that reads on in what is there now.
        fresh: String,
    },
    /// The asked revision lies in the future.
    #[error("Timeout: Too large resource version: {asked}, current: {current}")]
    TooLargeRevision {
        /// The revision the client asked for.
        asked: u64,
        /// The revision the server has reached.
        current: u64,
    },
    /// The request took longer than it may.
    #[error("Timeout: {0}")]
    Timeout(String),
    /// Too much at once.
    #[error("{0}")]
    Overloaded(String),
    /// The store is not reachable or broken.
    #[error("{0}")]
    Unavailable(String),
    /// The store has no room; nothing but deletions is taken.
    #[error("{0}")]
    Full(String),
    /// A defect or a broken stored object.
    #[error("Internal error occurred: {0}")]
    Internal(String),
}

/// What is forbidden; a path outside the resources has no name here.
fn forbidden_subject(subject: &Subject) -> String {
    match (subject.qualified().as_str(), subject.name.as_str()) {
        ("", _) => String::new(),
        (resource, "") => format!("{resource} is "),
        (resource, name) => format!("{resource} \"{name}\" is "),
    }
}

impl Error {
    /// HTTP status of this failure.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::NotFound(_) | Self::NoRoute => 404,
            Self::AlreadyExists(_) | Self::Conflict(..) | Self::ApplyConflict(..) => 409,
            Self::Invalid(..) => 422,
            Self::BadRequest(_) => 400,
            Self::Forbidden { .. } => 403,
            Self::Unauthorized => 401,
            Self::MethodNotAllowed | Self::Terminating => 405,
            Self::NotAcceptable(_) => 406,
            Self::UnsupportedMediaType(_) => 415,
            Self::TooLarge(_) => 413,
            Self::Expired(_) | Self::ExpiredPage { .. } => 410,
            Self::TooLargeRevision { .. } | Self::Timeout(_) => 504,
            Self::Overloaded(_) => 429,
            Self::Unavailable(_) => 503,
            Self::Full(_) => 507,
            Self::Internal(_) => 500,
        }
    }

    /// The machine-readable `reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) | Self::NoRoute => "NotFound",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::Conflict(..) | Self::ApplyConflict(..) => "Conflict",
            Self::Invalid(..) => "Invalid",
            Self::BadRequest(_) => "BadRequest",
            Self::Forbidden { .. } => "Forbidden",
            Self::Unauthorized => "Unauthorized",
            Self::MethodNotAllowed | Self::Terminating => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::TooLarge(_) => "RequestEntityTooLarge",
            Self::Expired(_) | Self::ExpiredPage { .. } => "Expired",
            Self::TooLargeRevision { .. } | Self::Timeout(_) => "Timeout",
            Self::Overloaded(_) => "TooManyRequests",
            Self::Unavailable(_) => "ServiceUnavailable",
            Self::Full(_) => "InsufficientStorage",
            Self::Internal(_) => "InternalError",
        }
    }

    fn details(&self) -> Option<Value> {
        let causes_json = |causes: &[FieldError]| {
            causes
                .iter()
                .map(|c| json!({"reason": c.reason.as_str(), "message": c.detail, "field": c.field}))
                .collect::<Vec<_>>()
        };
        let (subject, causes) = match self {
            Self::NotFound(s) | Self::AlreadyExists(s) | Self::Conflict(s, _) => (s, Vec::new()),
            Self::Invalid(s, causes) => (s, causes_json(causes)),
            Self::Forbidden { subject, cause, .. } => {
                let cause =
                    cause.iter().map(|cause| &**cause).map(|(r, m, f)| json!({"reason": r, "message": m, "field": f}));
                (subject, cause.collect())
            }
            Self::NoRoute => return Some(json!({})),
            Self::ApplyConflict(_, fields) => {
                let cause = |(manager, path): &(String, String)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path});
                return Some(json!({"causes": fields.iter().map(cause).collect::<Vec<_>>()}));
            }
            Self::TooLargeRevision { .. } => {
                return Some(json!({"causes": [{"reason": "ResourceVersionTooLarge",
                    "message": "Too large resource version"}], "retryAfterSeconds": 1}));
            }
            Self::Overloaded(_) | Self::Unavailable(_) => return Some(json!({"retryAfterSeconds": 1})),
            _ => return None,
        };
        let mut details = serde_json::Map::new();
        for (key, value) in [("name", &subject.name), ("group", &subject.group), ("kind", &subject.resource)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), json!(value));
            }
        }
        if !causes.is_empty() {
            details.insert("causes".to_owned(), json!(causes));
        }
        Some(Value::Object(details))
    }

    /// The `metav1.Status` document.
    #[must_use]
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": self.reason(), "code": self.code(),
        });
        if let (Some(details), Some(map)) = (self.details(), status.as_object_mut()) {
            map.insert("details".to_owned(), details);
        }
        if let Self::ExpiredPage { fresh } = self {
            status["metadata"]["continue"] = json!(fresh);
        }
        status
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        if matches!(error, store::Error::NoSpace) {
            return Self::Full(error.to_string());
        }
        // Not to be tried again by clients of their own accord, as what is unavailable is: it may have been done.
        if matches!(error, store::Error::Indeterminate { .. }) {
            return Self::Internal(crate::text::chain(&error));
        }
        Self::Unavailable(crate::text::chain(&error))
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.status().to_string()));
        *response.status_mut() = StatusCode::from_u16(self.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self, Self::Overloaded(_) | Self::Unavailable(_) | Self::TooLargeRevision { .. }) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widget(name: &str) -> Subject {
        Subject { group: "example.dev".into(), resource: "widgets".into(), name: name.into() }
    }

    #[test]
    fn a_write_of_unknown_outcome_is_not_offered_to_be_tried_again() {
        let lost = store::Error::Indeterminate { key: "k".to_owned(), source: None };
        let answer = Error::from(lost).into_response();
        assert_eq!(answer.status(), 500);
        assert!(answer.headers().get(header::RETRY_AFTER).is_none());
    }

    #[test]
    fn each_failure_speaks_as_the_official_server_does() {
        let table = [
            (Error::NotFound(widget("a")), 404, "NotFound", "widgets.example.dev \"a\" not found"),
            (Error::AlreadyExists(widget("a")), 409, "AlreadyExists", "widgets.example.dev \"a\" already exists"),
            (
                Error::Conflict(widget("a"), "the object has been modified".into()),
                409,
                "Conflict",
                "Operation cannot be fulfilled on widgets.example.dev \"a\": the object has been modified",
            ),
            (Error::NoRoute, 404, "NotFound", "the server could not find the requested resource"),
            (
                Error::Forbidden { subject: widget(""), why: "no".into(), cause: None },
                403,
                "Forbidden",
                "widgets.example.dev is forbidden: no",
            ),
        ];
        for (error, code, reason, message) in table {
            let status = error.status();
            assert_eq!(status["code"], code);
            assert_eq!(status["reason"], reason);
            assert_eq!(status["message"], message);
            assert_eq!(status["status"], "Failure");
        }
    }

    #[test]
    fn invalid_lists_every_cause_with_its_path() {
        let cause = |field: &str| FieldError::required(field, "");
        let status = Error::Invalid(
            Subject { group: "example.dev".into(), resource: "Widget".into(), name: "a".into() },
            vec![cause("spec.a"), cause("spec.b")],
        )
        .status();
        assert_eq!(
            status["message"],
            "Widget.example.dev \"a\" is invalid: [spec.a: Required value, spec.b: Required value]"
        );
        assert_eq!(status["details"]["causes"][1]["field"], "spec.b");
        assert_eq!(status["details"]["kind"], "Widget");
    }
}
