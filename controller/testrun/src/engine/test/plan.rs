//! Whatever comes of the steps, and wherever the engine stops: order, skipping, `finally` and verdict hold.

use super::run_of;
use crate::engine::plan::{Next, next, places};
use crate::engine::status::{self, Outcome};
use crds::TestRun;
use crds::testrun::{RunPhase, StepPhase};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;

fn run(main: usize, finally: usize, timeout: u32) -> TestRun {
    let list = |prefix: &str, count: usize| {
        let step = |n| json!({"name": format!("{prefix}{n}"), "exec": {"node": "n", "command": ["true"]}});
        (0..count).map(step).collect::<Vec<_>>()
    };
    run_of(json!(list("s", main)), json!(list("f", finally)), timeout)
}

fn ends() -> impl Strategy<Value = StepPhase> {
    prop_oneof![
        6 => Just(StepPhase::Passed),
        1 => Just(StepPhase::Failed),
        1 => Just(StepPhase::Errored),
        1 => Just(StepPhase::TimedOut),
    ]
}

fn outcome(phase: StepPhase) -> Outcome {
    Outcome { phase, message: "so".to_owned(), output: None, artifact: None, metrics: Vec::new(), duration: 1.0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_skipping_finally_and_verdict_hold(
        main in 1usize..8,
        finally in 0usize..4,
        ends in prop::collection::vec((ends(), any::<bool>(), 0i64..40), 12),
        timeout in 50u32..400,
    ) {
        let mut run = run(main, finally, timeout);
        let spec = run.spec.clone();
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut begun = Vec::new();
        let mut ends = ends.into_iter();
        loop {
            let status = run.status.clone().unwrap_or_default();
            match next(&spec, &status, now) {
                Next::Begin(place) => {
                    begun.push(place.step.name.clone());
                    status::begin(&mut run, place, now, &[]);
                    let (phase, interrupted, seconds) = ends.next().unwrap_or((StepPhase::Passed, false, 1));
                    now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
                    if interrupted {
                        let status = run.status.clone().unwrap();
                        prop_assert_eq!(next(&spec, &status, now), Next::Resume(place));
                    }
                    status::end(&mut run, place, &place.step.name, outcome(phase));
                }
                Next::Expire(place) => {
                    prop_assert!(!place.finally);
                    status::end(&mut run, place, &place.step.name, outcome(StepPhase::TimedOut));
                }
                Next::Finish(verdict) => status::finish(&mut run, verdict, now),
                Next::Nothing => break,
                Next::Resume(_) => prop_assert!(false, "nothing is under way"),
            }
        }
        let status = run.status.clone().unwrap();
        let order: Vec<_> = places(&spec).map(|place| place.step.name.clone()).collect();
        let listed: Vec<_> = status.steps.iter().map(|step| step.name.clone()).collect();
        prop_assert_eq!(&listed, &order);
        let mut ran = order.clone();
        ran.retain(|name| begun.contains(name));
        prop_assert_eq!(&begun, &ran, "each once and in order");
        prop_assert!(spec.finally.iter().all(|step| begun.contains(&step.name)));

        let main_phases: Vec<_> = status.steps[..main].iter().map(|step| step.phase).collect();
        let stop = main_phases.iter().position(|phase| *phase != StepPhase::Passed).unwrap_or(main);
        prop_assert!(main_phases.iter().skip(stop + 1).all(|phase| *phase == StepPhase::Skipped));
        let all_passed = status.steps.iter().all(|step| step.phase == StepPhase::Passed);
        prop_assert_eq!(status.phase == RunPhase::Passed, all_passed);
        prop_assert!(status.phase.is_final());

        let mut again = run.clone();
        let verdict = crate::engine::plan::verdict(&spec, &status);
        status::finish(&mut again, verdict, Timestamp::MAX);
        prop_assert_eq!(again.status, run.status);
    }

    /// Any status at all, even one that no engine wrote, yields no false `Passed`.
    #[test]
    fn no_status_makes_a_false_pass(phases in prop::collection::vec(0usize..8, 0..6), main in 1usize..5) {
        let all = [StepPhase::Pending, StepPhase::Running, StepPhase::Passed, StepPhase::Failed,
            StepPhase::Errored, StepPhase::TimedOut, StepPhase::Skipped, StepPhase::Passed];
        let run = run(main, 1, 100);
        let mut status = crds::TestRunStatus::default();
        let names = places(&run.spec).map(|place| place.step.name.clone());
        for (name, phase) in names.zip(&phases) {
            let step = crds::testrun::StepStatus { name, phase: all[*phase], ..Default::default() };
            status.steps.push(step);
        }
        if let Next::Finish(verdict) = next(&run.spec, &status, Timestamp::UNIX_EPOCH) {
            let passed = status.steps.len() == main + 1
                && status.steps.iter().all(|step| step.phase == StepPhase::Passed);
            prop_assert_eq!(verdict.phase == RunPhase::Passed, passed);
        }
    }
}
