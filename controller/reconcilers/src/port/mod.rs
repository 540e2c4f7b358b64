//! Port: its addresses, its MAC, and the host of the machine that uses it.
//!
//! They are written together, with the machine's name, as parts of the spec: the agent owns the status from then on. Until then this
//! reconciler may say in the status why a Port has no address.

mod plan;

use crate::subnet::{Giving, Others, Problem};
use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{Port, ServiceIP, Subnets, TenantNetwork, VirtualMachine};
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use plan::Addresses;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

struct Ports {
    client: Client,
    giving: Giving,
    six: Six,
}

/// Namespaces and names of the networks with IPv6, and whether they have it alone: a Port there that has no address of it yet gets one,
/// and no other Port is asked about.
#[derive(Clone, Default)]
struct Six(Arc<Mutex<HashMap<(String, String), bool>>>);

impl Six {
    /// Notes what a network is; whether it has IPv6.
    fn hear(&self, network: &TenantNetwork) -> bool {
        let name = (network.namespace().unwrap_or_default(), network.name_any());
        let is = network.spec.subnets.iter().any(crds::network::SubnetSpec::is_six);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is {
            all.insert(name, network.spec.is_of_six_alone())
        } else {
            all.remove(&name)
        };
        is
    }

    /// Whether the Port's network has it, and if so, whether alone.
    fn of(&self, port: &Port) -> Option<bool> {
        let name = (port.namespace().unwrap_or_default(), port.spec.network.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied()
    }
}

/// Runs the reconciler until `shutdown`. One at a time, because addresses are handed out here.
pub async fn run(client: Client, giving: Giving, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<Port>::all(client.clone()), shutdown);
    let ports = control.cache();
    let six = Six::default();
    let heard = six.clone();
    control
        .wakes(Api::<VirtualMachine>::all(client.clone()), ports_of)
        .wakes(Api::<TenantNetwork>::all(client.clone()), move |network: &TenantNetwork| {
            let has_six = heard.hear(network);
            ports.names(|port| {
                (port.spec.mac.is_none() || has_six && port.spec.ipv6.is_none())
                    && port.namespace() == network.namespace()
                    && port.spec.network == network.name_any()
            })
        })
        .run(Ports { client, giving, six }, Pace::at_once(1).gathering(GATHER))
        .await;
}

fn ports_of(machine: &VirtualMachine) -> Vec<ObjectRef<Port>> {
    let namespace = machine.namespace().unwrap_or_default();
    machine.spec.interfaces.iter().map(|i| ObjectRef::new(&i.port).within(&namespace)).collect()
}

impl Reconciler for Ports {
    type Kind = Port;
    type Error = Error;

    async fn reconcile(&self, port: Arc<Port>) -> Result<Action, Error> {
        if port.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let ports: Api<Port> = write::api_of(&self.client, port.as_ref())?;
        let mut giving = None;
        let six = self.six.of(&port);
        let addresses = match &port.spec.mac {
            Some(mac) if port.spec.is_addressed(six == Some(true)) => {
                let spec = &port.spec;
                let mut had = Addresses { ip: spec.ip.clone(), mac: mac.clone(), ipv6: spec.ipv6.clone() };
                if six.is_some() && spec.ipv6.is_none() {
                    giving = Some(self.giving.lock().await);
                    had.ipv6 = give_six(&self.client, &ports, &port, mac).await?;
                }
                Ok(had)
            }
            _ => {
                giving = Some(self.giving.lock().await);
                allocate(&self.client, &ports, &port).await?
            }
        };
        match addresses {
            Ok(Addresses { ip, mac, ipv6 }) => {
                let user = user_of(&self.client, &port).await?;
                let machine = user.as_ref().map(|(name, _)| name.clone());
                let host = user.map(|(_, host)| host).or_else(|| port.spec.host.clone());
                let mut wanted = port.spec.clone();
                (wanted.ip, wanted.mac, wanted.host, wanted.ipv6) = (ip, Some(mac), host, ipv6);
                if wanted != port.spec || machine.as_ref() != port.annotations().get(crds::MACHINE_ANNOTATION) {
                    let mut patch = serde_json::json!({
                        "metadata": {"annotations": {crds::MACHINE_ANNOTATION: machine}},
                        "spec": {"ip": wanted.ip, "mac": wanted.mac, "host": wanted.host},
                    });
                    if let Some(ipv6) = wanted.ipv6 {
                        patch["spec"]["ipv6"] = ipv6.into();
                    }
                    write::merge(&ports, port.as_ref(), patch).await?;
                }
            }
            Err(problem) => {
                write::status(&ports, &port, plan::refusal(&port, &problem)).await?;
            }
        }
        drop(giving);
        Ok(Action::await_change())
    }
}

/// All of a Port's addresses.
async fn allocate(client: &Client, ports: &Api<Port>, port: &Port) -> Result<plan::Allocation, Error> {
    beside_others(client, ports, port, |others| plan::allocate(port, others)).await
}

/// The IPv6 address of a Port whose network got IPv6 after it; what hinders that hinders nothing else of the Port.
async fn give_six(client: &Client, ports: &Api<Port>, port: &Port, mac: &str) -> Result<Option<String>, Error> {
    match beside_others(client, ports, port, |others| others.six(&port.spec, mac)).await? {
        Ok(given) => Ok(given.map(|ip| ip.to_string())),
        Err(Problem { reason, message }) => {
            tracing::warn!(port = port.name_any(), reason, message, "a Port gets no IPv6 address");
            Ok(None)
        }
    }
}

/// What is judged by who else is on the network.
async fn beside_others<T>(
    client: &Client,
    ports: &Api<Port>,
    port: &Port,
    judge: impl FnOnce(&Others<'_>) -> Result<T, Problem>,
) -> Result<Result<T, Problem>, Error> {
    let networks: Api<TenantNetwork> = write::api_of(client, port)?;
    let name = &port.spec.network;
    let Some(network) = networks.get_opt(name).await.map_err(Error::api(format!("read TenantNetwork {name}")))? else {
        return Ok(Err(Problem::network_not_found(name)));
    };
    let on_it = ListParams::default().fields(&format!("spec.network={name}"));
    let mut others = ports.list(&on_it).await.map_err(Error::api("list Ports"))?.items;
    others.retain(|other| other.name_any() != port.name_any());
    let services: Api<ServiceIP> = write::api_of(client, port)?;
    let services = services.list(&on_it).await.map_err(Error::api("list ServiceIPs"))?.items;
    Ok(match Subnets::of(&network.spec) {
        Err(why) => Err(Problem::invalid_network(name, &why)),
        Ok(subnets) => judge(&Others { ports: &others, services: &services, subnets: &subnets }),
    })
}

/// The machine that has this Port as an interface, once it has a host, and that host. Its name is written with the host, in
/// one write: hosts hear of the machines of others by their Ports alone.
async fn user_of(client: &Client, port: &Port) -> Result<Option<(String, String)>, Error> {
    let machines: Api<VirtualMachine> = write::api_of(client, port)?;
    let machines = machines.list(&ListParams::default()).await.map_err(Error::api("list VirtualMachines"))?;
    let name = port.name_any();
    let user = machines.items.into_iter().find(|m| m.spec.interfaces.iter().any(|i| i.port == name));
    Ok(user.and_then(|machine| Some((machine.name_any(), machine.spec.host?))))
}
