//! How runs end when things go wrong, each with a message that names the cause.

use super::run_of;
use super::world::World;
use crate::engine::drive;
use crds::TestRun;
use crds::testrun::{RunPhase, StepPhase};
use serde_json::{Value, json};

async fn end_of(steps: Value, timeout: u32) -> (World, TestRun) {
    let tidy = json!([{"name": "tidy", "exec": {"node": "n1", "command": ["run", "1", "0", ""]}}]);
    let world = World::new(run_of(steps, tidy, timeout));
    let run = world.lock().stored.clone();
    let end = Box::pin(drive(&world, run)).await.unwrap();
    (world, end)
}

fn verdict(run: &TestRun) -> (RunPhase, &str) {
    let status = run.status.as_ref().unwrap();
    let last = status.steps.last().unwrap();
    assert_eq!((last.name.as_str(), last.phase), ("tidy", StepPhase::Passed), "finally has run");
    (status.phase, &status.message)
}

#[tokio::test(start_paused = true)]
async fn what_never_comes_is_named() {
    let wait = json!({"object": {"kind": "Node", "name": "ghost"}});
    let (_, end) = end_of(
        json!([{"name": "a", "timeoutSeconds": 30, "wait": wait},
               {"name": "b", "exec": {"node": "n1", "command": ["run", "1", "0", ""]}}]),
        600,
    )
    .await;
    let (phase, message) = verdict(&end);
    assert_eq!(phase, RunPhase::TimedOut);
    assert_eq!(message, "step a: the step's time was up: Node/ghost does not exist");
    assert_eq!(end.status.unwrap().steps[1].phase, StepPhase::Skipped);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_not_to_be_so_when_a_steps_time_is_up_has_failed_and_the_runs_own_time_is_no_verdict() {
    let sick = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "ReadinessFailing",
        "message": "no address", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let wait = json!({"name": "a", "timeoutSeconds": 30, "wait": {"object": {"kind": "Node", "name": "sick"}}});
    let red = |seconds: &str| {
        json!({"name": "a", "timeoutSeconds": 30, "attempts": 100,
            "exec": {"node": "n1", "command": ["run", seconds, "1", ""]}})
    };
    for (step, cause) in [
        (wait, "Node/sick is Ready=False (ReadinessFailing: no address), not True"),
        // Cut off between two attempts, and in the middle of one.
        (red("4"), "run on n1 exited with 1, not 0"),
        (red("7"), "run on n1 exited with 1, not 0"),
    ] {
        for (timeout, expected, whose) in [(600, RunPhase::Failed, "step"), (20, RunPhase::TimedOut, "run")] {
            let tidy = json!([{"name": "tidy", "exec": {"node": "n1", "command": ["run", "1", "0", ""]}}]);
            let world = World::new(run_of(json!([step]), tidy, timeout));
            world.put("Node/sick", sick.clone());
            let run = world.lock().stored.clone();
            let end = Box::pin(drive(&world, run)).await.unwrap();
            let (phase, message) = verdict(&end);
            assert_eq!(phase, expected, "{message}");
            assert!(message.contains(&format!("the {whose}'s time was up")) && message.contains(cause), "{message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_runs_time_ends_the_step_that_is_under_way() {
    let long = json!({"node": "n1", "command": ["run", "500", "0", ""]});
    let (world, end) = end_of(json!([{"name": "a", "exec": long}]), 100).await;
    let (phase, message) = verdict(&end);
    assert_eq!(phase, RunPhase::TimedOut);
    assert!(message.starts_with("step a: the run's time was up: run on n1 is still running"), "{message}");
    assert_eq!(world.lock().started.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_command_lost_in_a_reboot_is_an_error_or_the_next_attempt() {
    let vm = json!({"kind": "VirtualMachine", "name": "n2"});
    for (attempts, expected) in [(1, RunPhase::Errored), (2, RunPhase::Passed)] {
        let (_, end) = end_of(
            json!([{"name": "storm", "parallel": {"steps": [
                {"name": "command", "attempts": attempts, "exec": {"node": "n2", "command": ["run", "30", "0", ""]}},
                {"name": "kill", "fault": {"target": vm, "action": "Kill"}}]}}]),
            600,
        )
        .await;
        let (phase, message) = verdict(&end);
        assert_eq!(phase, expected, "{message}");
        if expected == RunPhase::Errored {
            assert!(message.contains("n2 was rebooted while the command ran"), "{message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_nobody_saw_fall_is_not_taken_for_ready() {
    let vm = json!({"kind": "VirtualMachine", "name": "n2"});
    let again = json!({"name": "again", "timeoutSeconds": 20, "wait": {"object": vm, "after": "again"}});
    let pause = json!({"name": "pause", "exec": {"node": "n1", "command": ["run", "3", "0", ""]}});
    let first = json!({"name": "first", "wait": {"object": vm}});
    // The machine became ready in second 0, in which `first` ends, too: `again` begins in a second of its own.
    for before in [first, pause] {
        let (_, end) = end_of(json!([before, again]), 600).await;
        let (phase, message) = verdict(&end);
        assert_eq!(phase, RunPhase::TimedOut);
        assert!(message.contains("has not left it since"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_used_twice_is_an_error_before_anything_is_done() {
    let exec = json!({"node": "n1", "command": ["run", "1", "0", ""]});
    let steps = json!([{"name": "a", "exec": exec}, {"name": "a", "exec": exec}]);
    let world = World::new(run_of(steps, json!([]), 600));
    let run = world.lock().stored.clone();
    let end = Box::pin(drive(&world, run)).await.unwrap();
    let status = end.status.unwrap();
    assert_eq!((status.phase, status.message.as_str()), (RunPhase::Errored, "two steps are named \"a\""));
    assert!(world.lock().started.is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_hundred_noisy_steps_stay_small() {
    let noise = "x".repeat(20_000);
    let steps: Vec<Value> = (0..200)
        .map(|n| json!({"name": format!("s{n}"), "exec": {"node": "n1", "command": ["run", "0", "0", noise]}}))
        .collect();
    let (world, end) = end_of(json!(steps), 600).await;
    assert_eq!(end.status.as_ref().unwrap().phase, RunPhase::Passed);
    assert!(crate::engine::limit::size(end.status.as_ref().unwrap()) < 256 * 1024);
    assert_eq!(world.lock().artifacts.len(), 200);
    assert!(world.lock().artifacts.values().all(|text| text.len() > 20_000));
    let _ = verdict(&end);
}
