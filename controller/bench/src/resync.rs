//! Looking at many converged objects again: nothing may be written, and little CPU used.
//!
//! The one sure way to have everything looked at is to start the server again: every controller then lists and
//! reconciles all there is. What an empty server needs to start is measured in the same way and taken off. So the CPU
//! time is that of loading, listing and reconciling all the objects.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::GetOptions;

use crate::create::{self, Kind};
use crate::figure::{Report, Sample};
use crate::lab::{Lab, counter};
use crate::usage;

const LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(100);
/// With nothing reconciled for this long, everything has been.
const QUIET: Duration = Duration::from_secs(3);
/// Written by the passage of time, not by a resync: heartbeats and the store's own keys.
const LIVENESS: [&str; 3] = ["/leases/", "/registry/~store/", "/events/"];

/// Restarts the server over `objects` converged Ports.
pub async fn measure(lab: &Lab, objects: usize, report: &mut Report) -> Result<()> {
    create::network(lab).await?;
    create::fill(lab, Kind::Port, objects).await?;
    settle(lab).await?;
    // Twice, since what the first one is still left to do after a crowd of creates is no resync.
    restart(lab, objects).await?;
    let full = restart(lab, objects).await?;
    let name = |what: &str| format!("resync of {objects} Ports: {what}");
    report.add(name("keys written"), "writes", &Sample::one(full.written.len() as f64), None, "0");
    report.note(format!(
        "etcd's revision went up by {} with heartbeats; written: {}",
        full.revisions,
        if full.written.is_empty() { "none".to_owned() } else { full.written.join(" ") }
    ));
    report.add(name("CPU, server's start included"), "s", &Sample::one(full.cpu), None, "1 s");
    report.note(format!("{:.0} reconciles of Ports in {:.1} s after the restart", full.reconciles, full.seconds));
    Ok(())
}

struct Restart {
    cpu: f64,
    seconds: f64,
    reconciles: f64,
    revisions: i64,
    written: Vec<String>,
}

async fn restart(lab: &Lab, objects: usize) -> Result<Restart> {
    eprintln!("bench: starting the server again");
    let mut etcd = create::etcd(lab).await?;
    let revision = |answer: &etcd_client::GetResponse| answer.header().map(|header| header.revision());
    let before = revision(&etcd.get("/bench/none", None).await?).context("etcd tells no revision")?;
    let old = lab.process("server")?;
    old.terminate(Duration::from_secs(20)).await.context("failed to stop the server")?;
    let begun = Instant::now();
    let (reconciles, seconds) = reconciled(lab, objects, begun).await?;
    let cpu = usage::cpu(lab.process("server")?.pid)?.as_secs_f64();
    let options = GetOptions::new().with_prefix().with_keys_only().with_min_mod_revision(before + 1);
    let answer = etcd.get("/registry/", Some(options)).await.context("failed to list what was written")?;
    let keys = answer.kvs().iter().map(|entry| String::from_utf8_lossy(entry.key()).into_owned());
    let written = keys.filter(|key| !LIVENESS.iter().any(|part| key.contains(part))).collect();
    Ok(Restart { cpu, seconds, reconciles, revisions: revision(&answer).unwrap_or(before) - before, written })
}

/// Waits until the new server has reconciled every Port; how many reconciles there were, and after how long.
async fn reconciled(lab: &Lab, objects: usize, begun: Instant) -> Result<(f64, f64)> {
    while begun.elapsed() < LIMIT {
        let done = ports(lab).await.unwrap_or_default();
        if done >= objects as f64 {
            return Ok((done, begun.elapsed().as_secs_f64()));
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("the server did not reconcile {objects} Ports within {} s", LIMIT.as_secs())
}

/// Waits until nothing is reconciled any more.
async fn settle(lab: &Lab) -> Result<()> {
    let begun = Instant::now();
    let (mut seen, mut since) = (f64::NAN, Instant::now());
    while since.elapsed() < QUIET {
        if begun.elapsed() > LIMIT {
            bail!("the reconcilers do not come to rest within {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(POLL).await;
        let now = ports(lab).await?;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    Ok(())
}

async fn ports(lab: &Lab) -> Result<f64> {
    Ok(counter(&lab.metrics().await?, "clusterctl_reconcile_total", &["kind=\"Port\"", "result=\"ok\""]))
}
