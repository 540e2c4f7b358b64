//! Fault: bound to the host of its target. The agent there does the rest.

use crate::{Error, runner, write};
use crds::{Fault, FaultStatus, VirtualMachine, condition};
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Context {
    client: Client,
}

/// Runs the reconciler until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let controller = Controller::new(Api::<Fault>::all(client.clone()), watcher::Config::default());
    let faults = controller.store();
    let controller = controller
        .watches(Api::<VirtualMachine>::all(client.clone()), watcher::Config::default(), move |machine| {
            runner::references(&faults, |fault: &Fault| {
                fault.spec.host.is_none()
                    && fault.namespace() == machine.namespace()
                    && fault.spec.target.name == machine.name_any()
            })
        })
        .with_config(runner::config(4));
    runner::drive(controller, Context { client }, shutdown, reconcile).await;
}

async fn reconcile(fault: Arc<Fault>, cx: Arc<Context>) -> Result<Action, Error> {
    if fault.spec.host.is_some() || fault.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let faults: Api<Fault> = write::api_of(&cx.client, fault.as_ref())?;
    // A Node's machine has the Node's name, so both kinds of target are looked up alike.
    let machines: Api<VirtualMachine> = write::api_of(&cx.client, fault.as_ref())?;
    let name = &fault.spec.target.name;
    let machine = machines.get_opt(name).await.map_err(Error::api(format!("read VirtualMachine {name}")))?;
    if let Some(host) = machine.and_then(|m| m.spec.host) {
        write::merge(&faults, fault.as_ref(), serde_json::json!({"spec": {"host": host}})).await?;
    } else {
        write::status(&faults, &fault, waiting(&fault)).await?;
    }
    Ok(Action::await_change())
}

fn waiting(fault: &Fault) -> FaultStatus {
    let mut status = fault.status.clone().unwrap_or_default();
    status.observed_generation = fault.metadata.generation;
    let target = &fault.spec.target;
    let text = format!("spec.target: {} {} has no machine on a host yet", target.kind, target.name);
    condition::set(&mut status.conditions, "Injected", false, "TargetNotFound", text, fault.metadata.generation);
    status
}
