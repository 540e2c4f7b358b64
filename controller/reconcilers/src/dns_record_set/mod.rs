//! DNSRecordSet: whether its records are served. The agents judge by the same rules ([`dns::judge`]) and serve at once,
//! without waiting for what is said here.

use crate::{Error, GATHER, write};
use control_loop::{Cache, ControlLoop, Pace, Reconciler};
use crds::{DNSRecordSet, DNSRecordSetStatus, DNSZone, condition};
use dns::{Candidate, Kind, judge};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct RecordSets {
    client: Client,
    sets: Cache<DNSRecordSet>,
}

/// Runs the reconciler until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<DNSRecordSet>::all(client.clone()), shutdown);
    let (sets, kin, of_zone) = (control.cache(), control.cache(), control.cache());
    control
        .wakes_kin(move |changed: &DNSRecordSet| {
            let (name, changed) = (changed.name_any(), changed.clone());
            kin.names(|set| set.name_any() != name && are_together(set, &changed))
        })
        .wakes(Api::<DNSZone>::all(client.clone()), move |zone: &DNSZone| {
            of_zone.names(|set| set.namespace() == zone.namespace() && set.spec.zone == zone.name_any())
        })
        .run(RecordSets { client, sets }, Pace::at_once(8).gathering(GATHER))
        .await;
}

/// Whether both are records of one name.
fn are_together(one: &DNSRecordSet, other: &DNSRecordSet) -> bool {
    one.namespace() == other.namespace() && one.spec.zone == other.spec.zone && one.spec.name == other.spec.name
}

impl Reconciler for RecordSets {
    type Kind = DNSRecordSet;
    type Error = Error;

    async fn reconcile(&self, set: Arc<DNSRecordSet>) -> Result<Action, Error> {
        let namespace = write::namespace_of(set.as_ref())?;
        let zones: Api<DNSZone> = Api::namespaced(self.client.clone(), namespace);
        let name = &set.spec.zone;
        let zone = zones.get_opt(name).await.map_err(Error::api(format!("read DNSZone {name}")))?;
        if zone.as_ref().is_some_and(|zone| zone.status.is_none()) {
            // What will be said of it wakes this again.
            return Ok(Action::await_change());
        }
        let beside = self.sets.pick(namespace, |other| are_together(other, &set));
        let api: Api<DNSRecordSet> = write::api_of(&self.client, set.as_ref())?;
        write::status(&api, &set, status(&set, zone.as_ref(), &beside)).await?;
        Ok(Action::await_change())
    }
}

/// The status of a set beside all sets of its name, itself among them.
fn status(set: &DNSRecordSet, zone: Option<&DNSZone>, beside: &[Arc<DNSRecordSet>]) -> DNSRecordSetStatus {
    let generation = set.metadata.generation;
    let mut status = set.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.fqdn = zone.and_then(|zone| dns::value::owner(&set.spec.name, &zone.spec.domain));
    let (ready, reason, message) = match verdict(set, zone, beside) {
        Ok(()) => (true, "Served", String::new()),
        Err((reason, message)) => (false, reason, message),
    };
    condition::set(&mut status.conditions, condition::READY, ready, reason, message, generation);
    status
}

fn verdict(
    set: &DNSRecordSet,
    zone: Option<&DNSZone>,
    beside: &[Arc<DNSRecordSet>],
) -> Result<(), (&'static str, String)> {
    let name = &set.spec.zone;
    let Some(zone) = zone else {
        return Err(("ZoneNotFound", format!("there is no DNSZone {name} in this namespace: create it")));
    };
    if !zone.status.as_ref().is_some_and(|status| condition::is_true(&status.conditions, condition::READY)) {
        return Err(("ZoneNotReady", format!("DNSZone {name} is not served; it says why")));
    }
    if dns::value::owner(&set.spec.name, &zone.spec.domain).is_none() {
        return Err((
            "InvalidName",
            format!("spec.name and {} make no name: together at most 253 letters", zone.spec.domain),
        ));
    }
    let ids: Vec<String> = beside.iter().map(|other| other.name_any()).collect();
    let candidates: Vec<Candidate<'_>> =
        beside.iter().zip(&ids).filter_map(|(other, id)| candidate(other, id)).collect();
    let at = candidates.iter().position(|candidate| candidate.id == set.name_any());
    match at.and_then(|at| judge(&candidates).into_iter().nth(at)) {
        Some(Err(refusal)) => Err((refusal.category(), refusal.to_string())),
        _ => Ok(()),
    }
}

