//! SecurityGroup: who may begin a conversation with a Port, and with whom the Port may.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules for the Ports that name the group in `spec.securityGroups`. What any rule of any of a Port's groups allows is allowed, and
/// so are the answers. Nothing else may come in; what goes out is free until one of the groups has an Egress rule.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "SecurityGroup",
    namespaced,
    derive = "PartialEq",
    category = "photon",
    shortname = "sg",
    doc = "Stateful rules about what the Ports of the group may receive and send.",
    printcolumn(name = "Directions", type_ = "string", json_path = ".spec.rules[*].direction"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupSpec {
    /// What is allowed. A group without rules lets nothing in and everything out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rules: Vec<SecurityRule>,
}

/// Who begins the conversation.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum RuleDirection {
    /// The other side.
    Ingress,
    /// The Port's guest.
    Egress,
}

/// One thing that is allowed.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.port) || self.protocol in ['TCP', 'UDP']")
    .message("port goes with protocol TCP or UDP").field_path(".port"))]
#[x_kube(validation = Rule::new("!has(self.endPort) || has(self.port) && self.endPort >= self.port")
    .message("endPort must be port or above, and needs port").field_path(".endPort"))]
#[x_kube(validation = Rule::new("!has(self.icmpType) || self.protocol in ['ICMP', 'ICMPv6']")
    .message("icmpType goes with protocol ICMP or ICMPv6").field_path(".icmpType"))]
#[x_kube(validation = Rule::new("!has(self.icmpCode) || has(self.icmpType)")
    .message("icmpCode needs icmpType").field_path(".icmpCode"))]
#[x_kube(validation = Rule::new("!has(self.cidr) || self.protocol != (self.cidr.contains(':') ? 'ICMP' : 'ICMPv6')")
    .message("ICMP goes with a range of IPv4, ICMPv6 with one of IPv6").field_path(".cidr"))]
#[x_kube(validation = Rule::new("!has(self.cidr) || !has(self.securityGroup)")
    .message("give cidr or securityGroup, not both").field_path(".securityGroup"))]
pub struct SecurityRule {
    /// Who begins: `Ingress` allows what comes to the Port, `Egress` what it sends.
    pub direction: RuleDirection,
    /// `TCP`, `UDP`, `ICMP` (of IPv4), `ICMPv6`, `Any`, or the number of another protocol. All but the two of ICMP count for IPv4 and
    /// IPv6. What finding neighbours by IPv6 needs is always allowed.
    #[serde(default = "any")]
    #[schemars(regex(pattern = r"^(Any|TCP|UDP|ICMP|ICMPv6|[0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$"))]
    pub protocol: String,
    /// Port that is spoken to; all ports when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// Last port of a range that begins with `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub end_port: Option<u16>,
    /// Type of ICMP, such as 8 for an echo request (128 of ICMPv6); all types when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub icmp_type: Option<u8>,
    /// Code of ICMP; all codes of the type when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub icmp_code: Option<u8>,
    /// IPv4 or IPv6 range on the other side. Without it and `securityGroup` it may be anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(
            pattern = r"^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/([0-9]|[12][0-9]|3[0-2])|[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))$"
        ),
        length(max = 43)
    )]
    #[x_kube(validation = Rule::new("!self.contains(':') || isCIDR(self)").message("must be a range in CIDR form"))]
    pub cidr: Option<String>,
    /// SecurityGroup of this namespace whose Ports on the same network are on the other side. One that does not exist has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub security_group: Option<String>,
}

fn any() -> String {
    "Any".to_owned()
}
