//! Real QEMU processes with their CPUs stopped: everything but a guest.

use std::path::Path;
use std::time::Duration;

use process::ProcessId;

use super::machine::{Disk, DiskFormat, samples};
use super::monitor::{self, Event, GuestEnd, Monitor};
use super::reach::Identity;
use super::start::{self, Error, Found};
use super::stop::{self, Ended};

const LONG: Duration = Duration::from_secs(60);

/// Kills what a failed test leaves behind.
struct Killed(ProcessId);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.signal(rustix::process::Signal::KILL);
    }
}

async fn started(run_dir: &Path, change: impl FnOnce(&mut super::machine::Machine)) -> (Killed, Monitor) {
    let mut machine = samples::bare(run_dir);
    change(&mut machine);
    let id = start::spawn(&machine, None, vec![]).unwrap();
    let killed = Killed(id);
    (killed, start::ready(run_dir, id, LONG).await.unwrap())
}

#[tokio::test]
async fn a_machine_is_started_once_and_adopted_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(start::observe(dir.path()).unwrap(), Found::Absent);
    let machine = samples::bare(dir.path());
    let id = start::spawn(&machine, None, vec![]).unwrap();
    let _killed = Killed(id);
    let monitor = start::ready(dir.path(), id, LONG).await.unwrap();
    assert_eq!(monitor.uuid().await.unwrap(), machine.uuid.to_string());
    assert_eq!(start::spawn(&machine, None, vec![]).unwrap(), id, "a second start starts nothing");
    // As if we had died between starting and recording.
    std::fs::remove_file(dir.path().join(super::machine::RECORD)).unwrap();
    assert_eq!(start::spawn(&machine, None, vec![]).unwrap(), id);
    assert_eq!(start::observe(dir.path()).unwrap(), Found::Running(id));
    drop(monitor);
    let again = Monitor::open(dir.path(), LONG).await.unwrap();
    assert_eq!(again.status().await.unwrap().state, "prelaunch");
    assert_eq!(stop::stop(dir.path(), Some(&again), None, LONG).await.unwrap(), Ended::Quit, "no guest to ask");
    again.closed().await;
    assert_eq!(start::observe(dir.path()).unwrap(), Found::Absent);
    assert_eq!(stop::stop(dir.path(), None, None, LONG).await.unwrap(), Ended::Already);
}

#[tokio::test]
async fn pausing_resuming_and_resetting_are_told_as_events() {
    let dir = tempfile::tempdir().unwrap();
    let (_killed, monitor) = started(dir.path(), |_| {}).await;
    let mut events = monitor.events();
    monitor.resume().await.unwrap();
    monitor.pause().await.unwrap();
    monitor.reset().await.unwrap();
    assert!(!monitor.status().await.unwrap().running);
    let mut seen = vec![];
    while seen.len() < 3 {
        let event = tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
        seen.extend((event != Event::Other).then_some(event));
    }
    assert_eq!(seen, [Event::Resume, Event::Stop, Event::Reset { by_guest: false }]);
    monitor.quit().await.unwrap();
    tokio::time::timeout(LONG, monitor.closed()).await.unwrap();
    let error = monitor.status().await.unwrap_err();
    assert!(matches!(error, monitor::Error::Closed { .. }), "{error}");
}

/// A boot sector that powers the machine off: SLP_EN into the PM1a control register, which the firmware of q35 puts at 0x604.
const POWER_OFF: [u8; 10] = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd];

#[tokio::test]
async fn a_guest_that_powers_itself_off_waits_to_be_seen_and_goes_when_it_is_let() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("off.raw");
    let mut disk = vec![0; 1 << 20];
    disk[..POWER_OFF.len()].copy_from_slice(&POWER_OFF);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&path, disk).unwrap();
    let boot =
        Disk { node_name: "boot".into(), path, format: DiskFormat::Raw, read_only: false, serial: "boot".into() };
    let (killed, monitor) = started(dir.path(), |machine| machine.disks.push(boot)).await;
    assert_eq!(monitor.status().await.unwrap().guest_end(), None);
    monitor.resume().await.unwrap();
    tokio::time::timeout(LONG, monitor.guest_ended()).await.unwrap();
    // Whoever was away when it happened sees it just as well.
    drop(monitor);
    let monitor = Monitor::open(dir.path(), LONG).await.unwrap();
    assert_eq!(monitor.status().await.unwrap().guest_end(), Some(GuestEnd::PoweredOff));
    assert!(killed.0.is_alive());
    assert_eq!(stop::stop(dir.path(), Some(&monitor), None, LONG).await.unwrap(), Ended::Gracefully);
    assert_eq!(start::observe(dir.path()).unwrap(), Found::Absent);
}

