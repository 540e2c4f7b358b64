//! One of several servers leads: it alone reconciles, and no write of a former leader comes through.
//!
//! ```text
//!  campaign ── Lease free, given back, or not renewed for its duration (by our own clock) ──► take it (CAS)
//!     ▲                                                                                       │
//!     │                                                begin a term, guarded by the Lease's revision
//!     │                                                                                       ▼
//!     └── not renewed in time, or taken by another ◄── reign: renew, and do the leader's work under the term
//! ```
//!
//! The Lease only decides who *should* lead; clocks and pauses can fool it. What makes a second leader harmless is the
//! store's term: every write of the leader's work is compared with it in the same transaction, so whoever has been
//! superseded is refused, however late it wakes up.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use store::{Revision, Term};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::Error;
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::{storage, text};

/// How leaders are found.
#[derive(Debug, Clone)]
pub struct Election {
    /// The Lease's namespace; it exists.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who campaigns: another name for each process.
    pub identity: String,
    /// A Lease not renewed for this long is free. Whole seconds.
    pub duration: Duration,
    /// How often the leader renews it; one that could not for two thirds of `duration` gives up.
    pub renew: Duration,
    /// How often the others look.
    pub retry: Duration,
}

impl Election {
    /// Failover within about eight seconds of a leader's death, at once when it says goodbye.
    #[must_use]
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            namespace: "photon-system".to_owned(),
            name: "clusterctl-server".to_owned(),
            identity: identity.into(),
            duration: Duration::from_secs(6),
            renew: Duration::from_secs(2),
            retry: Duration::from_secs(1),
        }
    }
}

/// Leadership won. Dropping it ends the renewing; the Lease then runs out by itself.
pub struct Reign {
    api: ApiServer,
    term: Term,
    lost: watch::Receiver<bool>,
    renewing: JoinHandle<()>,
    campaign: Campaign,
}

