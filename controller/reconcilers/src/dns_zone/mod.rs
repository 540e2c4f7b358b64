//! DNSZone: of two with one domain in a namespace the older is served.
//!
//! It is served by the agents, each on its host; there are many of them, so what it is comes from here.

use crate::{Error, GATHER, write};
use control_loop::{Cache, ControlLoop, Pace, Reconciler};
use crds::{DNSZone, DNSZoneStatus, condition};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Zones {
    client: Client,
    zones: Cache<DNSZone>,
}

/// Runs the reconciler until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<DNSZone>::all(client.clone()), shutdown);
    let (zones, others) = (control.cache(), control.cache());
    control
        .wakes_kin(move |changed: &DNSZone| {
            let (name, changed) = (changed.name_any(), changed.clone());
            others.names(|zone| zone.name_any() != name && are_rivals(zone, &changed))
        })
        .run(Zones { client, zones }, Pace::at_once(8).gathering(GATHER))
        .await;
}

fn are_rivals(one: &DNSZone, other: &DNSZone) -> bool {
    one.namespace() == other.namespace() && one.spec.domain == other.spec.domain
}

impl Reconciler for Zones {
    type Kind = DNSZone;
    type Error = Error;

    async fn reconcile(&self, zone: Arc<DNSZone>) -> Result<Action, Error> {
        let rivals = self.zones.pick(write::namespace_of(zone.as_ref())?, |other| are_rivals(other, &zone));
        let api: Api<DNSZone> = write::api_of(&self.client, zone.as_ref())?;
        write::status(&api, &zone, status(&zone, &rivals)).await?;
        Ok(Action::await_change())
    }
}

/// The zone's status beside all zones with its domain.
fn status(zone: &DNSZone, rivals: &[Arc<DNSZone>]) -> DNSZoneStatus {
    let generation = zone.metadata.generation;
    let mut status = zone.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    let age = |zone: &DNSZone| (zone.metadata.creation_timestamp.as_ref().map(|time| time.0), zone.name_any());
    let older = rivals.iter().filter(|other| age(other) < age(zone)).min_by_key(|other| age(other));
    let (ready, reason, message) = match older {
        Some(older) => (false, "DomainTaken", format!("DNSZone {}, which is older, has this domain", older.name_any())),
        None => (true, "Served", String::new()),
    };
    condition::set(&mut status.conditions, condition::READY, ready, reason, message, generation);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_two_with_one_domain_the_older_is_served() {
        let zone = |name: &str, second: u8| -> Arc<DNSZone> {
            let metadata =
                json!({"name": name, "namespace": "t", "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")});
            let object = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "DNSZone", "metadata": metadata,
                "spec": {"domain": "shop.internal"}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let all = [zone("b", 1), zone("a", 2), zone("c", 1)];
        let reasons: Vec<_> = all.iter().map(|one| status(one, &all).conditions[0].reason.clone()).collect();
        assert_eq!(reasons, ["Served", "DomainTaken", "DomainTaken"]);
        assert!(status(&all[1], &all).conditions[0].message.contains("DNSZone b"));
        let mut again = (*all[0]).clone();
        again.status = Some(status(&all[0], &all));
        assert_eq!(Some(status(&again, &all)), again.status, "a second look says nothing new");
    }
}
