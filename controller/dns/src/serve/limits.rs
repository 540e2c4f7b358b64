//! How much one guest may ask for, so that there is something left for the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Guests remembered at once. Their addresses are checked where they enter the network, so there are no more than Ports.
const REMEMBERED: usize = 65_536;

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Questions a second of one guest.
    pub each_second: u32,
    /// Questions that one guest may ask at once after it was silent.
    pub burst: u32,
    /// TCP connections.
    pub connections: usize,
    /// TCP connections of one guest.
    pub connections_each: usize,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// How long a connection may last.
    pub lifetime: Duration,
    /// Largest question by TCP, in bytes.
    pub longest_question: usize,
    /// Questions that wait for others at once.
    pub forwards: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            each_second: 5_000,
            burst: 10_000,
            connections: 256,
            connections_each: 16,
            idle: Duration::from_secs(10),
            lifetime: Duration::from_secs(120),
            longest_question: 4096,
            forwards: 128,
        }
    }
}

/// How much each guest has left.
pub(super) struct Rates {
    each_second: f64,
    burst: f64,
    left: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Rates {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { each_second: limits.each_second.into(), burst: limits.burst.into(), left: Mutex::default() }
    }

    /// Whether the guest may ask one more question now.
    pub(super) fn allow(&self, guest: IpAddr, now: Instant) -> bool {
        let mut all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED && !all.contains_key(&guest) {
            let (rate, burst) = (self.each_second, self.burst);
            // Whoever has all of it again is as good as never seen.
            all.retain(|_, (left, since)| *left + now.duration_since(*since).as_secs_f64() * rate < burst);
        }
        let (left, since) = all.entry(guest).or_insert((self.burst, now));
        let gained = now.saturating_duration_since(*since).as_secs_f64() * self.each_second;
        *left = (*left + gained).min(self.burst);
        *since = now;
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_asks_too_much_is_not_heard_and_the_others_are() {
        let rates = Rates::new(&Limits { each_second: 10, burst: 20, ..Limits::default() });
        let (loud, quiet) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        assert_eq!((0..100).filter(|_| rates.allow(loud, start)).count(), 20);
        assert!(rates.allow(quiet, start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| rates.allow(loud, later)).count(), 10);
    }
}
