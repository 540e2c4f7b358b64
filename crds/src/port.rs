//! Port: one attachment to a TenantNetwork, with its MAC and IP addresses.

use crate::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An attachment point. It outlives the VirtualMachine that uses it, and so do its addresses.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "Port",
    namespaced,
    status = "PortStatus",
    derive = "PartialEq",
    category = "photon",
    selectable = ".spec.host",
    selectable = ".spec.network",
    doc = "An attachment to a TenantNetwork with a stable MAC and IP address.",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "IP", type_ = "string", json_path = ".spec.ip"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "IPv6", type_ = "string", json_path = ".spec.ipv6", priority = 1),
    printcolumn(name = "MAC", type_ = "string", json_path = ".spec.mac", priority = 1),
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.host", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.ip) || (has(self.ip) && self.ip == oldSelf.ip)")
    .message("ip is immutable once set").field_path(".ip"))]
#[x_kube(validation = Rule::new("!has(oldSelf.ipv6) || (has(self.ipv6) && self.ipv6 == oldSelf.ipv6)")
    .message("ipv6 is immutable once set").field_path(".ipv6"))]
#[x_kube(validation = Rule::new(
    "(!has(oldSelf.ipv6) && !has(oldSelf.ipv6Subnet)) || (has(self.ipv6Subnet) == has(oldSelf.ipv6Subnet) && (!has(self.ipv6Subnet) || self.ipv6Subnet == oldSelf.ipv6Subnet))")
    .message("ipv6Subnet is immutable once it or ipv6 is set").field_path(".ipv6Subnet"))]
#[x_kube(validation = Rule::new("!has(oldSelf.mac) || (has(self.mac) && self.mac == oldSelf.mac)")
    .message("mac is immutable once set").field_path(".mac"))]
#[x_kube(validation = Rule::new(
    "(!has(oldSelf.ip) && !has(oldSelf.subnet)) || (has(self.subnet) == has(oldSelf.subnet) && (!has(self.subnet) || self.subnet == oldSelf.subnet))")
    .message("subnet is immutable once it or ip is set").field_path(".subnet"))]
pub struct PortSpec {
    /// TenantNetwork of this namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("network is immutable"))]
    pub network: String,
    /// Name of the network's subnet that its IPv4 address is of; the first that has one left when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub subnet: Option<String>,
    /// IPv4 address, where the network has subnets of IPv4; allocated when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$"))]
    pub ip: Option<String>,
    /// Name of the network's subnet that its IPv6 address is of; the first that has one left when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub ipv6_subnet: Option<String>,
    /// IPv6 address, where the network has subnets of IPv6; when empty made from the MAC address (SLAAC), or allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([23][0-9a-f]{3}|f[cd][0-9a-f]{2})(:[0-9a-f]{0,4}){2,7}$"), length(max = 39))]
    #[x_kube(validation = Rule::new("isIP(self)").message("must be an IPv6 address"))]
    pub ipv6: Option<String>,
    /// MAC address, unicast, lower case; derived from the object's UID when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$"))]
    pub mac: Option<String>,
    /// Host name handed out by DHCP and known to the network's DNS; default the Port's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub hostname: Option<String>,
    /// Further addresses of the network, of IPv4 and IPv6, under which the guest may speak and is reached, with the same MAC. DHCP gives none of
    /// them out. Several Ports may name one, so that their guests can hand it to each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            regex(
                pattern = r"^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}|([23][0-9a-f]{3}|f[cd][0-9a-f]{2})(:[0-9a-f]{0,4}){2,7})$"
            ),
            length(max = 39)
        )
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = Rule::new("self.all(one, !one.contains(':') || isIP(one))").message("must be addresses of IPv4 or IPv6"))]
    pub allowed_addresses: Vec<String>,
    /// How much the guest may send and receive; as much as there is when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// SecurityGroups of this namespace. Without any the Port is open to its network; with one, only what the groups allow comes in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub security_groups: Vec<String>,
    /// Host that carries it; set by the scheduler with the VirtualMachine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl PortSpec {
    /// Whether it was given what it needs: a hardware address, and an address of IPv4 unless its network is of IPv6 alone.
    #[must_use]
    pub fn is_addressed(&self, of_six_alone: bool) -> bool {
        self.mac.is_some() && if of_six_alone { self.ipv6.is_some() } else { self.ip.is_some() }
    }

    /// The one under which it is known: that of IPv4, where it has one.
    #[must_use]
    pub fn address(&self) -> Option<&String> {
        self.ip.as_ref().or(self.ipv6.as_ref())
    }
}

/// Limits of a Port. What exceeds one for longer than a second is dropped.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// What the guest receives, in megabits (a million bits) a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 400_000))]
    pub ingress_mbit: Option<u32>,
    /// What the guest sends, in megabits (a million bits) a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 400_000))]
    pub egress_mbit: Option<u32>,
}

/// What the agent says of the Port.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the tap device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Network namespace it lives in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Whether it answers the checks of LoadBalancers, for each that checks it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["loadBalancer"]))]
    pub backend_health: Vec<BackendHealth>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Whether a Port answers a LoadBalancer's checks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct BackendHealth {
    /// The LoadBalancer's name.
    pub load_balancer: String,
    /// Whether it does, as its thresholds say.
    pub healthy: bool,
}
