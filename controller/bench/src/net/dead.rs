//! How long a dead backend still gets connections.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use host::netns::run_in;
use serde_json::json;
use testkit::{FakeApi, Random};

use super::guest::Guest;
use super::host::NetHost;
use super::ports::milliseconds;
use super::{load, objects};
use crate::figure::{Bound, Report, Sample};

/// How often one dies.
const DEATHS: usize = 8;
/// Seconds between checks; all else of the check is as it is by itself: two in a row count.
const INTERVAL: u32 = 1;
/// Connections in a row that all succeed: with two backends of which one is dead half of them would fail.
const IN_A_ROW: usize = 24;
const DEADLINE: Duration = Duration::from_secs(30);
/// Where the service's address is among the network's.
const SERVICE: usize = 20_000;

/// Measures.
pub async fn measure(report: &mut Report) -> Result<()> {
    let api = FakeApi::new();
    let client = api.client();
    for number in 0..3 {
        let mut port = objects::port(number, objects::HERE, &[])?;
        if number > 0 {
            port.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        }
        objects::create(&client, &port).await?;
    }
    let listeners = json!([{"protocol": "TCP", "port": 80, "targetPort": 8080}]);
    let check = json!({"type": "TCP", "intervalSeconds": INTERVAL});
    objects::serve(&client, 0, &objects::address(SERVICE), listeners, Some(check)).await?;
    let mut host = NetHost::new(api).await?;
    objects::lay_ground(&client, host.underlay).await?;
    let done = deaths(&mut host, report).await;
    host.end().await.and(done)
}

async fn deaths(host: &mut NetHost, report: &mut Report) -> Result<()> {
    host.heard(3).await?;
    host.begin();
    host.all_ready().await?;
    let (client, one, two) =
        (Guest::new(host, "p0").await?, Guest::new(host, "p1").await?, Guest::new(host, "p2").await?);
    let _stays = one.serve_tcp(8080).await?;
    let (mut random, seed) = Random::seeded("when a backend dies")?;
    let mut times = Sample::default();
    for _ in 0..DEATHS {
        let dies = two.serve_tcp(8080).await?;
        backends(host, 2).await?;
        // At any moment between two checks.
        tokio::time::sleep(Duration::from_millis(random.below(u64::from(INTERVAL) * 1000))).await;
        drop(dies);
        let begun = Instant::now();
        let (namespace, address) = (client.namespace.clone(), objects::address(SERVICE).parse::<std::net::Ipv4Addr>()?);
        let out = tokio::task::spawn_blocking(move || run_in(&namespace, || last_refused(address, begun)));
        times
            .add(milliseconds(out.await.context("the client ended early")??.context("it was never out, or never in")?));
        // What the port says follows what the kernel does.
        backends(host, 1).await?;
    }
    let bound = f64::from(INTERVAL) * 2000.0;
    report.add("a dead backend is out", "ms", &times, None, "2 intervals");
    report.bound(Bound::P99(bound));
    report.note(format!("checked every {INTERVAL} s, out after two in a row; SEED={seed}"));
    Ok(())
}

/// Waits until the balancer has so many backends.
async fn backends(host: &NetHost, count: usize) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    let healthy = || {
        let ports = host.ports();
        let told = ports.iter().filter_map(|port| port.status.as_ref()).flat_map(|status| &status.backend_health);
        told.filter(|one| one.healthy).count()
    };
    while healthy() != count {
        ensure!(Instant::now() < end, "{} backends are said to answer, not {count}", healthy());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host.quiet().await
}

/// When the last connection failed, once very many in a row succeeded.
fn last_refused(service: std::net::Ipv4Addr, begun: Instant) -> Option<Duration> {
    let (mut last, mut row) = (None, 0);
    while row < IN_A_ROW || last.is_none() {
        match load::connect((service, 80).into()) {
            Ok(()) => row += 1,
            Err(_) => (last, row) = (Some(begun.elapsed()), 0),
        }
        if begun.elapsed() > DEADLINE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    last
}
