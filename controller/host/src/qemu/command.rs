//! From a [`Machine`] to QEMU's argument vector.
//!
//! Devices, disks and objects are given as JSON, where no value can leave its string; the few options without a JSON form
//! hold only numbers, checked names and [`escaped`] text. Sockets are handed down as listening descriptors, see
//! [`super::socket`]; the log's path is relative because QEMU runs in the machine's run directory.
//!
//! The machine is `q35` under every accelerator (`microvm` stalls under TCG) with what a server does not need left out:
//! no HPET, SATA, SMBus, and no iPXE ROM, which TCG would interpret for a while on each boot. `-cpu max` under TCG leaves
//! out five-level page tables: they cost about a tenth of the boot for memory nobody has.

use serde_json::{Value, json};

use super::accelerator::Accelerator;
use super::machine::{
    CONSOLE_SOCKET, Disk, GUEST_AGENT_SOCKET, Machine, Nic, QMP_SOCKET, SERIAL_LOG, SPARE_QMP_SOCKET, render_mac,
};

/// Id of the guest agent's port, as QEMU's events name it.
pub const AGENT_PORT: &str = "agent-port";
/// Number that the first tap has in QEMU; the others follow.
pub const FIRST_TAP_FD: i32 = 10;
/// Sockets and the numbers that their listening descriptors have in QEMU.
pub const SOCKETS: [(&str, i32); 4] =
    [(QMP_SOCKET, 3), (SPARE_QMP_SOCKET, 4), (CONSOLE_SOCKET, 5), (GUEST_AGENT_SOCKET, 6)];
/// MiB of translated code TCG may keep: enough for a booted Debian, and six machines do not fill a laptop.
const TCG_CODE_MIB: u32 = 256;

const SLOT_RNG: u8 = 2;
const SLOT_SERIAL: u8 = 3;
const SLOT_DISKS: u8 = 4;
const SLOT_NICS: u8 = 16;
const SLOT_PORTS: u8 = 24;

/// QEMU's arguments, without the program. The machine must have passed [`Machine::check`].
pub fn render_arguments(machine: &Machine) -> Vec<String> {
    let mut arguments = Arguments::default();
    arguments.identity(machine);
    arguments.platform(machine);
    arguments.control();
    for (slot, disk) in (SLOT_DISKS..).zip(&machine.disks) {
        arguments.disk(slot, disk);
    }
    for (index, nic) in machine.nics.iter().enumerate() {
        arguments.nic(index, nic);
    }
    for port in 0..machine.hotplug_ports {
        arguments.hotplug_port(port);
    }
    if let Some(kernel) = &machine.kernel {
        arguments.option("-kernel", kernel.image.display());
        if let Some(initrd) = &kernel.initrd {
            arguments.option("-initrd", initrd.display());
        }
        arguments.option("-append", &kernel.cmdline);
    }
    if machine.paused {
        arguments.flag("-S");
    }
    arguments.0
}

/// Number that the tap of the interface at this index has in QEMU.
pub fn tap_fd(index: usize) -> i32 {
    FIRST_TAP_FD + index as i32
}

