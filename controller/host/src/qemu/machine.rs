//! What a machine shall be, in QEMU's terms, and the checks that QEMU would make too late or not say clearly.
//!
//! PCI slots are fixed by kind (see [`MAX_DISKS`], [`MAX_NICS`]) so that a guest's interface and disk names stay the same
//! when another device comes or goes.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::accelerator::Accelerator;

/// Disks a machine can have: slots 4 to 15 of the root bus.
pub const MAX_DISKS: usize = 12;
/// Network interfaces a machine can have: slots 16 to 23.
pub const MAX_NICS: usize = 8;
/// Empty ports for devices that are plugged in later: slots 24 to 27.
pub const MAX_HOTPLUG_PORTS: u8 = 4;
/// virtio-blk has room for this many bytes of serial, and QEMU cuts the rest off silently.
const MAX_SERIAL: usize = 20;
/// Block node names longer than this are refused by QEMU.
const MAX_NODE_NAME: usize = 31;

/// Control socket of [`super::monitor`], in the run directory.
pub const QMP_SOCKET: &str = "qmp.sock";
/// Second control socket, for whoever else has a question (a person with `socat`, a debugger).
pub const SPARE_QMP_SOCKET: &str = "qmp-spare.sock";
/// The guest agent's channel.
pub const GUEST_AGENT_SOCKET: &str = "guest-agent.sock";
/// First serial port.
pub const CONSOLE_SOCKET: &str = "console.sock";
/// Everything the first serial port printed.
pub const SERIAL_LOG: &str = "serial.log";
/// What QEMU itself printed.
pub const QEMU_LOG: &str = "qemu.log";
/// Record of the QEMU process.
pub const RECORD: &str = "qemu.json";

/// One machine, whole. Every path is the host's; nothing here is a shell word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Owner's UID: shown by `-uuid`, in the process's environment and in the guest's DMI tables.
    pub uuid: Uuid,
    /// Name for people, in the process title.
    pub name: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory; rounded up to whole MiB.
    pub memory_bytes: u64,
    /// How the guest's instructions run.
    pub accelerator: Accelerator,
    /// What to boot; the firmware looks for a bootable disk when none.
    pub kernel: Option<Kernel>,
    /// Disks, in the order of their slots.
    pub disks: Vec<Disk>,
    /// Network interfaces, in the order of their slots.
    pub nics: Vec<Nic>,
    /// Empty ports kept for devices that are plugged in later.
    pub hotplug_ports: u8,
    /// Directory of this machine alone: sockets, logs and the record.
    pub run_dir: PathBuf,
    /// Start with the CPUs stopped.
    pub paused: bool,
}

/// A kernel that QEMU loads itself, without boot loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Kernel image.
    pub image: PathBuf,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Command line.
    pub cmdline: String,
}

/// How a disk's bytes are laid out in its file. Never guessed: a guest could write a header that makes a guess wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's format, perhaps over a base image.
    Qcow2,
}

impl DiskFormat {
    /// QEMU's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

/// One virtio disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Name within this machine.
    pub node_name: String,
    /// File that holds it.
    pub path: PathBuf,
    /// Layout of that file.
    pub format: DiskFormat,
    /// Whether the guest may write.
    pub read_only: bool,
    /// Stable identity in the guest: `/dev/disk/by-id/virtio-SERIAL`.
    pub serial: String,
}

/// One virtio network interface; its tap is handed to [`super::start::spawn`] at the same index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Name within this machine.
    pub id: String,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Largest packet of the network, told to the guest's driver; the driver's own default when none.
    pub mtu: Option<u32>,
}

/// A machine that QEMU would refuse or misunderstand.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// A value is outside of what QEMU takes.
    #[error("{field} is {value:?}: {rule}")]
    Value {
        /// Which value.
        field: String,
        /// What it is.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// More devices than there are slots.
    #[error("{count} {what}, but a machine has room for {most}")]
    TooMany {
        /// Kind of device.
        what: &'static str,
        /// How many were asked for.
        count: usize,
        /// How many there can be.
        most: usize,
    },
    /// Two devices have one name.
    #[error("two devices are named {name:?}")]
    Twice {
        /// The name.
        name: String,
    },
}

impl Machine {
    /// Refuses what QEMU would refuse, cut off or take for something else.
    pub fn check(&self) -> Result<(), Invalid> {
        at_most("disks", self.disks.len(), MAX_DISKS)?;
        at_most("network interfaces", self.nics.len(), MAX_NICS)?;
        at_most("hot-plug ports", self.hotplug_ports.into(), MAX_HOTPLUG_PORTS.into())?;
        ensure("cpus", self.cpus, (1..=255).contains(&self.cpus), "must be 1 to 255")?;
        ensure("memory", self.memory_bytes, self.memory_bytes >= 16 << 20, "must be at least 16 MiB")?;
        no_nul("name", &self.name)?;
        path("run directory", &self.run_dir)?;
        if let Some(kernel) = &self.kernel {
            path("kernel", &kernel.image)?;
            no_nul("kernel command line", &kernel.cmdline)?;
            kernel.initrd.iter().try_for_each(|initrd| path("initrd", initrd))?;
        }
        self.check_devices()
    }

