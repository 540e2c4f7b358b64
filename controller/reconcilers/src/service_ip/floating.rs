//! A floating address: of an ExternalNetwork, leading to a Port by the Router that joins both. The Router takes from the status where
//! it leads; the status says when it does.

use super::ServiceIPs;
use crate::pool::{Asker, Pool};
use crate::subnet::Problem;
use crate::{Error, write};
use crds::{ExternalNetwork, Port, Router, ServiceIP, ServiceIPStatus, condition};
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use std::net::Ipv4Addr;

impl ServiceIPs {
    pub(super) async fn float(
        &self,
        services: &Api<ServiceIP>,
        service: &ServiceIP,
        external: &str,
    ) -> Result<Action, Error> {
        let all = ListParams::default();
        let found = Api::<ExternalNetwork>::all(self.client.clone()).get_opt(external).await;
        let found = found.map_err(Error::api(format!("read ExternalNetwork {external}")))?;
        let name = service.spec.port.clone().unwrap_or_default();
        let ports: Api<Port> = write::api_of(&self.client, service)?;
        let port = ports.get_opt(&name).await.map_err(Error::api(format!("read Port {name}")))?;
        let giving = self.giving.lock().await;
        let routers = Api::<Router>::all(self.client.clone()).list(&all).await;
        let routers = routers.map_err(Error::api("list Routers"))?.items;
        let others = Api::<ServiceIP>::all(self.client.clone()).list(&all).await;
        let others = others.map_err(Error::api("list ServiceIPs"))?.items;
        let address = match &found {
            Some(external) => {
                let asker = Asker {
                    uid: service.metadata.uid.as_deref().unwrap_or_default(),
                    had: service.floating(),
                    asked: service.spec.ip.as_deref(),
                    field: "spec.ip",
                };
                Pool { external, routers: &routers, services: &others }.give(&asker)
            }
            None => {
                let message = format!("spec.externalNetwork: ExternalNetwork {external} does not exist");
                Err(Problem { reason: "ExternalNetworkNotFound", message })
            }
        };
        write::status(services, service, status(service, address, target(service, port.as_ref()), &routers)).await?;
        drop(giving);
        Ok(Action::await_change())
    }
}

/// Where it leads.
fn target(service: &ServiceIP, port: Option<&Port>) -> Result<Ipv4Addr, Problem> {
    let (name, network) = (service.spec.port.as_deref().unwrap_or_default(), &service.spec.network);
    let bad = |reason, message| Err(Problem { reason, message: format!("spec.port: Port {name} {message}") });
    match port.filter(|port| port.metadata.deletion_timestamp.is_none()) {
        None => bad("PortNotFound", "does not exist; create it".to_owned()),
        Some(port) if port.spec.network != *network => {
            bad("PortNotFound", format!("is on TenantNetwork {}, not on {network}", port.spec.network))
        }
        Some(port) => match port.spec.ip.as_ref().and_then(|ip| ip.parse().ok()) {
            Some(address) if port.spec.mac.is_some() => Ok(address),
            _ => bad("PortPending", "has no IPv4 address yet".to_owned()),
        },
    }
}

/// What is given stands, and is led to the Port as soon as there is one. It is ready when a Router says that it does so.
fn status(
    service: &ServiceIP,
    address: Result<Ipv4Addr, Problem>,
    target: Result<Ipv4Addr, Problem>,
    routers: &[Router],
) -> ServiceIPStatus {
    let generation = service.metadata.generation;
    let mut status = service.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.target = target.as_ref().ok().map(ToString::to_string);
    let settled = address.and_then(|address| {
        status.ip = Some(address.to_string());
        Ok((address, target?))
    });
    match settled {
        Err(problem) => problem.tell(&mut status.conditions, generation),
        Ok((address, target)) => {
            let (address, target) = (address.to_string(), target.to_string());
            let leads = |router: &&Router| {
                let external = router.status.iter().filter_map(|status| status.external.as_ref());
                let mut floating = external.flat_map(|external| &external.floating);
                router.namespace() == service.namespace()
                    && floating.any(|one| one.address == address && one.target == target)
            };
            match routers.iter().find(leads) {
                Some(router) => {
                    let message = format!("Router {} leads it to {target}", router.name_any());
                    condition::set(&mut status.conditions, condition::READY, true, "Routed", message, generation);
                }
                None => {
                    let message = format!(
                        "no Router of this namespace leads {address} to TenantNetwork {}: one with spec.external.network {} must join it",
                        service.spec.network,
                        service.spec.external_network.as_deref().unwrap_or_default()
                    );
                    Problem { reason: "NoRouter", message }.tell(&mut status.conditions, generation);
                }
            }
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service() -> ServiceIP {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "ServiceIP",
            "metadata": {"name": "s", "namespace": "t", "generation": 1},
            "spec": {"network": "n", "externalNetwork": "x", "port": "p"}}))
        .unwrap()
    }

    fn port(spec: Value) -> Port {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port",
            "metadata": {"name": "p"}, "spec": spec}))
        .unwrap()
    }

    #[test]
    fn it_has_its_address_before_there_is_a_port_and_is_ready_once_a_router_leads_it() {
        let service = service();
        let given = || Ok([203, 0, 113, 7].into());
        let told = status(&service, given(), target(&service, None), &[]);
        assert_eq!((told.ip.as_deref(), told.conditions[0].reason.as_str()), (Some("203.0.113.7"), "PortNotFound"));
        let whole = port(json!({"network": "n", "ip": "10.0.0.5", "mac": "52:54:00:00:00:01"}));
        let told = status(&service, given(), target(&service, Some(&whole)), &[]);
        assert_eq!((told.target.as_deref(), told.conditions[0].reason.as_str()), (Some("10.0.0.5"), "NoRouter"));
        let router: Router = serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router",
            "metadata": {"name": "r", "namespace": "t"}, "spec": {"networks": ["n"]}, "status": {"external": {"network": "x",
            "address": "203.0.113.1", "floating": [{"address": "203.0.113.7", "serviceIP": "s", "target": "10.0.0.5"}]}}}))
        .unwrap();
        let told = status(&service, given(), target(&service, Some(&whole)), &[router]);
        assert_eq!((told.conditions[0].status.as_str(), told.conditions[0].reason.as_str()), ("True", "Routed"));
    }

    #[test]
    fn a_port_elsewhere_or_without_an_address_is_named() {
        let said = |spec: Value| target(&service(), Some(&port(spec))).unwrap_err();
        assert_eq!(said(json!({"network": "m"})).message, "spec.port: Port p is on TenantNetwork m, not on n");
        assert_eq!(said(json!({"network": "n", "ip": "10.0.0.5"})).reason, "PortPending");
    }
}
