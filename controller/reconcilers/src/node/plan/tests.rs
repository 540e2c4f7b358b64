use super::*;
use serde_json::json;

fn node(name: &str, spec: serde_json::Value, status: serde_json::Value) -> Node {
    let mut all = json!({"cluster": "c", "image": "i", "network": "mgmt"});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Node",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": all, "status": status,
    }))
    .unwrap()
}

fn nothing() -> Found {
    Found { port: None, volumes: Vec::new(), machine: None, siblings: Vec::new(), foreign: Vec::new() }
}

fn carry_out(node: &Node, mut found: Found) -> Found {
    for step in plan(node, &found) {
        match step {
            Step::CreatePort(port) => found.port = Some(*port),
            Step::CreateVolume(volume) => found.volumes.push(*volume),
            Step::CreateMachine(machine) | Step::ChangeMachine(machine) => found.machine = Some(*machine),
        }
    }
    found
}

#[test]
fn a_second_plan_is_empty() {
    let node = node("a", json!({"volumes": [{"name": "data", "size": "1Gi"}]}), json!({}));
    let found = carry_out(&node, nothing());
    assert!(found.machine.is_some() && found.port.is_some());
    assert_eq!(found.volumes[0].name_any(), "a-data");
    assert!(plan(&node, &found).is_empty());
}

#[test]
fn a_machine_waits_for_its_dependencies_and_then_keeps_running() {
    let waiting = node("b", json!({"dependsOn": [{"node": "a", "condition": "Ready"}]}), json!({}));
    let mut found = nothing();
    found.siblings = vec![node("a", json!({}), json!({"phase": "Booting"}))];
    found = carry_out(&waiting, found);
    assert!(found.port.is_some() && found.machine.is_none());
    found.siblings = vec![node("a", json!({}), json!({"phase": "Ready"}))];
    found = carry_out(&waiting, found);
    assert!(found.machine.is_some());
    found.siblings = vec![node("a", json!({}), json!({"phase": "NotReady"}))];
    assert!(plan(&waiting, &found).is_empty());
}

#[test]
fn started_is_met_as_soon_as_the_other_machine_runs() {
    let waiting = node("b", json!({"dependsOn": [{"node": "a", "condition": "Started"}]}), json!({}));
    for (status, met) in [
        (json!({"phase": "Waiting"}), false),
        (json!({"phase": "Booting"}), false),
        (json!({"phase": "Booting", "machinePhase": "Running"}), true),
        (json!({"phase": "Ready"}), true),
        (json!({"phase": "Stopped"}), false),
    ] {
        let mut found = nothing();
        found.siblings = vec![node("a", json!({}), status.clone())];
        assert_eq!(missing(&waiting, &found).is_empty(), met, "{status}");
    }
}

#[test]
fn power_off_halts_and_power_on_waits_for_the_order_again() {
    let depends = json!([{"node": "a", "condition": "Ready"}]);
    let running = node("b", json!({"dependsOn": depends}), json!({}));
    let mut found = nothing();
    found.siblings = vec![node("a", json!({}), json!({"phase": "Ready"}))];
    found = carry_out(&running, found);
    let stopped = node("b", json!({"dependsOn": depends, "powerState": "Stopped"}), json!({}));
    found = carry_out(&stopped, found);
    assert_eq!(found.machine.as_ref().unwrap().spec.run_strategy, RunStrategy::Halted);
    found.siblings = vec![node("a", json!({}), json!({"phase": "Booting"}))];
    found = carry_out(&running, found);
    assert_eq!(found.machine.as_ref().unwrap().spec.run_strategy, RunStrategy::Halted);
    found.siblings = vec![node("a", json!({}), json!({"phase": "Ready"}))];
    found = carry_out(&running, found);
    assert_eq!(found.machine.as_ref().unwrap().spec.run_strategy, RunStrategy::Always);
}

#[test]
fn an_object_of_somebody_else_is_never_touched() {
    let mut found = nothing();
    found.foreign = vec!["Port a".to_owned()];
    assert!(plan(&node("a", json!({}), json!({})), &found).is_empty());
}