/// Text as a value in a comma-separated option: QEMU takes a doubled comma for one of the value's own.
pub fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn option(&mut self, name: &str, value: impl ToString) {
        self.0.push(name.to_owned());
        self.0.push(value.to_string());
    }

    fn device(&mut self, driver: &str, slot: u8, mut properties: Value) {
        properties["driver"] = driver.into();
        properties["bus"] = "pcie.0".into();
        properties["addr"] = format!("{slot:#x}").into();
        self.option("-device", properties);
    }

    fn identity(&mut self, machine: &Machine) {
        self.option("-name", format!("guest={},debug-threads=on", escaped(&machine.name)));
        self.option("-uuid", machine.uuid);
        self.flag("-nodefaults");
        self.flag("-no-user-config");
        self.option("-display", "none");
        self.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        self.option("-msg", "timestamp=on");
        // A guest that powers itself off, or panics, waits for us to see why: an event is lost when nobody listens.
        self.option("-action", "shutdown=pause");
    }

    fn platform(&mut self, machine: &Machine) {
        self.option("-machine", "q35,hpet=off,sata=off,smbus=off,vmport=off,graphics=off,dump-guest-core=off");
        match machine.accelerator {
            Accelerator::Kvm => {
                self.option("-accel", "kvm");
                self.option("-cpu", "host");
            }
            Accelerator::Tcg => {
                self.option("-accel", format!("tcg,thread=multi,tb-size={TCG_CODE_MIB}"));
                self.option("-cpu", "max,la57=off");
            }
        }
        self.option("-smp", machine.cpus);
        self.option("-m", format!("size={}M", machine.memory_bytes.div_ceil(1 << 20)));
        self.option("-rtc", "base=utc");
        self.option("-object", json!({"qom-type": "rng-builtin", "id": "rng"}));
        self.device("virtio-rng-pci", SLOT_RNG, json!({"rng": "rng"}));
        self.option("-device", json!({"driver": "pvpanic"}));
    }

    fn socket(&mut self, id: &str, name: &str, more: &str) {
        let fd = SOCKETS.iter().find(|(socket, _)| *socket == name).map_or(-1, |(_, fd)| *fd);
        self.option("-chardev", format!("socket,id={id},fd={fd},server=on,wait=off{more}"));
    }

    fn control(&mut self) {
        for (id, name) in [("qmp", QMP_SOCKET), ("qmp-spare", SPARE_QMP_SOCKET)] {
            self.socket(id, name, "");
            self.option("-mon", format!("chardev={id},mode=control"));
        }
        let log = format!(",logfile={SERIAL_LOG},logappend=on");
        self.socket("console", CONSOLE_SOCKET, &log);
        self.option("-device", json!({"driver": "isa-serial", "chardev": "console"}));
        self.socket("agent", GUEST_AGENT_SOCKET, "");
        self.device("virtio-serial-pci", SLOT_SERIAL, json!({"id": "channels"}));
        self.option(
            "-device",
            json!({
                "driver": "virtserialport",
                "id": AGENT_PORT,
                "bus": "channels.0",
                "chardev": "agent",
                "name": "org.qemu.guest_agent.0",
            }),
        );
    }

    fn disk(&mut self, slot: u8, disk: &Disk) {
        // The format is said, never probed: a guest could write a header into a raw disk that names a file of ours.
        let layer = json!({
            "driver": disk.format.as_str(),
            "node-name": disk.node_name,
            "read-only": disk.read_only,
            "discard": "unmap",
            "file": {
                "driver": "file",
                "filename": disk.path,
                "read-only": disk.read_only,
                "discard": "unmap",
            },
        });
        self.option("-blockdev", layer);
        self.device(
            "virtio-blk-pci",
            slot,
            json!({"drive": disk.node_name, "id": format!("disk-{}", disk.node_name), "serial": disk.serial}),
        );
    }

    fn nic(&mut self, index: usize, nic: &Nic) {
        let fd = tap_fd(index);
        self.option("-netdev", format!("tap,id={},fd={fd}", escaped(&nic.id)));
        let mut properties =
            json!({"netdev": nic.id, "id": format!("nic-{}", nic.id), "mac": render_mac(&nic.mac), "romfile": ""});
        if let Some(mtu) = nic.mtu {
            properties["host_mtu"] = mtu.into();
        }
        self.device("virtio-net-pci", SLOT_NICS + index as u8, properties);
    }

    fn hotplug_port(&mut self, port: u8) {
        self.device(
            "pcie-root-port",
            SLOT_PORTS + port,
            json!({"id": format!("port{port}"), "chassis": port + 1, "slot": port + 1}),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Kernel, samples};
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn the_whole_command_line() {
        let machine = samples::machine(Path::new("/run/vm"));
        insta::assert_snapshot!(one_option_a_line(&render_arguments(&machine)));
    }

    #[test]
    fn a_paused_machine_under_kvm_without_kernel() {
        let machine = Machine { accelerator: Accelerator::Kvm, ..samples::bare(Path::new("/run/vm")) };
        let arguments = render_arguments(&machine);
        assert_eq!(arguments.last().unwrap(), "-S");
        for pair in [["-accel", "kvm"], ["-cpu", "host"]] {
            assert!(arguments.windows(2).any(|window| window == pair));
        }
        assert!(!arguments.iter().any(|argument| argument == "-kernel" || argument == "-append"));
    }

    fn one_option_a_line(arguments: &[String]) -> String {
        let text = arguments.join(" ");
        text.replace(" -", "\n-")
    }

    /// Reads a comma-separated option as QEMU does.
    fn values(option: &str) -> Vec<String> {
        let protected = option.replace(",,", "\0");
        protected.split(',').map(|value| value.replace('\0', ",")).collect()
    }

    proptest! {
        #[test]
        fn no_value_becomes_an_option(
            name in "[^\0]{0,40}",
            path in "/[^\0]{0,40}",
            cmdline in "[^\0]{0,60}",
            serial in "[!-~]{0,20}",
        ) {
            let plain = samples::machine(Path::new("/run/vm"));
            let mut odd = plain.clone();
            odd.name = name.clone();
            odd.kernel = Some(Kernel { image: (&path).into(), initrd: Some((&path).into()), cmdline: cmdline.clone() });
            odd.disks[0].path = (&path).into();
            odd.disks[0].serial = serial.clone();
            prop_assert_eq!(odd.check(), Ok(()));
            let (plain, odd) = (render_arguments(&plain), render_arguments(&odd));
            prop_assert_eq!(plain.len(), odd.len());
            let at = |option: &str| odd.iter().position(|argument| argument == option).unwrap() + 1;
            // Where a value stands alone it is passed as it is; everything else is unchanged or parses back.
            prop_assert_eq!(&odd[odd.len() - 1], &cmdline);
            prop_assert_eq!(values(&odd[at("-name")]), [format!("guest={name}"), "debug-threads=on".into()]);
            let disk: Value = serde_json::from_str(&odd[at("-blockdev")]).unwrap();
            prop_assert_eq!(disk["file"]["filename"].as_str(), Some(path.as_str()));
            prop_assert_eq!(disk.as_object().unwrap().len(), 5);
            for (plain, odd) in plain.iter().zip(&odd) {
                if plain.starts_with('-') {
                    prop_assert_eq!(plain, odd);
                }
            }
        }
    }
}
