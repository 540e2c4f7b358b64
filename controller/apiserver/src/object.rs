//! Stored objects as requests see them.
//!
//! An object is parsed once per stored state, in the slot its store entry carries, and serialised at most once more:
//! reads and watches of the storage version then copy bytes. What is stored has no `resourceVersion`: that is etcd's
//! revision, and is put in here.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value};
use store::{Entry, Event, Revision};

use crate::error::Error;

/// One state of one object, with its `resourceVersion`.
#[derive(Debug)]
pub struct Object {
    /// The document.
    pub value: Value,
    raw: OnceLock<Bytes>,
}

impl Object {
    /// Gives a document its revision.
    #[must_use]
    pub fn new(mut value: Value, revision: Revision) -> Self {
        if let Some(metadata) = metadata_mut(&mut value) {
            metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
        }
        Self { value, raw: OnceLock::new() }
    }

    /// The object an entry holds.
    pub fn of(entry: &Entry) -> Result<Arc<Self>, Error> {
        entry.decoded(|bytes| parse(&entry.key, bytes, entry.mod_revision))
    }

    /// The last state of a deleted object, at the revision of the deletion.
    pub fn of_deletion(event: &Event) -> Result<Arc<Self>, Error> {
        let bytes = event.previous.as_ref().map(|previous| previous.value.clone()).unwrap_or_default();
        event.entry.decoded(|_| parse(&event.entry.key, &bytes, event.entry.mod_revision))
    }

    /// The document as JSON.
    #[must_use]
    pub fn raw(&self) -> Bytes {
        self.raw.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }
}

fn parse(key: &str, bytes: &Bytes, revision: Revision) -> Result<Object, Error> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::Internal(format!("the object stored at {key} cannot be read: {error}")))?;
    Ok(Object::new(value, revision))
}

/// An object in the version a request asked for.
#[derive(Debug, Clone)]
pub enum View {
    /// As stored; its bytes are shared.
    Shared(Arc<Object>),
    /// Converted for this request.
    Own(Value),
}

impl View {
    /// The document.
    #[must_use]
    pub fn value(&self) -> &Value {
        match self {
            Self::Shared(object) => &object.value,
            Self::Own(value) => value,
        }
    }

    /// The document as JSON.
    #[must_use]
    pub fn raw(&self) -> Bytes {
        match self {
            Self::Shared(object) => object.raw(),
            Self::Own(value) => Bytes::from(value.to_string()),
        }
    }

    /// The document, owned.
    #[must_use]
    pub fn into_value(self) -> Value {
        match self {
            Self::Shared(object) => object.value.clone(),
            Self::Own(value) => value,
        }
    }
}

/// `metadata`, made when it is missing; `None` only when the document is no object.
pub fn metadata_mut(value: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = value.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// A string in `metadata`; empty when absent.
#[must_use]
pub fn meta<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// `metadata.finalizers`.
pub fn finalizers(value: &Value) -> impl Iterator<Item = &str> {
    value["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Sets or, with `None`, removes a field of `metadata`.
pub fn set_meta(value: &mut Value, field: &str, to: Option<Value>) {
    let Some(metadata) = metadata_mut(value) else { return };
    match to {
        Some(to) => {
            metadata.insert(field.to_owned(), to);
        }
        None => {
            metadata.remove(field);
        }
    }
}

/// Replaces `metadata.finalizers`; an empty list is no field.
pub fn set_finalizers(value: &mut Value, finalizers: &[String]) {
    let to = (!finalizers.is_empty()).then(|| finalizers.iter().cloned().map(Value::String).collect());
    set_meta(value, "finalizers", to);
}

/// Whether the object is being deleted.
#[must_use]
pub fn is_deleting(value: &Value) -> bool {
    !meta(value, "deletionTimestamp").is_empty()
}
