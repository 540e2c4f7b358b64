//! All that the engine does to the world, so that a test can stop the world after each of them.
//!
//! Every method may be repeated: `store` compares revisions, `exec` and `inject` carry names, `watch` and `list` only read and `save`
//! replaces a whole file.

use crds::exec::{ExecRequest, ExecResult};
use crds::reference::ObjectReference;
use crds::{Fault, TestRun};
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::Value;
use std::future::Future;

/// Why something could not be reached or done.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReachError {
    /// It is not there (yet).
    #[error("{0}")]
    Missing(String),
    /// It may work in a moment.
    #[error("{0}")]
    Unavailable(String),
    /// It will not work however often it is tried.
    #[error("{0}")]
    Refused(String),
}

/// Why a status could not be stored.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// It may work in a moment.
    #[error("the API does not answer: {0}")]
    Unavailable(String),
    /// Someone else has written this status: another engine drives the run.
    #[error("the status was written by someone else")]
    Superseded,
    /// The run was deleted.
    #[error("the run was deleted")]
    Gone,
    /// The API will never take this status.
    #[error("the API refuses the status: {0}")]
    Refused(String),
}

/// An artifact could not be written.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot write artifact {path}: {reason}")]
pub struct SaveError {
    /// Path below the artifact directory.
    pub path: String,
    /// What the system says.
    pub reason: String,
}

/// States of one object: `None` while it does not exist.
pub type States = BoxStream<'static, Result<Option<Value>, ReachError>>;

/// The world, as far as one run sees it; bound to the run's namespace.
pub trait Effects: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Stores the run's status if nobody else has meanwhile; returns the run with its new resource version.
    fn store(&self, run: &TestRun) -> impl Future<Output = Result<TestRun, StoreError>> + Send;

    /// Starts or finds an execution in a machine.
    fn exec(&self, machine: &str, request: &ExecRequest)
    -> impl Future<Output = Result<ExecResult, ReachError>> + Send;

    /// Makes a Fault; one of the same name that is already there is the same Fault.
    fn inject(&self, fault: &Fault) -> impl Future<Output = Result<(), ReachError>> + Send;

    /// The present state of an object, then every later one.
    fn watch(&self, object: &ObjectReference) -> States;

    /// All objects of a kind, as they are now.
    fn list(&self, kind: &str) -> impl Future<Output = Result<Vec<Value>, ReachError>> + Send;

    /// Writes a file below the artifact directory.
    fn save(&self, path: &str, content: &str) -> impl Future<Output = Result<(), SaveError>> + Send;
}
