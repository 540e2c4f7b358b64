//! Who may reach whom, derived from the objects alone: no I/O, no kernel, no clock.
//!
//! What SecurityGroups mean is decided here once. The agents enforce it, having put it into the words of their packet filter;
//! `clusterctl net` explains it; a TestRun proves it. So an answer given to a user and the packet filter's cannot drift apart
//! in how a rule is read. That the packet filter then does what the rules say is compared packet by packet in the agent's
//! tests.
//!
//! ```text
//!  objects ─► world ─► verdict (from, to, conversation) ─┬─► matrix   every pair, every conversation that rules tell apart
//!                                                        ├─► path     one pair, hop by hop
//!                                                        ├─► service  who answers at an address, and which of them are reached
//!                                                        └─► probe    what a guest must run, and what its answer proves
//! ```

pub mod access;
pub mod endpoint;
pub mod further;
pub mod matrix;
pub mod path;
pub mod probe;
pub mod question;
pub mod rule;
pub mod service;
pub mod verdict;
mod way;
pub mod world;

pub use access::{Ability, Closed, Groups, members};
pub use endpoint::Endpoint;
pub use further::{Claims, Refusal};
pub use question::Question;
pub use rule::{Remote, Rule, Unenforceable};
pub use traffic::{Conversation, Family, Traffic, Transport};
pub use verdict::{Ruling, Verdict};
pub use world::{Objects, World};

#[cfg(test)]
mod tests;
