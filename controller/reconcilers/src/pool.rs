//! Who has which address of the ExternalNetworks: Routers and floating ServiceIPs of all namespaces. Pure.

use crate::subnet::Problem;
use crds::{ExternalNetwork, Router, ServiceIP};
use kube::{Resource, ResourceExt};
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// An ExternalNetwork, and everybody who has or may have an address of one.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    /// It.
    pub external: &'a ExternalNetwork,
    /// All Routers.
    pub routers: &'a [Router],
    /// All ServiceIPs.
    pub services: &'a [ServiceIP],
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// UID of the object.
    pub uid: &'a str,
    /// The address that it had until now.
    pub had: Option<Ipv4Addr>,
    /// The address that its spec names.
    pub asked: Option<&'a str>,
    /// Where it names it.
    pub field: &'static str,
}

impl Pool<'_> {
    /// The asker's address: the one that it had as long as its spec names no other, the one that it names, or the lowest free one.
    ///
    /// # Errors
    /// [`Problem`]: it is none of the range, somebody has it, or none is left.
    pub fn give(&self, asker: &Asker<'_>) -> Result<Ipv4Addr, Problem> {
        let (name, spec) = (self.external.name_any(), &self.external.spec);
        let held = self.held(asker.uid);
        let holder = |ip: Ipv4Addr| held.iter().find(|(address, _)| *address == ip).map(|(_, who)| who);
        let bad = |reason, message: String| Err(Problem { reason, message: format!("{}: {message}", asker.field) });
        if let Some(text) = asker.asked {
            let Some(ip) = text.parse::<Ipv4Addr>().ok().filter(|ip| spec.is_usable(*ip)) else {
                let message = format!("{text} is not a usable address of {} (ExternalNetwork {name})", spec.cidr);
                return bad("InvalidAddress", message);
            };
            return match holder(ip) {
                Some(who) => bad("AddressTaken", format!("{ip} is taken by {who}")),
                None => Ok(ip),
            };
        }
        if let Some(had) = asker.had.filter(|had| spec.is_usable(*had) && holder(*had).is_none()) {
            return Ok(had);
        }
        let taken: HashSet<Ipv4Addr> = held.iter().map(|(ip, _)| *ip).chain(self.asked(asker.uid)).collect();
        spec.given().find(|ip| !taken.contains(ip)).ok_or_else(|| Problem {
            reason: "PoolExhausted",
            message: format!("no free address is left in ExternalNetwork {name} ({})", spec.cidr),
        })
    }

    /// Who else has an address, of whichever ExternalNetwork: two of them may have a range in common.
    fn held(&self, but: &str) -> Vec<(Ipv4Addr, String)> {
        let routers = self.routers.iter().filter(|one| one.metadata.uid.as_deref() != Some(but)).filter_map(|router| {
            let external = router.status.as_ref()?.external.as_ref()?;
            Some((external.address.parse().ok()?, called("Router", router)))
        });
        let services = self.services.iter().filter(|one| one.metadata.uid.as_deref() != Some(but));
        let services = services.filter_map(|one| Some((one.floating()?, called("ServiceIP", one))));
        routers.chain(services).collect()
    }

    /// What others name and have not got yet.
    fn asked(&self, but: &str) -> impl Iterator<Item = Ipv4Addr> {
        let routers = self.routers.iter().filter(move |one| one.metadata.uid.as_deref() != Some(but));
        let routers = routers.filter_map(|router| router.spec.external.as_ref()?.ip.as_ref());
        let services = self.services.iter().filter(move |one| one.metadata.uid.as_deref() != Some(but));
        let services = services.filter(|one| one.spec.external_network.is_some());
        routers.chain(services.filter_map(|one| one.spec.ip.as_ref())).filter_map(|text| text.parse().ok())
    }
}

fn called(kind: &str, object: &impl Resource) -> String {
    format!("{kind} {}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn external(cidr: &str) -> ExternalNetwork {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "ExternalNetwork",
            "metadata": {"name": "x"}, "spec": {"cidr": cidr}}))
        .unwrap()
    }

    fn router(has: &str) -> Router {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router",
            "metadata": {"name": "r", "namespace": "t", "uid": "r"}, "spec": {"networks": ["n"]},
            "status": {"external": {"network": "x", "address": has}}}))
        .unwrap()
    }

    fn floating(name: &str, asks: Option<&str>, has: Option<&str>) -> ServiceIP {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "ServiceIP",
            "metadata": {"name": name, "namespace": "u", "uid": name},
            "spec": {"network": "n", "externalNetwork": "x", "port": "p", "ip": asks}, "status": {"ip": has}}))
        .unwrap()
    }

    #[test]
    fn nobody_gets_what_another_has_or_names_whatever_its_namespace() {
        let external = external("203.0.113.0/29");
        let routers = [router("203.0.113.1")];
        let services = [floating("s", None, Some("203.0.113.2")), floating("named", Some("203.0.113.3"), None)];
        let pool = Pool { external: &external, routers: &routers, services: &services };
        let give = |uid, had: Option<&str>, asked| {
            let had = had.map(|text| text.parse().unwrap());
            let given = pool.give(&Asker { uid, had, asked, field: "spec.ip" });
            given.map(|ip| ip.to_string()).map_err(|problem| problem.message)
        };
        assert_eq!(give("new", None, None).as_deref(), Ok("203.0.113.4"));
        assert_eq!(give("new", Some("203.0.113.5"), None).as_deref(), Ok("203.0.113.5"), "it keeps what it had");
        assert_eq!(give("new", Some("203.0.113.1"), None).as_deref(), Ok("203.0.113.4"), "but not another's");
        assert_eq!(give("named", None, Some("203.0.113.3")).as_deref(), Ok("203.0.113.3"));
        let refused = |asked| give("new", None, Some(asked)).unwrap_err();
        assert_eq!(refused("203.0.113.1"), "spec.ip: 203.0.113.1 is taken by Router t/r");
        assert_eq!(refused("203.0.113.2"), "spec.ip: 203.0.113.2 is taken by ServiceIP u/s");
        assert!(refused("203.0.113.7").contains("not a usable address of 203.0.113.0/29 (ExternalNetwork x)"));
    }

    #[test]
    fn a_full_range_says_so() {
        let (external, routers) = (external("203.0.113.9/32"), [router("203.0.113.9")]);
        let pool = Pool { external: &external, routers: &routers, services: &[] };
        let problem = pool.give(&Asker { uid: "new", had: None, asked: None, field: "spec.ip" }).unwrap_err();
        assert_eq!((problem.reason, problem.message.contains("no free address")), ("PoolExhausted", true));
    }
}
