//! Machines: QEMU as a process that outlives us, and the two ways to talk about it and into it.
//!
//! [`machine`] says what is wanted, [`command`] writes it for QEMU, [`start`] brings it up and finds it again, [`monitor`]
//! talks to QEMU, [`guest_agent`] to the guest, [`exec`] runs commands in the guest that can be found again, [`stop`] ends it.

pub mod accelerator;
pub mod command;
pub mod exec;
pub mod guest_agent;
pub mod machine;
pub mod monitor;
pub mod reach;
pub mod serial_log;
pub mod socket;
pub mod start;
pub mod stop;

#[cfg(test)]
mod guest_tests;
#[cfg(test)]
mod machine_tests;
