//! TestRun: a test as an object. Its status holds the verdict and the numbers.
//!
//! ```text
//!  Pending ─► Running ─┬─► Passed     every step passed                        Complete=True
//!                      ├─► Failed     a step's expectation was not met          Failed=True
//!                      ├─► Errored    the test itself could not be carried out  Failed=True
//!                      └─► TimedOut   the time was up without an answer         Failed=True
//! ```
//! `finally` runs in every case. A finished run never changes: the schema refuses it.

mod action;
mod status;

pub use action::{
    Assert, Exec, ExecExpectation, ExecMetric, FaultStep, HttpProbe, IcmpProbe, Probe, Reachability, TcpProbe, ValueAt,
    Wait,
};
pub use status::{Metric, RunPhase, StepPhase, StepStatus, TestRunStatus};

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An ordered list of steps, run once.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "TestRun",
    namespaced,
    status = "TestRunStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "tr",
    doc = "A test: ordered steps, a verdict and measured numbers.",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Steps", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Duration", type_ = "number", json_path = ".status.durationSeconds"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a TestRun's spec is immutable: use `clusterctl rerun`"))]
#[x_kube(validation = Rule::new("!has(self.finally) || self.finally.all(f, !self.steps.exists(s, s.name == f.name))")
    .message("a step of finally has the name of another step").field_path(".finally"))]
pub struct TestRunSpec {
    /// Cluster the test is about; its Nodes are what `exec` and `probe` name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Seconds the steps may take in all. `finally` has half as long again, and each of its steps at least its share of that.
    #[serde(default = "half_an_hour")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
    /// The steps, in order; the first that does not pass ends the run.
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<Step>,
    /// Steps that run at the end in any case, each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub finally: Vec<Step>,
}

fn half_an_hour() -> u32 {
    1800
}

/// One step: a name, limits, and exactly one action.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.wait), has(self.exec), has(self.probe), has(self.reachability), has(self.fault), has(self.assert), has(self.parallel)].exists_one(x, x)")
    .message("exactly one of wait, exec, probe, reachability, fault, assert or parallel must be given"))]
#[x_kube(validation = Rule::new("!has(self.parallel) || !has(self.attempts) || self.attempts == 1")
    .message("give attempts to the actions of a parallel step, not to the step").field_path(".attempts"))]
pub struct Step {
    /// Name, unique in the run.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Seconds this step may take, attempts included.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
    /// How often it is tried before it counts as failed.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: u32,
    /// Seconds between two attempts.
    #[serde(default = "second")]
    #[schemars(range(min = 0, max = 3600))]
    pub interval_seconds: u32,
    /// What happens to the step when the engine is interrupted in the middle of it.
    #[serde(default)]
    pub on_interrupt: OnInterrupt,
    /// Name of the metric that records the step's duration in seconds; none when empty. An interrupted step records none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,62}$"))]
    pub duration_metric: Option<String>,
    /// Waits for an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Runs a command in a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Tries a connection from nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Compares who reaches whom with what the objects say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachability: Option<Reachability>,
    /// Harms a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultStep>,
    /// States what must be true of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assert: Option<Assert>,
    /// Several actions at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Parallel>,
}

fn ten_minutes() -> u32 {
    600
}

fn once() -> u32 {
    1
}

fn second() -> u32 {
    1
}

/// What happens to an interrupted step.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum OnInterrupt {
    /// Find it again and read its result.
    #[default]
    Reattach,
    /// Do it again from the start.
    Rerun,
    /// The run ends as Errored.
    Fail,
}

/// Actions at the same time, all carried to their end; the step passes when each of them does.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Parallel {
    /// The actions.
    #[schemars(length(min = 2, max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<ParallelStep>,
}

/// One of several actions at the same time.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.wait), has(self.exec), has(self.probe), has(self.reachability), has(self.fault), has(self.assert)].exists_one(x, x)")
    .message("exactly one of wait, exec, probe, reachability, fault or assert must be given"))]
pub struct ParallelStep {
    /// Name, unique in the run.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// How often it is tried.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: u32,
    /// Seconds between two attempts.
    #[serde(default = "second")]
    #[schemars(range(min = 0, max = 3600))]
    pub interval_seconds: u32,
    /// Name of the metric that records the action's duration in seconds; none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,62}$"))]
    pub duration_metric: Option<String>,
    /// Waits for an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Runs a command in a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Tries a connection from nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Compares who reaches whom with what the objects say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachability: Option<Reachability>,
    /// Harms a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultStep>,
    /// States what must be true of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assert: Option<Assert>,
}
