//! Where objects live in the store, and the store's refusals in this crate's words.

use serde_json::Value;
use store::{Entry, Store};

use crate::error::{Error, Subject};
use crate::object::{Text, set_meta};
use crate::registry::Resource;
use crate::schema::Definition;

/// Folders whose values are to be encrypted at rest, as the store names them.
pub const SEALED: [&str; 1] = ["secrets/"];

/// The prefix of a kind's objects, of one namespace or of all.
#[must_use]
pub fn prefix(store: &Store, definition: &Definition, namespace: Option<&str>) -> String {
    let (group, plural) = folder(definition);
    match namespace {
        Some(namespace) => store.keys().in_namespace(group, plural, namespace),
        None => store.keys().collection(group, plural),
    }
}

/// The key of one object.
#[must_use]
pub fn key(store: &Store, definition: &Definition, namespace: Option<&str>, name: &str) -> String {
    let (group, plural) = folder(definition);
    store.keys().object(group, plural, namespace, name)
}

/// Two API groups may show one folder: events do.
fn folder(definition: &Definition) -> (&str, &str) {
    definition.storage_resource.rsplit_once('/').unwrap_or(("", &definition.storage_resource))
}

/// What to store of a document and its `managedFields`.
#[must_use]
pub fn encode(resource: &Resource, mut value: Value, managed: &[u8]) -> (Value, Text) {
    set_meta(&mut value, "resourceVersion", None);
    resource.definition.encode(&mut value);
    if !resource.definition.builtin && !resource.version().storage {
        // What only the addressed version has is not stored.
        resource.definition.storage().schema.prune(&mut value);
    }
    let text = Text::new(&value, managed);
    (value, text)
}

/// A refused write as the client shall see it.
#[must_use]
pub fn refused(error: store::Error, subject: Subject) -> Error {
    match error {
        store::Error::AlreadyExists { .. } => Error::AlreadyExists(subject),
        store::Error::NotFound { .. } => Error::NotFound(subject),
        store::Error::Conflict { .. } => modified(subject),
        store::Error::TooLarge { size, limit, .. } => {
            Error::TooLarge(format!("Request entity too large: the object has {size} bytes, limit is {limit}"))
        }
        other => other.into(),
    }
}

/// The conflict every client knows.
#[must_use]
pub fn modified(subject: Subject) -> Error {
    Error::Conflict(
        subject,
        "the object has been modified; please apply your changes to the latest version and try again".to_owned(),
    )
}

/// A stored object whose namespace and name are read from its key's document.
#[must_use]
pub fn place(entry_value: &Value) -> (Option<String>, String) {
    let text = |field| crate::object::meta(entry_value, field).to_owned();
    let namespace = text("namespace");
    ((!namespace.is_empty()).then_some(namespace), text("name"))
}

/// Whether the entry is the state an operation started from.
#[must_use]
pub fn same(a: &Entry, b: &Entry) -> bool {
    a.mod_revision == b.mod_revision
}

/// A key taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'k> {
    /// API group; empty for core.
    pub group: &'k str,
    /// Plural.
    pub resource: &'k str,
    /// Namespace, of namespaced kinds.
    pub namespace: Option<&'k str>,
    /// Name.
    pub name: &'k str,
}

impl Parsed<'_> {
    /// Whether the key is of this kind.
    #[must_use]
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }
}

/// Takes a key apart; groups have a dot in their name, plurals do not.
#[must_use]
pub fn parse_key<'k>(store: &Store, key: &'k str) -> Option<Parsed<'k>> {
    parse_rest(key.strip_prefix(store.keys().prefix())?)
}

fn parse_rest(rest: &str) -> Option<Parsed<'_>> {
    let (group, rest) = match rest.split_once('/')? {
        (first, rest) if first.contains('.') => (first, rest),
        _ => ("", rest),
    };
    let (resource, rest) = rest.split_once('/')?;
    let (namespace, name) = match rest.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, rest),
    };
    Some(Parsed { group, resource, namespace, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart_as_they_were_made() {
        let parsed = parse_rest("photon.dev/ports/ns/a.b").unwrap();
        assert_eq!(
            (parsed.group, parsed.resource, parsed.namespace, parsed.name),
            ("photon.dev", "ports", Some("ns"), "a.b")
        );
        let parsed = parse_rest("namespaces/default").unwrap();
        assert_eq!((parsed.group, parsed.resource, parsed.namespace, parsed.name), ("", "namespaces", None, "default"));
        assert_eq!(parse_rest("x"), None);
    }
}
