//! Patches: RFC 7386, RFC 6902, and the part of strategic merge that built-in kinds need.
//!
//! All three work on decoded values and are limited in size beforehand by the request's limit; what a small patch can
//! blow up (repeated `copy` of JSON patch) is limited here.

use serde_json::{Map, Value};

mod strategic;

pub use strategic::strategic_patch;

/// Operations in one JSON patch, as the official server limits them.
const OPERATIONS: usize = 10_000;
/// What the copies of one JSON patch may add, in bytes.
const COPIED: usize = 3 << 20;
/// As deep as the JSON parser allows, so that what is stored can be read back.
const DEEPEST: usize = 120;

/// A patch that cannot be applied; [`PatchError::code`] is the HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is no patch.
    #[error("{0}")]
    Malformed(String),
    /// The patch is well-formed but does not fit the object.
    #[error("{0}")]
    Unprocessable(String),
    /// The patch is beyond the limits.
    #[error("{0}")]
    TooLarge(String),
    /// This kind of patch is not for this kind of object.
    #[error("{0}")]
    Unsupported(String),
}

impl PatchError {
    /// The HTTP status code.
    pub const fn code(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Unprocessable(_) => 422,
            Self::TooLarge(_) => 413,
            Self::Unsupported(_) => 415,
        }
    }
}

/// RFC 7386: objects merge, null removes, everything else replaces.
pub fn merge_patch(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed("error decoding patch: json: cannot unmarshal into an object".to_owned()));
    };
    merge(object, patch);
    Ok(())
}

fn merge(target: &mut Value, patch: Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(inner) => merge(target.entry(key).or_insert(Value::Null), inner),
            other => {
                target.insert(key, other);
            }
        }
    }
}

/// RFC 6902; `patch` is the decoded body. On an error the object is unchanged.
pub fn json_patch(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let count = patch.as_array().map(Vec::len).unwrap_or_default();
    if count > OPERATIONS {
        let why = format!("The allowed maximum operations in a JSON patch is {OPERATIONS}, got {count}");
        return Err(PatchError::TooLarge(why));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch)
        .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    let mut patched = object.clone();
    let mut copied = 0;
    for operation in &patch.0 {
        check_growth(&patched, operation, &mut copied)?;
        json_patch::patch(&mut patched, std::slice::from_ref(operation)).map_err(|error| {
            PatchError::Unprocessable(format!(
                "the server rejected our request due to an error in our request: {}",
                worded(&error)
            ))
        })?;
    }
    *object = patched;
    Ok(())
}

/// Refuses an operation that would make the object too large or too deep; deep values are walked by recursion elsewhere.
fn check_growth(object: &Value, operation: &json_patch::PatchOperation, copied: &mut usize) -> Result<(), PatchError> {
    use json_patch::PatchOperation as Op;
    let (path, value) = match operation {
        Op::Add(add) => (&add.path, Some(&add.value)),
        Op::Replace(replace) => (&replace.path, Some(&replace.value)),
        Op::Move(moved) => (&moved.path, object.pointer(moved.from.as_str())),
        Op::Copy(copy) => {
            let value = object.pointer(copy.from.as_str());
            *copied += value.map_or(0, weight);
            (&copy.path, value)
        }
        Op::Remove(_) | Op::Test(_) => return Ok(()),
    };
    if *copied > COPIED {
        return Err(PatchError::TooLarge(format!("the copies of a JSON patch may add at most {COPIED} bytes")));
    }
    if path.count() + value.map_or(0, depth) > DEEPEST {
        return Err(PatchError::Unprocessable(format!(
            "the patched object would be nested deeper than {DEEPEST} levels"
        )));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn worded(error: &json_patch::PatchError) -> String {
    match error.kind {
        json_patch::PatchErrorKind::TestFailed => format!("testing path {} failed", error.path),
        _ => format!("operation does not apply: doc is missing path or it is invalid: {}", error.path),
    }
}

/// Roughly the bytes a value takes.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(key, value)| key.len() + 3 + weight(value)).sum::<usize>(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests;
