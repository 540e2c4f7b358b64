//! What came of a run: verdict and numbers.

use crate::Condition;
use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
