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

/// Reason of the condition that is written here.
const LOST: &str = "AgentLost";

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
        let mut status = host.status.clone().unwrap_or_default();
        let Some(judged) = judge(condition::find(&status.conditions, condition::READY), age) else {
            return Ok(Action::requeue(GRACE.saturating_sub(age) + Duration::from_secs(1)));
        };
        condition::put(&mut status.conditions, Condition { observed_generation: host.metadata.generation, ..judged });
        let hosts: Api<Host> = Api::all(self.client.clone());
        write::status(&hosts, &host, status).await?;
        Ok(Action::requeue(GRACE))
    }
}

/// What is to be said of a host whose last heartbeat is this old; nothing when its agent speaks for itself.
fn judge(ready: Option<&Condition>, age: Duration) -> Option<Condition> {
    let say = |status: &str, reason: &str, message: &str| Condition {
        type_: condition::READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: condition::now(),
        observed_generation: None,
    };
    match age >= GRACE {
        true => Some(say("Unknown", LOST, "the agent's heartbeat is overdue; what runs there is left as it is")),
        // Only what was said here is taken back: an agent that was merely out of reach may not know of it.
        false => ready.filter(|found| found.reason == LOST).map(|_| say("True", "AgentRunning", "The agent is up.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_lost_when_its_heartbeat_is_overdue_and_found_again_with_the_next() {
        let running = Condition { reason: "AgentRunning".into(), ..judge(None, GRACE).expect("a verdict") };
        assert_eq!(judge(Some(&running), Duration::from_secs(39)), None, "the agent speaks for itself");
        let lost = judge(Some(&running), GRACE).expect("a verdict");
        assert_eq!((lost.status.as_str(), lost.reason.as_str()), ("Unknown", "AgentLost"));
        let back = judge(Some(&lost), Duration::from_secs(1)).expect("a verdict");
        assert_eq!((back.status.as_str(), back.reason.as_str()), ("True", "AgentRunning"));
        assert_eq!(judge(None, Duration::ZERO), None);
    }
}
