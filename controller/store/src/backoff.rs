//! How attempts on etcd are spaced.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep_until};

/// 20 ms, doubling up to one second, jittered, without end.
pub(crate) fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Waits for the next delay, yet not beyond `deadline`; `false` when that has come.
pub(crate) async fn pause(delays: &mut ExponentialBackoff, deadline: Instant) -> bool {
    let delay = delays.next().unwrap_or(Duration::from_secs(1));
    let until = (Instant::now() + delay).min(deadline);
    sleep_until(until).await;
    until < deadline
}
