//! What tests of several crates share. Development only.

pub mod history;
mod lab;
mod leftovers;
mod scratch;

pub use lab::{Lab, Ran, tool};
pub use leftovers::processes_of;
pub use scratch::Scratch;
