//! ServiceIP: its address, from the ranges that its network's Ports have theirs from.
//!
//! The address stands in the status. Whoever has it there has it: Ports get no such address any more, and neither do other
//! ServiceIPs. Agents answer for it on the hosts that carry the network. A floating one has its address of an ExternalNetwork ([`floating`]).

mod floating;

use crate::subnet::{Giving, Others, Problem};
use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{ExternalNetwork, Port, Router, ServiceIP, ServiceIPStatus, Subnets, TenantNetwork, condition};
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct ServiceIPs {
    client: Client,
    giving: Giving,
}

/// Runs the reconciler until `shutdown`. One at a time, because addresses are handed out here.
pub async fn run(client: Client, giving: Giving, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<ServiceIP>::all(client.clone()), shutdown);
    let (of_port, of_network, others) = (control.cache(), control.cache(), control.cache());
    let (of_router, of_external) = (control.cache(), control.cache());
    // An address that went may be the one that somebody waits for.
    control
        .wakes(Api::<Port>::all(client.clone()), move |port: &Port| {
            of_port.names(|one: &ServiceIP| waits(one) && is_on(one, port.namespace(), &port.spec.network))
        })
        .wakes(Api::<TenantNetwork>::all(client.clone()), move |network: &TenantNetwork| {
            of_network.names(|one: &ServiceIP| waits(one) && is_on(one, network.namespace(), &network.name_any()))
        })
        .wakes(Api::<Router>::all(client.clone()), move |router: &Router| {
            let namespace = router.namespace();
            of_router.names(|one: &ServiceIP| one.spec.external_network.is_some() && one.namespace() == namespace)
        })
        .wakes(Api::<ExternalNetwork>::all(client.clone()), move |external: &ExternalNetwork| {
            let name = external.name_any();
            of_external.names(|one: &ServiceIP| one.spec.external_network.as_ref() == Some(&name))
        })
        .wakes_kin(move |changed: &ServiceIP| {
            let (name, namespace, network) = (changed.name_any(), changed.namespace(), changed.spec.network.clone());
            others.names(|one: &ServiceIP| {
                waits(one) && one.name_any() != name && is_on(one, namespace.clone(), &network)
            })
        })
        .run(ServiceIPs { client, giving }, Pace::at_once(1).gathering(GATHER))
        .await;
}

/// Whether it looks at its network again: one without an address waits for one, a floating one follows its Port.
fn waits(one: &ServiceIP) -> bool {
    one.address().is_none()
}

fn is_on(one: &ServiceIP, namespace: Option<String>, network: &str) -> bool {
    one.namespace() == namespace && one.spec.network == network
}

impl Reconciler for ServiceIPs {
    type Kind = ServiceIP;
    type Error = Error;

    async fn reconcile(&self, service: Arc<ServiceIP>) -> Result<Action, Error> {
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let services: Api<ServiceIP> = write::api_of(&self.client, service.as_ref())?;
        if let Some(external) = &service.spec.external_network {
            return self.float(&services, &service, external).await;
        }
        let name = &service.spec.network;
        let networks: Api<TenantNetwork> = write::api_of(&self.client, service.as_ref())?;
        let network = networks.get_opt(name).await.map_err(Error::api(format!("read TenantNetwork {name}")))?;
        let giving = self.giving.lock().await;
        let on_it = ListParams::default().fields(&format!("spec.network={name}"));
        let ports: Api<Port> = write::api_of(&self.client, service.as_ref())?;
        let ports = ports.list(&on_it).await.map_err(Error::api("list Ports"))?.items;
        let mut others = services.list(&on_it).await.map_err(Error::api("list ServiceIPs"))?.items;
        others.retain(|other| other.name_any() != service.name_any());
        let address = match network.as_ref().map(|network| Subnets::of(&network.spec)) {
            None => Err(Problem::network_not_found(name)),
            Some(Err(why)) => Err(Problem::invalid_network(name, &why)),
            Some(Ok(subnets)) => address(&service, &Others { ports: &ports, services: &others, subnets: &subnets }),
        };
        write::status(&services, &service, status(&service, address)).await?;
        drop(giving);
        Ok(Action::await_change())
    }
}

