//! Whether the watch on etcd still speaks.
//!
//! A member that is stopped or cut off leaves its watch open and silent. Silence means something only when there is news:
//! whoever knows of a revision that the watch should long have reported looks here, and has the watch opened elsewhere.
//! One that was opened in vain gets twice as long the next time, or a slow etcd would never get to speak.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a watch may keep news to itself.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);

pub(crate) struct Pulse(Mutex<Beat>);

struct Beat {
    /// When the watch last said anything, or was last opened.
    heard: Instant,
    patience: Duration,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Beat { heard: Instant::now(), patience: SILENCE }))
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch is there, which has yet to speak.
    pub(crate) fn opened(&self) {
        self.beat().heard = Instant::now();
    }

    /// The watch brought changes.
    pub(crate) fn heard(&self) {
        *self.beat() = Beat { heard: Instant::now(), patience: SILENCE };
    }

    /// The watch is given up for its silence.
    pub(crate) fn given_up(&self) {
        let mut beat = self.beat();
        beat.patience = LONGEST.min(beat.patience * 2);
    }

    /// Whether a watch that has something to say has kept silent for too long.
    pub(crate) fn is_silent(&self) -> bool {
        self.beat().is_silent(Instant::now())
    }
}

impl Beat {
    fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard) >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_was_opened_in_vain_gets_longer() {
        let pulse = Pulse::new();
        let after = |patience| pulse.beat().heard + patience;
        let silent = |at| pulse.beat().is_silent(at);
        assert!(silent(after(SILENCE)));
        for longer in [2, 4, 8, 8] {
            pulse.given_up();
            pulse.opened();
            assert!(!silent(after(SILENCE * longer - Duration::from_millis(1))));
            assert!(silent(after(SILENCE * longer)));
        }
        pulse.heard();
        assert!(silent(after(SILENCE)));
    }
}
