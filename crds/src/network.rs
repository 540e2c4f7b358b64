//! TenantNetwork: an isolated layer-2 network with its subnets and DHCP (PrismNET).

pub mod subnets;

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
    doc = "An isolated layer-2 network with IPv4 and IPv6 subnets and DHCP.",
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnet"),
    printcolumn(name = "Subnets", type_ = "string", json_path = ".spec.subnets[*].cidr", priority = 1),
    printcolumn(name = "VNI", type_ = "integer", json_path = ".status.vni"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.subnet) != has(self.subnets)")
    .message("give exactly one of subnet and subnets").field_path(".subnet"))]
#[x_kube(validation = Rule::new("!has(self.gateway) || has(self.subnet)")
    .message("with subnets each has a gateway of its own").field_path(".gateway"))]
#[x_kube(validation = Rule::new(
    "!has(self.subnets) || !self.subnets[0].cidr.contains(':') || self.subnets.all(one, one.cidr.contains(':'))")
    .message("the first subnet must be of IPv4, or all of IPv6").field_path(".subnets"))]
#[x_kube(validation = Rule::new(
    "!has(self.subnets) || self.subnets.all(a, self.subnets.filter(b, cidr(a.cidr).containsIP(cidr(b.cidr).ip())).size() == 1)")
    .message("subnets of one network must not overlap").field_path(".subnets"))]
#[x_kube(validation = Rule::new(
    "!has(oldSelf.subnet) || has(self.subnet) || (has(self.subnets) && self.subnets[0].cidr == oldSelf.subnet)")
    .message("the subnet that the network had must be the first of its subnets").field_path(".subnets"))]
#[x_kube(validation = Rule::new(
    "!has(oldSelf.subnets) || (has(self.subnets) && self.subnets[0].name == oldSelf.subnets[0].name && \
     oldSelf.subnets.all(old, self.subnets.exists(one, one.name == old.name && one.cidr == old.cidr)))")
    .message("subnets are immutable and the first stays the first; new ones may be added").field_path(".subnets"))]
#[x_kube(validation = Rule::new(
    "!has(self.dhcp) || !has(self.dhcp.routes) || self.dhcp.routes.all(one, has(self.subnet) ? \
     cidr(self.subnet).containsIP(one.nextHop) : (has(self.subnets) && \
     self.subnets.exists(range, !range.cidr.contains(':') && cidr(range.cidr).containsIP(one.nextHop))))")
    .message("each nextHop must be an address of the network").field_path(".dhcp.routes"))]
pub struct TenantNetworkSpec {
    /// The one IPv4 range, in CIDR form, /8 to /30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/(8|9|1[0-9]|2[0-9]|30)$"
    ))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("subnet is immutable"))]
    pub subnet: Option<String>,
    /// Several ranges, in place of `subnet`; the first is of IPv4 and the others of IPv4 or IPv6, or all are of IPv6. The network routes
    /// between them. New ones may be added, to a network of IPv6 alone such of IPv6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub subnets: Vec<SubnetSpec>,
    /// The network's own address in `subnet`; default the first usable one.
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

/// One of several ranges of a network.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.gateway) || cidr(self.cidr).containsIP(self.gateway)")
    .message("gateway must be an address of cidr").field_path(".gateway"))]
#[x_kube(validation = Rule::new(
    "!has(self.allocation) || (cidr(self.cidr).containsIP(self.allocation.first) && cidr(self.cidr).containsIP(self.allocation.last))")
    .message("allocation must be a part of cidr").field_path(".allocation"))]
pub struct SubnetSpec {
    /// Name by which Ports and ServiceIPs ask for an address of it.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Range in CIDR form: IPv4, /8 to /30, or IPv6, /64 to /126, in 2000::/3 or fc00::/7. In one of IPv6 of /64 without `allocation` each
    /// Port has the address that its card makes for itself (SLAAC); any other gives addresses by DHCPv6.
    #[schemars(
        regex(
            pattern = r"^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/(8|9|1[0-9]|2[0-9]|30)|([23][0-9a-f]{3}|f[cd][0-9a-f]{2})(:[0-9a-f]{0,4}){2,7}/(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-6]))$"
        ),
        length(max = 43)
    )]
    #[x_kube(validation = Rule::new("cidr(self) == cidr(self).masked()").message("the range has host bits set"))]
    pub cidr: String,
    /// The network's own address in it; default the first usable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(
            pattern = r"^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}|([23][0-9a-f]{3}|f[cd][0-9a-f]{2})(:[0-9a-f]{0,4}){2,7})$"
        ),
        length(max = 39)
    )]
    pub gateway: Option<String>,
    /// The part of it from which addresses are given to who asks for none; default all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<AddressRange>,
}

impl SubnetSpec {
    /// Whether it is of IPv6.
    #[must_use]
    pub fn is_six(&self) -> bool {
        self.cidr.contains(':')
    }
}

/// Addresses from one to another, both counted.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AddressRange {
    /// The first.
    #[schemars(
        regex(
            pattern = r"^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}|([23][0-9a-f]{3}|f[cd][0-9a-f]{2})(:[0-9a-f]{0,4}){2,7})$"
        ),
        length(max = 39)
    )]
    pub first: String,
    /// The last.
    #[schemars(
        regex(
            pattern = r"^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}|([23][0-9a-f]{3}|f[cd][0-9a-f]{2})(:[0-9a-f]{0,4}){2,7})$"
        ),
        length(max = 39)
    )]
    pub last: String,
}

impl TenantNetworkSpec {
    /// Whether its guests have no IPv4.
    #[must_use]
    pub fn is_of_six_alone(&self) -> bool {
        !self.subnets.is_empty() && self.subnets.iter().all(SubnetSpec::is_six)
    }
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
    /// Domains in which guests look for short names (option 119), in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4),
        inner(regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"), length(max = 61))
    )]
    pub search_domains: Vec<String>,
    /// IPv4 addresses of time servers (option 42).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4),
        inner(regex(pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$"))
    )]
    pub ntp_servers: Vec<String>,
    /// Ways that guests of the range around `nextHop` know besides the one by their gateway (option 121).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination"]))]
    pub routes: Vec<DhcpRoute>,
}

/// A way that guests are told of.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DhcpRoute {
    /// IPv4 range in CIDR form.
    #[schemars(
        regex(
            pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/(3[0-2]|[12]?[0-9])$"
        ),
        length(max = 18)
    )]
    #[x_kube(validation = Rule::new("cidr(self) == cidr(self).masked()").message("the range has host bits set"))]
    pub destination: String,
    /// IPv4 address of the network to which guests send what is for it.
    #[schemars(
        regex(pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$"),
        length(max = 15)
    )]
    pub next_hop: String,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            enabled: true,
            lease_seconds: 3600,
            domain: None,
            search_domains: Vec::new(),
            ntp_servers: Vec::new(),
            routes: Vec::new(),
        }
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
    /// The network's own address in its first subnet.
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