    fn check_devices(&self) -> Result<(), Invalid> {
        let mut names = std::collections::HashSet::new();
        for disk in &self.disks {
            id("disk name", &disk.node_name)?;
            path("disk path", &disk.path)?;
            ensure(
                "disk serial",
                &disk.serial,
                disk.serial.len() <= MAX_SERIAL && disk.serial.bytes().all(|b| b.is_ascii_graphic()),
                "must be at most 20 printable ASCII characters, or the guest sees it cut off",
            )?;
        }
        for nic in &self.nics {
            id("network interface name", &nic.id)?;
            ensure("hardware address", render_mac(&nic.mac), nic.mac[0] & 1 == 0, "must not be a multicast address")?;
        }
        let mut all = self.disks.iter().map(|disk| &disk.node_name).chain(self.nics.iter().map(|nic| &nic.id));
        match all.find(|name| !names.insert(name.as_str())) {
            Some(name) => Err(Invalid::Twice { name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// Six bytes as people write them.
pub fn render_mac(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), Invalid> {
    match count <= most {
        true => Ok(()),
        false => Err(Invalid::TooMany { what, count, most }),
    }
}

fn ensure(field: &str, value: impl ToString, holds: bool, rule: &'static str) -> Result<(), Invalid> {
    match holds {
        true => Ok(()),
        false => Err(Invalid::Value { field: field.to_owned(), value: value.to_string(), rule }),
    }
}

fn no_nul(field: &str, value: &str) -> Result<(), Invalid> {
    ensure(field, value, !value.contains('\0'), "must not hold a NUL byte")
}

fn path(field: &str, path: &Path) -> Result<(), Invalid> {
    let text = path.to_str();
    ensure(
        field,
        path.display(),
        text.is_some_and(|text| text.starts_with('/') && !text.contains('\0')),
        "must be an absolute path in UTF-8 without NUL bytes",
    )
}

fn id(field: &str, id: &str) -> Result<(), Invalid> {
    let first = id.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let rest = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    ensure(
        field,
        id,
        first && rest && id.len() <= MAX_NODE_NAME,
        "must begin with a letter, go on with letters, digits, '-', '.' or '_', and have at most 31 characters",
    )
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A machine with one of everything.
    pub(crate) fn machine(run_dir: &Path) -> Machine {
        Machine {
            uuid: Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0),
            name: "node01".into(),
            cpus: 1,
            memory_bytes: 256 << 20,
            accelerator: Accelerator::Tcg,
            kernel: Some(Kernel {
                image: "/images/vmlinuz".into(),
                initrd: Some("/images/initrd".into()),
                cmdline: "console=ttyS0 root=/dev/vda quiet".into(),
            }),
            disks: vec![
                Disk {
                    node_name: "root".into(),
                    path: "/vms/node01/root.qcow2".into(),
                    format: DiskFormat::Qcow2,
                    read_only: false,
                    serial: "root".into(),
                },
                Disk {
                    node_name: "data".into(),
                    path: "/volumes/data, with comma.raw".into(),
                    format: DiskFormat::Raw,
                    read_only: true,
                    serial: "vol-6f1c2d3e4a5b".into(),
                },
            ],
            nics: vec![Nic { id: "net0".into(), mac: [0x52, 0x54, 0, 0xab, 0xcd, 1], mtu: Some(1450) }],
            hotplug_ports: 2,
            run_dir: run_dir.to_owned(),
            paused: false,
        }
    }

    /// A machine that boots nothing: good for everything but a guest.
    pub(crate) fn bare(run_dir: &Path) -> Machine {
        Machine {
            uuid: Uuid::new_v4(),
            kernel: None,
            disks: vec![],
            nics: vec![],
            memory_bytes: 32 << 20,
            paused: true,
            ..machine(run_dir)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Machine)) -> String {
        let mut machine = samples::machine(Path::new("/run/vm"));
        change(&mut machine);
        machine.check().unwrap_err().to_string()
    }

    #[test]
    fn the_sample_is_accepted() {
        assert_eq!(samples::machine(Path::new("/run/vm")).check(), Ok(()));
    }

    #[test]
    fn what_qemu_would_cut_off_or_misread_is_refused() {
        assert!(refused(|m| m.disks[0].serial = "a-serial-of-21-charss".into()).contains("cut off"));
        assert!(refused(|m| m.disks[0].node_name = "1st".into()).contains("begin with a letter"));
        assert!(refused(|m| m.nics[0].id = "net0,script=x".into()).contains("network interface name"));
        assert!(refused(|m| m.nics[0].mac[0] = 1).contains("multicast"));
        assert!(refused(|m| m.disks[1].node_name = "root".into()).contains("two devices are named \"root\""));
        assert!(refused(|m| m.disks[0].path = "relative".into()).contains("absolute"));
        assert!(refused(|m| m.cpus = 0).contains("1 to 255"));
        assert!(refused(|m| m.memory_bytes = 1).contains("16 MiB"));
        assert!(refused(|m| m.name = "a\0b".into()).contains("NUL"));
        let nic = Nic { id: "x".into(), mac: [2; 6], mtu: None };
        assert!(refused(|m| m.nics = vec![nic; 9]).contains("9 network interfaces"));
    }
}
