//! Many ports on one host: from objects to kernel, looked at again, broken and repaired.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use host::link::watch_namespace;
use testkit::FakeApi;

use super::host::NetHost;
use super::{drift, objects, raw};
use crate::figure::{Bound, Report, Sample};

/// Groups that the ports are spread over.
const GROUPS: usize = 10;
/// Ports of the network on another host.
const ELSEWHERE: usize = 100;
/// How often everything is made, by us and by the raw tools.
const RUNS: usize = 3;
/// How often everything is looked at again.
const RESYNCS: usize = 10;

/// Measures.
pub async fn measure(count: usize, harms: usize, report: &mut Report) -> Result<()> {
    let (mut ours, mut raw, mut writes) = (Sample::default(), Sample::default(), Sample::default());
    for run in 1..=RUNS {
        let mut host = fill(count).await?;
        let done = make(&mut host, count).await;
        let made = match done {
            Ok(made) => made,
            Err(error) => return host.end().await.and(Err(error)),
        };
        ours.add(milliseconds(made.took));
        raw.add(milliseconds(raw::measure(&host).await?));
        writes.add(made.writes as f64 / count as f64);
        let last = if run == RUNS { after(&host, count, harms, report).await } else { Ok(()) };
        host.end().await.and(last)?;
    }
    report.add(format!("{count} ports, objects to kernel"), "ms", &ours, Some(&raw), "1.5 ×");
    report.bound(Bound::Ratio(1.5));
    report.note("until the last tap is made, each once its port's status says that it works; dnsmasq and the name server are started in it; beside `ip -batch` + `nft -f`");
    report.add("API writes a port", "writes", &writes, None, "3");
    report.bound(Bound::Median(3.0));
    Ok(())
}

/// A host that has heard of its ports and done nothing for them.
async fn fill(count: usize) -> Result<NetHost> {
    let api = FakeApi::new();
    let client = api.client();
    let groups: Vec<String> = (0..GROUPS).map(|number| format!("g{number}")).collect();
    for name in &groups {
        objects::create(&client, &objects::group(name, 80)?).await?;
    }
    let of = |number: usize| &groups[number % GROUPS..=number % GROUPS];
    let here = (0..count).map(|number| objects::port(number, objects::HERE, of(number)));
    let there = (count..count + ELSEWHERE).map(|number| objects::port(number, objects::THERE, of(number)));
    objects::create_all(&client, here.chain(there).collect::<Result<Vec<_>>>()?).await?;
    let host = NetHost::new(api).await?;
    objects::lay_ground(&client, host.underlay).await?;
    Ok(host)
}

/// What it took.
struct Made {
    took: Duration,
    writes: usize,
}

async fn make(host: &mut NetHost, count: usize) -> Result<Made> {
    // The ground was laid after the watches began.
    host.heard(count).await?;
    let before = host.api.writes("ports");
    let begun = Instant::now();
    host.begin();
    host.plug_all().await?;
    let took = begun.elapsed();
    host.quiet().await?;
    Ok(Made { took, writes: host.api.writes("ports") - before })
}

/// Looks again and again, then breaks.
async fn after(host: &NetHost, count: usize, harms: usize, report: &mut Report) -> Result<()> {
    let mut watch = watch_namespace(&host.cell()?).await?;
    let before: BTreeMap<String, usize> = host.api.all_writes();
    let (mut times, mut wrote) = (Sample::default(), 0);
    for _ in 0..RESYNCS {
        times.add(milliseconds(host.resync().await?));
    }
    if tokio::time::timeout(Duration::from_millis(1), watch.changed()).await.is_ok() {
        wrote += 1;
    }
    let written = host.api.all_writes().values().sum::<usize>() - before.values().sum::<usize>();
    report.add(format!("resync of {count} ports"), "ms", &times, None, "100 ms");
    report.bound(Bound::Median(100.0));
    report.add("writes of a resync, API and kernel", "writes", &Sample::one((written + wrote) as f64), None, "0");
    report.bound(Bound::Median(0.0));
    drift::measure(host, harms, report).await.context("drift")
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
