//! ServiceIP: an address that belongs to no Port: of a TenantNetwork, or a floating one of an ExternalNetwork (PrismNET).

use crate::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An address at which a LoadBalancer is spoken to. Each host that carries the network answers for it, as for the network's own.
/// A floating one leads from outside to a Port, by the Router that joins the Port's network to the ExternalNetwork.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "ServiceIP",
    plural = "serviceips",
    namespaced,
    status = "ServiceIPStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "sip",
    selectable = ".spec.network",
    doc = "An address for a LoadBalancer, or a floating one for a Port.",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "IP", type_ = "string", json_path = ".status.ip"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Port", type_ = "string", json_path = ".spec.port", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(oldSelf.ip) == has(self.ip) && (!has(self.ip) || self.ip == oldSelf.ip)")
    .message("ip is immutable").field_path(".ip"))]
#[x_kube(validation = Rule::new("has(oldSelf.subnet) == has(self.subnet) && (!has(self.subnet) || self.subnet == oldSelf.subnet)")
    .message("subnet is immutable").field_path(".subnet"))]
#[x_kube(validation = Rule::new("has(oldSelf.externalNetwork) == has(self.externalNetwork) && \
     (!has(self.externalNetwork) || self.externalNetwork == oldSelf.externalNetwork)")
    .message("externalNetwork is immutable").field_path(".externalNetwork"))]
#[x_kube(validation = Rule::new("has(self.externalNetwork) == has(self.port)")
    .message("a floating address has both externalNetwork and port").field_path(".port"))]
#[x_kube(validation = Rule::new("!has(self.externalNetwork) || !has(self.subnet)")
    .message("a floating address is of no subnet").field_path(".subnet"))]
pub struct ServiceIPSpec {
    /// TenantNetwork of this namespace: the one that the address is of, or that the floating address leads to.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("network is immutable"))]
    pub network: String,
    /// Name of the network's subnet that its address is of; the first that has one left when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub subnet: Option<String>,
    /// ExternalNetwork that a floating address is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub external_network: Option<String>,
    /// Port of the network that a floating address leads to. It may be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub port: Option<String>,
    /// IPv4 address of the network's ranges, or of the ExternalNetwork; allocated when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$"))]
    pub ip: Option<String>,
}

/// What the reconciler decided.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceIPStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The address. Once it is told nobody else of the network gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Of a floating one, the address of the Port that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
