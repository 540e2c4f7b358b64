//! What tests of several crates share. Development only.

mod fake_api;
pub mod history;
mod lab;
mod leftovers;
mod random;
mod scratch;

pub use fake_api::FakeApi;
pub use lab::{Lab, Ran, tool};
pub use leftovers::processes_of;
pub use random::Random;
pub use scratch::Scratch;
