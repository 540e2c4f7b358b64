//! What turns a minimal Debian root into a lean guest: systemd as pid 1, a guest agent and DHCP, and little else.
//!
//! Six guests boot at once on two emulated cores in the canonical smoke test, where every program started costs. So a lean
//! guest has no udev (the initrd names the devices), no generators, no timers and a small volatile journal. What a
//! recipe writes or enables wins over all of this. The figures behind each choice: decision 0004.

use std::collections::BTreeSet;

use super::error::Result;
use super::recipe::{FileEntry, Unit};
use super::tree::Tree;
use super::units::{UNIT_DIR, apply_unit};

/// Packages of every Debian image, beside the essential ones. No apt: a guest's packages come from its recipe.
pub const LEAN_PACKAGES: [&str; 7] =
    ["busybox-static", "e2fsprogs", "iproute2", "kmod", "qemu-guest-agent", "systemd-sysv", "usr-is-merged"];

/// Moved whenever a build of the same inputs may differ from before; the guest's files count by themselves.
const BUILDER_VERSION: u32 = 2;

const MASKED_UNITS: &str = include_str!("guest/masked.units");

/// Units that are ours: name, content, enabled.
const UNITS: [(&str, &str, bool); 4] = [
    ("qemu-guest-agent.service", include_str!("guest/qemu-guest-agent.service"), true),
    ("photon-online.service", include_str!("guest/photon-online.service"), true),
    ("photon-dhcp@.service", include_str!("guest/photon-dhcp@.service"), false),
    ("photon-volume@.service", include_str!("guest/photon-volume@.service"), false),
];

/// Interfaces with a DHCP client where they exist. Plugged in later, one needs `systemctl start photon-dhcp@eth1`.
const INTERFACES: [&str; 8] = ["eth0", "eth1", "eth2", "eth3", "eth4", "eth5", "eth6", "eth7"];

/// Files that are ours: path, content, mode.
const FILES: [(&str, &str, u32); 8] = [
    ("/usr/lib/photon/dhcp-event", include_str!("guest/dhcp-event"), 0o755),
    ("/usr/lib/photon/online", include_str!("guest/online"), 0o755),
    ("/usr/lib/photon/volume", include_str!("guest/volume"), 0o755),
    ("/usr/lib/photon/devices", DEVICES, 0o644),
    ("/etc/systemd/system.conf.d/photon.conf", include_str!("guest/system.conf"), 0o644),
    ("/etc/systemd/journald.conf.d/photon.conf", include_str!("guest/journald.conf"), 0o644),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n", 0o644),
    ("/etc/fstab", "", 0o644),
];

/// Stands in for systemd's `shutdown` in a guest without D-Bus.
const SHUTDOWN: &str = include_str!("guest/shutdown");

/// First process in the initrd.
pub(super) const INIT: &str = include_str!("guest/init");

/// Names the virtio devices; in the initrd and in the guest.
pub(super) const DEVICES: &str = include_str!("guest/devices");

/// systemd's generators, each a program run before anything else; none finds anything to do in a lean guest.
const GENERATORS: [&str; 11] = [
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-veritysetup-generator",
];

/// What runs only for a recipe that writes a file it reads: the path, or the directory, and the unit or generator.
const ON_DEMAND: [(&str, &str); 5] = [
    ("/etc/fstab", "/etc/systemd/system-generators/systemd-fstab-generator"),
    ("/etc/modules-load.d/", "/etc/systemd/system/systemd-modules-load.service"),
    ("/etc/sysctl.conf", "/etc/systemd/system/systemd-sysctl.service"),
    ("/etc/sysctl.d/", "/etc/systemd/system/systemd-sysctl.service"),
    ("/etc/tmpfiles.d/", "/etc/systemd/system/systemd-tmpfiles-setup.service"),
];

/// Commands that busybox answers to where no package brings the real one.
const APPLETS: [&str; 25] = [
    "arping",
    "free",
    "ftpget",
    "httpd",
    "killall",
    "less",
    "nc",
    "netstat",
    "nslookup",
    "pidof",
    "ping",
    "ping6",
    "ps",
    "sysctl",
    "telnet",
    "tftp",
    "top",
    "traceroute",
    "udhcpc",
    "uptime",
    "vi",
    "watch",
    "unzip",
    "wget",
    "xxd",
];

/// Makes the tree a lean guest. `files` and `units` are the recipe's, which win.
pub(super) fn make_lean(tree: &Tree, files: &[FileEntry], units: &[Unit]) -> Result<()> {
    let wanted: BTreeSet<&str> =
        units.iter().filter(|unit| unit.enabled || unit.content.is_some()).map(|unit| unit.name.as_str()).collect();
    for name in masked_units().filter(|name| !wanted.contains(name)) {
        tree.symlink(&format!("{UNIT_DIR}/{name}"), "/dev/null")?;
    }
    for (path, content, mode) in FILES {
        tree.write(path, mode, content.as_bytes())?;
    }
    for (name, content, enabled) in UNITS {
        let unit = Unit { name: name.to_owned(), content: Some(content.to_owned()), enabled, masked: false };
        apply_unit(tree, &unit)?;
    }
    for interface in INTERFACES {
        let unit =
            Unit { name: format!("photon-dhcp@{interface}.service"), content: None, enabled: true, masked: false };
        apply_unit(tree, &unit)?;
    }
    for name in GENERATORS {
        tree.symlink(&format!("/etc/systemd/system-generators/{name}"), "/dev/null")?;
    }
    tree.symlink(&format!("{UNIT_DIR}/default.target"), "/lib/systemd/system/multi-user.target")?;
    start_on_demand(tree, files, &wanted)?;
    if !tree.exists("/usr/bin/dbus-daemon") {
        tree.write("/usr/sbin/shutdown", 0o755, SHUTDOWN.as_bytes())?;
    }
    name_the_machine(tree)?;
    link_applets(tree)
}

