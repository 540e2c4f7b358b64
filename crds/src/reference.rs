//! References between objects of one namespace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An object of this namespace and this API group, by kind and name.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Kind, e.g. `Node`.
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
