//! The walk that validates: shape first, then rules, as the official server orders them.
//!
//! Ratcheting (what was wrong before and is unchanged passes an update) is done by a second, comparing walk that runs
//! only when the first one found something: a valid object never pays for it.

use serde_json::Value;

use super::super::cel::{Budget, Evaluation};
use super::super::error::{Cause, FieldError};
use super::lists::{self, Correspondence};
use super::scalars::{check_type, check_value, named};
use super::{Checks, Node, Path};

/// A hostile object may be wrong in a million places; this many are told.
const REPORTED: usize = 128;

const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing \
                         errors to complete validation";

/// Everything wrong with `new`.
pub(super) fn validate(root: &Node, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut walk = Walk { errors: Vec::new(), ratchet: false };
    walk.shape(root, new, old, true, &Path::ROOT);
    if old.is_some() && !walk.errors.is_empty() {
        walk = Walk { errors: Vec::new(), ratchet: true };
        walk.shape(root, new, old, true, &Path::ROOT);
    }
    let blocked = walk
        .errors
        .iter()
        .any(|error| matches!(error.reason, Cause::Required | Cause::TooLong | Cause::TooMany | Cause::TypeInvalid));
    if root.rules_below {
        if blocked {
            let detail = format!("Invalid value: \"null\": {UNCHECKED}");
            walk.errors.push(FieldError::new("<nil>", Cause::Invalid, detail));
        } else {
            rules(root, new, old, &mut walk.errors);
        }
    }
    walk.errors.truncate(REPORTED);
    walk.errors
}

struct Walk {
    errors: Vec<FieldError>,
    /// Unchanged subtrees are let through.
    ratchet: bool,
}

impl Walk {
    fn shape(&mut self, node: &Node, value: &Value, old: Option<&Value>, resource: bool, path: &Path<'_>) {
        if self.errors.len() >= REPORTED || (self.ratchet && old == Some(value)) {
            return;
        }
        if !check_type(node, value, path, &mut self.errors) || value.is_null() && node.nullable {
            return;
        }
        check_value(node, value, path, &mut self.errors);
        self.children(node, value, old, resource, path);
        if let Some(checks) = &node.checks {
            self.junctors(checks, value, path);
        }
    }

    fn children(&mut self, node: &Node, value: &Value, old: Option<&Value>, resource: bool, path: &Path<'_>) {
        match value {
            Value::Object(map) => {
                for key in &node.required {
                    if !map.contains_key(key) {
                        self.errors.push(FieldError::required(path.field(key).to_string(), ""));
                    }
                }
                for (key, inner) in map {
                    let declared = node.child(key);
                    match declared {
                        Some(child) => {
                            let before = old.and_then(|old| old.get(key));
                            self.shape(child, inner, before, child.embedded, &path.key(key));
                        }
                        None if resource => self.type_meta(key, inner, path),
                        None => {}
                    }
                }
            }
            Value::Array(items) => {
                lists::check_unique(&node.list, items, path, &mut self.errors);
                if let Some(child) = &node.items {
                    let before = Correspondence::new(&node.list, old);
                    for (index, inner) in items.iter().enumerate() {
                        let before = before.as_ref().and_then(|before| before.find(inner));
                        self.shape(child, inner, before, child.embedded, &path.index(index));
                    }
                }
            }
            _ => {}
        }
    }

    /// `apiVersion`, `kind` and `metadata` of a resource have implied types.
    fn type_meta(&mut self, key: &str, value: &Value, path: &Path<'_>) {
        let kind = match key {
            "apiVersion" | "kind" => super::Kind::String,
            "metadata" => super::Kind::Object,
            _ => return,
        };
        let implied = Node { kind, ..Node::any() };
        check_type(&implied, value, &path.field(key), &mut self.errors);
    }

    fn junctors(&mut self, checks: &Checks, value: &Value, path: &Path<'_>) {
        for all in &checks.all_of {
            let found = attempt(all, value, path);
            if !found.is_empty() {
                self.errors.extend(found);
                self.composite(path, "must validate all the schemas (allOf)");
            }
        }
        if !checks.any_of.is_empty() {
            self.alternatives(&checks.any_of, value, path, "must validate at least one schema (anyOf)");
        }
        if !checks.one_of.is_empty() {
            let fitting = checks.one_of.iter().filter(|one| attempt(one, value, path).is_empty()).count();
            match fitting {
                1 => {}
                0 => self.alternatives(
                    &checks.one_of,
                    value,
                    path,
                    "must validate one and only one schema (oneOf). Found none valid",
                ),
                many => self.composite(
                    path,
                    &format!("must validate one and only one schema (oneOf). Found {many} valid alternatives"),
                ),
            }
        }
        if let Some(not) = &checks.not
            && attempt(not, value, path).is_empty()
        {
            self.composite(path, "must not validate the schema (not)");
        }
    }

    /// None of several schemas fits: says so, and what the nearest one misses.
    fn alternatives(&mut self, nodes: &[Node], value: &Value, path: &Path<'_>, words: &str) {
        let mut nearest: Option<Vec<FieldError>> = None;
        for node in nodes {
            let found = attempt(node, value, path);
            if found.is_empty() {
                return;
            }
            if nearest.as_ref().is_none_or(|nearest| found.len() < nearest.len()) {
                nearest = Some(found);
            }
        }
        self.composite(path, words);
        self.errors.extend(nearest.unwrap_or_default());
    }

    fn composite(&mut self, path: &Path<'_>, words: &str) {
        self.errors.push(super::scalars::invalid(path, &Value::from(""), words));
    }
}

fn attempt(node: &Node, value: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut walk = Walk { errors: Vec::new(), ratchet: false };
    walk.shape(node, value, None, false, path);
    walk.errors
}

/// Runs the rules of every level under one budget.
fn rules(root: &Node, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let budget = Budget::for_object();
    rules_below(root, new, old, &Path::ROOT, &budget, errors);
}

fn rules_below(
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    path: &Path<'_>,
    budget: &Budget,
    errors: &mut Vec<FieldError>,
) {
    if !node.rules_below || value.is_null() || errors.len() >= REPORTED {
        return;
    }
    if !node.rules.is_empty() {
        let evaluation = Evaluation { node, value, old: old.filter(|old| !old.is_null()) };
        for rule in &node.rules {
            if let Some(failure) = rule.check(&evaluation, budget) {
                let unchanged = !rule.is_transition() && old == Some(value);
                if !unchanged {
                    errors.push(failure.into_error(rule, node, named(path)));
                }
            }
        }
    }
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if let Some(child) = node.child(key) {
                    rules_below(child, inner, old.and_then(|old| old.get(key)), &path.key(key), budget, errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = node.items.as_deref().filter(|child| child.rules_below) {
                let before = Correspondence::new(&node.list, old);
                for (index, inner) in items.iter().enumerate() {
                    let before = before.as_ref().and_then(|before| before.find(inner));
                    rules_below(child, inner, before, &path.index(index), budget, errors);
                }
            }
        }
        _ => {}
    }
}
