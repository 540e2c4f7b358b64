//! `/scale`: a custom resource's wished and observed numbers in the form every autoscaler knows.
//!
//! The numbers live in the object, at the paths its CRD names; a write here is a write of that one field, with all that
//! any other write goes through.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Change, ownership, update};
use crate::dispatch::Call;
use crate::error::{Error, Subject};
use crate::object::{View, meta, set_meta};
use crate::request::body;
use crate::schema::jsonpath::Path;
use crate::schema::{FieldError, Scale, merge};
use crate::server::Server;

const API_VERSION: &str = "autoscaling/v1";
const LARGEST: i64 = i32::MAX as i64;

impl Server {
    /// The scale of an object.
    pub(crate) async fn scale(&self, call: &Call) -> Result<Value, Error> {
        let view = self.get(call).await?;
        show(paths(call)?, view.value(), None)
    }

    /// PUT of a scale.
    pub(crate) async fn put_scale(&self, call: &Call, body: &Value) -> Result<Value, Error> {
        self.change_scale(call, |_| Ok(body.clone())).await
    }

    /// PATCH of a scale.
    pub(crate) async fn patch_scale(&self, call: &Call, headers: &HeaderMap, bytes: &Bytes) -> Result<Value, Error> {
        type Apply = fn(&mut Value, Value) -> Result<(), merge::PatchError>;
        let apply: Apply = match body::media_type(headers) {
            // A Scale has no lists: the two mean the same.
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => merge::merge_patch,
            "application/json-patch+json" => merge::json_patch,
            other => {
                return Err(Error::UnsupportedMediaType(format!(
                    "the body of the request was in an unknown format ({other}) - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
                )));
            }
        };
        let patch = body::json(bytes)?;
        self.change_scale(call, |mut scale| {
            apply(&mut scale, patch.clone()).map_err(|error| super::patch::refused(call, error))?;
            Ok(scale)
        })
        .await
    }

    /// Writes the number that `wish` makes of the present scale.
    async fn change_scale(&self, call: &Call, wish: impl Fn(Value) -> Result<Value, Error>) -> Result<Value, Error> {
        let paths = paths(call)?;
        let place = (call.namespace.as_deref(), call.name.as_str());
        let done = self
            .modify(&call.resource, place, call.query.dry_run, |object| {
                let old: View = call.resource.view(object);
                let mut present = show(paths, old.value(), Some(0))?;
                set_meta(&mut present, "resourceVersion", None);
                set_meta(&mut present, "uid", None);
                let wished = wish(present)?;
                let replicas = check(call, &wished)?;
                let mut new = old.value().clone();
                put_number(&mut new, &paths.spec_replicas, replicas);
                for field in ["resourceVersion", "uid"] {
                    set_meta(&mut new, field, Some(json!(meta(&wished, field))));
                }
                let change = update::finish(&call.resource, None, old.value(), new, Some(call))?;
                Ok(match change {
                    Change::Remove(_) => Change::Keep,
                    other => ownership::track(call, &old, None, other),
                })
            })
            .await?;
        show(paths, call.resource.view(&done.object).value(), None)
    }
}

fn paths(call: &Call) -> Result<&Scale, Error> {
    call.resource.version().scale.as_ref().ok_or(Error::NoRoute)
}

/// The Scale of an object; `missing` stands for a wished number that is not there.
fn show(paths: &Scale, object: &Value, missing: Option<i64>) -> Result<Value, Error> {
    let number = |path: &str| Path::parse(path).ok().and_then(|path| path.first(object).and_then(Value::as_i64));
    let text = |path: &str| {
        let path = Path::parse(path).ok()?;
        path.first(object).and_then(Value::as_str).map(str::to_owned)
    };
    let replicas = number(&paths.spec_replicas)
        .or(missing)
        .ok_or_else(|| Error::Internal(format!("the spec replicas field {:?} does not exist", paths.spec_replicas)))?;
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": number(&paths.status_replicas).unwrap_or(0)});
    if let Some(selector) = paths.label_selector.as_deref().and_then(text) {
        status["selector"] = json!(selector);
    }
    Ok(json!({
        "kind": "Scale", "apiVersion": API_VERSION, "metadata": metadata,
        "spec": {"replicas": replicas}, "status": status,
    }))
}

/// The wished number of a Scale that may be anything.
fn check(call: &Call, wished: &Value) -> Result<i64, Error> {
    let (version, kind) = (wished["apiVersion"].as_str(), wished["kind"].as_str());
    if version.is_some_and(|version| version != API_VERSION) || kind.is_some_and(|kind| kind != "Scale") {
        return Err(Error::BadRequest(format!("the body is no Scale of {API_VERSION}")));
    }
    for (field, own) in [("name", call.name.as_str()), ("namespace", call.namespace.as_deref().unwrap_or(""))] {
        let given = meta(wished, field);
        if !given.is_empty() && given != own {
            return Err(Error::BadRequest(format!(
                "the {field} of the object ({given}) does not match the {field} on the URL ({own})"
            )));
        }
    }
    let replicas = &wished["spec"]["replicas"];
    let number = if replicas.is_null() { Some(0) } else { replicas.as_i64() };
    let why = match number {
        Some(number) if (0..=LARGEST).contains(&number) => return Ok(number),
        Some(number) if number < 0 => "must be greater than or equal to 0",
        _ => "must be a number of 32 bits",
    };
    let subject = Subject { group: "autoscaling".to_owned(), resource: "Scale".to_owned(), name: call.name.clone() };
    Err(Error::Invalid(subject, vec![FieldError::invalid("spec.replicas", replicas, why)]))
}

/// Sets a number at a path that its CRD's check found to name plain fields.
fn put_number(object: &mut Value, path: &str, number: i64) {
    let Some(path) = Path::parse(path).ok() else { return };
    let Some(fields) = path.fields() else { return };
    let mut at = object;
    for field in fields {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[field];
    }
    *at = json!(number);
}
