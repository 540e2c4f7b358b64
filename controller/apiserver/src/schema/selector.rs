//! Label and field selectors.

use super::{Definition, Version};
use serde_json::Value;

/// A selector the server cannot follow; the text of a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// `a=b,c in (d,e),!f` over `metadata.labels`.
#[derive(Debug, Clone, Default)]
pub struct LabelSelector {}

impl LabelSelector {
    /// Reads the text form; an empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let _ = text;
        Ok(Self {})
    }
    /// Whether the object's labels fit.
    pub fn matches(&self, object: &Value) -> bool {
        let _ = object;
        true
    }
    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        true
    }
}

/// `metadata.name=x,spec.host!=y` over the fields a version declares selectable.
#[derive(Debug, Clone, Default)]
pub struct FieldSelector {}

impl FieldSelector {
    /// Reads the text form; fields that the version does not declare are refused.
    pub fn parse(text: &str, definition: &Definition, version: &Version) -> Result<Self, SelectorError> {
        let _ = (text, definition, version);
        Ok(Self {})
    }
    /// Whether the object (in the version the selector was parsed for) fits.
    pub fn matches(&self, object: &Value) -> bool {
        let _ = object;
        true
    }
    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        true
    }
    /// The name, when the selector demands one by `metadata.name=`: the caller may read one key instead of a list.
    pub fn name(&self) -> Option<&str> {
        None
    }
}
