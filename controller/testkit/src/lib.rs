//! What tests of several crates share. Development only.

mod scratch;

pub use scratch::Scratch;
