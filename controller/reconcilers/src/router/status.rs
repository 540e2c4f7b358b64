//! What is told of a router. Pure.

use crate::subnet::Problem;
use crds::router::RouterInterface;
use crds::{Port, Router, RouterStatus, condition};
use kube::ResourceExt;

use super::plan::{Joined, Judged, leg};

/// Why a router that can be as it says does not work (yet).
fn waiting(router: &Router, networks: &[&str], legs: &[Port], host: &str) -> Option<(&'static str, String)> {
    for network in networks {
        let name = leg(router, network);
        let Some(port) = legs.iter().find(|port| port.name_any() == name) else {
            return Some(("InterfacePending", format!("Port {name} is being made")));
        };
        let ready = port.status.as_ref().and_then(|status| condition::find(&status.conditions, condition::READY));
        match ready {
            Some(ready) if ready.status == "True" && port.spec.host.as_deref() == Some(host) => {}
            Some(ready) if !ready.message.is_empty() => {
                return Some(("InterfaceNotReady", format!("Port {name}: {}", ready.message)));
            }
            _ => return Some(("InterfacePending", format!("Port {name} is not ready on {host} yet"))),
        }
    }
    None
}

/// The router's status, with what is in force by now. What was in force stays when the spec cannot be.
pub fn status(
    router: &Router,
    judged: Result<&Judged, &Problem>,
    host: Option<&str>,
    term: i64,
    legs: &[Port],
) -> RouterStatus {
    let generation = router.metadata.generation;
    let mut status = router.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.term = term;
    if let Some(host) = host {
        status.host = Some(host.to_owned());
    }
    if let Ok(Judged { joined, external }) = judged {
        status.external.clone_from(external);
        status.interfaces = joined.iter().filter_map(|one| interface(router, one, legs)).collect();
        status.static_routes.clone_from(&router.spec.static_routes);
    }
    let (ready, reason, message) = match (judged, host) {
        (Err(problem), _) => (false, problem.reason, problem.message.clone()),
        (Ok(judged), None) if judged.external.is_some() => {
            let remedy = "start an agent with --outside (clusterctl up --outside NETNS)";
            (false, "NoReadyHost", format!("no ready host knows where outside is: {remedy}"))
        }
        (Ok(_), None) => (false, "NoReadyHost", "no host is ready to have the router".to_owned()),
        (Ok(judged), Some(host)) => {
            let networks: Vec<&str> = judged.joined.iter().map(|one| one.network.as_str()).collect();
            match waiting(router, &networks, legs, host) {
                Some((reason, message)) => (false, reason, message),
                None => (true, "Routing", String::new()),
            }
        }
    };
    condition::set(&mut status.conditions, condition::READY, ready, reason, message, generation);
    status
}

/// Its place in the network, once its Port has an address.
fn interface(router: &Router, joined: &Joined, legs: &[Port]) -> Option<RouterInterface> {
    let name = leg(router, &joined.network);
    let port = legs.iter().find(|port| port.name_any() == name)?;
    let address = port.spec.ip.clone().filter(|_| port.spec.mac.is_some())?;
    let ranges = joined.subnets.all().map(|subnet| subnet.range.to_string()).collect();
    Some(RouterInterface { network: joined.network.clone(), port: name, address, ranges })
}

#[cfg(test)]
mod tests {
    use super::super::plan::judge;
    use super::*;
    use serde_json::json;

    fn router() -> Router {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router",
            "metadata": {"name": "r", "generation": 3}, "spec": {"networks": ["a"]}}))
        .unwrap()
    }

    fn port(host: &str, ready: &str) -> Port {
        serde_json::from_value(
            json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port", "metadata": {"name": "r.a"},
            "spec": {"network": "a", "ip": "10.1.0.2", "mac": "52:54:00:00:00:01", "host": host},
            "status": {"conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
        )
        .unwrap()
    }

    #[test]
    fn it_is_ready_when_its_ports_are_where_it_is_and_a_refusal_leaves_in_force_what_was() {
        let network = serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "TenantNetwork",
            "metadata": {"name": "a"}, "spec": {"subnet": "10.1.0.0/24"}}));
        let mut router = router();
        let joined = judge(&router, &[network.unwrap()], &[]).unwrap();
        let judged = Judged { joined, external: None };
        let told = |router: &Router, legs: &[Port]| {
            let status = status(router, Ok(&judged), Some("h1"), 1, legs);
            (status.conditions[0].reason.clone(), status)
        };
        assert_eq!(told(&router, &[]).0, "InterfacePending");
        assert_eq!(told(&router, &[port("h2", "True")]).0, "InterfacePending", "it is still said of another host");
        let (reason, now) = told(&router, &[port("h1", "True")]);
        assert_eq!((reason.as_str(), now.interfaces[0].address.as_str()), ("Routing", "10.1.0.2"));
        router.status = Some(now.clone());
        assert_eq!(told(&router, &[port("h1", "True")]).1, now, "a second look says nothing new");
        let problem = Problem { reason: "SubnetsOverlap", message: "spec.networks[1]: no".to_owned() };
        let refused = status(&router, Err(&problem), Some("h1"), 1, &[]);
        assert_eq!((refused.interfaces, refused.conditions[0].reason.as_str()), (now.interfaces, "SubnetsOverlap"));
    }
}
