//! Built-in kinds.

use super::Definition;

/// Every kind the server itself brings: what stock clients need besides users' CRDs.
pub fn builtin() -> Vec<Definition> {
    Vec::new()
}
