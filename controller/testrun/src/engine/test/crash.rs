//! The engine is stopped at every moment of a run, and the next engine must come to the same verdict without doing
//! anything twice.

use super::run_of;
use super::world::World;
use crate::engine::drive;
use crds::TestRun;
use crds::testrun::{RunPhase, StepPhase};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Waits, commands, retries, a kill beside a writer, a probe, an assertion, and something at the end.
fn story(code: &str) -> TestRun {
    let exec = |node: &str, words: &[&str]| json!({"node": node, "command": words});
    let vm = json!({"kind": "VirtualMachine", "name": "n2"});
    let mut count = exec("n1", &["run", "2", code, "value=7"]);
    count["metrics"] = json!([{"name": "value", "unit": "1"}]);
    let steps = json!([
        {"name": "ready", "wait": {"object": {"kind": "Node", "name": "n1"}}, "durationMetric": "boot_seconds"},
        {"name": "third", "attempts": 3, "intervalSeconds": 2, "exec": exec("n2", &["third"])},
        {"name": "storm", "durationMetric": "storm_seconds", "parallel": {"steps": [
            {"name": "writer", "exec": exec("n1", &["run", "25", "0", "lost=0"])},
            {"name": "kill", "fault": {"target": vm, "action": "Kill"}},
            {"name": "recover", "durationMetric": "recovery_seconds", "wait": {"object": vm, "after": "storm"}},
        ]}},
        {"name": "count", "exec": count},
        {"name": "pairs", "probe": {"icmp": {}}},
        {"name": "restarts", "assert": {"object": vm, "jsonPath": ".status.restarts", "equals": "1",
            "metric": "restarts"}},
    ]);
    run_of(steps, json!([{"name": "tidy", "exec": exec("n1", &["run", "1", "0", ""])}]), 600)
}

/// A command in a machine that is killed under it: its result is lost, whoever looks for it.
fn doomed() -> TestRun {
    let vm = json!({"kind": "VirtualMachine", "name": "n2"});
    let command = json!({"node": "n2", "command": ["run", "30", "0", ""]});
    let steps = json!([{"name": "storm", "parallel": {"steps": [
        {"name": "command", "exec": command}, {"name": "kill", "fault": {"target": vm, "action": "Kill"}}]}}]);
    run_of(steps, json!([]), 600)
}

/// Drives the run, stopping the engine at each of these moments and starting it again so many seconds later, to its end.
async fn drive_through(world: &World, crashes: &[usize], outage: u64) -> TestRun {
    let mut crashes = crashes.iter().copied();
    loop {
        world.crash_in(crashes.next());
        let run = world.lock().stored.clone();
        tokio::select! {
            end = Box::pin(drive(world, run)) => return end.unwrap(),
            () = world.crashed.notified() => tokio::time::sleep(Duration::from_secs(outage)).await,
        }
    }
}

fn phases(run: &TestRun) -> (RunPhase, Vec<(String, StepPhase)>) {
    let status = run.status.as_ref().unwrap();
    let steps = status.steps.iter().map(|step| (step.name.clone(), step.phase));
    (status.phase, steps.collect())
}

fn is_probe(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, end)| end.starts_with('p'))
}

/// What must not happen twice: commands other than probes, and harm.
fn deeds(world: &World) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let inner = world.lock();
    let mut started = inner.started.clone();
    started.retain(|name, _| !is_probe(name));
    (started, inner.harmed.clone())
}

/// One paused clock for each world.
fn play<T>(play: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(play)
}

fn uninterrupted(story: TestRun, faults_fail: bool) -> (World, TestRun) {
    play(async {
        let world = World::new(story);
        world.lock().faults_fail = faults_fail;
        let end = drive_through(&world, &[], 0).await;
        (world, end)
    })
}

#[test]
fn a_run_passes_with_few_writes_and_its_numbers() {
    let (world, end) = uninterrupted(story("0"), false);
    let status = end.status.clone().unwrap();
    assert_eq!(status.phase, RunPhase::Passed, "{}", status.message);
    assert_eq!(status.summary, "7/7");
    let numbers: BTreeMap<_, _> = status.metrics.iter().map(|m| (m.name.as_str(), m.value)).collect();
    assert_eq!(numbers["value"], 7.0);
    assert_eq!(numbers["restarts"], 1.0);
    assert_eq!(numbers["boot_seconds"], 5.0);
    assert_eq!(numbers["recovery_seconds"], 11.0);
    assert_eq!(numbers["storm_seconds"], 25.0);
    // A begin for each of seven steps, two more attempts, an end for each of three actions, and the verdict.
    assert_eq!(world.lock().writes, 13);
    assert!(world.lock().artifacts.values().any(|text| text.contains("value=7")));
    assert_eq!(world.lock().stored.status, end.status);
    let left: Vec<_> = world.remembered().into_iter().filter(|name| !is_probe(name)).collect();
    assert_eq!(left, Vec::<String>::new(), "a guest keeps what nobody will ask for again");
}

