//! Whether KVM can be used here, found out by booting a guest.
//!
//! That `/dev/kvm` opens and makes virtual machines says little: under some hypervisors and sandboxes a guest then crawls
//! or hangs for ever. So a tiny guest must come through: the firmware, a timer interrupt, then paging and 64-bit mode, on
//! a CPU with nothing missing (`enforce`), within [`DEADLINE`]. A working KVM needs a fifth of a second for it. The
//! answer holds until the machine boots again and is kept in a file.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::start::{PROGRAM, PROGRAM_VARIABLE};

/// A guest that is not through by then would be no faster than TCG.
const DEADLINE: Duration = Duration::from_secs(3);
/// What `isa-debug-exit` makes of the 0x21 that the guest writes last.
const SUCCESS: i32 = (0x21 << 1) | 1;
const NOBODY: (u32, u32) = (65534, 65534);
const DEVICE: &str = "/dev/kvm";

/// A boot sector (`boot_sector.s` beside this file) that waits for a timer tick, enters 64-bit mode and leaves QEMU.
const BOOT_SECTOR: [u8; 142] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, 0x8b, 0x1e, 0x6c, 0x04, 0xf4, 0x3b,
    0x1e, 0x6c, 0x04, 0x74, 0xf9, 0xfa, 0xbf, 0x00, 0x10, 0xb9, 0x00, 0x18, 0x31, 0xc0, 0xfc, 0xf3, 0xab, 0xc7, 0x06,
    0x00, 0x10, 0x03, 0x20, 0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0x66, 0xb8, 0x00,
    0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xe0, 0x0c, 0x20, 0x0f, 0x22, 0xe0, 0x66, 0xb9, 0x80, 0x00, 0x00,
    0xc0, 0x0f, 0x32, 0x0d, 0x00, 0x01, 0x0f, 0x30, 0x0f, 0x01, 0x16, 0x88, 0x7c, 0x0f, 0x20, 0xc0, 0x66, 0x0d, 0x01,
    0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0xea, 0x6a, 0x7c, 0x08, 0x00, 0xb8, 0x21, 0x00, 0x00, 0x00, 0xe7, 0xf4, 0xf4,
    0xeb, 0xfd, 0x0f, 0x1f, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x9a, 0x20, 0x00, 0x0f, 0x00, 0x78, 0x7c, 0x00, 0x00,
];

/// How a guest's instructions run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// On the processor.
    Kvm,
    /// Translated by QEMU.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        })
    }
}

/// What to run guests with, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The answer.
    pub accelerator: Accelerator,
    /// Why, for people.
    pub reason: String,
    /// Group that QEMU needs to open the device, when it needs one.
    pub group: Option<u32>,
    boot_id: String,
}

/// The verdict for this boot: from `cache`, else from a probe guest that runs as `uid_gid` (as nobody when none).
///
/// Never fails: whatever goes wrong is a reason to use TCG.
pub async fn detect(cache: &Path, uid_gid: Option<(u32, u32)>) -> Verdict {
    let boot_id = process::boot_id();
    if let Some(known) = read_cache(cache).filter(|known| known.boot_id == boot_id) {
        return known;
    }
    let group = device_group();
    let (uid, gid) = uid_gid.unwrap_or(NOBODY);
    let identity = rustix::process::geteuid().is_root().then_some((uid, group.unwrap_or(gid)));
    let (accelerator, reason) = match probe(Accelerator::Kvm, identity).await {
        Ok(()) => (Accelerator::Kvm, "a probe guest booted under KVM".to_owned()),
        Err(error) => (Accelerator::Tcg, format!("KVM is not used: {error}")),
    };
    let verdict = Verdict { accelerator, reason, group, boot_id };
    if let Err(error) = write_cache(cache, &verdict) {
        tracing::warn!(%error, path = %cache.display(), "failed to keep the accelerator's verdict; the next start probes again");
    }
    verdict
}

/// Why a probe guest did not come through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no device.
    #[error("{DEVICE} cannot be used ({0})")]
    Device(io::Error),
    /// QEMU is missing.
    #[error(transparent)]
    Program(#[from] process::Error),
    /// The probe could not be run at all.
    #[error("the probe guest could not be started ({0})")]
    Start(io::Error),
    /// The guest hangs or crawls.
    #[error("the probe guest did not come through within {} s", DEADLINE.as_secs())]
    Hangs,
    /// QEMU gave up.
    #[error("QEMU gave up on the probe guest: {0}")]
    Refused(String),
}

/// Boots the probe guest once.
pub async fn probe(accelerator: Accelerator, uid_gid: Option<(u32, u32)>) -> Result<(), Error> {
    if accelerator == Accelerator::Kvm {
        fs::metadata(DEVICE).map_err(Error::Device)?;
    }
    boot(accelerator, &BOOT_SECTOR, uid_gid).await
}