#[tokio::test]
async fn a_killed_machine_is_found_dead_and_can_be_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let (killed, monitor) = started(dir.path(), |_| {}).await;
    stop::kill(killed.0).await.unwrap();
    stop::kill(killed.0).await.unwrap();
    tokio::time::timeout(LONG, monitor.closed()).await.unwrap();
    assert_eq!(start::observe(dir.path()).unwrap(), Found::Dead);
    let error = Monitor::open(dir.path(), LONG).await.unwrap_err();
    assert!(matches!(error, monitor::Error::NotConnected { .. }), "{error}");
    let (killed, _monitor) = started(dir.path(), |_| {}).await;
    assert_eq!(start::observe(dir.path()).unwrap(), Found::Running(killed.0));
    assert_eq!(stop::stop(dir.path(), None, None, Duration::ZERO).await.unwrap(), Ended::Killed);
}

#[tokio::test]
async fn every_device_of_the_sample_is_taken_by_this_qemu_under_a_user_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    open_to_all(dir.path());
    let identity = Identity { uid: 61001, gid: 61001 };
    let mut machine = samples::machine(&dir.path().join("run"));
    machine.kernel = None;
    machine.nics.clear();
    machine.paused = true;
    machine.uuid = uuid::Uuid::new_v4();
    for (index, disk) in machine.disks.iter_mut().enumerate() {
        disk.path = dir.path().join(format!("disk {index}, odd"));
        if disk.format == super::machine::DiskFormat::Qcow2 {
            let base = dir.path().join("base");
            std::fs::write(&base, vec![0; 1 << 20]).unwrap();
            open_to_all(&base);
            crate::blockdev::ensure_overlay(&base, super::machine::DiskFormat::Raw, &disk.path, None, Some(identity))
                .unwrap();
        } else {
            crate::blockdev::ensure_volume(&disk.path, 1 << 20, None, Some(identity)).unwrap();
        }
    }
    let id = start::spawn(&machine, Some(identity), vec![]).unwrap();
    let _killed = Killed(id);
    start::ready(&machine.run_dir, id, LONG).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", id.pid)).unwrap();
    assert!(status.contains("Uid:\t61001\t61001\t61001\t61001"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
}

/// A namespace that is gone after the test.
struct Room(crate::netns::Namespace);

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", self.0.name()]).output();
    }
}

async fn tap(room: &Room, owner_uid: u32) -> crate::tap::Tap {
    let bridge =
        crate::link::Bridge { name: "br-1".parse().unwrap(), addresses: vec![], mtu: 1450, alias: "network".into() };
    let links = crate::link::Links::open(&room.0).await.unwrap();
    links.ensure_bridge(&bridge).await.unwrap();
    let spec = crate::tap::Spec {
        name: "tap-1".parse().unwrap(),
        owner_uid,
        bridge: "br-1".parse().unwrap(),
        mtu: 1450,
        alias: "port".into(),
    };
    crate::tap::Tap::create(&room.0, &spec).await.unwrap().0
}

#[tokio::test]
async fn a_machine_lives_in_the_namespace_it_was_started_in_and_holds_its_tap() {
    let name = format!("test-qemu-{}", uuid::Uuid::new_v4());
    let (namespace, _) = crate::netns::Namespaces::default().ensure(&name).await.expect("this test needs root");
    let room = Room(namespace);
    let dir = tempfile::tempdir().unwrap();
    open_to_all(dir.path());
    let identity = Identity { uid: 61002, gid: 61002 };
    let tap = tap(&room, identity.uid).await;
    let machine =
        super::machine::Machine { nics: samples::machine(dir.path()).nics, ..samples::bare(&dir.path().join("run")) };
    let (to_start, taps) = (machine.clone(), vec![tap.descriptor().unwrap()]);
    let start = move || start::spawn(&to_start, Some(identity), taps);
    let id = crate::netns::enter(&room.0, start).await.unwrap().unwrap();
    let _killed = Killed(id);
    let monitor = start::ready(&machine.run_dir, id, LONG).await.unwrap();
    let namespace = std::fs::read_link(format!("/proc/{}/ns/net", id.pid)).unwrap();
    assert_eq!(namespace.to_str().unwrap(), format!("net:[{}]", room.0.inode()));
    // As after a restart of ours: the tap lives on in QEMU and is fetched from there.
    drop(tap);
    let fetched = crate::tap::steal_fd(&id, super::command::tap_fd(0)).unwrap();
    assert!(crate::tap::Tap::adopt(fetched).is_attached().unwrap());
    stop::stop(&machine.run_dir, Some(&monitor), None, Duration::ZERO).await.unwrap();
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_qemu_that_gives_up_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let machine = super::machine::Machine { memory_bytes: 1 << 50, ..samples::bare(dir.path()) };
    let id = start::spawn(&machine, None, vec![]).unwrap();
    let _killed = Killed(id);
    let error = start::ready(dir.path(), id, LONG).await.unwrap_err();
    assert!(error.to_string().contains("give this one less"), "{error}");
    assert_eq!(error.category(), "QemuEnded");
    let nics = super::machine::Machine { nics: samples::machine(dir.path()).nics, ..samples::bare(dir.path()) };
    assert!(matches!(start::spawn(&nics, None, vec![]), Err(Error::Taps { nics: 1, taps: 0 })));
}
