//! Guests that answer by TCP port 80 alone, and objects that say so, or do not.

use super::run_of;
use super::world::World;
use crate::engine::drive;
use crds::TestRun;
use crds::testrun::RunPhase;
use serde_json::{Value, json};

fn object(kind: &str, name: &str, spec: Value, status: Value) -> Value {
    json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": name, "namespace": "default"}})
}

/// Three machines with a Port each, in one group that lets in what comes by this port of TCP.
async fn end_of(step: Value, port: u16) -> TestRun {
    let step = json!([{"name": "isolation", "reachability": step}]);
    let world = World::new(run_of(step, json!([]), 600));
    let ready =
        json!([{"type": "Ready", "status": "True", "reason": "World", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    world.put("TenantNetwork/net", object("TenantNetwork", "net", json!({"subnet": "10.1.0.0/24"}), Value::Null));
    let rules = json!({"rules": [{"direction": "Ingress", "protocol": "TCP", "port": port}]});
    world.put("SecurityGroup/web", object("SecurityGroup", "web", rules, Value::Null));
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let spec = json!({"network": "net", "ip": format!("10.1.0.{}", number + 2), "host": "host01", "securityGroups": ["web"]});
        world.put(&format!("Port/{name}"), object("Port", name, spec, Value::Null));
        let spec = json!({"image": "lean", "interfaces": [{"port": name}]});
        world
            .put(&format!("VirtualMachine/{name}"), object("VirtualMachine", name, spec, json!({"conditions": ready})));
    }
    let run = world.lock().stored.clone();
    let end = Box::pin(drive(&world, run)).await.unwrap();
    assert_eq!(world.remembered(), Vec::<String>::new(), "a guest keeps what nobody needs any more");
    end
}

fn told(run: &TestRun) -> (RunPhase, &str, Vec<(&str, f64)>) {
    let status = run.status.as_ref().unwrap();
    (status.phase, &status.message, status.metrics.iter().map(|one| (one.name.as_str(), one.value)).collect())
}

#[tokio::test(start_paused = true)]
async fn what_is_as_the_objects_say_passes_with_its_numbers() {
    let end = end_of(json!({"metricPrefix": "net"}), 80).await;
    // Six pairs; port 80, one that no rule mentions, and an echo.
    let numbers = vec![("net_tries", 18.0), ("net_mismatches", 0.0), ("net_not_tried", 0.0)];
    assert_eq!(told(&end), (RunPhase::Passed, "all 1 steps passed", numbers));
    let steps = end.status.unwrap().steps;
    assert_eq!(steps[0].message, "all 18 tries are as the objects say");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_fails_in_both_directions_and_names_the_first() {
    let end = end_of(json!({"metricPrefix": "net", "tcpPorts": [80, 81], "icmp": false}), 81).await;
    let (phase, message, numbers) = told(&end);
    assert_eq!((phase, numbers[1]), (RunPhase::Failed, ("net_mismatches", 12.0)), "{message}");
    let open = "a → b tcp/81 got no answer (timed out), but is open by SecurityGroup web spec.rules[0]; hop: ";
    let closed =
        "a → b tcp/80 was answered, but is closed by default deny in; it should have stopped at the rule in of b";
    for part in ["12 of 12 tries are not as the objects say", open, closed, "; and 9 more"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let output = end.status.as_ref().unwrap().steps[0].output.as_ref().unwrap();
    assert_eq!(output.lines().count(), 12, "all of them: {output}");
}

#[tokio::test(start_paused = true)]
async fn what_proves_nothing_is_no_pass() {
    let tries = end_of(json!({"maxTries": 17}), 80).await;
    let (phase, message, _) = told(&tries);
    assert!(phase == RunPhase::Errored && message.contains("needs 18 tries and may make 17"), "{message}");
    let nobody = end_of(json!({"ports": ["a"]}), 80).await;
    let (phase, message, _) = told(&nobody);
    assert!(phase == RunPhase::Errored && message.contains("nothing could be tried"), "{message}");
    let ghost = end_of(json!({"networks": ["ghost"]}), 80).await;
    let (phase, message, _) = told(&ghost);
    assert!(phase == RunPhase::Errored && message.contains("no Port is on TenantNetwork ghost"), "{message}");
}
