//! FlashDNS: the names of one tenant, as one of its networks sees them.
//!
//! What a guest sends is read by [`serve`], a process of its own without any privilege; what may be said is decided before,
//! by whoever writes its [`Part`]s. So the two halves meet in files, and neither waits for the other:
//!
//! ```text
//!  objects ──► judge ──► Part (JSON, replaced whole) ──inotify──► View ──► answer
//!                                                                  ▲          │
//!                                            guest's question ─────┘          └──► UDP, TCP
//! ```
//!
//! Everything up to [`answer`] is pure. This crate knows no kind and makes no namespace.

pub mod answer;
pub mod judge;
pub mod part;
pub mod serve;
pub mod value;
pub mod view;

pub use judge::{Candidate, Refusal, judge};
pub use part::{Part, Record, Zone};
pub use value::{InvalidValue, Kind};
pub use view::View;
