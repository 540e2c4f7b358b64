//! PATCH: merge, JSON and strategic patches, applied to the stored object of the moment.
//!
//! A patch is retried inside the server when it loses a race, because it says what to change and not what to expect;
//! a patch that does carry a `resourceVersion` is refused like a PUT.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::{Written, admit, ownership, update};
use crate::dispatch::Call;
use crate::error::Error;
use crate::object::meta;
use crate::request::body;
use crate::request::query::{FieldValidation, invalid_options};
use crate::schema::merge::{self, PatchError};
use crate::schema::{self, FieldError};
use crate::server::Server;

/// The patch languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Merge,
    Json,
    Strategic,
}

impl Language {
    fn of(call: &Call, headers: &HeaderMap) -> Result<Self, Error> {
        match body::media_type(headers) {
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/json-patch+json" => Ok(Self::Json),
            "application/strategic-merge-patch+json" if call.resource.definition.builtin => Ok(Self::Strategic),
            other => {
                let strategic =
                    if call.resource.definition.builtin { ", application/strategic-merge-patch+json" } else { "" };
                Err(Error::UnsupportedMediaType(format!(
                    "the body of the request was in an unknown format ({other}) - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{strategic}"
                )))
            }
        }
    }

    fn apply(self, call: &Call, object: &mut Value, patch: Value) -> Result<(), PatchError> {
        match self {
            Self::Merge => merge::merge_patch(object, patch),
            Self::Json => merge::json_patch(object, patch),
            Self::Strategic => merge::strategic_patch(&call.resource.definition, object, patch),
        }
    }
}

impl Server {
    /// Changes an object by a patch.
    pub(crate) async fn patch(&self, call: &Call, headers: &HeaderMap, bytes: &Bytes) -> Result<Written, Error> {
        if body::media_type(headers) == "application/apply-patch+yaml" {
            return self.apply(call, bytes).await;
        }
        if call.query.force {
            let why = FieldError::forbidden("force", "may not be specified for non-apply patch");
            return Err(invalid_options("PatchOptions", vec![why]));
        }
        let language = Language::of(call, headers)?;
        let names_owners = ownership::named_in(bytes);
        let mut repeated = Vec::new();
        let patch = body::json_noting(bytes, &mut repeated)?;
        let mut unknown = Vec::new();
        let place = (call.namespace.as_deref(), call.name.as_str());
        let done = self
            .modify(&call.resource, place, call.query.dry_run, |object| {
                let old = call.resource.view(object);
                let mut new = if names_owners { old.object().whole() } else { old.value().clone() };
                language.apply(call, &mut new, patch.clone()).map_err(|error| refused(call, error))?;
                body::check_depth(&new)?;
                let (revision, uid) = (meta(&new, "resourceVersion").to_owned(), meta(&new, "uid").to_owned());
                admit::identify(call, &mut new)?;
                unknown = admit::unknown_fields(&call.resource, &mut new);
                strict(call, &patch, &repeated, &unknown)?;
                crate::object::set_meta(&mut new, "resourceVersion", Some(Value::String(revision)));
                crate::object::set_meta(&mut new, "uid", Some(Value::String(uid)));
                let provided = if names_owners { ownership::take(&mut new) } else { None };
                let change = update::finish(&call.resource, call.subresource.as_deref(), old.value(), new, Some(call))?;
                Ok(ownership::track(call, &old, provided.as_ref(), change))
            })
            .await?;
        self.settled(&call.resource, &done).await;
        let mut warnings: Vec<String> = admit::deprecation(&call.resource).into_iter().collect();
        if call.query.field_validation == FieldValidation::Warn {
            warnings.extend(schema::decoding_complaints(&repeated, &unknown));
        }
        Ok(Written { code: 200, changed: done.changed, view: call.resource.view(&done.object), warnings })
    }
}

fn strict(call: &Call, patch: &Value, repeated: &[String], unknown: &[String]) -> Result<(), Error> {
    if (repeated.is_empty() && unknown.is_empty()) || call.query.field_validation != FieldValidation::Strict {
        return Ok(());
    }
    let shown = Value::String(patch.to_string());
    let error = FieldError::invalid("patch", &shown, schema::strict_decoding_error(repeated, unknown));
    Err(Error::Invalid(call.resource.kind_subject(&call.name), vec![error]))
}

pub(super) fn refused(call: &Call, error: PatchError) -> Error {
    match error {
        PatchError::Malformed(text) => Error::BadRequest(text),
        PatchError::TooLarge(text) => Error::TooLarge(text),
        PatchError::Unsupported(text) => Error::UnsupportedMediaType(text),
        PatchError::Unprocessable(text) => {
            let error = FieldError::new("patch", schema::Cause::Invalid, text);
            Error::Invalid(call.resource.kind_subject(&call.name), vec![error])
        }
    }
}
