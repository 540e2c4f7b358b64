use super::*;
use crds::VirtualMachine;
use serde_json::{Value, json};

/// A node as its reconciler meets it, with the writes that it has cost so far.
struct Story {
    node: Node,
    found: Found,
    start: Timestamp,
    writes: Vec<String>,
}

impl Story {
    /// The Cluster's reconciler has just made the node.
    fn new(depends_on: Value) -> Story {
        let node: Node = serde_json::from_value(json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Node",
            "metadata": {"name": "b", "namespace": "default", "uid": "uid-b", "generation": 1},
            "spec": {"cluster": "c", "image": "i", "network": "n", "dependsOn": depends_on},
        }))
        .unwrap();
        let found = Found { port: None, volumes: Vec::new(), machine: None, siblings: Vec::new(), foreign: Vec::new() };
        Story { node, found, start: Timestamp::now(), writes: vec!["created".to_owned()] }
    }

    /// Its machine is there and its status says so, this many seconds after the start.
    fn machine(&mut self, seconds: f64, host: Option<&str>, status: Value) {
        self.found.machine = Some(machine(host, status));
        self.look(seconds);
    }

    /// A reconcile, and another one whenever it asked for that; returns when it asked to look again, in seconds.
    fn look(&mut self, seconds: f64) -> Option<f64> {
        let now = self.start + Duration::from_secs_f64(seconds);
        let told = told(&self.node, &self.found, now);
        if self.node.status.as_ref() != Some(&told.status) {
            let ready = condition::find(&told.status.conditions, READY).unwrap();
            self.writes.push(format!("{:?} {:?} {}", told.status.phase, told.status.machine_phase, ready.message));
            self.node.status = Some(told.status);
        }
        told.look_again.map(|wait| seconds + wait.as_secs_f64())
    }
}

fn machine(host: Option<&str>, status: Value) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "photoncloud.dev/v1alpha1", "kind": "VirtualMachine", "metadata": {"name": "b"},
        "spec": {"image": "i", "host": host}, "status": status,
    }))
    .unwrap()
}

fn says(phase: &str, reason: &str, message: &str) -> Value {
    let ready = if reason == "ReadinessPassed" { "True" } else { "False" };
    json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
}

#[test]
fn a_boot_with_everything_that_may_hold_it_up_costs_at_most_eight_writes() {
    let mut story = Story::new(json!([{"node": "a"}, {"node": "c"}, {"node": "d"}]));
    // Its dependencies come one after the other, and each wakes it.
    for second in 0..6 {
        assert_eq!(story.look(f64::from(second)), None);
    }
    story.machine(90.0, None, json!({}));
    story.machine(90.1, Some("host01"), json!({}));
    story.machine(90.2, Some("host01"), says("Pending", "ImageNotReady", "Image i is not ready"));
    assert_eq!(story.look(92.0), Some(95.0), "what holds it up for longer is told");
    assert_eq!(story.look(95.0), None);
    story.machine(120.0, Some("host01"), says("Pending", "PortNotReady", "Port b is not ready"));
    story.machine(121.0, Some("host01"), says("Running", "GuestAgentNotConnected", "The guest boots"));
    story.machine(150.0, Some("host01"), says("Running", "ReadinessFailing", "exit code 1"));
    story.machine(160.0, Some("host01"), says("Running", "ReadinessPassed", ""));
    story.look(170.0);
    insta::assert_snapshot!(story.writes.join("\n"));
    assert!(story.writes.len() <= 8, "{:#?}", story.writes);
    assert!((story.node.status.unwrap().boot_seconds.unwrap() - 70.0).abs() < 0.01);
}

#[test]
fn a_boot_without_a_hitch_says_only_what_somebody_waits_for() {
    let mut story = Story::new(json!([]));
    story.machine(0.0, None, json!({}));
    story.machine(0.1, Some("host01"), json!({}));
    story.machine(0.2, Some("host01"), says("Pending", "PortNotFound", "There is no Port b"));
    story.machine(0.3, Some("host01"), says("Pending", "VolumeNotReady", "Volume b-data is not ready"));
    story.machine(0.6, Some("host01"), says("Running", "GuestAgentNotConnected", "The guest boots"));
    let status = story.node.status.clone().unwrap();
    assert_eq!((status.machine_phase, status.host.as_deref()), (VmPhase::Running, Some("host01")), "told at once");
    story.machine(30.0, Some("host01"), says("Running", "ReadinessPassed", ""));
    assert_eq!(story.writes.len(), 4, "{:#?}", story.writes);
}

#[test]
fn a_machine_that_cannot_start_is_told_at_once() {
    let mut story = Story::new(json!([]));
    story.machine(0.0, None, json!({}));
    story.machine(0.1, Some("host01"), says("Failed", "ProgramNotFound", "install QEMU"));
    assert!(story.writes.last().unwrap().contains("install QEMU"), "{:#?}", story.writes);
    story.found.foreign = vec!["Port b".to_owned()];
    story.look(0.2);
    assert!(story.writes.last().unwrap().contains("belongs to something else"), "{:#?}", story.writes);
}

#[test]
fn a_clock_that_was_set_back_silences_nobody() {
    let mut story = Story::new(json!([]));
    story.machine(3600.0, None, json!({}));
    story.machine(0.0, Some("host01"), says("Pending", "ImageNotReady", "Image i is not ready"));
    assert!(story.writes.last().unwrap().contains("ImageNotReady"), "{:#?}", story.writes);
}
