//! Judgement without I/O: does what was observed meet what the step expects? In doubt the answer is no.

pub mod condition;
pub mod connection;
pub mod output;
pub mod path;
pub mod reachability;
pub mod statement;

use crds::testrun::{Metric, StepPhase};

/// What came of one attempt of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// `Passed`, `Failed`, `Errored` or `TimedOut`.
    pub phase: StepPhase,
    /// Why.
    pub message: String,
    /// All output there is.
    pub output: String,
    /// Numbers measured.
    pub metrics: Vec<Metric>,
    /// No further attempt can end otherwise.
    pub hopeless: bool,
}

impl Attempt {
    fn new(phase: StepPhase, message: impl Into<String>) -> Self {
        Self { phase, message: message.into(), output: String::new(), metrics: Vec::new(), hopeless: false }
    }

    /// The expectation was met.
    pub fn passed(message: impl Into<String>) -> Self {
        Self::new(StepPhase::Passed, message)
    }

    /// The expectation was not met.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(StepPhase::Failed, message)
    }

    /// It could not be carried out.
    pub fn errored(message: impl Into<String>) -> Self {
        Self::new(StepPhase::Errored, message)
    }

    /// It can never be carried out as it is written.
    pub fn hopeless(message: impl Into<String>) -> Self {
        Self { hopeless: true, ..Self::errored(message) }
    }

    /// It came too late.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self { hopeless: true, ..Self::new(StepPhase::TimedOut, message) }
    }
}
