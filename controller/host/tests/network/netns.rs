//! Namespaces: made once, entered without a trace, restored when their name is lost.

use host::netns::{Namespace, Namespaces, connect_tcp, enter, listen_tcp, run_in};
use process::Spawn;

use crate::lab::{DEADLINE, Room, inode_of_this_thread, run, unique_name};

fn reasons(changes: &host::link::Changes) -> Vec<&str> {
    changes.iter().map(|change| change.reason).collect()
}

#[tokio::test]
async fn a_namespace_is_made_once_and_deleted_once() {
    let (name, namespaces) = (unique_name(), Namespaces::default());
    let (_, changes) = namespaces.ensure(&name).await.expect("this test needs root");
    assert_eq!(reasons(&changes), ["NamespaceCreated", "LinkChanged"]);
    assert!(run("ip", "netns list").contains(&name));
    assert!(run("ip", &format!("-n {name} link show lo")).contains("LOOPBACK,UP"));
    assert_eq!(namespaces.list(&name).unwrap(), [name.as_str()]);

    let (_, changes) = namespaces.ensure(&name).await.unwrap();
    assert!(changes.is_empty(), "{changes:?}");

    assert_eq!(reasons(&namespaces.delete(&name).await.unwrap()), ["NamespaceDeleted"]);
    assert!(namespaces.delete(&name).await.unwrap().is_empty());
    assert!(namespaces.list(&name).unwrap().is_empty());
    assert!(namespaces.open(&name).is_err());
}

#[tokio::test]
async fn a_namespace_starts_without_forwarding_and_autoconfiguration() {
    let room = Room::new().await;
    let read = |setting: &str| room.shell(&format!("cat /proc/sys/net/{setting}")).trim().to_owned();
    assert_eq!(read("ipv4/ip_forward"), "0");
    room.ip("link add late type bridge");
    assert_eq!(read("ipv6/conf/late/accept_ra"), "0");
    assert_eq!(read("ipv6/conf/late/autoconf"), "0");
    room.ip("link set late up");
    assert!(!room.ip("-6 addr show dev late").contains("fe80"), "no address comes by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ensure_one_name_get_one_namespace() {
    let room = Room::new().await;
    let name = unique_name();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let name = name.clone();
            tokio::spawn(async move { Namespaces::default().ensure(&name).await.unwrap() })
        })
        .collect();
    let mut created = 0;
    let mut inodes = std::collections::HashSet::new();
    for task in tasks {
        let (namespace, _) = task.await.unwrap();
        inodes.insert(namespace.inode());
        created += 1;
    }
    Namespaces::default().delete(&name).await.unwrap();
    assert_eq!((created, inodes.len()), (8, 1));
    assert!(!inodes.contains(&room.namespace.inode()));
}

#[tokio::test]
async fn entering_leaves_the_caller_where_it_is() {
    let room = Room::new().await;
    let before = inode_of_this_thread();
    assert_eq!(enter(&room.namespace, inode_of_this_thread).await.unwrap(), room.namespace.inode());
    assert_eq!(run_in(&room.namespace, inode_of_this_thread).unwrap(), room.namespace.inode());
    assert_eq!(inode_of_this_thread(), before);
}

#[tokio::test]
async fn sockets_stay_in_the_namespace_they_were_made_in() {
    let (room, other) = (Room::new().await, Room::new().await);
    let listener = listen_tcp(&room.namespace, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), connect_tcp(&room.namespace, address));
    assert!(accepted.is_ok() && connected.is_ok());
    let error = connect_tcp(&other.namespace, address).await.unwrap_err();
    assert!(error.to_string().contains(other.name()), "{error}");
}

#[tokio::test]
async fn a_namespace_that_lost_its_name_gets_it_back_with_all_in_it() {
    let room = Room::new().await;
    room.ip("link add kept type bridge");
    run("ip", &format!("netns del {}", room.name()));
    let namespaces = Namespaces::default();
    assert!(namespaces.open(room.name()).is_err());

    let (again, changes) = namespaces.restore(room.name(), &room.namespace).await.unwrap();
    assert_eq!(reasons(&changes), ["NamespaceRestored"]);
    assert_eq!(again.inode(), room.namespace.inode());
    assert!(room.ip("link show kept").contains("kept"));
    let (_, changes) = namespaces.restore(room.name(), &room.namespace).await.unwrap();
    assert!(changes.is_empty());
}

#[tokio::test]
async fn a_child_started_inside_is_seen_to_be_there() {
    let room = Room::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut spawn = Spawn::new("/bin/sleep", dir.path().join("log"));
    spawn.args = vec!["60".into()];
    let id = enter(&room.namespace, move || spawn.start()).await.unwrap().unwrap();
    assert_eq!(Namespaces::default().occupants(&room.namespace), [id.pid]);
    assert_eq!(Namespace::of_process(id.pid).unwrap().inode(), room.namespace.inode());
    id.terminate(DEADLINE).await.unwrap();
    assert!(Namespaces::default().occupants(&room.namespace).is_empty());
}

#[tokio::test]
async fn a_name_that_is_a_path_is_refused() {
    let error = Namespaces::default().ensure("../evil").await.unwrap_err();
    assert!(!error.retry() && error.to_string().contains("../evil"), "{error}");
}
