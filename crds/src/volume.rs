//! Volume: a block device that outlives the VirtualMachine using it (CoronaFS).

use crate::{Condition, Quantity};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A block volume. The guest finds it by its serial, which is the first 20 characters of the object's name.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "Volume",
    namespaced,
    status = "VolumeStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "vol",
    selectable = ".spec.host",
    doc = "A block volume that outlives the machine using it.",
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.class"),
    printcolumn(name = "Size", type_ = "string", json_path = ".spec.size"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.host", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.host) || (has(self.host) && self.host == oldSelf.host)")
    .message("a local volume cannot change its host").field_path(".host"))]
pub struct VolumeSpec {
    /// How it is stored: `local`, a file on its host.
    #[serde(default = "local")]
    #[schemars(regex(pattern = r"^local$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("class is immutable"))]
    pub class: String,
    /// Size; the file is sparse.
    #[x_kube(validation = Rule::new("self == oldSelf").message("size is immutable"))]
    pub size: Quantity,
    /// File system made on it when it is new; none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^ext4$"))]
    pub filesystem: Option<String>,
    /// Host that holds it; set by the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

fn local() -> String {
    "local".to_owned()
}

/// What the agent says of the Volume.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Serial by which a guest finds the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
