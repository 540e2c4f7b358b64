//! Local volumes: one sparse file each, kept until the object goes and nobody uses it.

pub mod error;
pub mod status;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crds::{VirtualMachine, Volume};
use host::blockdev::{self, Ext4};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::layout::{self, Layout, Owner};
use crate::names;
use crate::objects::Objects;
use control_loop::{Cache, Failure, Reconciler, sentence};
use error::Error;

/// The judgement over volumes.
pub struct Volumes {
    /// Pen.
    pub objects: Arc<Objects>,
    /// This host's machines.
    pub machines: Cache<VirtualMachine>,
    /// Directories.
    pub layout: Layout,
}

impl Reconciler for Volumes {
    type Kind = Volume;
    type Error = Error;

    async fn reconcile(&self, volume: Arc<Volume>) -> Result<Action, Error> {
        if volume.metadata.deletion_timestamp.is_some() {
            return self.retire(&volume).await;
        }
        let Some(volume) = self.objects.claim(&*volume).await? else { return Ok(Action::await_change()) };
        let made = self.realise(&volume).await;
        let status = match &made {
            Ok(()) => status::ready(&volume),
            Err(error) => status::not_ready(&volume, error.category(), sentence(error)),
        };
        self.objects.publish(&volume, status).await?;
        made.map(|()| Action::await_change())
    }
}

impl Volumes {
    async fn realise(&self, volume: &Volume) -> Result<(), Error> {
        let (uid, wish) = wish(volume)?;
        layout::ensure_owned(&self.layout.volume(&uid), &owner(volume))?;
        let path = self.layout.volume_disk(&uid);
        make(path, wish).await
    }

    /// Removes the file, once no machine here uses it any more.
    async fn retire(&self, volume: &Volume) -> Result<Action, Error> {
        let users = users(volume, &self.machines);
        if !users.is_empty() {
            let names = users.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("The volume is in use by virtual machine {names}; it goes when that one does.");
            self.objects.publish(volume, status::not_ready(volume, "InUse", message)).await?;
            return Ok(Action::await_change());
        }
        let dir = self.layout.volume(&volume.uid().unwrap_or_default());
        layout::remove(&dir)?;
        self.objects.release(volume).await?;
        Ok(Action::await_change())
    }
}

/// What the file shall be.
struct Wish {
    bytes: u64,
    ext4: Option<Ext4>,
}

fn wish(volume: &Volume) -> Result<(String, Wish), Error> {
    let uid = volume.uid().unwrap_or_default();
    let bytes = volume.spec.size.bytes().map_err(|error| Error::Spec { reason: error.to_string() })?;
    let ext4 = match &volume.spec.filesystem {
        None => None,
        Some(_) => Some(Ext4 {
            uuid: uid.parse().map_err(|_| Error::Spec { reason: format!("the UID {uid:?} is no UUID") })?,
            label: volume.name_any().chars().take(16).collect(),
        }),
    };
    Ok((uid, Wish { bytes, ext4 }))
}

async fn make(path: PathBuf, wish: Wish) -> Result<(), Error> {
    let work = move || blockdev::ensure_volume(&path, wish.bytes, wish.ext4.as_ref(), None);
    match tokio::task::spawn_blocking(work).await {
        Ok(made) => Ok(made.map(drop)?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

fn owner(volume: &Volume) -> Owner {
    Owner {
        namespace: volume.namespace().unwrap_or_default(),
        name: volume.name_any(),
        uid: volume.uid().unwrap_or_default(),
    }
}

/// Machines of this host that name the volume and are not gone.
fn users(volume: &Volume, machines: &Cache<VirtualMachine>) -> BTreeSet<String> {
    let name = volume.name_any();
    let using = machines.pick(&volume.namespace().unwrap_or_default(), |vm| {
        vm.spec.volumes.iter().any(|mount| mount.volume == name)
            && vm.status.as_ref().is_some_and(|status| status.pid.is_some())
    });
    using.iter().map(|vm| vm.name_any()).collect()
}

/// The serial of a volume, for its status.
pub(crate) fn serial(volume: &Volume) -> String {
    names::serial(&volume.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_volume_is_made_once_and_keeps_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        let wish = || Wish { bytes: 1 << 20, ext4: None };
        make(path.clone(), wish()).await.unwrap();
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        make(path.clone(), wish()).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[0], 7);
    }

    #[test]
    fn only_a_machine_with_a_process_uses_it() {
        let mut volume = Volume::new("data", serde_json::from_value(json!({"size": "1Gi"})).unwrap());
        volume.metadata.namespace = Some("t".into());
        let spec = serde_json::from_value(json!({"image": "i", "volumes": [{"volume": "data"}]})).unwrap();
        let mut vm = VirtualMachine::new("a", spec);
        vm.metadata.namespace = Some("t".into());
        let (cache, mut writer) = Cache::new();
        writer.apply_watcher_event(&kube::runtime::watcher::Event::Apply(vm.clone()));
        assert!(users(&volume, &cache).is_empty());
        vm.status = serde_json::from_value(json!({"pid": 7})).ok();
        writer.apply_watcher_event(&kube::runtime::watcher::Event::Apply(vm));
        assert_eq!(users(&volume, &cache).len(), 1);
    }
}
