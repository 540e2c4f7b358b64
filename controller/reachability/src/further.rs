//! Which of the addresses that a Port names beside its own count.
//!
//! Several Ports may name one, so that their guests can hand it to each other. Nobody gets what is another's own, the
//! network's own, or no address of its ranges. That is decided here once: the host that guards a guest, the hosts that count
//! the members of its groups, and who explains must not differ about an address.

use std::collections::HashMap;
use std::net::IpAddr;

use crds::Subnets;

/// Why an address does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is the own address of the Port of this name.
    Owned(String),
    /// It is no usable address of the network's ranges.
    Outside,
    /// It is the network's own.
    Gateway,
}

/// Whose own each address of a network is.
#[derive(Clone, Debug)]
pub struct Claims<'a> {
    subnets: Subnets,
    owners: HashMap<IpAddr, Vec<&'a str>>,
}

impl<'a> Claims<'a> {
    /// `owners` are all Ports of the network that have an address, on whichever host or on none yet.
    pub fn new(subnets: Subnets, owners: impl IntoIterator<Item = (IpAddr, &'a str)>) -> Claims<'a> {
        let mut of: HashMap<IpAddr, Vec<&str>> = HashMap::new();
        for (address, port) in owners {
            of.entry(address).or_default().push(port);
        }
        Claims { subnets, owners: of }
    }

    /// Whether the Port of that name may use an address beside its own.
    ///
    /// # Errors
    /// Why it may not.
    pub fn judge(&self, port: &str, address: IpAddr) -> Result<(), Refusal> {
        let mut owners = self.owners.get(&address).into_iter().flatten();
        if let Some(other) = owners.find(|owner| **owner != port) {
            return Err(Refusal::Owned((*other).to_owned()));
        }
        match address {
            ip if self.subnets.is_gateway(ip) => Err(Refusal::Gateway),
            ip if !self.subnets.is_usable(ip) => Err(Refusal::Outside),
            _ => Ok(()),
        }
    }
}
