//! LoadBalancer: what of it is served, told from the objects that the agents serve it by.
//!
//! Agents translate connections, each on its host; what all of them do follows from the LoadBalancer, its ServiceIP and the
//! Ports, in which each agent says who of its own answers. So the sum of it is told here, by one writer.

mod certificates;
mod status;

use crate::{Error, GATHER, write};
use control_loop::{Cache, ControlLoop, Pace, Reconciler};
use crds::load_balancer::judge::is_lost;
use crds::{Host, LoadBalancer, Port, ServiceIP};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PartialObjectMeta};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

struct LoadBalancers {
    client: Client,
    balancers: Cache<LoadBalancer>,
}

/// Runs the reconciler until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<LoadBalancer>::all(client.clone()), shutdown);
    let (balancers, by_port, by_service) = (control.cache(), control.cache(), control.cache());
    let (by_host, by_secret, kin, told) = (control.cache(), control.cache(), control.cache(), Told::default());
    control
        .wakes(Api::<Port>::all(client.clone()), move |port: &Port| {
            let namespace = port.namespace();
            by_port.names(|one: &LoadBalancer| one.namespace() == namespace && concerns(one, port))
        })
        .wakes(Api::<ServiceIP>::all(client.clone()), move |service: &ServiceIP| {
            let (name, namespace) = (service.name_any(), service.namespace());
            by_service.names(|one: &LoadBalancer| one.namespace() == namespace && one.spec.service_ip == name)
        })
        .wakes(Api::<Host>::all(client.clone()), move |host: &Host| {
            let news = told.is_news(host);
            by_host.names(|_: &LoadBalancer| news)
        })
        // Of all Secrets nothing is kept, and of their contents nothing is even read; of those that are named, what is needed is.
        .wakes(Api::<PartialObjectMeta<Secret>>::all(client.clone()), move |secret: &PartialObjectMeta<Secret>| {
            let (name, namespace) = (secret.name_any(), secret.namespace());
            by_secret.names(|one: &LoadBalancer| one.namespace() == namespace && one.secrets().contains(name.as_str()))
        })
        .wakes_kin(move |changed: &LoadBalancer| {
            let (name, changed) = (changed.name_any(), changed.clone());
            kin.names(|one: &LoadBalancer| one.name_any() != name && are_rivals(one, &changed))
        })
        .run(LoadBalancers { client, balancers }, Pace::at_once(4).gathering(GATHER))
        .await;
}

/// What hosts were heard to say that counts here, so that the rest of what they say wakes nobody.
#[derive(Default)]
struct Told(Mutex<HashMap<String, (bool, bool, bool)>>);

impl Told {
    fn is_news(&self, host: &Host) -> bool {
        let can = host.status.as_ref().map(|status| &status.capabilities);
        let (filters, proxies) = can.map_or((false, false), |can| (can.stateful_filter, !can.haproxy.is_empty()));
        let now = (is_lost(host), filters, proxies);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that goes is not heard of, and its Ports tell.
        told.insert(host.name_any(), now) != Some(now)
    }
}

/// Whether the Port counts there, or did.
fn concerns(one: &LoadBalancer, port: &Port) -> bool {
    let name = port.name_any();
    let told = one.status.as_ref().is_some_and(|status| status.backends.iter().any(|backend| backend.port == name));
    told || one.backend(port).is_some()
}

fn are_rivals(one: &LoadBalancer, other: &LoadBalancer) -> bool {
    one.namespace() == other.namespace() && one.spec.service_ip == other.spec.service_ip
}

impl Reconciler for LoadBalancers {
    type Kind = LoadBalancer;
    type Error = Error;

    async fn reconcile(&self, balancer: Arc<LoadBalancer>) -> Result<Action, Error> {
        if balancer.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let services: Api<ServiceIP> = write::api_of(&self.client, balancer.as_ref())?;
        let name = &balancer.spec.service_ip;
        let service = services.get_opt(name).await.map_err(Error::api(format!("read ServiceIP {name}")))?;
        let ports = match &service {
            Some(service) => {
                let ports: Api<Port> = write::api_of(&self.client, balancer.as_ref())?;
                let on_it = ListParams::default().fields(&format!("spec.network={}", service.spec.network));
                ports.list(&on_it).await.map_err(Error::api("list Ports"))?.items
            }
            None => Vec::new(),
        };
        let hosts: Api<Host> = Api::all(self.client.clone());
        let hosts = hosts.list(&ListParams::default()).await.map_err(Error::api("list Hosts"))?.items;
        let rivals = self.balancers.pick(write::namespace_of(balancer.as_ref())?, |one| are_rivals(one, &balancer));
        let secrets = self.read_secrets(&balancer).await?;
        let shown = certificates::Shown { secrets: &secrets, now: jiff::Timestamp::now().as_second() };
        let service = service.as_ref();
        let around = status::Around { service, ports: &ports, hosts: &hosts, rivals: &rivals, shown };
        let api: Api<LoadBalancer> = write::api_of(&self.client, balancer.as_ref())?;
        write::status(&api, &balancer, status::status(&balancer, &around)).await?;
        // That a certificate's time comes, or ends, is no event.
        Ok(shown.changes_in().map_or_else(Action::await_change, Action::requeue))
    }
}

impl LoadBalancers {
    /// What its Secrets hold, by name.
    async fn read_secrets(&self, balancer: &LoadBalancer) -> Result<BTreeMap<String, certificates::Found>, Error> {
        let api: Api<Secret> = write::api_of(&self.client, balancer)?;
        let mut all = BTreeMap::new();
        for name in balancer.secrets() {
            let secret = api.get_opt(name).await.map_err(Error::api(format!("read Secret {name}")))?;
            all.insert(name.to_owned(), certificates::Found::of(secret.as_ref()));
        }
        Ok(all)
    }
}
