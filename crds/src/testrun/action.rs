//! What a step does, one struct an action.

use crate::fault::FaultAction;
use crate::reference::ObjectReference;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// Lets the guests of Ports try whom they reach, and compares that with what the objects say: what is open must be answered,
/// what is closed must not.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Reachability {
    /// TenantNetworks whose Ports are meant; all of the namespace when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub networks: Vec<String>,
    /// Ports that are meant; all of these networks when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub ports: Vec<String>,
    /// TCP ports that are tried; when empty those that the rules mention, and one that they do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(range(min = 1, max = 65_535)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub tcp_ports: Vec<u16>,
    /// Whether an ICMP echo is tried, too, and one of ICMPv6 between Ports that have addresses of IPv6.
    #[serde(default = "yes")]
    pub icmp: bool,
    /// Most tries: TCP is tried over each family that two Ports have. A step that needs more ends as Errored, for it would be a lesser proof than it seems.
    #[serde(default = "five_hundred")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_tries: u32,
    /// Seconds that a try waits for an answer.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 60))]
    pub wait_seconds: u32,
    /// Records `PREFIX_tries`, `PREFIX_mismatches` and `PREFIX_not_tried` as metrics; none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,47}$"))]
    pub metric_prefix: Option<String>,
}

fn five() -> u32 {
    5
}

fn five_hundred() -> u32 {
    500
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
