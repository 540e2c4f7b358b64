//! Who may reach whom, decided from the objects alone: no I/O, no kernel, no clock.
//!
//! What SecurityGroups mean is decided here once. The agents enforce it, having put it into the words of their packet filter;
//! whoever explains or proves it reads the same rules. So an answer given to a user and the packet filter's cannot drift apart
//! in how a rule is read.

pub mod access;
pub mod rule;

pub use access::{Ability, Closed, Groups, members};
pub use rule::{Remote, Rule, Traffic, Transport, Unenforceable};
