//! TenantNetwork: an isolated layer-2 network with a subnet and DHCP (PrismNET).

use crate::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tenant's network. Ranges of different networks may overlap: each has a namespace of its own on every host.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "TenantNetwork",
    namespaced,
    status = "TenantNetworkStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "tnet",
    doc = "An isolated layer-2 network with one IPv4 subnet and DHCP.",
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnet"),
    printcolumn(name = "VNI", type_ = "integer", json_path = ".status.vni"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TenantNetworkSpec {
    /// IPv4 range in CIDR form, /8 to /30.
    #[schemars(regex(
        pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/(8|9|1[0-9]|2[0-9]|30)$"
    ))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("subnet is immutable"))]
    pub subnet: String,
    /// The network's own address; default the first usable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$"))]
    pub gateway: Option<String>,
    /// DHCP settings; on by default.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// Names; those of the namespace are always answered.
    #[serde(default)]
    pub dns: Dns,
    /// Whether the Nodes of Clusters on this network reach the API, at the network's own address on port 6443. Nobody else does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub api_access: bool,
    /// Largest frame payload in bytes.
    #[serde(default = "ethernet_mtu")]
    #[schemars(range(min = 576, max = 9000))]
    pub mtu: u32,
}

fn ethernet_mtu() -> u32 {
    1450
}

/// DHCP of a network: fixed reservations for its Ports, no dynamic pool.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Dhcp {
    /// Whether Ports get their address by DHCP.
    pub enabled: bool,
    /// Lease time in seconds.
    #[schemars(range(min = 120, max = 604_800))]
    pub lease_seconds: u32,
    /// DNS domain handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"),
        length(max = 253)
    )]
    pub domain: Option<String>,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self { enabled: true, lease_seconds: 3600, domain: None }
    }
}

/// Names in a network.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Dns {
    /// Whether names of nobody here are asked of the hosts' own resolvers; otherwise they are refused.
    pub forward: bool,
}

/// What the network reconciler decided.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantNetworkStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// VXLAN network identifier, unique in the installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// The network's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Addresses in use by Ports.
    #[serde(default)]
    pub ports: u32,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
