//! TenantNetwork: its VNI and gateway, and no deletion while Ports are on it.

mod plan;

use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{Port, TenantNetwork};
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Keeps a network until its last Port is gone: agents need it to take the ports down.
const FINALIZER: &str = "photoncloud.dev/ports";

/// Between two counts of a network's Ports. Every Port wakes its network, and counting them all each time would make
/// the ten-thousandth Port cost a hundred times what the hundredth did.
const COUNT_AGAIN: Duration = Duration::from_secs(1);

struct Networks {
    client: Client,
    counted: Counted,
}

/// When each network's Ports were counted last, by UID.
#[derive(Default)]
struct Counted(Mutex<HashMap<String, Instant>>);

impl Counted {
    /// How long to wait until the next count; none when it is due, which is then taken to be done.
    fn wait(&self, uid: &str, now: Instant) -> Option<Duration> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = counted.get(uid).map(|last| *last + COUNT_AGAIN).filter(|next| *next > now);
        if next.is_none() {
            // Whoever is not counted for that long has gone, or is due anyway.
            counted.retain(|_, last| *last + COUNT_AGAIN > now);
            counted.insert(uid.to_owned(), now);
        }
        next.map(|next| next - now)
    }
}

/// Runs the reconciler until `shutdown`. One at a time, because VNIs are handed out here.
pub async fn run(client: Client, shutdown: CancellationToken) {
    ControlLoop::new(Api::<TenantNetwork>::all(client.clone()), shutdown)
        .wakes(Api::<Port>::all(client.clone()), |port: &Port| {
            port.namespace()
                .map(|namespace| ObjectRef::new(&port.spec.network).within(&namespace))
                .into_iter()
                .collect()
        })
        .run(Networks { client, counted: Counted::default() }, Pace::at_once(1).gathering(GATHER))
        .await;
}

impl Reconciler for Networks {
    type Kind = TenantNetwork;
    type Error = Error;

    async fn reconcile(&self, network: Arc<TenantNetwork>) -> Result<Action, Error> {
        if plan::only_counts(&network)
            && let Some(wait) = self.counted.wait(&network.uid().unwrap_or_default(), Instant::now())
        {
            return Ok(Action::requeue(wait));
        }
        let networks: Api<TenantNetwork> = write::api_of(&self.client, network.as_ref())?;
        let ports: Api<Port> = write::api_of(&self.client, network.as_ref())?;
        let on_it = ListParams::default().fields(&format!("spec.network={}", network.name_any()));
        let ports = ports.list(&on_it).await.map_err(Error::api("list Ports"))?.items;
        let kept = network.finalizers().iter().any(|f| f == FINALIZER);
        if network.metadata.deletion_timestamp.is_some() {
            if kept && ports.is_empty() {
                let rest: Vec<&String> = network.finalizers().iter().filter(|f| *f != FINALIZER).collect();
                let patch = serde_json::json!({"metadata": {"finalizers": rest}});
                write::merge(&networks, network.as_ref(), patch).await?;
            }
            return Ok(Action::await_change());
        }
        if !kept {
            let mut all = network.finalizers().to_vec();
            all.push(FINALIZER.to_owned());
            // The write wakes this reconcile again, with the finalizer in place.
            write::merge(&networks, network.as_ref(), serde_json::json!({"metadata": {"finalizers": all}})).await?;
            return Ok(Action::await_change());
        }
        let vni = match network.status.as_ref().and_then(|s| s.vni) {
            Some(vni) => Ok(vni),
            None => {
                let everyone: Api<TenantNetwork> = Api::all(self.client.clone());
                let all = everyone.list(&ListParams::default()).await.map_err(Error::api("list TenantNetworks"))?.items;
                plan::free_vni(all.iter().filter_map(|n| n.status.as_ref()?.vni))
            }
        };
        let live = ports.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).count();
        write::status(&networks, &network, plan::status(&network, vni, live)).await?;
        Ok(Action::await_change())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_ports_is_counted_once_a_second_and_no_count_is_lost() {
        let (counted, start) = (Counted::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(counted.wait("a", at(0)), None);
        assert_eq!(
            counted.wait("a", at(400)),
            Some(Duration::from_millis(600)),
            "the requeue counts what came meanwhile"
        );
        assert_eq!(counted.wait("b", at(400)), None, "networks do not wait for each other");
        assert_eq!(counted.wait("a", at(1000)), None);
        assert_eq!(counted.wait("a", at(1100)), Some(Duration::from_millis(900)));
    }
}
