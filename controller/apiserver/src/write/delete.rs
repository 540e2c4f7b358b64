//! DELETE: of one object or of a collection.
//!
//! An object with finalizers is only marked; it goes when the last finalizer is taken off (see `update::finish`).
//! What happens to dependents is written down as a finalizer too, which the garbage collector answers.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::Change;
use super::modify::Modified;
use crate::dispatch::Call;
use crate::error::Error;
use crate::object::{Object, View, finalizers, is_deleting, meta, set_finalizers, set_meta};
use crate::read::Selection;
use crate::registry::Resource;
use crate::request::body;
use crate::request::query::{Query, dry_run};
use crate::server::Server;
use crate::{special, storage, text};

/// Finalizer by which dependents are orphaned first.
pub(crate) const ORPHAN: &str = "orphan";
/// Finalizer by which dependents are deleted first.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// What happens to dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// They go after their owner.
    Background,
    /// They go before it.
    Foreground,
    /// They stay and forget it.
    Orphan,
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub policy: Option<Policy>,
    pub uid: Option<String>,
    pub revision: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// The options in the query and in the body.
    pub(crate) fn read(query: &Query, headers: &HeaderMap, bytes: &Bytes) -> Result<Self, Error> {
        let body = if bytes.is_empty() { Value::Null } else { body::decode(headers, bytes)? };
        let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
        let orphan = body["orphanDependents"].as_bool().or(query.orphan_dependents);
        let policy = match (text(&body["propagationPolicy"]).or(query.propagation_policy.clone()), orphan) {
            (Some(_), Some(_)) => {
                return Err(Error::BadRequest(
                    "orphanDependents and deletionPropagation cannot be both set".to_owned(),
                ));
            }
            (Some(policy), None) => Some(match policy.as_str() {
                "Background" => Policy::Background,
                "Foreground" => Policy::Foreground,
                "Orphan" => Policy::Orphan,
                other => {
                    return Err(Error::BadRequest(format!(
                        "propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \
                         \"Background\", \"Orphan\""
                    )));
                }
            }),
            (None, Some(true)) => Some(Policy::Orphan),
            (None, Some(false)) => Some(Policy::Background),
            (None, None) => None,
        };
        let mut dry = query.dry_run;
        for item in body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            dry |= dry_run(item)?;
        }
        let wanted = &body["preconditions"];
        Ok(Self { policy, uid: text(&wanted["uid"]), revision: text(&wanted["resourceVersion"]), dry_run: dry })
    }
}

/// What became of a deletion.
pub(crate) struct Deleted {
    /// The object's last or present state.
    pub view: View,
    /// Whether it is gone.
    pub removed: bool,
}

impl Server {
    /// Deletes one object.
    pub(crate) async fn delete(
        &self,
        resource: &Resource,
        place: (Option<&str>, &str),
        options: &DeleteOptions,
    ) -> Result<Deleted, Error> {
        self.check_kept(resource, place.1)?;
        let done: Modified = self
            .modify(resource, place, options.dry_run, |object| {
                check(resource, &object.value, options)?;
                let old = resource.view(object);
                Ok(mark(resource, old.value(), options.policy))
            })
            .await?;
        self.settled(resource, &done).await;
        Ok(Deleted { view: resource.view(&done.object), removed: done.removed })
    }

    /// Namespaces that always exist cannot go.
    fn check_kept(&self, resource: &Resource, name: &str) -> Result<(), Error> {
        if resource.is("", "namespaces") && self.options.namespaces.iter().any(|kept| kept == name) {
            let why = "this namespace may not be deleted".to_owned();
            return Err(Error::Forbidden { subject: resource.subject(name), why, cause: None });
        }
        Ok(())
    }

    /// Deletes every selected object of a collection; one that vanished meanwhile is no failure.
    pub(crate) async fn delete_collection(
        &self,
        call: &Call,
        options: &DeleteOptions,
    ) -> Result<(Vec<View>, store::Revision), Error> {
        let selection = Selection::of(call)?;
        let (objects, revision) = self.selected(call, &selection).await?;
        let mut gone = Vec::with_capacity(objects.len());
        for object in objects {
            let value: &Arc<Object> = &object;
            let (namespace, name) = storage::place(&value.value);
            match self.delete(&call.resource, (namespace.as_deref(), &name), options).await {
                Ok(done) => gone.push(done.view),
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((gone, revision))
    }
}

fn check(resource: &Resource, object: &Value, options: &DeleteOptions) -> Result<(), Error> {
    for (label, wanted, field) in
        [("UID", &options.uid, "uid"), ("ResourceVersion", &options.revision, "resourceVersion")]
    {
        let Some(wanted) = wanted else { continue };
        let found = meta(object, field);
        if wanted != found {
            return Err(Error::Conflict(
                resource.subject(meta(object, "name")),
                format!("Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {found}"),
            ));
        }
    }
    Ok(())
}

/// The change a deletion means for an object in this state.
fn mark(resource: &Resource, old: &Value, policy: Option<Policy>) -> Change {
    let before: Vec<String> = finalizers(old).map(str::to_owned).collect();
    let mut after = before.clone();
    if let Some(policy) = policy {
        after.retain(|f| f != ORPHAN && f != FOREGROUND);
        match policy {
            Policy::Background => {}
            Policy::Foreground => after.push(FOREGROUND.to_owned()),
            Policy::Orphan => after.push(ORPHAN.to_owned()),
        }
        if after.len() == before.len() && after.iter().all(|f| before.contains(f)) {
            after.clone_from(&before);
        }
    }
    if after.is_empty() && !special::holds(resource, old) {
        return Change::Remove(old.clone());
    }
    if is_deleting(old) && before == after {
        return Change::Keep;
    }
    let mut new = old.clone();
    set_finalizers(&mut new, &after);
    if !is_deleting(old) {
        set_meta(&mut new, "deletionTimestamp", Some(json!(text::now())));
        set_meta(&mut new, "deletionGracePeriodSeconds", Some(json!(0)));
        if let Some(generation) = old["metadata"]["generation"].as_i64() {
            set_meta(&mut new, "generation", Some(json!(generation + 1)));
        }
        special::mark_deleting(resource, &mut new);
    }
    Change::Put(new)
}
