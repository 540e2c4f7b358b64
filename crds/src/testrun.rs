//! TestRun: a test as an object. Its status holds the verdict and the numbers.
//!
//! ```text
//!  Pending ─► Running ─┬─► Passed     every step passed                        Complete=True
//!                      ├─► Failed     a step's expectation was not met          Failed=True
//!                      ├─► Errored    the test itself could not be carried out  Failed=True
//!                      └─► TimedOut   the time was up without an answer         Failed=True
//! ```
//! `finally` runs in every case. A finished run never changes: the schema refuses it.

use crate::Condition;
use crate::fault::FaultAction;
use crate::reference::ObjectReference;
use jiff::Timestamp;
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
#[x_kube(validation = Rule::new("[has(self.wait), has(self.exec), has(self.probe), has(self.fault), has(self.assert), has(self.parallel)].exists_one(x, x)")
    .message("exactly one of wait, exec, probe, fault, assert or parallel must be given"))]
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
#[x_kube(validation = Rule::new("[has(self.wait), has(self.exec), has(self.probe), has(self.fault), has(self.assert)].exists_one(x, x)")
    .message("exactly one of wait, exec, probe, fault or assert must be given"))]
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
    /// Harms a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultStep>,
    /// States what must be true of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assert: Option<Assert>,
}

/// Waits until an object's condition is true.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// The object.
    pub object: ObjectReference,
    /// The condition's type.
    #[serde(default = "ready")]
    pub condition: String,
    /// The condition's wanted status.
    #[serde(default = "true_")]
    #[schemars(regex(pattern = r"^(True|False|Unknown)$"))]
    pub status: String,
    /// Step of this run (its own is allowed): the condition counts only when it came to this status after that step began.
    /// So a machine that has been killed is not taken for ready because nobody has noticed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub after: Option<String>,
}

fn ready() -> String {
    "Ready".to_owned()
}

fn true_() -> String {
    "True".to_owned()
}

/// Runs a command in a node's guest.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Exec {
    /// Node (or VirtualMachine) of this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Program and arguments, not passed through a shell.
    #[schemars(length(min = 1, max = 64))]
    pub command: Vec<String>,
    /// Text for standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// What the end must look like.
    #[serde(default)]
    pub expect: ExecExpectation,
    /// Numbers to read from standard output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub metrics: Vec<ExecMetric>,
}

/// What the end of a command must look like.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExecExpectation {
    /// Exit code.
    #[serde(default)]
    pub exit_code: i32,
    /// Text that standard output must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_contains: Option<String>,
    /// What standard output must be, white space at the ends apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_equals: Option<String>,
}

/// A number in a command's output: the word after `key` and an optional `=` or `:`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExecMetric {
    /// Metric name, as Prometheus has it.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,62}$"))]
    pub name: String,
    /// Unit, e.g. `seconds`, `bytes`, `1`.
    #[schemars(length(min = 1, max = 32))]
    pub unit: String,
    /// Word in front of the number; the metric's name when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Tries connections from every `from` to every `to`, itself excepted.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.tcp), has(self.http), has(self.icmp)].exists_one(x, x)")
    .message("exactly one of tcp, http or icmp must be given"))]
pub struct Probe {
    /// Nodes that try; every node of the cluster when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub from: Vec<String>,
    /// Nodes or addresses that are tried; every node of the cluster when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub to: Vec<String>,
    /// A TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// An HTTP GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// An ICMP echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpProbe>,
    /// True: every try must succeed. False: every try must fail.
    #[serde(default = "yes")]
    pub reachable: bool,
}

fn yes() -> bool {
    true
}

/// A TCP connection.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
pub struct TcpProbe {
    /// Port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
}

/// An HTTP GET that must end with 2xx.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
pub struct HttpProbe {
    /// Port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// Path.
    #[serde(default = "slash")]
    #[schemars(regex(pattern = r"^/[A-Za-z0-9_.~!*'();:@&=+$,/?%-]*$"))]
    pub path: String,
}

