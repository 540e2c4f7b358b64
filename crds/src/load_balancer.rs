//! LoadBalancer: one address, many Ports behind it (FiberLB).

pub mod judge;
pub mod route;

pub use route::{PathMatch, PathMatchType, Route, RouteMatch};

use std::collections::BTreeMap;

use crate::Condition;
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Connections to a ServiceIP, or the HTTP requests in them, shared out among Ports of its network, on the host of whoever began them.
/// The Port that gets one sees who that is.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "LoadBalancer",
    namespaced,
    status = "LoadBalancerStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "lb",
    doc = "Connections to a ServiceIP, shared out among Ports of its network.",
    printcolumn(name = "ServiceIP", type_ = "string", json_path = ".spec.serviceIP"),
    printcolumn(name = "IP", type_ = "string", json_path = ".status.ip"),
    printcolumn(name = "Ports", type_ = "string", json_path = ".spec.listeners[*].port"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.healthyBackends"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.healthCheck) || has(self.healthCheck.port) || self.listeners.exists(l, l.protocol != 'UDP')")
    .message("give the port that is checked: no listener speaks TCP").field_path(".healthCheck.port"))]
#[x_kube(validation = Rule::new(
    "self.listeners.all(l, l.protocol == 'UDP' || self.listeners.exists_one(o, o.protocol != 'UDP' && o.port == l.port))")
    .message("two listeners that are reached by TCP must not have one port").field_path(".listeners"))]
#[x_kube(validation = Rule::new(
    "!has(self.routes) || size(self.routes) == 0 || self.listeners.exists(l, l.protocol in ['HTTP', 'HTTPS'])")
    .message("routes go with a listener that speaks HTTP or HTTPS").field_path(".routes"))]
pub struct LoadBalancerSpec {
    /// ServiceIP of this namespace; its network's Ports are the backends.
    #[serde(rename = "serviceIP")]
    #[schemars(length(min = 1, max = 253))]
    pub service_ip: String,
    /// What is spoken to. Of two LoadBalancers that have one protocol and port of one ServiceIP the older gets it.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["protocol", "port"]))]
    pub listeners: Vec<Listener>,
    /// Who answers, and with HTTP what no route matches. A Port that several select counts with the first.
    #[schemars(length(min = 1, max = 16))]
    pub backends: Vec<BackendGroup>,
    /// Requests that other backends answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub routes: Vec<Route>,
    /// Whether a client stays with one backend; each connection goes to the next one when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
    /// How is found out who can answer; all Ports are taken to be able when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// How long connections to a backend that gets no new ones may go on, in seconds. Then they are cut. With HTTP, how long what is
    /// asked may take after something has changed in the network's load balancing.
    #[serde(default = "half_a_minute")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: u32,
}

fn half_a_minute() -> u32 {
    30
}

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "UPPERCASE")]
pub enum ListenerProtocol {
    /// TCP: connections are shared out.
    Tcp,
    /// UDP: datagrams are.
    Udp,
    /// HTTP: requests are, by their routes.
    Http,
    /// HTTPS: the same, in TLS that ends here.
    Https,
}

impl ListenerProtocol {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        }
    }

    /// Whether it is reached by UDP; by TCP if not.
    #[must_use]
    pub fn is_udp(self) -> bool {
        self == Self::Udp
    }

    /// Whether requests are looked into.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// A port of the ServiceIP.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.protocol != 'HTTPS' || has(self.tls)")
    .message("HTTPS needs a certificate: name its Secret in tls.secrets").field_path(".tls"))]
#[x_kube(validation = Rule::new("self.protocol == 'HTTPS' || !has(self.tls)")
    .message("tls goes with protocol HTTPS").field_path(".tls"))]
pub struct Listener {
    /// `TCP`, `UDP`, `HTTP` or `HTTPS`.
    pub protocol: ListenerProtocol,
    /// Port that clients speak to.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// Port of the backends; default `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub target_port: Option<u16>,
    /// With HTTPS, what is shown to clients. To the backends HTTP is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Listener {
    /// Port of the backends.
    #[must_use]
    pub fn target(&self) -> u16 {
        self.target_port.unwrap_or(self.port)
    }

