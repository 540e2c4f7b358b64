//! Addresses that a port may use beside its own: pure.
//!
//! A port's own address is its alone. Further ones may be shared, so that two guests can hand an address to each other, but
//! nobody gets what is another's own.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crds::Port;
use kube::ResourceExt;

use super::error::Error;
use super::plan::{Refused, Wanted, WantedPort};
use control_loop::{Failure, sentence};

/// Takes from the ports here what they cannot have, and tells which; the rest of the port works. `everywhere`: all ports of the
/// network, as far as they are known.
pub fn settle(wanted: &mut Wanted, everywhere: &[Arc<Port>]) {
    let owner = |address: &Ipv4Addr, mine: &WantedPort| {
        let text = address.to_string();
        let other = everywhere.iter().find(|port| port.spec.ip.as_ref() == Some(&text) && port.name_any() != mine.name);
        other.map(|port| port.name_any())
    };
    let mut ports = std::mem::take(&mut wanted.ports);
    for port in &mut ports {
        let mut kept = Vec::new();
        for address in &port.further {
            match judge(wanted, port, *address, owner(address, port)) {
                Ok(()) => kept.push(*address),
                Err(error) => wanted.refused.push(Refused {
                    uid: port.uid.clone(),
                    name: port.name.clone(),
                    reason: error.category(),
                    message: sentence(&error),
                }),
            }
        }
        port.further = kept;
    }
    wanted.ports = ports;
}

fn judge(wanted: &Wanted, port: &WantedPort, address: Ipv4Addr, owner: Option<String>) -> Result<(), Error> {
    const FIELD: &str = "spec.allowedAddresses";
    if let Some(other) = owner {
        return Err(Error::Owned { port: port.name.clone(), field: FIELD, address: address.to_string(), other });
    }
    let subnet = wanted.subnet;
    let of_the_range = subnet.prefix_len() < 31 && (address == subnet.network() || address == subnet.broadcast());
    let rule = match address {
        ip if !subnet.contains(&ip) || of_the_range => "must be usable addresses of the network's range",
        ip if ip == wanted.gateway => "one is the network's own address",
        _ => return Ok(()),
    };
    Err(Error::Invalid { object: format!("Port {}", port.name), field: FIELD, value: address.to_string(), rule })
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
        assert_eq!(kept, [[Ipv4Addr::new(10, 9, 0, 100)], [Ipv4Addr::new(10, 9, 0, 100)]]);
        let told: Vec<_> = wanted.refused.iter().map(|one| (one.name.as_str(), one.reason)).collect();
        assert_eq!(told, [("p2", "AddressTaken"); 2]);
        assert_eq!(wanted.refused[0].message, "spec.allowedAddresses of Port p2 has 10.9.0.3, which is Port p3's own");
    }

    #[test]
    fn what_the_network_cannot_give_is_refused_and_the_port_works() {
        let here = [port(2, &["10.9.0.1", "10.9.0.255", "10.8.0.9", "10.9.0.9"])];
        let mut wanted = wanted(&samples::names(), &samples::network(), &here).unwrap();
        settle(&mut wanted, &[]);
        assert_eq!(wanted.ports[0].further, [Ipv4Addr::new(10, 9, 0, 9)]);
        assert_eq!(wanted.refused.iter().map(|one| one.reason).collect::<Vec<_>>(), ["InvalidSpec"; 3]);
    }
}
