//! Addresses that a port may use beside its own: pure.
//!
//! A port's own address is its alone. Further ones may be shared, so that two guests can hand an address to each other, but
//! nobody gets what is another's own.

use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use crds::Port;
use reachability::{Claims, Refusal};

use super::error::Error;
use super::plan::{Refused, Wanted};
use control_loop::sentence;

/// Label for a port that works, though not with all its further addresses.
const REFUSED: &str = "AllowedAddressRefused";

/// Whose own each address of the network is. `everywhere`: all its ports, as far as they are known.
pub(super) fn claims<'a>(network: &Wanted, everywhere: &'a [Arc<Port>]) -> Claims<'a> {
    let own = |port: &'a Arc<Port>| {
        let all = port.spec.ip.iter().chain(&port.spec.ipv6).filter_map(|text| text.parse().ok());
        all.zip(iter::repeat(port.metadata.name.as_deref().unwrap_or_default()))
    };
    Claims::new(network.subnets.clone(), everywhere.iter().flat_map(own))
}

/// Takes from the ports here what they cannot have, and tells which; the rest of the port works. `everywhere`: all ports of the
/// network, as far as they are known.
pub fn settle(wanted: &mut Wanted, everywhere: &[Arc<Port>]) {
    if wanted.ports.iter().all(|port| port.further.is_empty()) {
        return;
    }
    let claims = claims(wanted, everywhere);
    for port in &mut wanted.ports {
        port.further.retain(|address| {
            let Err(why) = claims.judge(&port.name, *address) else { return true };
            let message = sentence(&told(&port.name, *address, why));
            wanted.refused.push(Refused { uid: port.uid.clone(), name: port.name.clone(), reason: REFUSED, message });
            false
        });
    }
}

fn told(port: &str, address: IpAddr, why: Refusal) -> Error {
    let (field, value) = ("spec.allowedAddresses", address.to_string());
    let rule = match why {
        Refusal::Owned(other) => return Error::Owned { port: port.to_owned(), field, address: value, other },
        Refusal::Outside => "must be usable addresses of the network's ranges",
        Refusal::Gateway => "one is the network's own address",
    };
    Error::Invalid { object: format!("Port {port}"), field, value, rule }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{samples, wanted};
    use super::*;

    fn port(number: u8, further: &[&str]) -> Arc<Port> {
        let mut port = (*samples::port(number)).clone();
        port.spec.allowed_addresses = further.iter().map(|text| (*text).to_owned()).collect();
        Arc::new(port)
    }

    #[test]
    fn what_is_free_or_shared_is_kept_and_what_is_anothers_own_is_not() {
        let here = [port(2, &["10.9.0.100", "10.9.0.3", "10.9.0.50"]), port(3, &["10.9.0.100"])];
        let everywhere = [here.to_vec(), vec![port(50, &[])]].concat();
        let mut wanted = wanted(&samples::names(), &samples::network(), &here).unwrap();
        settle(&mut wanted, &everywhere);
        let kept: Vec<_> = wanted.ports.iter().map(|port| port.further.clone()).collect();
        assert_eq!(kept, [[IpAddr::from([10, 9, 0, 100])], [IpAddr::from([10, 9, 0, 100])]]);
        let told: Vec<_> = wanted.refused.iter().map(|one| (one.name.as_str(), one.reason)).collect();
        assert_eq!(told, [("p2", "AllowedAddressRefused"); 2]);
        assert_eq!(wanted.refused[0].message, "spec.allowedAddresses of Port p2 has 10.9.0.3, which is Port p3's own");
    }

    #[test]
    fn what_the_network_cannot_give_is_refused_and_the_port_works() {
        let here = [port(2, &["10.9.0.1", "10.9.0.255", "10.8.0.9", "10.9.0.9"])];
        let mut wanted = wanted(&samples::names(), &samples::network(), &here).unwrap();
        settle(&mut wanted, &[]);
        assert_eq!(wanted.ports[0].further, [IpAddr::from([10, 9, 0, 9])]);
        assert_eq!(wanted.refused.iter().map(|one| one.reason).collect::<Vec<_>>(), [REFUSED; 3]);
    }
}
