//! Scheduler: binds machines, their volumes and images to hosts.
//!
//! A machine goes where its bound volumes and its image are; otherwise to the ready host with the least memory promised.
//! A host is never overcommitted in silence: when nothing fits, the machine waits and an Event says why.

mod plan;

use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{Host, Image, VirtualMachine, Volume};
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Machines {
    client: Client,
    recorder: Recorder,
}

struct Images {
    client: Client,
}

/// Runs the scheduler until `shutdown`: one decision at a time, each on what the last one stored.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let recorder = Recorder::new(client.clone(), Reporter { controller: "scheduler".to_owned(), instance: None });
    let everywhere = || Api::<Host>::all(client.clone());
    let machines = ControlLoop::new(Api::<VirtualMachine>::all(client.clone()), shutdown.clone());
    let unbound = machines.cache();
    let machines =
        machines.wakes(everywhere(), move |_| unbound.names(|machine: &VirtualMachine| machine.spec.host.is_none()));
    let images = ControlLoop::new(Api::<Image>::all(client.clone()), shutdown);
    let unbound = images.cache();
    let images = images.wakes(everywhere(), move |_| unbound.names(|image: &Image| image.spec.host.is_none()));
    let pace = Pace::at_once(1).gathering(GATHER);
    tokio::join!(
        machines.run(Machines { client: client.clone(), recorder }, pace),
        images.run(Images { client: client.clone() }, pace),
    );
}

impl Reconciler for Images {
    type Kind = Image;
    type Error = Error;

    async fn reconcile(&self, image: Arc<Image>) -> Result<Action, Error> {
        if image.spec.host.is_some() || image.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let images: Api<Image> = write::api_of(&self.client, image.as_ref())?;
        let base = match &image.spec.layer {
            Some(layer) => images.get_opt(&layer.image).await.map_err(Error::api("read the base Image"))?,
            None => None,
        };
        if let Some(host) = plan::place_image(base.as_ref(), &hosts(&self.client).await?) {
            write::merge(&images, image.as_ref(), serde_json::json!({"spec": {"host": host}})).await?;
        }
        Ok(Action::await_change())
    }
}

impl Reconciler for Machines {
    type Kind = VirtualMachine;
    type Error = Error;

    async fn reconcile(&self, machine: Arc<VirtualMachine>) -> Result<Action, Error> {
        if machine.spec.host.is_some() || machine.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let machines: Api<VirtualMachine> = write::api_of(&self.client, machine.as_ref())?;
        let volumes_api: Api<Volume> = write::api_of(&self.client, machine.as_ref())?;
        let images: Api<Image> = write::api_of(&self.client, machine.as_ref())?;
        let mut volumes = Vec::new();
        for mount in &machine.spec.volumes {
            let volume = volumes_api.get_opt(&mount.volume).await.map_err(Error::api("read a Volume"))?;
            volumes.extend(volume);
        }
        let image = images.get_opt(&machine.spec.image).await.map_err(Error::api("read the Image"))?;
        let everyone = Api::<VirtualMachine>::all(self.client.clone());
        let everyone = everyone.list(&ListParams::default()).await.map_err(Error::api("list VirtualMachines"))?.items;
        match plan::place(&machine, &volumes, image.as_ref(), &hosts(&self.client).await?, &everyone) {
            Ok(host) => bind(&machines, &volumes_api, &machine, &volumes, &host).await?,
            Err(reason) => {
                let event = Event {
                    type_: EventType::Warning,
                    reason: "FailedScheduling".to_owned(),
                    note: Some(reason),
                    action: "Scheduling".to_owned(),
                    secondary: None,
                };
                let about = machine.object_ref(&());
                self.recorder.publish(&event, &about).await.map_err(Error::api("record an Event"))?;
            }
        }
        Ok(Action::await_change())
    }
}

/// Volumes first: a machine bound to a host whose volume is elsewhere would never start.
async fn bind(
    machines: &Api<VirtualMachine>,
    volumes_api: &Api<Volume>,
    machine: &VirtualMachine,
    volumes: &[Volume],
    host: &str,
) -> Result<(), Error> {
    let patch = serde_json::json!({"spec": {"host": host}});
    for volume in volumes.iter().filter(|v| v.spec.host.is_none()) {
        write::merge(volumes_api, volume, patch.clone()).await?;
    }
    write::merge(machines, machine, patch).await.map(|bound| {
        tracing::info!(machine = bound.name_any(), host, "machine bound to a host");
    })
}

async fn hosts(client: &Client) -> Result<Vec<Host>, Error> {
    let hosts: Api<Host> = Api::all(client.clone());
    Ok(hosts.list(&ListParams::default()).await.map_err(Error::api("list Hosts"))?.items)
}
