//! Taps: frames flow, and flow again after the tap was deleted under its user.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use host::link::{Bridge, LinkName, Mac};
use host::tap::{Spec, Tap, steal_fd};
use process::{ProcessId, Spawn};

use crate::lab::{DEADLINE, Room};

const GUEST: Mac = [2, 0, 0, 0, 0, 0x42];

fn bridge() -> Bridge {
    Bridge {
        name: "br-1".parse().unwrap(),
        addresses: vec!["10.1.0.1/24".parse().unwrap()],
        mtu: 1450,
        alias: "network-1".into(),
    }
}

fn spec() -> Spec {
    Spec {
        name: "tap-1".parse().unwrap(),
        owner_uid: 300_001,
        bridge: "br-1".parse().unwrap(),
        mtu: 1450,
        alias: "port-1".into(),
    }
}

/// An ARP question for the bridge's address behind an empty virtio header, as a guest's card sends it.
fn question() -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0xff; 6]);
    frame.extend(GUEST);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(GUEST);
    frame.extend([10, 1, 0, 2, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1]);
    frame
}

fn is_answer(frame: &[u8]) -> bool {
    frame.len() >= 54
        && frame[12..18] == GUEST
        && frame[24..26] == [8, 6]
        && frame[32..34] == [0, 2]
        && frame[40..44] == [10, 1, 0, 1]
}

/// Asks through the tap until the bridge answers.
async fn assert_frames_flow(tap: impl AsFd) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "the bridge does not answer");
        // A port that was just connected may still drop what comes.
        let _ = rustix::io::write(&tap, &question());
        let mut frame = [0; 2048];
        while let Ok(length) = rustix::io::read(&tap, &mut frame) {
            if is_answer(&frame[..length]) {
                return;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_tap_carries_frames_and_is_left_alone_when_right() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let (tap, changes) = Tap::create(&room.namespace, &spec()).await.unwrap();
    assert_eq!(changes.iter().next().unwrap().reason, "TapAttached");
    assert_frames_flow(&tap).await;
    let shown = room.ip("-d link show tap-1");
    for part in ["mtu 1450", "master br-1", "alias port-1", "user 300001", "persist off", "vnet_hdr on"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(tap.header_size().unwrap(), 12);
    assert!(tap.ensure(&room.links, &spec()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deleted_tap_carries_frames_again_on_the_same_file() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let (tap, _) = Tap::create(&room.namespace, &spec()).await.unwrap();
    // What QEMU holds: a copy that it never looks at again.
    let in_use = tap.descriptor().unwrap();
    assert_frames_flow(&in_use).await;
    for _ in 0..3 {
        room.ip("link del tap-1");
        assert!(!tap.is_attached().unwrap());
        assert!(rustix::io::write(&in_use, &question()).is_err(), "the file is detached");
        let changes = tap.ensure(&room.links, &spec()).await.unwrap();
        assert_eq!(changes.iter().next().unwrap().reason, "TapAttached");
        assert_eq!(tap.header_size().unwrap(), 12);
        assert_frames_flow(&in_use).await;
        assert!(tap.ensure(&room.links, &spec()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_tap_that_drifted_is_set_right() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let (tap, _) = Tap::create(&room.namespace, &spec()).await.unwrap();
    room.ip("link set tap-1 nomaster");
    room.ip("link set tap-1 down mtu 1300");
    assert_eq!(tap.ensure(&room.links, &spec()).await.unwrap().iter().count(), 3);
    assert_frames_flow(&tap).await;
    // The bridge is deleted and comes back: the tap is connected again.
    room.ip("link del br-1");
    room.links.ensure_bridge(&bridge()).await.unwrap();
    assert_eq!(tap.ensure(&room.links, &spec()).await.unwrap().iter().count(), 1);
    assert_frames_flow(&tap).await;
}

#[tokio::test]
async fn a_tap_is_gone_with_its_last_file() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let (tap, _) = Tap::create(&room.namespace, &spec()).await.unwrap();
    let copy = tap.descriptor().unwrap();
    drop(tap);
    assert!(room.links.find("tap-1").await.unwrap().is_some());
    drop(copy);
    assert_eq!(room.links.find("tap-1").await.unwrap(), None);
}

#[tokio::test]
async fn two_holders_of_one_tap_are_refused() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let _held = Tap::create(&room.namespace, &spec()).await.unwrap();
    let error = Tap::create(&room.namespace, &spec()).await.unwrap_err();
    assert!(error.to_string().contains("tap-1"), "{error}");
}

#[tokio::test]
async fn a_renamed_tap_is_told() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let (tap, _) = Tap::create(&room.namespace, &spec()).await.unwrap();
    room.ip("link set tap-1 down name other");
    let error = tap.ensure(&room.links, &spec()).await.unwrap_err();
    assert!(error.to_string().contains("other"), "{error}");
}

/// We start again, and the only one who has the tap's file is the process that uses it.
#[tokio::test]
async fn a_tap_is_repaired_through_the_file_of_its_user() {
    let room = Room::new().await;
    room.links.ensure_bridge(&bridge()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (tap, _) = Tap::create(&room.namespace, &spec()).await.unwrap();
    let mut spawn = Spawn::new("/bin/sleep", dir.path().join("log"));
    spawn.args = vec!["60".into()];
    spawn.uid_gid = Some((300_001, 300_001));
    spawn.fds = vec![(tap.descriptor().unwrap(), 7)];
    let user = spawn.start().unwrap();
    drop(tap);
    room.ip("link del tap-1");

    let again = Tap::adopt(steal_fd(&user, 7).unwrap());
    assert!(!again.is_attached().unwrap());
    again.ensure(&room.links, &spec()).await.unwrap();
    assert_frames_flow(&again).await;
    drop(again);
    assert!(room.links.find("tap-1").await.unwrap().is_some(), "its user still holds it");
    user.terminate(DEADLINE).await.unwrap();
    crate::lab::eventually("the tap goes with its user", || async {
        room.links.find("tap-1").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_descriptor_of_a_process_that_is_gone_is_an_error() {
    let id = ProcessId { pid: std::process::id() as i32, start_time: 1 };
    assert!(steal_fd(&id, 0).is_err(), "an earlier process with this pid");
    let me = ProcessId::of(std::process::id() as i32).unwrap();
    let file = tempfile::tempfile().unwrap();
    assert!(steal_fd(&me, file.as_raw_fd()).is_ok());
    assert!(steal_fd(&me, 99_999).is_err());
}

#[test]
fn a_tap_has_a_name_of_its_port() {
    assert_eq!(LinkName::of_owner("tap-", "port").unwrap().as_str().len(), 12);
}
