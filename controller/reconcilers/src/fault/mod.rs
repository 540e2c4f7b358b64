//! Fault: bound to the host of its target. The agent there does the rest.

use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{Fault, FaultStatus, VirtualMachine, condition};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Faults {
    client: Client,
}

/// Runs the reconciler until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<Fault>::all(client.clone()), shutdown);
    let faults = control.cache();
    control
        .wakes(Api::<VirtualMachine>::all(client.clone()), move |machine: &VirtualMachine| {
            faults.names(|fault| {
                fault.spec.host.is_none()
                    && fault.namespace() == machine.namespace()
                    && fault.spec.target.name == machine.name_any()
            })
        })
        .run(Faults { client }, Pace::at_once(4).gathering(GATHER))
        .await;
}

impl Reconciler for Faults {
    type Kind = Fault;
    type Error = Error;

    async fn reconcile(&self, fault: Arc<Fault>) -> Result<Action, Error> {
        if fault.spec.host.is_some() || fault.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let faults: Api<Fault> = write::api_of(&self.client, fault.as_ref())?;
        // A Node's machine has the Node's name, so both kinds of target are looked up alike.
        let machines: Api<VirtualMachine> = write::api_of(&self.client, fault.as_ref())?;
        let name = &fault.spec.target.name;
        let machine = machines.get_opt(name).await.map_err(Error::api(format!("read VirtualMachine {name}")))?;
        if let Some(host) = machine.and_then(|m| m.spec.host) {
            write::merge(&faults, fault.as_ref(), serde_json::json!({"spec": {"host": host}})).await?;
        } else {
            write::status(&faults, &fault, waiting(&fault)).await?;
        }
        Ok(Action::await_change())
    }
}

fn waiting(fault: &Fault) -> FaultStatus {
    let mut status = fault.status.clone().unwrap_or_default();
    status.observed_generation = fault.metadata.generation;
    let target = &fault.spec.target;
    let text = format!("spec.target: {} {} has no machine on a host yet", target.kind, target.name);
    condition::set(&mut status.conditions, "Injected", false, "TargetNotFound", text, fault.metadata.generation);
    status
}
