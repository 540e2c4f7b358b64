//! Image: how to come by a disk that boots.

use crate::{Condition, Quantity};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A bootable disk with its kernel and initrd, built from a recipe. Equal recipes are built once on a host.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "Image",
    namespaced,
    status = "ImageStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "img",
    selectable = ".spec.host",
    doc = "A bootable disk image: built with mmdebstrap, layered on another image, or imported from a file.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.digest", priority = 1),
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.host", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.debian), has(self.layer), has(self.file)].exists_one(x, x)")
    .message("exactly one of debian, layer or file must be given"))]
pub struct ImageSpec {
    /// A Debian system made with mmdebstrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debian: Option<DebianSource>,
    /// Another Image of this namespace with more packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerSource>,
    /// A disk image file on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSource>,
    /// Files to write into the image, after the packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<FileEntry>,
    /// systemd units to write, enable or mask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub units: Vec<Unit>,
    /// Size of the root disk; default 1Gi. The file is sparse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<Quantity>,
    /// Host that builds it; set by the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A Debian system.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DebianSource {
    /// Debian suite.
    #[serde(default = "bookworm")]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9-]{1,31}$"))]
    pub suite: String,
    /// Packages beyond the lean base (systemd, qemu-guest-agent, iproute2, busybox and a kernel).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub packages: Vec<Package>,
    /// Kernel package.
    #[serde(default = "cloud_kernel")]
    pub kernel_package: Package,
}

fn bookworm() -> String {
    "bookworm".to_owned()
}

fn cloud_kernel() -> Package {
    Package("linux-image-cloud-amd64".to_owned())
}

/// A Debian package name, optionally `name=version` (Debian Policy §5.6.1, §5.6.12).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(transparent)]
pub struct Package(#[schemars(regex(pattern = r"^[a-z0-9][a-z0-9+.-]{1,127}(=[A-Za-z0-9.+~:-]{1,64})?$"))] pub String);

/// More packages on top of another Image.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LayerSource {
    /// Name of the Image below.
    #[schemars(length(min = 1, max = 253))]
    pub image: String,
    /// Packages to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub packages: Vec<Package>,
}

/// A disk image file that is already on the host.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FileSource {
    /// Absolute path on the host. A qcow2 file with a backing or data file is refused.
    // The length apart: as part of the pattern it would be an automaton of several megabytes.
    #[schemars(regex(pattern = r"^/[^\n]+$"), length(max = 4096))]
    pub path: String,
    /// SHA-256 of the file, `sha256:` and 64 hex digits.
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// `raw` or `qcow2`.
    #[serde(default = "raw")]
    #[schemars(regex(pattern = r"^(raw|qcow2)$"))]
    pub format: String,
    /// Kernel to boot directly; without one the disk's own boot loader runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Initial RAM disk for that kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
}

fn raw() -> String {
    "raw".to_owned()
}

/// A file in the image.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Absolute path in the guest, without `..`.
    #[schemars(
        regex(pattern = r"^(/[A-Za-z0-9_@%+:,.-]*[A-Za-z0-9_@%+:,-][A-Za-z0-9_@%+:,.-]*)+$"),
        length(max = 1024)
    )]
    pub path: String,
    /// Contents.
    #[schemars(length(max = 1_048_576))]
    pub content: String,
    /// Octal mode, e.g. `0755`.
    #[serde(default = "plain_mode")]
    #[schemars(regex(pattern = r"^0[0-7]{3}$"))]
    pub mode: String,
}

fn plain_mode() -> String {
    "0644".to_owned()
}

/// A systemd unit in the image.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Unit {
    /// Unit name with its suffix, e.g. `etcd.service`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9:_.@-]{1,200}\.(service|socket|target|mount|timer|path)$"))]
    pub name: String,
    /// Unit file; absent to enable or mask one that a package brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub content: Option<String>,
    /// Started at boot.
    #[serde(default)]
    pub enabled: bool,
    /// Masked: never started.
    #[serde(default)]
    pub masked: bool,
}

/// How far an Image has come.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum ImagePhase {
    /// Nothing done yet.
    #[default]
    Pending,
    /// Being built or imported.
    Building,
    /// Can be booted.
    Ready,
    /// Will not come without a change.
    Failed,
}

/// What the agent says of the Image.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it has come.
    #[serde(default)]
    pub phase: ImagePhase,
    /// Progress of a build: percent and step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Hash of recipe, resolved package versions and builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// SHA-256 of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Release of the kernel inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_version: Option<String>,
    /// Bytes the disk occupies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
