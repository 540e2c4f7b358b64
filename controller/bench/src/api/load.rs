//! Clients that ask again as soon as they are answered.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use http::Request;

use super::door::Door;
use crate::lab::Lab;
use crate::usage;

/// How much is asked, by how many.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Clients at once.
    pub clients: usize,
    /// Requests of all together.
    pub operations: usize,
}

/// What came of it.
pub struct Done {
    /// Answers per second.
    pub rate: f64,
    /// The server's time on a CPU for each, in microseconds.
    pub server_cpu: f64,
    /// The load generator's, in microseconds.
    pub own_cpu: f64,
    /// From question to answer in milliseconds, the shortest first.
    latencies: Vec<f64>,
}

impl Done {
    /// The latency in milliseconds that this share of the requests did not exceed.
    pub fn latency(&self, share: f64) -> f64 {
        quantile(&self.latencies, share)
    }
}

/// The value at this share of a sorted list.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Sends the requests `0..operations`; the first failure ends it.
pub async fn run<F>(lab: &Lab, doors: &[Arc<Door>], shape: Shape, request: F) -> Result<Done>
where
    F: Fn(usize) -> Result<Request<Vec<u8>>> + Send + Sync + 'static,
{
    let server = lab.process("server")?.pid;
    let own = i32::try_from(std::process::id()).context("our own pid")?;
    let request = Arc::new(request);
    let before = (usage::cpu(server)?, usage::cpu(own)?);
    let begun = Instant::now();
    let workers = doors.iter().take(shape.clients).cloned().enumerate().map(|(client, door)| {
        let request = request.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            for number in (client..shape.operations).step_by(shape.clients) {
                let request = request(number)?;
                let begun = Instant::now();
                door.send(request).await?;
                latencies.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            Ok::<_, anyhow::Error>(latencies)
        })
    });
    let mut latencies = Vec::new();
    for done in futures::future::join_all(workers).await {
        latencies.extend(done.context("a client broke")??);
    }
    let took = begun.elapsed().as_secs_f64();
    let each = |now: std::time::Duration, then| (now - then).as_secs_f64() * 1e6 / shape.operations.max(1) as f64;
    latencies.sort_by(f64::total_cmp);
    Ok(Done {
        rate: shape.operations as f64 / took,
        server_cpu: each(usage::cpu(server)?, before.0),
        own_cpu: each(usage::cpu(own)?, before.1),
        latencies,
    })
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([quantile(&sorted, 0.0), quantile(&sorted, 0.5), quantile(&sorted, 0.99)], [1.0, 51.0, 99.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
