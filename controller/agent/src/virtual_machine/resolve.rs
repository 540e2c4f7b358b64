//! What a machine names, looked up and checked: nothing is touched.

use std::path::PathBuf;
use std::sync::Arc;

use crds::condition::{READY, is_true};
use crds::{Image, Port, TenantNetwork, VirtualMachine, Volume};
use host::link::LinkName;
use kube::ResourceExt;
use uuid::Uuid;

use super::error::{Error, Waiting};
use crate::layout::Layout;
use crate::mac::parse_mac;
use crate::names;
use crate::shelf::{BuiltImage, Shelf};
use control_loop::{Cache, sentence};

/// Everything needed to build the machine.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The object's UID.
    pub uid: Uuid,
    /// Its name, for people.
    pub name: String,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// What it boots.
    pub image: BuiltImage,
    /// Interfaces in order.
    pub nics: Vec<Nic>,
    /// Data volumes in order.
    pub volumes: Vec<Disk>,
    /// Words added to the kernel's command line.
    pub kernel_arguments: Vec<String>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Port object's name.
    pub port: String,
    /// Port object's UID.
    pub port_uid: String,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Its address.
    pub ip: String,
    /// Tap device.
    pub tap: LinkName,
    /// Bridge it is on.
    pub bridge: LinkName,
    /// Largest packet.
    pub mtu: u32,
    /// Namespace of both.
    pub netns: String,
}

/// One data volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// File that holds it.
    pub path: PathBuf,
    /// What the guest finds it by.
    pub serial: String,
}

/// Where to look things up.
pub struct References {
    /// This host's images.
    pub images: Cache<Image>,
    /// This host's ports.
    pub ports: Cache<Port>,
    /// This host's volumes.
    pub volumes: Cache<Volume>,
    /// All networks.
    pub networks: Cache<TenantNetwork>,
    /// Built images.
    pub shelf: Arc<Shelf>,
    /// Directories.
    pub layout: Layout,
}

/// All of it, or the first thing that is missing.
pub async fn resolve(vm: &VirtualMachine, references: &References) -> Result<Result<Resolved, Waiting>, Error> {
    let spec = &vm.spec;
    let uid = vm.uid().unwrap_or_default();
    let uid = uid.parse().map_err(|_| bad("metadata.uid", format!("{uid:?} is no UUID")))?;
    let memory_bytes = spec.memory.bytes().map_err(|error| bad("spec.memory", error.to_string()))?;
    let image = match resolve_image(vm, references).await {
        Ok(image) => image,
        Err(waiting) => return Ok(Err(waiting)),
    };
    let mut nics = Vec::new();
    for interface in &spec.interfaces {
        match resolve_port(vm, &interface.port, references)? {
            Ok(nic) => nics.push(nic),
            Err(waiting) => return Ok(Err(waiting)),
        }
    }
    let mut volumes = Vec::new();
    for mount in &spec.volumes {
        match resolve_volume(vm, &mount.volume, references) {
            Ok(disk) => volumes.push(disk),
            Err(waiting) => return Ok(Err(waiting)),
        }
    }
    let kernel_arguments = spec.kernel_arguments.iter().map(|word| word.0.clone()).collect();
    let name = vm.name_any();
    Ok(Ok(Resolved { uid, name, cpus: spec.cpus, memory_bytes, image, nics, volumes, kernel_arguments }))
}

async fn resolve_image(vm: &VirtualMachine, references: &References) -> Result<BuiltImage, Waiting> {
    let name = &vm.spec.image;
    let Some(image) = references.images.get(&vm.namespace().unwrap_or_default(), name) else {
        return Err(absent("ImageNotFound", "Image", name));
    };
    let status = image.status.clone().unwrap_or_default();
    let not_ready = || Waiting {
        reason: "ImageNotReady",
        message: format!("Image {name} is not ready on this host; see its status."),
    };
    let key = status.key.filter(|_| is_true(&status.conditions, READY)).ok_or_else(not_ready)?;
    match references.shelf.find(&key).await {
        Ok(built) => built.ok_or_else(not_ready),
        Err(error) => Err(Waiting { reason: error.category(), message: sentence(&error) }),
    }
}

fn resolve_port(vm: &VirtualMachine, name: &str, references: &References) -> Result<Result<Nic, Waiting>, Error> {
    let namespace = vm.namespace().unwrap_or_default();
    let Some(port) = references.ports.get(&namespace, name) else {
        return Ok(Err(absent("PortNotFound", "Port", name)));
    };
    let status = port.status.clone().unwrap_or_default();
    let network = references.networks.get(&namespace, &port.spec.network);
    let (Some(network), Some(netns), true) = (network, status.netns, is_true(&status.conditions, READY)) else {
        let message = format!("Port {name} is not ready on this host; see its status.");
        return Ok(Err(Waiting { reason: "PortNotReady", message }));
    };
    let port_uid = port.uid().unwrap_or_default();
    let mac = port.spec.mac.as_deref().and_then(parse_mac);
    Ok(Ok(Nic {
        port: name.to_owned(),
        mac: mac.ok_or_else(|| bad("the port's spec.mac", "it is no unicast hardware address".into()))?,
        ip: port.spec.address().cloned().unwrap_or_default(),
        tap: link(&names::tap(&port_uid))?,
        bridge: link(&names::bridge(&network.uid().unwrap_or_default()))?,
        mtu: network.spec.mtu,
        netns,
        port_uid,
    }))
}

fn resolve_volume(vm: &VirtualMachine, name: &str, references: &References) -> Result<Disk, Waiting> {
    let Some(volume) = references.volumes.get(&vm.namespace().unwrap_or_default(), name) else {
        return Err(absent("VolumeNotFound", "Volume", name));
    };
    let ready = volume.status.as_ref().is_some_and(|status| is_true(&status.conditions, READY));
    if !ready || volume.metadata.deletion_timestamp.is_some() {
        let message = format!("Volume {name} is not ready on this host; see its status.");
        return Err(Waiting { reason: "VolumeNotReady", message });
    }
    Ok(Disk { path: references.layout.volume_disk(&volume.uid().unwrap_or_default()), serial: names::serial(name) })
}

fn absent(reason: &'static str, kind: &str, name: &str) -> Waiting {
    let message = format!(
        "There is no {kind} {name} on this host: create it, correct the name, or wait until the scheduler has bound it."
    );
    Waiting { reason, message }
}

fn link(name: &str) -> Result<LinkName, Error> {
    name.parse().map_err(|error: host::link::InvalidLinkName| bad("metadata.uid", error.to_string()))
}

fn bad(field: &'static str, reason: String) -> Error {
    Error::Spec { field, reason }
}