fn slash() -> String {
    "/".to_owned()
}

/// An ICMP echo.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
pub struct IcmpProbe {
    /// Echoes to send; one answer is enough.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub count: u32,
}

fn two() -> u32 {
    2
}

/// Makes a Fault and waits for it.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.action == 'Pause') == has(self.durationSeconds)")
    .message("in a test a Pause has durationSeconds, and only a Pause has").field_path(".durationSeconds"))]
pub struct FaultStep {
    /// Machine to harm.
    pub target: ObjectReference,
    /// What is done to it.
    pub action: FaultAction,
    /// How long a pause lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub duration_seconds: Option<u32>,
    /// Wait until it is over, not only until it is done.
    #[serde(default)]
    pub until_reverted: bool,
}

/// States what must be true of an object.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Assert {
    /// The object.
    pub object: ObjectReference,
    /// JSONPath into it (kubectl's form, without braces), e.g. `.status.restarts`.
    #[schemars(length(min = 1, max = 1024))]
    pub json_path: String,
    /// The value wanted there, as kubectl prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// Smallest number allowed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Largest number allowed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The time or number there must not be less than this other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<ValueAt>,
    /// Record the number found there as a metric of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,62}$"))]
    pub metric: Option<String>,
    /// Unit of that metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub unit: Option<String>,
}

/// A time or number in another object. Times of objects are whole seconds, so one second of rounding is allowed.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ValueAt {
    /// The object.
    pub object: ObjectReference,
    /// JSONPath into it.
    #[schemars(length(min = 1, max = 1024))]
    pub json_path: String,
    /// JSONPath of a number, in seconds, that is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub plus_json_path: Option<String>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
pub enum RunPhase {
    /// Not begun.
    #[default]
    Pending,
    /// Under way.
    Running,
    /// Every step passed.
    Passed,
    /// An expectation was not met.
    Failed,
    /// The test could not be carried out.
    Errored,
    /// The time was up without an answer: the run's whole time, or a step's.
    TimedOut,
}

impl RunPhase {
    /// Whether nothing follows this phase.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
pub enum StepPhase {
    /// Not begun.
    #[default]
    Pending,
    /// Under way.
    Running,
    /// Its expectation was met.
    Passed,
    /// Its expectation was not met.
    Failed,
    /// It could not be carried out.
    Errored,
    /// Time was up.
    TimedOut,
    /// Not run because an earlier step did not pass.
    Skipped,
}

/// Verdict and numbers.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.phase) || !(oldSelf.phase in ['Passed', 'Failed', 'Errored', 'TimedOut']) || self == oldSelf")
    .message("a finished TestRun never changes"))]
pub struct TestRunStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: RunPhase,
    /// `passed/all` steps.
    #[serde(default)]
    pub summary: String,
    /// Why it ended as it did.
    #[serde(default)]
    pub message: String,
    /// When the first step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended, `finally` included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Seconds from `startedAt` to `finishedAt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Every step, `finally` included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<StepStatus>,
    /// Every number measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// `Complete` when passed, `Failed` otherwise; `Complete` is also set False then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What came of a step.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Its name; `parallel/child` for one of several at the same time.
    pub name: String,
    /// Identity of this step in this run; executions and faults carry it in their names.
    #[serde(default)]
    pub uid: String,
    /// Where it stands.
    #[serde(default)]
    pub phase: StepPhase,
    /// Attempts begun; stored before each begins.
    #[serde(default)]
    pub attempts: u32,
    /// Attempts lost because the engine was interrupted; they do not count against the step's `attempts`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interruptions: u32,
    /// The guest's boot ID when the present attempt of an `exec` began: tells a command that never ran from one that is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When the first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Seconds it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Why it ended as it did.
    #[serde(default)]
    pub message: String,
    /// Last 4 KB of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Name of the file that holds all of its output, below the server's artifact directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A number measured by a run.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Name.
    pub name: String,
    /// Value.
    pub value: f64,
    /// Unit.
    pub unit: String,
    /// Step that measured it.
    pub step: String,
}
