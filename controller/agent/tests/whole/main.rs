//! The agent whole: real namespaces, real dnsmasq, real QEMU, against an API in memory. Needs root.
//!
//! The image is an empty disk without a kernel, so QEMU stays in its firmware: all that an agent does without a guest is
//! proved here in seconds; what needs a guest is proved by the smoke run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod balancer;
mod derived;
mod groups;
mod house;
mod https;
mod names;
mod overlay;
mod routers;
mod six;
mod subnets;
mod three_hosts;
mod way_out;

use house::{House, key};
use serde_json::json;

/// No test: what the agents of the tests start as a name server is this program, with this function. Handed no sockets, it
/// has nothing to do.
#[test]
fn name_server() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        let directory = std::env::args_os().next_back().unwrap();
        dns::serve::run(std::path::Path::new(&directory), dns::serve::Limits::default()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_comes_up_is_adopted_repaired_killed_and_removed_without_a_trace() {
    let mut house = House::new().await;
    house.start().await;
    house.apply_network("net", "10.77.0.0/24").await;
    house.apply_image("empty").await;
    house.apply_volume("data").await;
    house.apply_port("a", "net", "10.77.0.2", 2).await;
    house.apply_vm("a", "empty", &["a"], &["data"]).await;

    let vm = house.running("a").await;
    let pid = vm["status"]["pid"].as_i64().unwrap();
    assert_eq!(vm["status"]["ip"], json!("10.77.0.2"));
    assert!(vm["status"]["monitorReadyMilliseconds"].as_u64().is_some());
    let owner = std::fs::metadata(format!("/proc/{pid}")).map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap();
    assert!(owner > 100_000, "QEMU runs under a user of its own, not {owner}");
    assert!(house.api.writes("virtualmachines") <= 8, "{:?}", house.api.all_writes());

    converged_writes_nothing(&mut house).await;
    restart_adopts(&mut house, pid).await;
    drift_is_repaired(&house).await;
    let pid = a_kill_fault_is_survived(&house, pid).await;
    a_pause_is_reverted(&house, pid).await;
    deletion_waits_and_leaves_nothing(house).await;
}

async fn converged_writes_nothing(house: &mut House) {
    let before = house.settled_writes().await;
    house.stop().await;
    house.start().await;
    // A fresh agent looks at every object once.
    let mut after = house.settled_writes().await;
    after.insert("hosts".into(), before["hosts"]);
    assert_eq!(before, after, "a converged look wrote something");
}

async fn restart_adopts(house: &mut House, pid: i64) {
    house.stop().await;
    house.start().await;
    let vm = house.running("a").await;
    assert_eq!(vm["status"]["pid"].as_i64(), Some(pid));
    assert_eq!(vm["status"]["restarts"], json!(0));
}

async fn drift_is_repaired(house: &House) {
    let port = house.api.until("ports", &key("a"), "ready", |port| port["status"]["netns"].is_string()).await;
    let (netns, tap) = (port["status"]["netns"].as_str().unwrap(), port["status"]["device"].as_str().unwrap());
    house.until_link(netns, tap, true).await;
    house.ip(netns, &["link", "delete", tap]);
    house.until_link(netns, tap, true).await;
    let bridge = house.bridge(netns);
    house.ip(netns, &["address", "flush", "dev", &bridge]);
    house.until(|| house.ip(netns, &["-o", "-4", "address", "show", "dev", &bridge]).contains("10.77.0.1/24")).await;
    house.ip(netns, &["link", "delete", &bridge]);
    house.until(|| house.ip_quiet(netns, &["-o", "link", "show", "master", &bridge]).contains(tap)).await;
    let filter = bridge.replacen("br", "pf", 1);
    let guarded = || house.nft(netns, &["list", "table", "bridge", &filter]).contains(&format!("\"{tap}\" . 52:54"));
    assert!(guarded());
    house.nft(netns, &["flush", "table", "bridge", &filter]);
    house.nft(netns, &["delete", "table", "bridge", &filter]);
    house.until(guarded).await;
    house.kill_dnsmasq().await;
    house.until(|| house.dnsmasq_pids().len() == 1).await;
    house.until(|| house.api.objects("events").iter().any(|event| event["reason"] == json!("DriftRepaired"))).await;
}

async fn a_kill_fault_is_survived(house: &House, pid: i64) -> i64 {
    house.apply_fault("kill", json!({"target": {"kind": "VirtualMachine", "name": "a"}, "action": "Kill"})).await;
    house.api.until("faults", &key("kill"), "reverted", |fault| fault["status"]["phase"] == json!("Reverted")).await;
    let back = |vm: &serde_json::Value| {
        vm["status"]["phase"] == json!("Running") && vm["status"]["pid"].as_i64().is_some_and(|now| now != pid)
    };
    let vm = house.api.until("virtualmachines", &key("a"), "running again", back).await;
    assert_eq!(vm["status"]["restarts"], json!(1));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    vm["status"]["pid"].as_i64().unwrap()
}

async fn a_pause_is_reverted(house: &House, pid: i64) {
    let spec = json!({"target": {"kind": "Node", "name": "a"}, "action": "Pause"});
    house.apply_fault("pause", spec).await;
    let paused = |vm: &serde_json::Value| vm["status"]["phase"] == json!("Paused");
    house.api.until("virtualmachines", &key("a"), "paused", paused).await;
    house.delete("faults", "pause").await;
    let running = |vm: &serde_json::Value| vm["status"]["phase"] == json!("Running");
    let vm = house.api.until("virtualmachines", &key("a"), "running", running).await;
    assert_eq!(vm["status"]["pid"].as_i64(), Some(pid));
}

async fn deletion_waits_and_leaves_nothing(mut house: House) {
    house.delete("volumes", "data").await;
    house.delete("ports", "a").await;
    let in_use = |object: &serde_json::Value| object["status"]["conditions"][0]["reason"] == json!("InUse");
    house.api.until("volumes", &key("data"), "in use", in_use).await;
    house.api.until("ports", &key("a"), "in use", in_use).await;
    house.delete("virtualmachines", "a").await;
    for (resource, name) in [("virtualmachines", "a"), ("volumes", "data"), ("ports", "a")] {
        house.api.until(resource, &key(name), "gone", serde_json::Value::is_null).await;
    }
    house.until(|| house.leftovers().is_empty()).await;
    house.stop().await;
    assert_eq!(house.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_and_comes_right_when_it_comes() {
    let mut house = House::new().await;
    house.start().await;
    house.apply_vm("b", "empty", &["b"], &[]).await;
    let reason =
        |wanted: &'static str| move |vm: &serde_json::Value| vm["status"]["conditions"][0]["reason"] == json!(wanted);
    house.api.until("virtualmachines", &key("b"), "image missing", reason("ImageNotFound")).await;
    house.apply_image("empty").await;
    house.api.until("virtualmachines", &key("b"), "port missing", reason("PortNotFound")).await;
    house.apply_port("b", "net", "10.77.0.3", 3).await;
    house.api.until("ports", &key("b"), "network missing", reason("NetworkNotFound")).await;
    house.apply_network("net", "10.77.0.0/24").await;
    house.running("b").await;
    house.stop().await;
    // What is in use stays, however long ago somebody asked for it.
    house.age_images();
    house.start().await;
    house.until(|| house.images().iter().all(|(_, aged)| !aged)).await;
    house.stop().await;
    assert_eq!(house.images().len(), 1);
    house.age_images();
    // Everything goes while nobody looks, finalizers and all: the next agent sweeps it.
    house.forget_everything();
    house.start().await;
    house.until(|| house.leftovers().is_empty()).await;
    // The image went with the last machine on it.
    house.until(|| house.images().is_empty()).await;
    house.stop().await;
}