/// The address that it has, or asks for, or the lowest free one.
fn address(service: &ServiceIP, others: &Others<'_>) -> Result<Ipv4Addr, Problem> {
    match (service.address(), &service.spec.ip) {
        (Some(had), _) => Ok(had),
        (None, Some(text)) => others.asked(text, service.spec.subnet.as_deref()),
        (None, None) => others.free(service.spec.subnet.as_deref()),
    }
}

fn status(service: &ServiceIP, address: Result<Ipv4Addr, Problem>) -> ServiceIPStatus {
    let generation = service.metadata.generation;
    let mut status = service.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    match address {
        Ok(address) => {
            status.ip = Some(address.to_string());
            condition::set(&mut status.conditions, condition::READY, true, "Allocated", "", generation);
        }
        Err(problem) => problem.tell(&mut status.conditions, generation),
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str, ip: Option<&str>) -> ServiceIP {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "ServiceIP",
            "metadata": {"name": name, "generation": 1}, "spec": {"network": "n", "ip": ip}}))
        .unwrap()
    }

    fn port(name: &str, ip: &str) -> Port {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port",
            "metadata": {"name": name}, "spec": {"network": "n", "ip": ip, "mac": "52:54:00:00:00:01"}}))
        .unwrap()
    }

    fn subnets() -> Subnets {
        Subnets::of(&serde_json::from_value(json!({"subnet": "10.0.0.0/29"})).unwrap()).unwrap()
    }

    #[test]
    fn a_network_of_ipv6_alone_has_none_to_give() {
        let spec = json!({"subnets": [{"name": "made", "cidr": "fd00::/64"}]});
        let subnets = Subnets::of(&serde_json::from_value(spec).unwrap()).unwrap();
        let others = Others { ports: &[], services: &[], subnets: &subnets };
        let refused = address(&service("s", None), &others).unwrap_err();
        assert_eq!(
            (refused.reason, refused.message.as_str()),
            ("NoIPv4Subnet", "spec.network: the network has no IPv4 subnet")
        );
    }

    #[test]
    fn it_gets_what_is_free_keeps_it_and_is_refused_what_is_not() {
        let ports = [port("p", "10.0.0.2")];
        let mut first = service("first", None);
        let subnets = subnets();
        let others = |services| Others { ports: &ports, services, subnets: &subnets };
        first.status = Some(status(&first, address(&first, &others(&[]))));
        assert_eq!(first.status.as_ref().unwrap().ip.as_deref(), Some("10.0.0.3"));
        assert_eq!(Some(status(&first, address(&first, &others(&[])))), first.status, "a second look says nothing new");

        let services = [first];
        let refused = |ip: &str| address(&service("next", Some(ip)), &others(&services)).unwrap_err().message;
        assert_eq!(refused("10.0.0.2"), "spec.ip: 10.0.0.2 is taken by Port p");
        assert_eq!(refused("10.0.0.3"), "spec.ip: 10.0.0.3 is taken by ServiceIP first");
        assert_eq!(refused("10.0.0.1"), "spec.ip: 10.0.0.1 is the network's own address");
        assert_eq!(refused("10.0.0.8"), "spec.ip: 10.0.0.8 is not a usable address of 10.0.0.0/29");
    }

    #[test]
    fn a_full_range_says_so() {
        let ports: Vec<Port> = (2..7).map(|last| port(&format!("p{last}"), &format!("10.0.0.{last}"))).collect();
        let subnets = subnets();
        let others = Others { ports: &ports, services: &[], subnets: &subnets };
        let told = status(&service("s", None), address(&service("s", None), &others));
        assert_eq!((told.ip, told.conditions[0].reason.as_str()), (None, "SubnetExhausted"));
    }
}
