//! Host: not ready once its agent's heartbeat is overdue.
//!
//! The agent writes the status while it lives; this writes one condition when it no longer does. What runs on a lost host
//! is left alone: nobody knows whether it still runs.

use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{Condition, Host, condition};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time without a heartbeat after which a host counts as lost: four renewals.
const GRACE: Duration = Duration::from_secs(40);

struct Heartbeats {
    client: Client,
}

/// Runs the watch over heartbeats until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<Host>::all(client.clone()), shutdown);
    control.run(Heartbeats { client }, Pace::at_once(4).gathering(GATHER)).await;
}

impl Reconciler for Heartbeats {
    type Kind = Host;
    type Error = Error;

    async fn reconcile(&self, host: Arc<Host>) -> Result<Action, Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), crds::SYSTEM_NAMESPACE);
        let lease = leases.get_opt(&host.name_any()).await.map_err(Error::api("read a Lease"))?;
        let renewed = lease.and_then(|l| l.spec?.renew_time).map(|time| time.0);
        let Some(age) = renewed.map(|time| Timestamp::now().duration_since(time)) else {
            return Ok(Action::requeue(GRACE));
        };
        let age = Duration::try_from(age).unwrap_or_default();
        if let Some(left) = GRACE.checked_sub(age) {
            return Ok(Action::requeue(left + Duration::from_secs(1)));
        }
        let mut status = host.status.clone().unwrap_or_default();
        let lost = Condition {
            type_: condition::READY.to_owned(),
            status: "Unknown".to_owned(),
            reason: "AgentLost".to_owned(),
            message: "the agent's heartbeat is overdue; what runs there is left as it is".to_owned(),
            last_transition_time: condition::now(),
            observed_generation: host.metadata.generation,
        };
        condition::put(&mut status.conditions, lost);
        let hosts: Api<Host> = Api::all(self.client.clone());
        write::status(&hosts, &host, status).await?;
        Ok(Action::requeue(GRACE))
    }
}
