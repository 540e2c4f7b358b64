//! Patches.

use super::Definition;
use serde_json::Value;

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

/// RFC 7386.
pub fn merge_patch(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let _ = (object, patch);
    Ok(())
}
/// RFC 6902; `patch` is the decoded body. On an error the object is unchanged.
pub fn json_patch(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let _ = (object, patch);
    Ok(())
}
/// `application/strategic-merge-patch+json`, for built-in kinds only.
pub fn strategic_patch(definition: &Definition, object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let _ = (definition, object, patch);
    Ok(())
}
