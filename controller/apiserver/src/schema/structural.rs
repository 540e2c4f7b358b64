//! Structural schemas.

use super::error::FieldError;
use serde_json::Value;

/// A compiled `openAPIV3Schema`.
#[derive(Debug)]
pub struct Schema {}

impl Schema {
    /// Fills in defaults where fields are absent.
    pub fn default(&self, object: &mut Value) {
        let _ = object;
    }
    /// Removes fields the schema does not know and returns their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let _ = object;
        Vec::new()
    }
    /// Everything wrong with `new`; `old` is the stored object on update.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let _ = (new, old);
        Vec::new()
    }
    /// The OpenAPI document it was compiled from.
    pub fn source(&self) -> &Value {
        &Value::Null
    }
}
