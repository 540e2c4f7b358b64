//! PUT, and what a changed object goes through however it was changed.

use serde_json::{Value, json};

use super::{Change, Written, admit, ownership};
use crate::dispatch::Call;
use crate::error::Error;
use crate::object::{finalizers, is_deleting, meta, set_meta};
use crate::registry::{CRD_GROUP, CRD_PLURAL, Resource};
use crate::schema::FieldError;
use crate::server::Server;
use crate::{special, storage};

/// Metadata only the server writes: taken from the stored object.
const SERVER_OWNED: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

impl Server {
    /// Replaces an object, or the part of it a subresource stands for.
    pub(crate) async fn update(&self, call: &Call, mut body: Value) -> Result<Written, Error> {
        admit::identify(call, &mut body)?;
        let revision = meta(&body, "resourceVersion").to_owned();
        let uid = meta(&body, "uid").to_owned();
        let blind = matches!(revision.as_str(), "" | "0") && !call.resource.definition.builtin;
        let mut warnings = admit::prune(call, &mut body)?;
        warnings.extend(admit::deprecation(&call.resource));
        let place = (call.namespace.as_deref(), call.name.as_str());
        let provided = ownership::take(&mut body);
        let done = self
            .modify(&call.resource, place, call.query.dry_run, |object| {
                if blind {
                    let why = "must be specified for an update";
                    let error = FieldError::invalid("metadata.resourceVersion", &json!(0), why);
                    return Err(Error::Invalid(call.resource.kind_subject(&call.name), vec![error]));
                }
                let old = call.resource.view(object);
                let mut new = body.clone();
                set_meta(&mut new, "resourceVersion", Some(json!(revision)));
                set_meta(&mut new, "uid", Some(json!(uid)));
                let change = finish(&call.resource, call.subresource.as_deref(), old.value(), new, Some(call))?;
                Ok(ownership::track(call, &old, provided.as_ref(), change))
            })
            .await?;
        self.settled(&call.resource, &done).await;
        Ok(Written { code: 200, changed: done.changed, view: call.resource.view(&done.object), warnings })
    }

    /// A changed CRD is answered once it is served as changed.
    pub(super) async fn settled(&self, resource: &Resource, done: &super::modify::Modified) {
        if resource.is(CRD_GROUP, CRD_PLURAL) {
            self.registry.reached(done.revision).await;
        }
    }
}

/// Turns a wished document into the change it means: keeps what the door does not cover, checks preconditions,
/// validates, counts the generation, and removes what was only waiting for its last finalizer. `by` is the request that
/// wishes it, and is asked whether its caller may; without one, the server itself changes the object.
pub(super) fn finish(
    resource: &Resource,
    subresource: Option<&str>,
    old: &Value,
    wished: Value,
    by: Option<&Call>,
) -> Result<Change, Error> {
    check_preconditions(resource, old, &wished)?;
    let mut new = covered(resource, subresource, old, wished);
    for field in SERVER_OWNED {
        set_meta(&mut new, field, old["metadata"].get(field).cloned());
    }
    for field in ["managedFields", "selfLink"] {
        set_meta(&mut new, field, None);
    }
    set_meta(&mut new, "resourceVersion", old["metadata"].get("resourceVersion").cloned());
    if subresource.is_none() {
        special::prepare_update(resource, old, &mut new);
    }
    resource.version().schema.default(&mut new);
    admit::validate(resource, &new, Some(old))?;
    by.map_or(Ok(()), |call| call.may_store(Some(old), &new))?;
    if resource.definition.generation && wish_changed(resource, old, &new) {
        let next = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        set_meta(&mut new, "generation", Some(json!(next)));
    }
    if is_deleting(&new) && finalizers(&new).next().is_none() && !special::holds(resource, &new) {
        return Ok(Change::Remove(new));
    }
    if new == *old {
        return Ok(Change::Keep);
    }
    Ok(Change::Put(new))
}

/// What the client believed about the object must be so.
fn check_preconditions(resource: &Resource, old: &Value, wished: &Value) -> Result<(), Error> {
    let (uid, old_uid) = (meta(wished, "uid"), meta(old, "uid"));
    let name = meta(old, "name");
    if !uid.is_empty() && uid != old_uid {
        return Err(Error::Conflict(
            resource.subject(name),
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"),
        ));
    }
    let revision = meta(wished, "resourceVersion");
    if !matches!(revision, "" | "0") && revision != meta(old, "resourceVersion") {
        return Err(storage::modified(resource.subject(name)));
    }
    Ok(())
}

/// The part of the wish that this door covers; the rest stays as stored.
fn covered(resource: &Resource, subresource: Option<&str>, old: &Value, mut wished: Value) -> Value {
    let take = |from: &Value, into: &mut Value, field: &str| {
        if let Some(into) = into.as_object_mut() {
            match from.get(field) {
                Some(value) => into.insert(field.to_owned(), value.clone()),
                None => into.remove(field),
            };
        }
    };
    match subresource {
        Some("status") => {
            let mut new = old.clone();
            take(&wished, &mut new, "status");
            new
        }
        Some("finalize") => {
            let mut new = old.clone();
            if let Some(wanted) = wished["spec"].get("finalizers") {
                new["spec"]["finalizers"] = wanted.clone();
            }
            new
        }
        _ => {
            if resource.version().status_subresource {
                take(old, &mut wished, "status");
            }
            for field in ["apiVersion", "kind"] {
                take(old, &mut wished, field);
            }
            wished
        }
    }
}

/// Whether anything besides metadata (and status, where it has its own door) differs.
fn wish_changed(resource: &Resource, old: &Value, new: &Value) -> bool {
    let skip = |key: &str| key == "metadata" || (key == "status" && resource.version().status_subresource);
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return true };
    let differs = |(key, value): (&String, &Value)| !skip(key) && new.get(key) != Some(value);
    old.iter().any(differs) || new.keys().any(|key| !skip(key) && !old.contains_key(key))
}
