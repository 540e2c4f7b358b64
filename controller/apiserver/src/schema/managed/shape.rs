//! How a place of an object is merged: what a schema says about it, or what the value suggests where no schema speaks.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Serialize;
use serde_json::Value;

use super::super::metadata::FIELDS;
use super::super::structural::{Additional, Kind, ListKind, Node};

/// What is known of a place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'s> {
    /// An object with apiVersion, kind and metadata.
    Resource(&'s Node),
    /// A declared place.
    Declared(&'s Node),
    /// Nothing declared: maps are merged by field, lists are replaced whole.
    Free,
}

impl<'s> Shape<'s> {
    fn of(node: &'s Node) -> Self {
        if node.embedded { Self::Resource(node) } else { Self::Declared(node) }
    }

    /// The place of a field, and whether the schema names it (a key of a map has no name). Undeclared fields are free.
    pub(crate) fn field(self, key: &str) -> (Self, bool) {
        let node = match self {
            Self::Free => return (Self::Free, false),
            Self::Resource(node) => match key {
                "metadata" => return (Self::Declared(metadata()), true),
                "apiVersion" | "kind" => return (Self::Free, true),
                _ => node,
            },
            Self::Declared(node) => node,
        };
        match (node.properties.get(key), &node.additional) {
            (Some(child), _) => (Self::of(child), true),
            (None, Additional::Schema(child)) => (Self::of(child), false),
            (None, _) => (Self::Free, false),
        }
    }

    /// The place of a list's items.
    pub(crate) fn items(self) -> Self {
        match self {
            Self::Resource(node) | Self::Declared(node) => node.items.as_deref().map_or(Self::Free, Self::of),
            Self::Free => Self::Free,
        }
    }

    /// Whether a map here is owned as one.
    pub(crate) fn is_atomic_map(self) -> bool {
        matches!(self, Self::Declared(node) | Self::Resource(node) if node.atomic_map)
    }

    /// How items of a list here are told apart.
    pub(crate) fn list(self) -> &'s ListKind {
        match self {
            Self::Resource(node) | Self::Declared(node) => &node.list,
            Self::Free => &ListKind::Atomic,
        }
    }

    /// Whether a list here is owned as one.
    pub(crate) fn is_atomic_list(self) -> bool {
        matches!(self.list(), ListKind::Atomic)
    }

    /// The step to an item of a list that is not atomic. A missing key takes its default.
    pub(crate) fn item_step(self, item: &Value) -> String {
        match self.list() {
            ListKind::Map(keys) => {
                let value = |key: &str| item.get(key).or_else(|| self.key_default(key));
                let found: BTreeMap<&str, &Value> =
                    keys.iter().filter_map(|key| Some((key.as_str(), value(key)?))).collect();
                written("k:", &found)
            }
            _ => written("v:", item),
        }
    }

    fn key_default(self, key: &str) -> Option<&'s Value> {
        match self.items() {
            Self::Resource(node) | Self::Declared(node) => node.properties.get(key)?.default.as_ref(),
            Self::Free => None,
        }
    }
}

/// A step that holds a value.
fn written(kind: &str, value: &impl Serialize) -> String {
    let mut text = Vec::with_capacity(32);
    text.extend_from_slice(kind.as_bytes());
    // Writing values to memory cannot fail, and what comes of it is UTF-8.
    let _ = serde_json::to_writer(&mut text, value);
    String::from_utf8(text).unwrap_or_default()
}

/// `ObjectMeta`, as far as merging is concerned.
fn metadata() -> &'static Node {
    static METADATA: OnceLock<Node> = OnceLock::new();
    METADATA.get_or_init(|| {
        let text = || Node { kind: Kind::String, ..Node::any() };
        let map = || Node { kind: Kind::Object, additional: Additional::Schema(Box::new(text())), ..Node::any() };
        let list =
            |list: ListKind, item: Node| Node { kind: Kind::Array, list, items: Some(Box::new(item)), ..Node::any() };
        let owner = Node { kind: Kind::Object, atomic_map: true, additional: Additional::Open, ..Node::any() };
        let mut properties: BTreeMap<String, Node> = [
            ("labels", map()),
            ("annotations", map()),
            ("finalizers", list(ListKind::Set, text())),
            ("ownerReferences", list(ListKind::Map(vec!["uid".to_owned()]), owner)),
            ("managedFields", list(ListKind::Atomic, Node::any())),
        ]
        .map(|(name, node)| (name.to_owned(), node))
        .into();
        for name in FIELDS {
            properties.entry(name.to_owned()).or_insert_with(text);
        }
        Node { kind: Kind::Object, properties, ..Node::any() }
    })
}
