//! The same machines, started by hand: what a person with a shell script would have.
//!
//! The argument vectors are those of QEMUs that we started ([`template`]), with the disks, sockets and taps put in place
//! that the script makes itself.

pub mod machine;
pub mod network;
pub mod nodes;
pub mod template;