fn candidate<'a>(set: &'a DNSRecordSet, id: &'a str) -> Option<Candidate<'a>> {
    let age = set.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    Some(Candidate { id, age, kind: Kind::named(set.spec.type_.word())?, values: &set.spec.values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(name: &str, spec: Value) -> Arc<DNSRecordSet> {
        let object = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "DNSRecordSet",
            "metadata": {"name": name, "namespace": "t", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn zone(ready: bool) -> DNSZone {
        let mut zone = DNSZone::new("shop", serde_json::from_value(json!({"domain": "shop.internal"})).unwrap());
        let mut status = crds::DNSZoneStatus::default();
        condition::set(&mut status.conditions, condition::READY, ready, "X", "", None);
        zone.status = Some(status);
        zone
    }

    fn told(set: &Arc<DNSRecordSet>, zone: Option<&DNSZone>, beside: &[Arc<DNSRecordSet>]) -> (String, Option<String>) {
        let status = status(set, zone, beside);
        (status.conditions[0].reason.clone(), status.fqdn)
    }

    #[test]
    fn a_set_is_served_in_a_zone_that_is_and_says_its_whole_name() {
        let web = set("web", json!({"zone": "shop", "name": "web", "type": "A", "values": ["10.0.0.1"]}));
        let apex = set("apex", json!({"zone": "shop", "name": "@", "type": "TXT", "values": ["x"]}));
        let fqdn = |text: &str| Some(text.to_owned());
        assert_eq!(
            told(&web, Some(&zone(true)), std::slice::from_ref(&web)),
            ("Served".into(), fqdn("web.shop.internal"))
        );
        assert_eq!(
            told(&apex, Some(&zone(true)), std::slice::from_ref(&apex)),
            ("Served".into(), fqdn("shop.internal"))
        );
        assert_eq!(told(&web, None, std::slice::from_ref(&web)), ("ZoneNotFound".into(), None));
        assert_eq!(told(&web, Some(&zone(false)), std::slice::from_ref(&web)).0, "ZoneNotReady");
    }

    #[test]
    fn a_set_that_cannot_stand_beside_another_says_which() {
        let a = set("a", json!({"zone": "shop", "name": "web", "type": "A", "values": ["10.0.0.1"]}));
        let b = set("b", json!({"zone": "shop", "name": "web", "type": "CNAME", "values": ["x.shop.internal"]}));
        let c = set("c", json!({"zone": "shop", "name": "web", "type": "A", "values": ["300.0.0.1"]}));
        let all = [a.clone(), b.clone(), c.clone()];
        let reasons: Vec<_> = all.iter().map(|one| told(one, Some(&zone(true)), &all).0).collect();
        assert_eq!(reasons, ["Served", "CnameNotAlone", "InvalidValue"]);
        let long = format!("{}{}", "a23456789.".repeat(22), "abcdefghij");
        let long = set("long", json!({"zone": "shop", "name": long, "type": "A", "values": ["10.0.0.1"]}));
        assert_eq!(told(&long, Some(&zone(true)), std::slice::from_ref(&long)).0, "Served");
        let longer = set(
            "longer",
            json!({"zone": "shop", "name": "a2.".repeat(80) + "a2", "type": "A", "values": ["10.0.0.1"]}),
        );
        assert_eq!(told(&longer, Some(&zone(true)), std::slice::from_ref(&longer)), ("InvalidName".into(), None));
    }
}
