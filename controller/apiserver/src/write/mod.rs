//! Changing objects.
//!
//! ```text
//!  body ─► decode ─► admit: identity of the kind, prune, default, validate ─► CAS ─► answer
//!                       ▲                                                      │ conflict
//!                       └────────────── the stored object of now ◄─────────────┘
//! ```
//!
//! Every change is a pure function of the stored object, run again when it lost a race. A change that changes nothing
//! writes nothing.

mod admit;
mod apply;
mod create;
mod delete;
mod modify;
mod ownership;
mod patch;
mod scale;
mod update;

pub(crate) use delete::{DeleteOptions, FOREGROUND, ORPHAN, Policy};
pub(crate) use modify::Change;

use crate::object::View;

/// A finished write.
pub(crate) struct Written {
    /// HTTP status.
    pub code: u16,
    /// Whether something was written.
    pub changed: bool,
    /// The object as it is now.
    pub view: View,
    /// What the client should hear besides.
    pub warnings: Vec<String>,
}
