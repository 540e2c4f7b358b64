//! `make bench-net`: what a network costs, beside the raw tools that make the same state.
//!
//! ```text
//!  ports ── 1,000 on one host: objects → kernel │ ip -batch + nft -f;  resync;  drift
//!  rule  ── one element and one rule among 10,000
//!  many  ── 100 hosts with 10,000 ports, on hands that only count
//! ```
//!
//! Driven is the agent's own half of the network ([`host::NetHost`]): its passes, its hands, its queue, against an API in memory. No
//! machine is started: what a guest would hold of a port is its tap, and that is made as the agent makes it for QEMU. All of it lives in
//! namespaces of an instance of its own, which is removed at the end.

mod drift;
mod host;
mod many;
mod objects;
mod ports;
mod raw;
mod rule;

use anyhow::{Context, Result};

use crate::figure::Report;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Ports of the one host.
    pub ports: usize,
    /// Members of the one group.
    pub members: usize,
    /// Things that are broken and repaired.
    pub harms: usize,
    /// Simulated hosts, with a hundred ports each.
    pub hosts: usize,
}

/// Measures everything; what was measured before something broke is in the report.
///
/// # Errors
/// Whatever broke.
pub async fn measure(size: Size, report: &mut Report) -> Result<()> {
    ports::measure(size.ports, size.harms, report).await.context("ports")?;
    rule::measure(size.members, report).await.context("rule")?;
    many::measure(size.hosts, report).await.context("many")
}
