//! DNSRecordSet: all records of one name and type in a DNSZone (FlashDNS).

use crate::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The records of one name and type.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "DNSRecordSet",
    plural = "dnsrecordsets",
    namespaced,
    status = "DNSRecordSetStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "dnsrs",
    selectable = ".spec.zone",
    doc = "The records of one name and type in a DNSZone.",
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zone"),
    printcolumn(name = "Name", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Values", type_ = "string", json_path = ".spec.values", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'CNAME' || size(self.values) == 1")
    .message("a CNAME has one value").field_path(".values"))]
#[x_kube(validation = Rule::new("self.type != 'CNAME' || self.name != '@'")
    .message("the zone's own name cannot be a CNAME: it has other records").field_path(".type"))]
#[x_kube(validation = Rule::new(
    "self.type != 'A' || self.values.all(v, v.matches('^[0-9]{1,3}([.][0-9]{1,3}){3}$'))")
    .message("values must be IPv4 addresses such as 10.0.0.7").field_path(".values"))]
#[x_kube(validation = Rule::new(
    "self.type != 'AAAA' || self.values.all(v, v.matches('^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$'))")
    .message("values must be IPv6 addresses such as fd00::7").field_path(".values"))]
#[x_kube(validation = Rule::new(
    "!(self.type in ['CNAME', 'PTR']) || self.values.all(v, v.matches('^[a-z0-9_-]+([.][a-z0-9_-]+)*[.]?$'))")
    .message("values must be whole names such as web.shop.internal").field_path(".values"))]
#[x_kube(validation = Rule::new(
    "self.type != 'MX' || self.values.all(v, v.matches('^[0-9]{1,5} [a-z0-9_-]+([.][a-z0-9_-]+)*[.]?$'))")
    .message("values must be a preference and a whole name, as in 10 mail.shop.internal").field_path(".values"))]
#[x_kube(validation = Rule::new(
    "self.type != 'SRV' || self.values.all(v, v.matches('^([0-9]{1,5} ){3}[a-z0-9_-]+([.][a-z0-9_-]+)*[.]?$'))")
    .message("values must be priority, weight, port and a whole name, as in 0 10 8080 web.shop.internal")
    .field_path(".values"))]
pub struct DNSRecordSetSpec {
    /// DNSZone of this namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("zone is immutable"))]
    pub zone: String,
    /// Name within the zone: labels, `*` as the first of them for all that have no records of their own, or `@` for the
    /// zone's own name.
    #[schemars(
        regex(
            pattern = r"^(@|\*|(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*)$"
        ),
        length(max = 240)
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("name is immutable"))]
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("type is immutable"))]
    pub type_: DNSRecordType,
    /// How long an answer may be remembered, in seconds; default the zone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub ttl_seconds: Option<u32>,
    /// Values: addresses, whole names (the last dot may be left out), numbers and a name for MX and SRV, text as it is for TXT.
    #[schemars(length(min = 1, max = 100), inner(length(max = 2048)))]
    pub values: Vec<String>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum DNSRecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Another name for a name.
    Cname,
    /// Text.
    Txt,
    /// Where a service is.
    Srv,
    /// Where mail goes.
    Mx,
    /// The name of an address.
    Ptr,
}

impl DNSRecordType {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Txt => "TXT",
            Self::Srv => "SRV",
            Self::Mx => "MX",
            Self::Ptr => "PTR",
        }
    }
}

/// What the reconciler says of the records.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DNSRecordSetStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The whole name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