#[test]
fn stopped_at_any_moment_nothing_is_done_twice_and_the_verdict_stands() {
    // Nothing recovers that was never killed: the wait for it runs out of time, but the kill is the first culprit.
    let mut unharmed = story("0");
    unharmed.spec.steps[2].timeout_seconds = 60;
    for (story, faults_fail, verdict) in [
        (story("0"), false, RunPhase::Passed),
        (story("1"), false, RunPhase::Failed),
        (unharmed, true, RunPhase::Errored),
        (doomed(), false, RunPhase::Errored),
    ] {
        let (plain, end) = uninterrupted(story.clone(), faults_fail);
        let expected = phases(&end);
        let (moments, steps) = (plain.lock().moments, story.spec.steps.len());
        assert_eq!(expected.0, verdict);
        for (moment, outage) in (1..=moments).flat_map(|moment| [(moment, 0), (moment, 20)]) {
            let (world, end) = play(async {
                let world = World::new(story.clone());
                world.lock().faults_fail = faults_fail;
                let end = drive_through(&world, &[moment], outage).await;
                (world, end)
            });
            let when = format!("stopped at moment {moment} of {moments} for {outage} s");
            assert_eq!(phases(&end), expected, "{when}");
            if world.lock().started.len() < plain.lock().started.len() {
                // The machine went down in the outage, before the command was sent. Then it never is.
                assert_eq!((steps, outage), (1, 20), "{when}");
                assert!(world.lock().started.is_empty(), "{when}");
            } else {
                assert_eq!(deeds(&world), deeds(&plain), "{when}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// proptest prints the moments of a failure, which are all of its randomness.
    #[test]
    fn stopped_again_and_again_nothing_is_done_twice(
        crashes in prop::collection::vec(1usize..60, 1..8),
        outage in 0u64..30,
    ) {
        let (plain, end) = uninterrupted(story("0"), false);
        let (world, again) = play(async {
            let world = World::new(story("0"));
            let end = drive_through(&world, &crashes, outage).await;
            (world, end)
        });
        prop_assert_eq!(phases(&again), phases(&end));
        prop_assert_eq!(deeds(&world), deeds(&plain));
    }
}

fn interrupted(on_interrupt: &str) -> (World, TestRun) {
    play(async {
        let command = json!({"node": "n1", "command": ["run", "30", "0", "value=7"],
            "metrics": [{"name": "value", "unit": "1"}]});
        let step: Value = json!({"name": "bench", "onInterrupt": on_interrupt, "durationMetric": "bench_seconds",
            "exec": command});
        let world = World::new(run_of(json!([step]), json!([]), 600));
        // Two moments each for look and store, then the command is started: it runs in the guest when the engine stops.
        let end = drive_through(&world, &[6], 0).await;
        (world, end)
    })
}

#[test]
fn an_interrupted_step_is_found_again_repeated_or_given_up_as_it_says() {
    let numbers = |end: &TestRun| {
        let metrics = &end.status.as_ref().unwrap().metrics;
        metrics.iter().map(|metric| metric.name.clone()).collect::<Vec<_>>()
    };
    let (world, end) = interrupted("reattach");
    assert_eq!(phases(&end).0, RunPhase::Passed);
    assert_eq!(world.lock().started.len(), 1);
    assert_eq!(numbers(&end), ["value"], "the duration was not measured");

    let (world, end) = interrupted("rerun");
    assert_eq!(phases(&end).0, RunPhase::Passed);
    assert_eq!(world.lock().started.len(), 2);
    assert_eq!(numbers(&end), ["value"]);
    let step = &end.status.as_ref().unwrap().steps[0];
    assert_eq!((step.attempts, step.interruptions), (2, 1));

    let (world, end) = interrupted("fail");
    assert_eq!(phases(&end).0, RunPhase::Errored);
    assert_eq!(world.lock().started.len(), 1);
    assert!(numbers(&end).is_empty());
}
