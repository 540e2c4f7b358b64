//! DELETE: of one object or of a collection.
//!
//! An object with finalizers is only marked; it goes when the last finalizer is taken off (see `update::finish`).
//! What happens to dependents is written down as a finalizer too, which the garbage collector answers.

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Change;
use super::modify::Modified;
use crate::dispatch::Call;
use crate::error::Error;
use crate::object::{View, finalizers, is_deleting, meta, set_finalizers, set_meta};
use crate::read::{Item, Page};
use crate::registry::Resource;
use crate::request::body;
use crate::request::query::{Query, dry_run, invalid_options};
use crate::schema::FieldError;
use crate::server::Server;
use crate::{special, text};

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

/// The body of a deletion, as far as it is heeded.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    kind: Option<String>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    dry_run: Option<Vec<String>>,
    preconditions: Option<Preconditions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Document {
    fn read(headers: &HeaderMap, bytes: &Bytes) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let refuse = |why: String| Error::BadRequest(format!("the body is no DeleteOptions: {why}"));
        let document: Option<Self> =
            serde_json::from_value(body::decode(headers, bytes)?).map_err(|error| refuse(error.to_string()))?;
        let document = document.unwrap_or_default();
        // What somebody meant to send elsewhere must not delete anything.
        match document.kind.as_deref() {
            None | Some("" | "DeleteOptions") => Ok(document),
            Some(kind) => Err(refuse(format!("its kind is {kind:?}"))),
        }
    }
}

impl DeleteOptions {
    /// The options in the query and in the body.
    pub(crate) fn read(query: &Query, headers: &HeaderMap, bytes: &Bytes) -> Result<Self, Error> {
        let document = Document::read(headers, bytes)?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let invalid = |error| invalid_options("DeleteOptions", vec![error]);
        let policy = filled(document.propagation_policy).or_else(|| query.propagation_policy.clone());
        let orphan = document.orphan_dependents.or(query.orphan_dependents);
        let policy = Policy::chosen(policy.as_deref(), orphan).map_err(invalid)?;
        let mut dry = query.dry_run;
        for item in document.dry_run.iter().flatten() {
            dry |= dry_run(item).map_err(invalid)?;
        }
        let Preconditions { uid, resource_version } = document.preconditions.unwrap_or_default();
        Ok(Self { policy, uid: filled(uid), revision: filled(resource_version), dry_run: dry })
    }
}

impl Policy {
    /// What is said by its name, or in the older way.
    fn chosen(name: Option<&str>, orphan: Option<bool>) -> Result<Option<Self>, FieldError> {
        const FIELD: &str = "propagationPolicy";
        Ok(match (name, orphan) {
            (Some(name), Some(_)) => {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                return Err(FieldError::invalid(FIELD, &name.into(), why));
            }
            (Some("Background"), None) | (None, Some(false)) => Some(Self::Background),
            (Some("Foreground"), None) => Some(Self::Foreground),
            (Some("Orphan"), None) | (None, Some(true)) => Some(Self::Orphan),
            (Some(other), None) => {
                return Err(FieldError::not_supported(FIELD, &other.into(), &["Foreground", "Background", "Orphan"]));
            }
            (None, None) => None,
        })
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

    /// Deletes the page of a collection that a list with the same parameters shows, and answers what became of it; one
    /// that vanished meanwhile is no failure.
    pub(crate) async fn delete_collection(&self, call: &Call, options: &DeleteOptions) -> Result<Page, Error> {
        let page = self.list(call).await?;
        let mut gone = Vec::with_capacity(page.items.len());
        for item in &page.items {
            let (namespace, name) = item.place()?;
            match self.delete(&call.resource, (namespace.as_deref(), &name), options).await {
                Ok(done) => gone.push(Item::View(done.view)),
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Page { items: gone, ..page })
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
