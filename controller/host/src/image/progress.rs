//! How far a build is, for a progress bar.

use std::sync::Arc;

/// A build's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// From 0 to 100, never less than before.
    pub percent: u8,
    /// What is being done, e.g. `installing packages`.
    pub step: &'static str,
}

/// Where progress is reported to.
#[derive(Clone)]
pub(super) struct Report(Arc<dyn Fn(Progress) + Send + Sync>);

impl Report {
    pub(super) fn new(to: impl Fn(Progress) + Send + Sync + 'static) -> Report {
        Report(Arc::new(to))
    }

    pub(super) fn step(&self, percent: u8, step: &'static str) {
        (self.0)(Progress { percent, step });
    }

    /// Reports a line of mmdebstrap's output when it begins a stage; the shares are of the time they took.
    pub(super) fn mmdebstrap(&self, line: &str) {
        let stages = [
            ("I: downloading packages", 8, "unpacking packages"),
            ("I: extracting archives", 10, "unpacking packages"),
            ("I: installing essential", 22, "installing packages"),
            ("I: installing remaining", 40, "installing packages"),
            ("I: cleaning package lists", 70, "packing"),
            ("I: creating tarball", 75, "packing"),
        ];
        if let Some((_, percent, step)) = stages.iter().find(|(start, ..)| line.starts_with(start)) {
            self.step(*percent, step);
        }
    }
}