    /// The Secrets whose certificates it shows.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.tls.iter().flat_map(|tls| &tls.secrets).map(String::as_str)
    }
}

/// How a listener speaks TLS.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Secrets of type `kubernetes.io/tls` in this namespace. Of several, a client is shown the one whose certificate is for the name that
    /// it asks for (SNI), or else the first.
    #[schemars(
        length(min = 1, max = 16),
        inner(
            length(max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        )
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub secrets: Vec<String>,
}

/// Ports that answer, and how much of the whole each of them gets.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackendGroup {
    /// Which Ports of the ServiceIP's network.
    pub selector: PortSelector,
    /// Share of each of them, in relation to the other backends'. With 0 it gets nothing new and is drained.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 256))]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// Ports by their labels.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PortSelector {
    /// Labels that a Port must have, all of them.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

/// By what a client is known again.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum AffinityType {
    /// Its address.
    #[serde(rename = "ClientIP")]
    ClientIp,
}

/// Clients stay with one backend.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinity {
    /// `ClientIP`.
    #[serde(rename = "type")]
    pub type_: AffinityType,
    /// How long after a client's last new connection it is remembered, in seconds. With HTTP nobody is remembered: whom a client comes to
    /// is worked out of its address, and changes for few when backends do.
    #[serde(default = "three_hours")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
}

fn three_hours() -> u32 {
    10_800
}

/// What is asked of a backend.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum CheckType {
    /// That it accepts a connection.
    Tcp,
    /// That it answers a GET.
    Http,
}

/// A question that each backend is asked again and again, by the host it is on and from the network's own address.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.path) || self.type == 'HTTP'")
    .message("path goes with type HTTP").field_path(".path"))]
#[x_kube(validation = Rule::new("!has(self.expectedStatus) || self.type == 'HTTP'")
    .message("expectedStatus goes with type HTTP").field_path(".expectedStatus"))]
#[x_kube(validation = Rule::new("self.timeoutSeconds <= self.intervalSeconds")
    .message("timeoutSeconds must not be above intervalSeconds").field_path(".timeoutSeconds"))]
pub struct HealthCheck {
    /// `TCP` or `HTTP`.
    #[serde(rename = "type")]
    pub type_: CheckType,
    /// Port that is asked; default the target port of the first listener that is reached by TCP, or of the route that selects a Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// Time between two questions, in seconds.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 300))]
    pub interval_seconds: u32,
    /// Time for the answer, in seconds.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: u32,
    /// Good answers in a row after which a backend gets connections.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub healthy_threshold: u32,
    /// Bad or missing answers in a row after which it gets no more.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub unhealthy_threshold: u32,
    /// What is asked for by HTTP; default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^/[!-~]*$"), length(max = 1024))]
    pub path: Option<String>,
    /// Status of a good answer by HTTP; default 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    pub expected_status: Option<u16>,
}

fn five() -> u32 {
    5
}

fn two() -> u32 {
    2
}

/// What the reconciler says of the LoadBalancer.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The ServiceIP's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Ports that are selected.
    #[serde(default)]
    pub total_backends: u32,
    /// Those of them that get new connections.
    #[serde(default)]
    pub healthy_backends: u32,
    /// The backends by name, the first 256 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["port"]))]
    pub backends: Vec<BackendStatus>,
    /// The certificates that its listeners show, by their Secrets. What is not among them is not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["secret"]))]
    pub certificates: Vec<CertificateStatus>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One backend.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// The Port's name.
    pub port: String,
    /// Its host, which checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whether it gets new connections.
    pub healthy: bool,
}

/// One certificate.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The Secret's name.
    pub secret: String,
    /// The Secret's version that was found good.
    pub resource_version: String,
    /// Names that the certificate is for, the first 64 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// When its time ends.
    pub not_after: Timestamp,
}
