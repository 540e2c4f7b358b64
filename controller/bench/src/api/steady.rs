//! A steady stream of creates, beside the same stream of puts: how long the slowest hundredth takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::door::Door;
use super::load::quantile;
use super::requests::{self, Operation};
use crate::create;
use crate::figure::{Report, Sample};
use crate::lab::Lab;

/// Writes of either side.
const WRITES: usize = 1000;
/// Between two writes: 200 a second, whether or not those before have been answered.
const PAUSE: Duration = Duration::from_millis(5);
/// Connections that take turns.
const CLIENTS: usize = 16;

/// Measures both, one after the other.
pub async fn measure(lab: &Lab, doors: &[Arc<Door>], report: &mut Report) -> Result<()> {
    eprintln!("bench: 200 writes a second");
    let mut etcds = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        etcds.push(create::etcd(lab).await?);
    }
    let value = vec![b'x'; requests::stored_size()];
    let raw = stream(|number| {
        let (mut etcd, value) = (etcds[number % CLIENTS].clone(), value.clone());
        async move {
            let put = etcd.put(format!("{}steady-{number}", create::RAW), value, None).await;
            put.map(drop).context("failed to put")
        }
    })
    .await?;
    let ours = stream(|number| {
        let door = doors[number % CLIENTS].clone();
        async move { door.send(Operation::Create.request("s", number, &[])?).await.map(drop) }
    })
    .await?;
    let p99 = |sorted: &[f64]| Sample::one(quantile(sorted, 0.99));
    report.add("p99 of creates at 200/s", "ms", &p99(&ours), Some(&p99(&raw)), "2 ×");
    report.note(format!("p50 {:.2} beside {:.2} of etcd's puts", quantile(&ours, 0.5), quantile(&raw, 0.5)));
    Ok(())
}

/// Latencies in milliseconds, the shortest first, counted from when each write was due.
async fn stream<F, Fut>(write: F) -> Result<Vec<f64>>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let mut tick = tokio::time::interval(PAUSE);
    // A late write is late for whoever waits for it.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut writes = JoinSet::new();
    for number in 0..WRITES {
        let due: Instant = tick.tick().await.into();
        let write = write(number);
        writes.spawn(async move { write.await.map(|()| due.elapsed().as_secs_f64() * 1e3) });
    }
    let mut latencies = Vec::with_capacity(WRITES);
    while let Some(done) = writes.join_next().await {
        latencies.push(done.context("a write broke")??);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}
