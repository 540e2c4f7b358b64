//! The test engine: carries out [`crds::TestRun`] objects and writes their verdicts.
//!
//! ```text
//!  TestRun ─► plan (pure) ─► one step ─► effects ─► judge (pure) ─► status (pure) ─► store ─┐
//!     ▲                                                                                     │
//!     └──────────── the next step begins in the same write that ends the last ◄─────────────┘
//! ```
//! Everything the engine needs to go on after a crash is in the object: a step's UID and attempt are stored before it
//! starts, commands run in the guest and faults exist under names made of these two, so a new engine finds them again
//! instead of doing them twice. Dropping [`engine::drive`] at any await is therefore the same as a crash, and allowed.
//! The engine needs no privilege: commands go through the API's `exec`, harm goes through Fault objects.

pub mod controller;
pub mod effects;
pub mod engine;
pub mod judge;
pub mod junit;
pub mod live;
pub mod metrics;
pub mod report;

pub use controller::{Options, run};
pub use report::exit_code;
