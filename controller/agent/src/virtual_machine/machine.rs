//! From what a machine names to what QEMU is told: pure.

use host::image::kernel_command_line;
use host::qemu::accelerator::{Accelerator, Verdict};
use host::qemu::machine::{Disk, DiskFormat, Kernel, Machine, Nic};

use super::error::Error;
use super::resolve::Resolved;
use crate::layout::{Layout, Owner};

/// A host name longer than this is refused by Linux.
const LONGEST_NAME: usize = 64;

/// The machine in QEMU's terms.
pub fn machine(owner: &Owner, resolved: &Resolved, verdict: &Verdict, layout: &Layout) -> Result<Machine, Error> {
    let root = Disk {
        node_name: "root".to_owned(),
        path: layout.root_disk(&owner.uid),
        format: DiskFormat::Qcow2,
        read_only: false,
        serial: "root".to_owned(),
    };
    let data = resolved.volumes.iter().enumerate().map(|(index, volume)| Disk {
        node_name: format!("data{index}"),
        path: volume.path.clone(),
        format: DiskFormat::Raw,
        read_only: false,
        serial: volume.serial.clone(),
    });
    let nics = resolved.nics.iter().enumerate();
    Ok(Machine {
        uuid: resolved.uid,
        name: format!("{}/{}", owner.namespace, owner.name),
        cpus: resolved.cpus,
        memory_bytes: resolved.memory_bytes,
        accelerator: verdict.accelerator,
        kernel: kernel(resolved, verdict.accelerator)?,
        disks: std::iter::once(root).chain(data).collect(),
        nics: nics.map(|(index, nic)| Nic { id: format!("net{index}"), mac: nic.mac, mtu: Some(nic.mtu) }).collect(),
        hotplug_ports: 0,
        run_dir: layout.run_dir(&owner.uid),
        paused: false,
    })
}

/// The owner's words come last, so that they win.
fn kernel(resolved: &Resolved, accelerator: Accelerator) -> Result<Option<Kernel>, Error> {
    let Some(image) = resolved.image.kernel.clone() else { return Ok(None) };
    let hostname: String = resolved.name.chars().take(LONGEST_NAME).collect();
    let emulated = accelerator == Accelerator::Tcg;
    let cmdline = kernel_command_line(&hostname, emulated, &resolved.kernel_arguments.join(" "));
    let cmdline = cmdline.map_err(|error| Error::Spec { field: "spec.kernelArguments", reason: error.to_string() })?;
    Ok(Some(Kernel { image, initrd: resolved.image.initrd.clone(), cmdline }))
}
