//! `make bench-net`: what a network costs, beside the raw tools that make the same state.
//!
//! ```text
//!  ports ── 1,000 on one host: objects → kernel │ ip -batch + nft -f;  resync;  drift
//!  rule  ── one element and one rule among 10,000
//!  answers ── 10,000 names │ knot;  one name more
//!  flow  ── connections, bytes, datagrams with 1 and 1,000 services, members, ports │ HAProxy
//!  dead  ── a backend that dies
//!  many  ── 100 hosts with 10,000 ports, on hands that only count
//! ```
//!
//! Driven is the agent's own half of the network ([`host::NetHost`]): its passes, its hands, its queue, against an API in memory. No
//! machine is started: what a guest would hold of a port is its tap, and that is made as the agent makes it for QEMU; where something
//! has to pass, a namespace on a cable stands for the guest. All of it lives in
//! namespaces of an instance of its own, which is removed at the end.

mod answers;
mod dead;
mod drift;
mod flow;
mod guest;
mod host;
mod load;
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
    /// Names of the one tenant.
    pub names: usize,
    /// Simulated hosts, with a hundred ports each.
    pub hosts: usize,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Many ports on one host.
    Ports,
    /// One change among very many elements.
    Rule,
    /// A tenant's names.
    Answers,
    /// What passes through.
    Flow,
    /// A backend that dies.
    Dead,
    /// Very many hosts.
    Many,
}

/// Measures these parts, or all; what was measured before something broke, or before it was told to stop, is in the report.
///
/// # Errors
/// Whatever broke.
pub async fn measure(
    size: Size,
    parts: &[Part],
    stop: impl Future<Output = Result<()>>,
    report: &mut Report,
) -> Result<()> {
    let done = tokio::select! {
        done = all(size, parts, report) => done,
        stopped = stop => stopped,
    };
    // Whatever was cut off left its hosts.
    done.and(host::end_all().await)
}

async fn all(size: Size, parts: &[Part], report: &mut Report) -> Result<()> {
    let wants = |part: Part| parts.is_empty() || parts.contains(&part);
    if wants(Part::Ports) {
        ports::measure(size.ports, size.harms, report).await.context("ports")?;
    }
    if wants(Part::Rule) {
        rule::measure(size.members, report).await.context("rule")?;
    }
    if wants(Part::Answers) {
        answers::measure(size.names, report).await.context("answers")?;
    }
    if wants(Part::Flow) {
        flow::measure(size.ports, report).await.context("flow")?;
    }
    if wants(Part::Dead) {
        dead::measure(report).await.context("dead")?;
    }
    if wants(Part::Many) {
        many::measure(size.hosts, report).await.context("many")?;
    }
    Ok(())
}
