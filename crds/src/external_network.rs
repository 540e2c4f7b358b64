//! ExternalNetwork: addresses by which tenants are reached from outside, and by which they go out (PrismNET).

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::network::AddressRange;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// A range of addresses that whoever is outside sends to the hosts. Routers and floating ServiceIPs of any namespace have addresses of it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "ExternalNetwork",
    derive = "PartialEq",
    category = "photon",
    shortname = "xnet",
    doc = "Addresses outside of the tenants' networks, for Routers and floating ServiceIPs.",
    printcolumn(name = "CIDR", type_ = "string", json_path = ".spec.cidr"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.allocation) || (cidr(self.cidr).containsIP(self.allocation.first) && cidr(self.cidr).containsIP(self.allocation.last))")
    .message("allocation must be a part of cidr").field_path(".allocation"))]
pub struct ExternalNetworkSpec {
    /// IPv4 range in CIDR form, /8 to /32. Immutable.
    #[schemars(
        regex(
            pattern = r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/(8|9|[12][0-9]|3[0-2])$"
        ),
        length(max = 18)
    )]
    #[x_kube(validation = Rule::new("cidr(self) == cidr(self).masked()").message("the range has host bits set"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("cidr is immutable"))]
    pub cidr: String,
    /// The part of it from which addresses are given to who asks for none; default all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<AddressRange>,
}

impl ExternalNetworkSpec {
    /// The range; none when what is stored is none.
    #[must_use]
    pub fn range(&self) -> Option<Ipv4Net> {
        self.cidr.parse().ok()
    }

    /// Whether somebody can have the address: it is of the range, and not the one that stands for the range or for all in it.
    #[must_use]
    pub fn is_usable(&self, address: Ipv4Addr) -> bool {
        self.range().is_some_and(|range| {
            let of_the_range = range.prefix_len() < 31 && (address == range.network() || address == range.broadcast());
            range.contains(&address) && !of_the_range
        })
    }

    /// What is given to who asks for none, lowest first.
    pub fn given(&self) -> impl Iterator<Item = Ipv4Addr> {
        let range = self.range();
        let end = |text: Option<&String>, default: Option<Ipv4Addr>| text.map_or(default, |text| text.parse().ok());
        let part = self.allocation.as_ref();
        let first = end(part.map(|part| &part.first), range.map(|range| range.network()));
        let last = end(part.map(|part| &part.last), range.map(|range| range.broadcast()));
        let all = first.zip(last).into_iter().flat_map(|(first, last)| u32::from(first)..=u32::from(last));
        all.map(Ipv4Addr::from).filter(|address| self.is_usable(*address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn given(spec: Value) -> Vec<String> {
        let spec: ExternalNetworkSpec = serde_json::from_value(spec).unwrap();
        spec.given().map(|address| address.to_string()).collect()
    }

    #[test]
    fn what_stands_for_the_range_is_given_to_nobody() {
        assert_eq!(given(json!({"cidr": "203.0.113.0/30"})), ["203.0.113.1", "203.0.113.2"]);
        assert_eq!(given(json!({"cidr": "203.0.113.8/31"})), ["203.0.113.8", "203.0.113.9"]);
        assert_eq!(given(json!({"cidr": "203.0.113.8/32"})), ["203.0.113.8"]);
        let part = json!({"cidr": "203.0.113.0/24", "allocation": {"first": "203.0.113.254", "last": "203.0.113.255"}});
        assert_eq!(given(part), ["203.0.113.254"]);
        let none = json!({"cidr": "203.0.113.0/24", "allocation": {"first": "203.0.113.9", "last": "203.0.113.8"}});
        assert_eq!(given(none), [""; 0]);
    }
}