async fn boot(accelerator: Accelerator, sector: &[u8], uid_gid: Option<(u32, u32)>) -> Result<(), Error> {
    let program = process::find_program(PROGRAM, PROGRAM_VARIABLE)?;
    let image = boot_image(sector, uid_gid).map_err(Error::Start)?;
    let mut command = Command::new("timeout");
    // The deadline is kept by a process that outlives us, so that a hanging guest never does.
    command
        .args(["--signal=KILL", &DEADLINE.as_secs().to_string()])
        .arg(program)
        .args(arguments(accelerator, image.path()))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some((uid, gid)) = uid_gid {
        command.uid(uid).gid(gid);
    }
    let child = command.spawn().map_err(Error::Start)?;
    // A guest stuck in the kernel might not even die: then we stop waiting for it.
    let ended = tokio::time::timeout(DEADLINE * 2, child.wait_with_output()).await;
    let output = ended.map_err(|_| Error::Hangs)?.map_err(Error::Start)?;
    match output.status.code() {
        Some(SUCCESS) => Ok(()),
        Some(code) if code != 137 && code != 124 => Err(Error::Refused(last_line(&output.stderr, code))),
        _ => Err(Error::Hangs),
    }
}

fn arguments(accelerator: Accelerator, image: &Path) -> Vec<String> {
    let cpu = match accelerator {
        Accelerator::Kvm => "kvm64,enforce",
        Accelerator::Tcg => "qemu64",
    };
    let drive = serde_json::json!({
        "driver": "raw", "node-name": "boot", "read-only": true,
        "file": {"driver": "file", "filename": image, "read-only": true},
    });
    let accelerator = accelerator.to_string();
    let drive = drive.to_string();
    [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "pc",
        "-m",
        "16",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-accel",
        &accelerator,
        "-cpu",
        cpu,
        "-blockdev",
        &drive,
        "-device",
        "virtio-blk-pci,drive=boot,bootindex=0",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=4",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The firmware refuses disks much smaller than this.
fn boot_image(sector: &[u8], uid_gid: Option<(u32, u32)>) -> io::Result<tempfile::NamedTempFile> {
    let image = tempfile::Builder::new().prefix("clusterctl-probe-").tempfile()?;
    let mut sector = sector.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    fs::write(image.path(), sector)?;
    if let Some((uid, gid)) = uid_gid {
        std::os::unix::fs::chown(image.path(), Some(uid), Some(gid))?;
    }
    Ok(image)
}

fn device_group() -> Option<u32> {
    let metadata = fs::metadata(DEVICE).ok()?;
    let group_may = metadata.mode() & 0o060 == 0o060;
    (group_may && metadata.gid() != 0).then(|| metadata.gid())
}

fn last_line(stderr: &[u8], code: i32) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.map_or_else(|| format!("exit status {code}"), str::to_owned)
}

fn read_cache(path: &Path) -> Option<Verdict> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_cache(path: &Path, verdict: &Verdict) -> io::Result<()> {
    process::write_atomic(path, serde_json::to_vec_pretty(verdict)?, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_probe_guest_boots_where_guests_boot() {
        probe(Accelerator::Tcg, None).await.unwrap();
    }

    #[tokio::test]
    async fn a_guest_that_hangs_is_given_up_and_ended() {
        const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];
        let error = boot(Accelerator::Tcg, &JUMP_TO_ITSELF, None).await;
        assert!(matches!(error, Err(Error::Hangs)), "{error:?}");
    }

    #[tokio::test]
    async fn the_answer_is_the_probe_s_and_is_kept_for_this_boot() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("accelerator.json");
        let verdict = detect(&cache, None).await;
        println!("{verdict:?}");
        // Whatever this machine has, the answer must be what a guest really does here, even as root.
        if probe(Accelerator::Kvm, None).await.is_err() {
            assert_eq!(verdict.accelerator, Accelerator::Tcg, "{verdict:?}");
        }
        let kept = Verdict { reason: "kept".into(), ..verdict.clone() };
        write_cache(&cache, &kept).unwrap();
        assert_eq!(detect(&cache, None).await, kept);
        let stale = Verdict { boot_id: "another".into(), ..kept };
        write_cache(&cache, &stale).unwrap();
        assert_eq!(detect(&cache, None).await.accelerator, verdict.accelerator);
    }

    #[tokio::test]
    async fn no_user_id_of_its_own_is_no_reason_to_run_as_root() {
        let error = probe(Accelerator::Kvm, Some(NOBODY)).await;
        if fs::metadata(DEVICE).is_ok_and(|device| device.mode() & 0o006 == 0) {
            assert!(error.is_err(), "nobody may not open {DEVICE}");
        }
    }
}
