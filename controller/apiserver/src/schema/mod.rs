//! The pure half of the API server: what can be decided from CRD documents and JSON values alone.
//!
//! Nothing here does I/O, sleeps or reads a clock; the caller passes `now` where a time is needed. That keeps every rule
//! testable as a table of inputs and the official server's exact words, and it lets the protocol half call any of it on
//! the request path without thinking about blocking.
//!
//! A [`Definition`] is compiled once per CRD document: regular expressions, CEL programs and printer columns are ready
//! before the first object arrives. Built-in kinds take the same road; their documents are in `builtin/`.
//!
//! ```text
//! bytes ─ decode ─► prune ─► default ─► validate(new, old) ─► store
//!                     │                     └ types, bounds, formats, list types, CEL, one walk
//!                     └ unknown paths → `strict decoding error`
//! ```

pub mod builtin;
mod cel;
pub mod crd;
pub mod definition;
pub mod discovery;
pub mod error;
pub mod events;
pub mod jsonpath;
pub(crate) mod managed;
pub mod merge;
pub mod metadata;
pub mod openapi;
mod reviews;
pub mod selector;
pub mod structural;
pub mod table;

pub use builtin::builtin;
pub(crate) use crd::unselectable;
pub use definition::{Column, Definition, Scale, Version};
pub use error::{Cause, FieldError, aggregate, decoding_complaints, strict_decoding_error};
pub use metadata::validate_metadata;
pub use structural::Schema;
