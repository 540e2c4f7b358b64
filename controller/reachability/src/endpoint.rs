//! One end of a conversation: a Port, with all that decides about it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::{Port, Subnet, Subnets, condition};
use kube::ResourceExt;
use traffic::Family;

use crate::access::Closed;

/// Reasons by which an agent says that it leaves a Port out.
const LEFT_OUT: [&str; 2] = ["AddressTaken", "InvalidSpec"];

/// A Port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its network's name.
    pub network: String,
    /// Its network's ranges, where they are known.
    pub subnets: Option<Subnets>,
    /// Its own address, which the guest has by DHCP.
    pub address: Option<Ipv4Addr>,
    /// Its own address of IPv6.
    pub six: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: Option<[u8; 6]>,
    /// What else its guest may speak under; in a world without what it names and cannot have.
    pub further: Vec<IpAddr>,
    /// Groups that it names.
    pub groups: Vec<String>,
    /// Host that carries it.
    pub host: Option<String>,
    /// Why its groups cannot be enforced; then it is closed.
    pub closed: Option<Closed>,
    /// Why it takes no part in its network; nothing when it does.
    pub absent: Option<String>,
    /// The machine that uses it.
    pub machine: Option<String>,
    /// Whether that machine's guest is there to ask and to answer.
    pub alive: bool,
    /// Its tap.
    pub tap: Option<String>,
    /// The namespace in which its tap is.
    pub netns: Option<String>,
    /// What is said of it while it is not ready.
    pub trouble: Option<String>,
}

impl Endpoint {
    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether both are on one network.
    #[must_use]
    pub fn shares_network_with(&self, other: &Endpoint) -> bool {
        self.namespace == other.namespace && self.network == other.network
    }

    /// Its own addresses.
    pub fn own(&self) -> impl Iterator<Item = IpAddr> {
        self.address.map(IpAddr::V4).into_iter().chain(self.six.map(IpAddr::V6))
    }

    /// Its own address of that family.
    #[must_use]
    pub fn address_of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Four => self.address.map(IpAddr::V4),
            Family::Six => self.six.map(IpAddr::V6),
        }
    }

    /// Whether both have an address of that family.
    #[must_use]
    pub fn shares_family_with(&self, other: &Endpoint, family: Family) -> bool {
        self.address_of(family).is_some() && other.address_of(family).is_some()
    }

    /// The subnet of IPv4 that its own address is in, where that is known.
    #[must_use]
    pub fn subnet(&self) -> Option<&Subnet> {
        self.subnets.as_ref()?.around(self.address?)
    }

    /// Whether the two are cards of one machine.
    #[must_use]
    pub fn shares_machine_with(&self, other: &Endpoint) -> bool {
        self.namespace == other.namespace && self.machine.is_some() && self.machine == other.machine
    }

    /// The Port as it says itself; what others say of it is added by the world.
    pub(crate) fn of(port: &Port) -> Endpoint {
        let status = port.status.as_ref();
        let mut endpoint = Endpoint {
            namespace: port.namespace().unwrap_or_default(),
            name: port.name_any(),
            network: port.spec.network.clone(),
            subnets: None,
            address: port.spec.ip.as_ref().and_then(|text| text.parse().ok()),
            six: port.spec.ipv6.as_ref().and_then(|text| text.parse().ok()),
            mac: port.spec.mac.as_deref().and_then(crds::mac::parse_mac),
            further: port.spec.allowed_addresses.iter().filter_map(|text| text.parse().ok()).collect(),
            groups: port.spec.security_groups.clone(),
            host: port.spec.host.clone(),
            closed: None,
            absent: None,
            machine: None,
            alive: false,
            tap: status.and_then(|status| status.device.clone()),
            netns: status.and_then(|status| status.netns.clone()),
            trouble: None,
        };
        let ready = status.and_then(|status| status.conditions.iter().find(|one| one.type_ == condition::READY));
        let no = ready.filter(|one| one.status != "True");
        let address = endpoint.own().next();
        endpoint.absent = match (address, &endpoint.host, no) {
            (None, ..) => Some("it has no address yet".to_owned()),
            (_, None, _) => {
                Some("it is on no Host: no VirtualMachine uses it, or that one is not placed yet".to_owned())
            }
            (.., Some(no)) if LEFT_OUT.contains(&no.reason.as_str()) => Some(no.message.clone()),
            _ => None,
        };
        endpoint.trouble = match ready {
            None => Some(format!("Port {} has no condition Ready yet", endpoint.name)),
            Some(one) if one.status == "True" => None,
            Some(one) => {
                Some(format!("Port {} is Ready={} ({}): {}", endpoint.name, one.status, one.reason, one.message))
            }
        };
        endpoint
    }
}
