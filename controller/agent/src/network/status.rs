//! The port's status. Pure.

use std::sync::Arc;

use crds::condition::{READY, set};
use crds::{Port, PortStatus, TenantNetwork};
use kube::ResourceExt;

use super::cells::Done;
use crate::names;

/// Reason of a port whose deletion waits for the machine that uses it.
pub const IN_USE: &str = "InUse";

/// Reason of a port that has no address yet.
pub const ADDRESS_PENDING: &str = "AddressPending";

/// What a port waits for before anything can be done for it.
pub struct Pending {
    /// PascalCase cause.
    pub reason: &'static str,
    /// Sentence with the remedy.
    pub message: String,
}

/// What is missing, if anything.
pub fn pending(port: &Port, network: &Option<Arc<TenantNetwork>>) -> Option<Pending> {
    let Some(network) = network else {
        let message = format!(
            "There is no TenantNetwork {} in this namespace: create it, or make the port anew with another network.",
            port.spec.network
        );
        return Some(Pending { reason: "NetworkNotFound", message });
    };
    let missing = !port.spec.is_addressed(network.spec.is_of_six_alone());
    missing.then(|| Pending { reason: ADDRESS_PENDING, message: "The port has no address yet.".to_owned() })
}

/// The port works.
pub fn ready(port: &Port, netns: String) -> PortStatus {
    let device = names::tap(&port.uid().unwrap_or_default());
    status(port, Some((device, netns)), true, "Realised", String::new())
}

/// What becomes of a router's place: it works once its cable is here.
pub fn of_leg(port: &Port, done: &Done) -> PortStatus {
    let uid = port.uid().unwrap_or_default();
    match done.legs.contains(&uid) {
        true => status(port, Some((names::leg(&uid), done.netns.clone())), true, "Realised", String::new()),
        false => not_ready(port, "RouterPending", "The router is not heard to be on this host yet.".to_owned()),
    }
}

/// The port does not work.
pub fn not_ready(port: &Port, reason: &str, message: String) -> PortStatus {
    let before = port.status.clone().unwrap_or_default();
    status(port, before.device.zip(before.netns), false, reason, message)
}

fn status(port: &Port, place: Option<(String, String)>, holds: bool, reason: &str, message: String) -> PortStatus {
    let mut conditions = port.status.clone().unwrap_or_default().conditions;
    let generation = port.metadata.generation;
    set(&mut conditions, READY, holds, reason, message, generation);
    let (device, netns) = place.unzip();
    let backend_health = port.status.clone().unwrap_or_default().backend_health;
    PortStatus { observed_generation: generation, device, netns, backend_health, conditions }
}

#[cfg(test)]
mod tests {
    use super::super::plan::samples;
    use super::*;

    #[test]
    fn saying_the_same_again_changes_nothing() {
        let mut port = (*samples::port(2)).clone();
        let first = ready(&port, "ns".into());
        port.status = Some(first.clone());
        assert_eq!(ready(&port, "ns".into()), first);
        let broken = not_ready(&port, "LinkFailed", "failed".into());
        assert_eq!(broken.device.as_deref(), Some("tapaaaaaaaabb02"), "where it was is still told");
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut port = (*samples::port(2)).clone();
        let network = Some(Arc::new(samples::network()));
        assert!(pending(&port, &network).is_none());
        assert_eq!(pending(&port, &None).unwrap().reason, "NetworkNotFound");
        port.spec.ip = None;
        assert_eq!(pending(&port, &network).unwrap().reason, "AddressPending");
    }
}
