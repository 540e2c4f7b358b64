//! DNSZone: a domain of a tenant's own, known in its networks alone (FlashDNS).

use crate::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A domain whose names are DNSRecordSets. It is known in every network of its namespace, and in no other.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "DNSZone",
    plural = "dnszones",
    namespaced,
    status = "DNSZoneStatus",
    derive = "PartialEq",
    category = "photon",
    doc = "A domain that is known in the networks of its namespace.",
    printcolumn(name = "Domain", type_ = "string", json_path = ".spec.domain"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DNSZoneSpec {
    /// The domain, without a last dot.
    #[schemars(
        regex(pattern = r"^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$"),
        length(max = 240)
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("domain is immutable"))]
    pub domain: String,
    /// How long an answer may be remembered, in seconds, where the DNSRecordSet does not say.
    #[serde(default = "minutes")]
    #[schemars(range(min = 0, max = 604_800))]
    pub ttl_seconds: u32,
    /// How long it may be remembered that something is not there, in seconds.
    #[serde(default = "moment")]
    #[schemars(range(min = 0, max = 86_400))]
    pub negative_ttl_seconds: u32,
}

fn minutes() -> u32 {
    300
}

fn moment() -> u32 {
    30
}

/// What the reconciler says of the zone.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DNSZoneStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
