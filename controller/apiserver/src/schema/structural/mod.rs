//! Structural schemas: an `openAPIV3Schema` compiled into a tree that defaults, prunes and validates without looking
//! anything up twice.
//!
//! The JSON document is walked once, at CRD time, by [`compile`]; patterns become automata and rules become programs
//! there. What remains per object is one walk of the tree ([`validate`]) that allocates only when something is wrong:
//! paths are linked stack frames ([`Path`]) that turn into text on demand. Rules run in a second walk that enters only
//! subtrees holding rules, and, as in Kubernetes, only when the object's shape is sound.
//!
//! Why no general JSON-schema crate: see `docs/decisions/0003-own-structural-schema.md`.

mod compile;
mod defaults;
mod formats;
mod granularity;
mod lists;
mod prune;
mod scalars;
mod validate;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::cel::Rule;
use super::error::FieldError;

pub(crate) use compile::compile;
pub(crate) use formats::{Format, parse_cidr, parse_timestamp};
pub(crate) use lists::check_unique;

/// A compiled `openAPIV3Schema`.
#[derive(Debug)]
pub struct Schema {
    pub(crate) root: Node,
    source: Value,
}

impl Schema {
    /// Fills in defaults where fields are absent, or null without being nullable.
    pub fn default(&self, object: &mut Value) {
        defaults::apply(&self.root, object);
    }

    /// Removes fields the schema does not know and returns their paths. `metadata` is not looked into: see
    /// [`super::metadata::prune_metadata`].
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(&self.root, object)
    }

    /// Everything wrong with `new`; `old` is the stored object on update, for transition rules and so that what was
    /// wrong before and did not change is let through (ratcheting).
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validate::validate(&self.root, new, old)
    }

    /// The OpenAPI document it was compiled from.
    pub fn source(&self) -> &Value {
        &self.source
    }
}

/// The JSON type a node demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No demand (`x-kubernetes-preserve-unknown-fields` without type, or inside `anyOf` and friends).
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::IntOrString => "integer,string",
        }
    }
}

/// What an object may hold besides its properties.
#[derive(Debug, Default)]
pub(crate) enum Additional {
    /// Nothing: unknown fields are pruned.
    #[default]
    Closed,
    /// Values of this schema under any key.
    Schema(Box<Node>),
    /// Anything, unlooked at.
    Open,
}

/// How list items relate to each other.
#[derive(Debug, Default)]
pub(crate) enum ListKind {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// One level of a schema.
#[derive(Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    pub nullable: bool,
    pub embedded: bool,
    pub properties: BTreeMap<String, Node>,
    pub required: Vec<String>,
    pub additional: Additional,
    pub items: Option<Box<Node>>,
    pub list: ListKind,
    /// A map that is owned and replaced as one (`x-kubernetes-map-type: atomic`).
    pub atomic_map: bool,
    pub default: Option<Value>,
    pub format: Option<Format>,
    pub checks: Option<Box<Checks>>,
    pub rules: Vec<Rule>,
    /// Some node below (or this one) has a default.
    pub defaults_below: bool,
    /// Some node below (or this one) has a rule.
    pub rules_below: bool,
}

/// Value checks beyond type and format; boxed because most nodes have none.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub enumeration: Option<Vec<Value>>,
    pub minimum: Option<Bound>,
    pub maximum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub min_length: Option<usize>,
    pub max_length: Option<usize>,
    pub pattern: Option<regex::Regex>,
    pub min_items: Option<usize>,
    pub max_items: Option<usize>,
    pub min_properties: Option<usize>,
    pub max_properties: Option<usize>,
    pub all_of: Vec<Node>,
    pub any_of: Vec<Node>,
    pub one_of: Vec<Node>,
    pub not: Option<Node>,
}

/// A numeric limit.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub limit: f64,
    pub exclusive: bool,
    /// As the document wrote it.
    pub text: String,
}

impl Node {
    /// The declared field at a path of names; none in maps and lists.
    pub(crate) fn field(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.properties.get(*name))
    }

    pub(crate) fn any() -> Self {
        Self {
            kind: Kind::Any,
            nullable: false,
            embedded: false,
            properties: BTreeMap::new(),
            required: Vec::new(),
            additional: Additional::Closed,
            items: None,
            list: ListKind::Atomic,
            atomic_map: false,
            default: None,
            format: None,
            checks: None,
            rules: Vec::new(),
            defaults_below: false,
            rules_below: false,
        }
    }

    /// The schema of the value under `key`.
    pub(crate) fn child(&self, key: &str) -> Option<&Node> {
        match (self.properties.get(key), &self.additional) {
            (Some(node), _) => Some(node),
            (None, Additional::Schema(node)) => Some(node),
            (None, _) => None,
        }
    }
}

/// Where a walk is: a frame on the stack per level, text only when an error needs it.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    pub(crate) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    pub(crate) const fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// A key of a map (`additionalProperties`); shown as a field, as the official server does in schema errors.
    pub(crate) const fn key(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(name) }
    }

    pub(crate) const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nested = false;
        if let Some(parent) = self.parent {
            nested = !matches!(parent.step, Step::Root);
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) | Step::Key(name) if nested => write!(f, ".{name}"),
            Step::Field(name) | Step::Key(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The JSON type's name in error texts.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() && number.as_f64().is_some_and(|n| n.fract() != 0.0) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests;
