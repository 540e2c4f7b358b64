//! Every name this agent gives to a thing of the kernel, made from who we are and whose the thing is.
//!
//! Several instances and several hosts of one instance share one machine, so what is machine-wide (network namespaces, user
//! ids) carries a mark of instance and host. What is inside a namespace of ours needs only its owner's UID.

use sha2::{Digest, Sha256};

/// User ids handed out by one host's agent.
pub const IDS_PER_HOST: u32 = 4096;
/// Above what people, distributions and systemd's dynamic users take, below what a signed integer loses.
const FIRST_ID: u32 = 0x2400_0000;

/// How routers' cables at bridges begin.
const LEG: &str = "rt";

/// Names for one host of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    mark: String,
    switch: String,
    first_id: u32,
}

impl Names {
    /// The names of `host` in `instance`.
    pub fn new(instance: &str, host: &str) -> Names {
        let digest = Sha256::digest(format!("{instance}/{host}"));
        let slot = u32::from(u16::from_be_bytes([digest[4], digest[5]]));
        Names { mark: hex(&digest[..4]), switch: switch(instance), first_id: FIRST_ID + slot * IDS_PER_HOST }
    }

    /// Prefix of all our network namespaces.
    pub fn namespace_prefix(&self) -> String {
        format!("photon-{}-", self.mark)
    }

    /// The namespace that joins this host to others.
    pub fn underlay(&self) -> String {
        format!("{}underlay", self.namespace_prefix())
    }

    /// The namespace of the switch that joins the instance's hosts on this machine.
    pub fn switch(&self) -> String {
        self.switch.clone()
    }

    /// This host's port of that switch; 9 characters.
    pub fn switch_port(&self) -> String {
        format!("h{}", self.mark)
    }

    /// The namespace of one network, or of one router.
    pub fn cell(&self, uid: &str) -> String {
        format!("{}{}", self.namespace_prefix(), short(uid))
    }

    /// The end outside of a router's way out; 14 characters. Hosts of one machine may have one outside, and a router before it moved and
    /// after it one each.
    pub fn way_end(&self, router_uid: &str) -> String {
        format!("px{}", hex(&Sha256::digest(format!("{}/{router_uid}", self.mark))[..6]))
    }

    /// The namespace in which is tried what this machine can do.
    pub fn trial(&self) -> String {
        format!("{}trial", self.namespace_prefix())
    }

    /// First user id that is this host's to give.
    pub fn first_id(&self) -> u32 {
        self.first_id
    }
}

/// The namespace of an instance's switch, which belongs to none of its hosts.
pub fn switch(instance: &str) -> String {
    format!("photon-{}-switch", hex(&Sha256::digest(instance)[..4]))
}

/// A router's cable at the bridge of a network, by the port that holds its address; 14 characters. Not named as a guest's tap is:
/// what it says is not its own.
pub fn leg(port_uid: &str) -> String {
    format!("{LEG}{}", short(port_uid))
}

/// The other end of that cable, in the router's namespace; 14 characters.
pub fn inner_leg(port_uid: &str) -> String {
    format!("rl{}", short(port_uid))
}

/// Whether a link at a network's bridge is a router's.
pub fn is_leg(link: &str) -> bool {
    link.strip_prefix(LEG).is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The router's end of its way out; 14 characters.
pub fn way_out(router_uid: &str) -> String {
    format!("ux{}", short(router_uid))
}

/// Table of a router's way out.
pub fn translation(router_uid: &str) -> String {
    format!("nt{}", short(router_uid))
}

/// Tunnel of a network; 14 characters.
pub fn tunnel(network_uid: &str) -> String {
    format!("vx{}", short(network_uid))
}

/// Table of a network in the packet filter.
pub fn filter(network_uid: &str) -> String {
    format!("pf{}", short(network_uid))
}

/// Tables of a network that enforce its groups.
pub fn firewall(network_uid: &str) -> String {
    format!("fw{}", short(network_uid))
}

/// Tables of a network that share out connections.
pub fn balancer(network_uid: &str) -> String {
    format!("lb{}", short(network_uid))
}

/// Bridge of a network; 14 of the 15 characters an interface may have.
pub fn bridge(network_uid: &str) -> String {
    format!("br{}", short(network_uid))
}

/// Tap of a port; 15 characters.
pub fn tap(port_uid: &str) -> String {
    format!("tap{}", short(port_uid))
}

/// Serial by which a guest finds a volume: what fits into virtio's 20 bytes.
pub fn serial(volume: &str) -> String {
    volume.chars().take(20).collect()
}

/// Twelve hexadecimal digits that stand for a UID: its own first ones, so that people can match them up.
fn short(uid: &str) -> String {
    let digits: String = uid.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    if digits.len() == 12 { digits.to_ascii_lowercase() } else { hex(&Sha256::digest(uid)[..6]) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6F1c2d3e-4a5b-4c6d-8e7f-001122334455";

    #[test]
    fn names_fit_an_interface_and_differ_by_host_and_instance() {
        assert_eq!(bridge(UID), "br6f1c2d3e4a5b");
        assert_eq!(tap(UID).len(), 15);
        assert_eq!(tunnel(UID), "vx6f1c2d3e4a5b");
        assert!(is_leg(&leg(UID)) && !is_leg(&tap(UID)) && !is_leg(&inner_leg(UID)) && !is_leg("rtc0"));
        assert_eq!(tap("odd").len(), 15);
        let one = Names::new("a", "host0");
        assert!(one.cell(UID).starts_with(&one.namespace_prefix()));
        assert_ne!(one.underlay(), Names::new("a", "host1").underlay());
        assert_ne!(one.underlay(), Names::new("b", "host0").underlay());
        assert_eq!(one.switch(), Names::new("a", "host1").switch(), "the hosts of an instance share one");
        assert_ne!(one.switch(), Names::new("b", "host0").switch());
        assert_ne!(one.way_end(UID), Names::new("a", "host1").way_end(UID), "it may be on two at once");
        assert_eq!((one.way_end(UID).len(), way_out(UID).len()), (14, 14));
        assert_eq!(one, Names::new("a", "host0"), "a restart finds what is there");
        assert!(one.first_id() < i32::MAX as u32 - IDS_PER_HOST);
        assert_eq!(serial("node05-data-of-the-first-kind"), "node05-data-of-the-f");
    }
}