impl Reign {
    /// The API under this reign: everything written through it is refused once another term has begun. It also does
    /// the leader's chores (garbage, namespaces, old events) for as long as it lives.
    #[must_use]
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// What later terms are compared with.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Waits until it is over.
    pub async fn lost(&self) {
        // The sender's end is an end too.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }

    /// Gives the Lease back, so that another takes over at once. To be called when the leader's work has ended.
    pub async fn resign(self) {
        self.renewing.abort();
        if let Err(error) = self.campaign.give_back().await {
            tracing::debug!(error = text::chain(&error), "the lease runs out by itself");
        }
    }
}

impl Drop for Reign {
    fn drop(&mut self) {
        self.renewing.abort();
        self.api.server.metrics.leads(&self.campaign.election.name, false);
    }
}

impl ApiServer {
    /// Waits until this server leads.
    pub async fn campaign(&self, election: &Election) -> Reign {
        let mut campaign = Campaign {
            api: self.clone(),
            leases: Api::namespaced(
                self.client("system:leader-election", &[], &election.namespace),
                &election.namespace,
            ),
            election: election.clone(),
            seen: None,
        };
        self.server.metrics.leads(&election.name, false);
        loop {
            match campaign.attempt().await {
                Ok(Some((term, lease))) => return campaign.reign(term, lease),
                Ok(None) => {}
                Err(error) => tracing::debug!(error = text::chain(&error), "no leader could be chosen yet"),
            }
            tokio::time::sleep(election.retry).await;
        }
    }
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the lease could not be read or written")]
    Lease(#[from] kube::Error),
    #[error("no term could be begun")]
    Term(#[from] store::Error),
    #[error("the lease has no place")]
    Place(#[from] Error),
}

/// One server's way to leadership.
#[derive(Clone)]
struct Campaign {
    api: ApiServer,
    leases: Api<Lease>,
    election: Election,
    /// The Lease's last known revision, and when it was first seen: times written by others are not trusted.
    seen: Option<(String, Instant)>,
}

impl Campaign {
    /// Takes the Lease when it is free, and begins a term.
    async fn attempt(&mut self) -> Result<Option<(Term, Lease)>, Failed> {
        let held = match self.leases.get_opt(&self.election.name).await? {
            None => match self.leases.create(&PostParams::default(), &self.wanted(None)).await {
                Ok(made) => made,
                Err(error) if is_conflict(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
            Some(found) if self.may_take(&found) => {
                match self.leases.replace(&self.election.name, &PostParams::default(), &self.wanted(Some(&found))).await
                {
                    Ok(taken) => taken,
                    Err(error) if is_conflict(&error) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
            Some(_) => return Ok(None),
        };
        let revision: Revision = revision_of(&held).parse().unwrap_or(Revision::ZERO);
        match self.api.server.store.begin_term(&self.key()?, revision, &self.election.identity).await {
            Ok(term) => Ok(Some((term, held))),
            // Somebody took the Lease in between.
            Err(store::Error::Deposed) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn key(&self) -> Result<String, Error> {
        let resource: Resource = self.api.server.builtin("coordination.k8s.io", "leases")?;
        let (namespace, name) = (Some(self.election.namespace.as_str()), &self.election.name);
        Ok(storage::key(&self.api.server.store, &resource.definition, namespace, name))
    }

    fn may_take(&mut self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder.is_empty() || holder == self.election.identity {
            return true;
        }
        let revision = revision_of(lease);
        let now = Instant::now();
        let since = match &self.seen {
            Some((known, since)) if known == revision => *since,
            _ => {
                self.seen = Some((revision.to_owned(), now));
                now
            }
        };
        let told = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
        now - since >= told.map_or(self.election.duration, Duration::from_secs)
    }

    /// The Lease as ours; `found` keeps its identity and revision.
    fn wanted(&self, found: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let transitions = found.and_then(|lease| lease.spec.as_ref()?.lease_transitions).map_or(0, |count| count + 1);
        Lease {
            metadata: found.map_or_else(
                || ObjectMeta { name: Some(self.election.name.clone()), ..ObjectMeta::default() },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.identity.clone()),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_duration_seconds: i32::try_from(self.election.duration.as_secs().max(1)).ok(),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    fn reign(self, term: Term, lease: Lease) -> Reign {
        let (over, lost) = watch::channel(false);
        let campaign = self.clone();
        let renewing = tokio::spawn(async move {
            self.renew(lease).await;
            over.send_replace(true);
        });
        tracing::info!(identity = campaign.election.identity, %term, "this server leads");
        campaign.api.server.metrics.leads(&campaign.election.name, true);
        Reign { api: campaign.api.under(term), term, lost, renewing, campaign }
    }

    /// Renews until that fails for too long, or somebody else holds the Lease.
    async fn renew(&self, mut lease: Lease) {
        let mut ticks = tokio::time::interval(self.election.renew);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let limit = self.election.duration * 2 / 3;
            let Some(left) = limit.checked_sub(last.elapsed()) else {
                tracing::warn!("the lease was not renewed in time, another server may lead");
                return;
            };
            let begun = Instant::now();
            match tokio::time::timeout(left, self.renew_once(&lease)).await {
                Ok(Ok(Some(renewed))) => (lease, last) = (renewed, begun),
                Ok(Ok(None)) => {
                    tracing::warn!("another server has taken the lease");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(error = text::chain(&error), "the lease is not renewed yet"),
                Err(_) => tracing::warn!("the lease is not renewed yet, the store is slow"),
            }
        }
    }

    /// `None` when it is another's. A renewal whose answer was lost shows as a conflict: then it is read again.
    async fn renew_once(&self, lease: &Lease) -> Result<Option<Lease>, kube::Error> {
        let mut renewed = lease.clone();
        if let Some(spec) = &mut renewed.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match self.leases.replace(&self.election.name, &PostParams::default(), &renewed).await {
            Ok(renewed) => Ok(Some(renewed)),
            Err(error) if is_conflict(&error) => {
                let found = self.leases.get_opt(&self.election.name).await?;
                let ours = |lease: &Lease| {
                    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                    holder == Some(self.election.identity.as_str())
                };
                Ok(found.filter(ours))
            }
            Err(error) => Err(error),
        }
    }

    async fn give_back(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.election.name).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(self.election.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        self.leases.replace(&self.election.name, &PostParams::default(), &lease).await?;
        Ok(())
    }
}

fn revision_of(lease: &Lease) -> &str {
    lease.metadata.resource_version.as_deref().unwrap_or_default()
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_leader_is_followed_within_ten_seconds_and_gives_up_before_it_is() {
        let Election { duration, renew, retry, .. } = Election::new("one");
        // Seen first at the end of a retry, free after its duration, taken at the next retry.
        assert!(duration + 2 * retry < Duration::from_secs(10));
        assert!(duration * 2 / 3 > renew, "a leader is to have a second try");
    }
}
