//! VNI allocation and the network's status. Pure.

use crds::{Subnets, TenantNetwork, TenantNetworkStatus, condition};
use std::collections::HashSet;
use std::ops::RangeInclusive;

/// First VNI handed out; lower ones are left to people who set up VXLAN by hand.
const FIRST: u32 = 10_000;
/// A VNI has 24 bits (RFC 7348 §5).
const LAST: u32 = (1 << 24) - 1;

/// Every VNI is in use.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

/// The lowest VNI that is not taken.
///
/// # Errors
/// [`Exhausted`].
pub fn free_vni(taken: impl Iterator<Item = u32>) -> Result<u32, Exhausted> {
    lowest_free(FIRST..=LAST, taken)
}

fn lowest_free(mut range: RangeInclusive<u32>, taken: impl Iterator<Item = u32>) -> Result<u32, Exhausted> {
    let taken: HashSet<u32> = taken.collect();
    range.find(|vni| !taken.contains(vni)).ok_or(Exhausted)
}

/// Whether nothing can be left to do but count its Ports: it is as its status says, and stays.
pub fn only_counts(network: &TenantNetwork) -> bool {
    let told = network.status.as_ref();
    network.metadata.deletion_timestamp.is_none()
        && told.is_some_and(|s| s.vni.is_some() && s.observed_generation == network.metadata.generation)
}

/// The status of a network with that many Ports.
pub fn status(network: &TenantNetwork, vni: Result<u32, Exhausted>, ports: usize) -> TenantNetworkStatus {
    let generation = network.metadata.generation;
    let mut status = network.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.ports = u32::try_from(ports).unwrap_or(u32::MAX);
    let (ready, reason, message) = match (Subnets::of(&network.spec), vni) {
        (Err(why), _) => (false, "InvalidSubnet", why.to_string()),
        (Ok(_), Err(Exhausted)) => (false, "NoFreeVNI", "every VXLAN network identifier is in use".to_owned()),
        (Ok(subnets), Ok(vni)) => {
            status.vni = Some(vni);
            status.gateway = Some(subnets.gateway().to_string());
            (true, "Allocated", String::new())
        }
    };
    condition::set(&mut status.conditions, condition::READY, ready, reason, message, generation);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(subnet: &str, gateway: Option<&str>) -> TenantNetwork {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "TenantNetwork", "metadata": {"name": "n"},
            "spec": {"subnet": subnet, "gateway": gateway},
        }))
        .unwrap()
    }

    #[test]
    fn the_lowest_free_vni_is_taken_and_the_range_ends() {
        assert_eq!(free_vni([FIRST, FIRST + 2].into_iter()), Ok(FIRST + 1));
        assert_eq!(lowest_free(5..=6, [5, 6].into_iter()), Err(Exhausted));
    }

    #[test]
    fn a_bad_subnet_or_gateway_names_its_field() {
        for (subnet, gw, wanted) in [
            ("10.0.0.5/24", None, "spec.subnet: 10.0.0.5/24 has host bits set; write 10.0.0.0/24"),
            ("10.0.0.0/24", Some("10.0.1.1"), "spec.gateway: 10.0.1.1 is not a usable address of 10.0.0.0/24"),
            ("10.0.0.0/24", Some("10.0.0.255"), "spec.gateway: 10.0.0.255 is not a usable address of 10.0.0.0/24"),
        ] {
            let status = status(&network(subnet, gw), Ok(FIRST), 0);
            assert_eq!(status.conditions[0].message, wanted);
            assert_eq!(status.vni, None);
        }
        let good = status(&network("10.0.0.0/24", None), Ok(FIRST), 3);
        assert_eq!((good.gateway.as_deref(), good.vni, good.ports), (Some("10.0.0.1"), Some(FIRST), 3));
    }
}
