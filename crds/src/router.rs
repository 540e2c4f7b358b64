//! Router: networks of one tenant that reach each other, on one elected host (PrismNET).

pub mod routes;

use crate::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Joins TenantNetworks. It has an address in each, held by a Port of its own, and is on one host at a time.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "Router",
    namespaced,
    status = "RouterStatus",
    derive = "PartialEq",
    category = "photon",
    doc = "A way between TenantNetworks of one tenant, on one elected Host.",
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "External", type_ = "string", json_path = ".status.external.address"),
    printcolumn(name = "Networks", type_ = "string", json_path = ".spec.networks[*]", priority = 1),
    printcolumn(name = "Term", type_ = "integer", json_path = ".status.term", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RouterSpec {
    /// TenantNetworks of this namespace that reach each other by it. Their ranges must not overlap.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 120)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub networks: Vec<String>,
    /// What lies behind somebody on one of the networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination"]))]
    pub static_routes: Vec<StaticRoute>,
    /// The way out of its networks; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalWay>,
}

/// By which address its networks go out.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExternalWay {
    /// ExternalNetwork that the address is of.
    #[schemars(length(min = 1, max = 253))]
    pub network: String,
    /// The address under which all that goes out is seen; allocated when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$"))]
    pub ip: Option<String>,
}

/// A range that is reached by somebody on one of the networks.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!cidr(self.destination).containsIP(self.nextHop) || self.destination.endsWith('/0')")
    .message("nextHop must not lie behind itself").field_path(".nextHop"))]
pub struct StaticRoute {
    /// IPv4 range in CIDR form.
    #[schemars(
        regex(
            pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/(3[0-2]|[12]?[0-9])$"
        ),
        length(max = 18)
    )]
    #[x_kube(validation = Rule::new("cidr(self) == cidr(self).masked()").message("the range has host bits set"))]
    pub destination: String,
    /// IPv4 address of whoever passes on what is sent there: an address of one of the router's networks.
    #[schemars(
        regex(pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$"),
        length(max = 15)
    )]
    pub next_hop: String,
}

/// What is in force: what the reconciler last found good, and where. Hosts go by this alone.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouterStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The elected host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How many hosts were elected so far.
    #[serde(default)]
    pub term: i64,
    /// Its address in each network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["network"]))]
    pub interfaces: Vec<RouterInterface>,
    /// The static routes in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination"]))]
    pub static_routes: Vec<StaticRoute>,
    /// The way out in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<RouterExternal>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A router's way out.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouterExternal {
    /// The ExternalNetwork.
    pub network: String,
    /// The address under which all is seen that has none of its own.
    pub address: String,
    /// Addresses that lead in, and under which those that they lead to are seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"]))]
    pub floating: Vec<Floating>,
}

/// A floating address.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Floating {
    /// The address.
    pub address: String,
    /// The ServiceIP that has it.
    #[serde(rename = "serviceIP")]
    pub service_ip: String,
    /// The address of the Port that it leads to.
    pub target: String,
}

/// A router's place in one network.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouterInterface {
    /// The TenantNetwork.
    pub network: String,
    /// The Port that holds its address.
    pub port: String,
    /// Its address.
    pub address: String,
    /// The network's ranges.
    pub ranges: Vec<String>,
}
