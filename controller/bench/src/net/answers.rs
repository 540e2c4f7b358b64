//! A tenant's names: answers a second beside knot with the same zone, and how soon one more is known.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::{DNSRecordSet, DNSZone};
use host::netns::{Namespace, enter};
use serde_json::json;
use testkit::FakeApi;

use super::host::NetHost;
use super::ports::milliseconds;
use super::{load, objects};
use crate::figure::{Bound, Report, Sample};

const ZONE: &str = "shop";
const DOMAIN: &str = "shop.internal";
/// How often answers are counted, of both servers in turn.
const ROUNDS: usize = 7;
/// How often a record comes.
const TRIES: usize = 10;
/// The network's own address, where its name server is.
const OURS: ([u8; 4], u16) = ([10, 0, 0, 1], 53);
/// Where the other one listens.
const THEIRS: ([u8; 4], u16) = ([127, 0, 0, 1], 5354);
/// How long a server may take to know its names.
const DEADLINE: Duration = Duration::from_secs(60);

/// Measures.
pub async fn measure(names: usize, report: &mut Report) -> Result<()> {
    let api = FakeApi::new();
    let client = api.client();
    objects::create(&client, &DNSZone::new(ZONE, serde_json::from_value(json!({"domain": DOMAIN}))?)).await?;
    objects::create_all(&client, (0..names).map(record).collect::<Result<Vec<_>>>()?).await?;
    objects::create(&client, &objects::port(0, objects::HERE, &[])?).await?;
    let mut host = NetHost::new(api).await?;
    objects::lay_ground(&client, host.underlay).await?;
    let done = both(&mut host, names, report).await;
    host.end().await.and(done)
}

fn record(number: usize) -> Result<DNSRecordSet> {
    let spec = json!({"zone": ZONE, "name": format!("n{number}"), "type": "A", "values": [objects::address(number)]});
    Ok(DNSRecordSet::new(&format!("n{number}"), serde_json::from_value(spec)?))
}

fn name(number: usize) -> String {
    format!("n{number}.{DOMAIN}")
}

async fn both(host: &mut NetHost, names: usize, report: &mut Report) -> Result<()> {
    host.heard(1).await?;
    host.begin();
    host.all_ready().await?;
    let cell = host.cell()?;
    let (ours, theirs) = (SocketAddr::from(OURS), SocketAddr::from(THEIRS));
    known(&cell, ours, names - 1).await.context("our name server")?;
    let dir = tempfile::Builder::new().prefix("clusterctl-bench-knot-").tempdir()?;
    let mut knot = start_knot(&cell, dir.path(), names).await?;
    known(&cell, theirs, names - 1).await.context("knot")?;
    let all: Arc<Vec<String>> = Arc::new((0..names).map(name).collect());
    let (mut of_us, mut of_them) = (Sample::default(), Sample::default());
    for _ in 0..ROUNDS {
        of_us.add(load::answers(&cell, ours, all.clone()).await?);
        of_them.add(load::answers(&cell, theirs, all.clone()).await?);
    }
    knot.kill().await.context("failed to end knot")?;
    report.add(format!("DNS answers of {names} names"), "1/s", &of_us, Some(&of_them), "0.7 ×");
    report.bound(Bound::AtLeast(0.7));
    report.note("beside knot with the same names, asked in turn by the same clients");
    let mut times = Sample::default();
    for number in names..names + TRIES {
        host.quiet().await?;
        let (client, record) = (host.api.client(), record(number)?);
        let begun = Instant::now();
        objects::create(&client, &record).await?;
        times.add(milliseconds(load::known(&cell, ours, name(number), begun, Arc::default()).await?));
    }
    report.add(format!("a record more of {names}, until it is answered"), "ms", &times, None, "100 ms");
    report.bound(Bound::Median(100.0));
    Ok(())
}

async fn known(cell: &Namespace, server: SocketAddr, number: usize) -> Result<()> {
    let give_up = Arc::new(AtomicBool::new(false));
    let asked = load::known(cell, server, name(number), Instant::now(), give_up.clone());
    let done = tokio::time::timeout(DEADLINE, asked).await;
    give_up.store(true, Ordering::Relaxed);
    done.context("it never knew its names")?.map(drop)
}

/// knot with the same zone, in the same namespace. It goes when it is dropped.
async fn start_knot(cell: &Namespace, dir: &Path, names: usize) -> Result<tokio::process::Child> {
    let program = process::find_program("knotd", "CLUSTERCTL_KNOTD")
        .context("knot is missing: `.ci/install bench` installs what this needs")?;
    let mut zone = format!("$ORIGIN {DOMAIN}.\n$TTL 300\n@ SOA ns admin 1 3600 600 86400 30\n@ NS ns\nns A 10.0.0.1\n");
    (0..names).for_each(|number| zone.push_str(&format!("n{number} A {}\n", objects::address(number))));
    let (place, address, port) = (dir.display(), std::net::Ipv4Addr::from(THEIRS.0), THEIRS.1);
    let config = format!(
        "server:\n  rundir: {place}\n  listen: {address}@{port}\ndatabase:\n  storage: {place}\n\
         zone:\n  - domain: {DOMAIN}\n    storage: {place}\n    file: zone\n    zonefile-load: whole\n    journal-content: none\n"
    );
    for (file, text) in [("zone", &zone), ("knot.conf", &config)] {
        std::fs::write(dir.join(file), text).context("failed to write knot's files")?;
    }
    let (log, config) = (std::fs::File::create(dir.join("log"))?, dir.join("knot.conf"));
    let spawn = move || {
        let mut command = tokio::process::Command::new(program);
        let other = log.try_clone()?;
        command.arg("-c").arg(config).stdout(log).stderr(other).kill_on_drop(true).spawn()
    };
    let mut child = enter(cell, spawn).await?.context("failed to start knot")?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let log = dir.join("log");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    ensure!(child.try_wait()?.is_none(), "knot ended: {}", said());
    Ok(child)
}