fn start_on_demand(tree: &Tree, files: &[FileEntry], wanted: &BTreeSet<&str>) -> Result<()> {
    let asked_for = |place: &str| {
        files.iter().any(|file| match place.ends_with('/') {
            true => file.path.starts_with(place),
            false => file.path == place,
        })
    };
    let needed: BTreeSet<&str> = ON_DEMAND
        .iter()
        .filter(|(place, reader)| {
            asked_for(place) || reader.rsplit('/').next().is_some_and(|name| wanted.contains(name))
        })
        .map(|(_, reader)| *reader)
        .collect();
    for (_, reader) in ON_DEMAND {
        match needed.contains(reader) {
            true => tree.remove(reader)?,
            false => tree.symlink(reader, "/dev/null")?,
        }
    }
    Ok(())
}

/// Whether enabling this unit means no more than not masking it: systemd itself pulls it in.
pub(super) fn is_static(name: &str) -> bool {
    masked_units().any(|masked| masked == name)
        || ON_DEMAND.iter().any(|(_, reader)| reader.rsplit('/').next() == Some(name))
}

/// Everything of ours that ends up in an image, for its key.
pub(super) fn fingerprint() -> Vec<String> {
    let mut parts = vec![
        BUILDER_VERSION.to_string(),
        MASKED_UNITS.to_owned(),
        INIT.to_owned(),
        SHUTDOWN.to_owned(),
        GENERATORS.join(" "),
        APPLETS.join(" "),
        INTERFACES.join(" "),
        format!("{ON_DEMAND:?}"),
        LEAN_PACKAGES.join(" "),
    ];
    parts.extend(UNITS.iter().map(|(name, content, enabled)| format!("{name} {enabled} {content}")));
    parts.extend(FILES.iter().map(|(path, content, mode)| format!("{path} {mode:o} {content}")));
    parts
}

fn masked_units() -> impl Iterator<Item = &'static str> {
    MASKED_UNITS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// No name, address or identity of the machine that built it: they come from the kernel command line and DHCP.
fn name_the_machine(tree: &Tree) -> Result<()> {
    tree.remove("/etc/hostname")?;
    // Empty, not absent: absent would mean a first boot, which presets every unit.
    tree.write("/etc/machine-id", 0o444, b"")?;
    tree.symlink("/etc/resolv.conf", "/run/resolv.conf")
}

fn link_applets(tree: &Tree) -> Result<()> {
    let dirs = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    for name in APPLETS {
        if !dirs.iter().any(|dir| tree.exists(&format!("{dir}/{name}"))) {
            tree.symlink(&format!("/usr/local/bin/{name}"), "/bin/busybox")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn lean(units: &[Unit], files: &[FileEntry]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        make_lean(&Tree::open(root.path()).unwrap(), files, units).unwrap();
        root
    }

    #[test]
    fn the_agent_and_the_network_start_at_boot() {
        let root = lean(&[], &[]);
        for name in ["qemu-guest-agent.service", "photon-dhcp@eth0.service"] {
            let link = root.path().join("etc/systemd/system/sysinit.target.wants").join(name);
            assert!(fs::symlink_metadata(link).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_recipes_unit_wins_over_a_mask() {
        let unit = Unit { name: "etcd.service".into(), content: None, enabled: true, masked: false };
        let path = "etc/systemd/system/etcd.service";
        assert!(fs::symlink_metadata(lean(&[], &[]).path().join(path)).is_ok());
        assert!(fs::symlink_metadata(lean(&[unit], &[]).path().join(path)).is_err());
    }

    #[test]
    fn an_fstab_of_the_recipe_is_read() {
        let fstab = FileEntry { path: "/etc/fstab".into(), content: b"tmpfs /tmp tmpfs".to_vec(), mode: 0o644 };
        let path = "etc/systemd/system-generators/systemd-fstab-generator";
        assert!(fs::symlink_metadata(lean(&[], &[]).path().join(path)).is_ok());
        assert!(fs::symlink_metadata(lean(&[], &[fstab]).path().join(path)).is_err());
    }

    #[test]
    fn a_reader_runs_only_when_there_is_something_to_read() {
        let sysctl = FileEntry {
            path: "/etc/sysctl.d/forward.conf".into(),
            content: b"net.ipv4.ip_forward=1".to_vec(),
            mode: 0o644,
        };
        let path = "etc/systemd/system/systemd-sysctl.service";
        assert!(fs::symlink_metadata(lean(&[], &[]).path().join(path)).is_ok());
        assert!(fs::symlink_metadata(lean(&[], &[sysctl]).path().join(path)).is_err());
    }

    #[test]
    fn every_masked_line_is_a_unit() {
        for name in masked_units() {
            let suffix = name.rsplit('.').next().unwrap();
            assert!(["service", "socket", "target", "mount", "automount", "timer", "path"].contains(&suffix), "{name}");
        }
    }
}
