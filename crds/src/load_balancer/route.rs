//! Which requests go to which backends, in the words of the Gateway API's HTTPRoute.

use super::BackendGroup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Requests with backends of their own. Of several routes that match one, that with the most specific hostname counts, then that with
/// the most specific path, then the first.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Hosts that are asked for, such as `shop.example` or `*.shop.example`, in lower case and without a port; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(max = 253),
            regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        )
    )]
    pub hostnames: Vec<String>,
    /// What is asked for, one of these; everything when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub matches: Vec<RouteMatch>,
    /// Who answers. A Port that several select counts with the first.
    #[schemars(length(min = 1, max = 16))]
    pub backends: Vec<BackendGroup>,
    /// Port of these backends; default the listener's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub target_port: Option<u16>,
}

/// What a request must be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// Its path, as it was sent: nothing in it is decoded or made shorter.
    pub path: PathMatch,
}

/// What a path must be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// `PathPrefix` or `Exact`.
    #[serde(rename = "type", default)]
    pub type_: PathMatchType,
    /// A path. As a prefix it counts by whole elements: `/a` matches `/a`, `/a/` and `/a/b`, and not `/ab`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/([-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*$"))]
    pub value: String,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum PathMatchType {
    /// It begins with these elements.
    #[default]
    PathPrefix,
    /// It is this one.
    Exact,
}
