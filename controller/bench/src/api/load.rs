//! Clients that ask again as soon as they are answered.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use http::Request;

use super::door::Door;
use crate::lab::Lab;
use crate::usage::Spending;

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
    /// Microseconds on a CPU for each answer, of the server, of its etcd, and of the load generator.
    pub spent: Vec<f64>,
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
    let spending = Spending::of(vec![lab.process("server")?.pid, lab.etcd()?.pid, own_pid()?])?;
    let request = Arc::new(request);
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
    latencies.sort_by(f64::total_cmp);
    let spent = spending.each(shape.operations)?;
    Ok(Done { rate: shape.operations as f64 / took, spent, latencies })
}

/// The load generator's process.
pub fn own_pid() -> Result<i32> {
    i32::try_from(std::process::id()).context("our own pid")
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
