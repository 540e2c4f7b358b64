//! The whole loop against a fake host: it converges, stays converged, and converges again whatever step fails or is cut off.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crds::virtual_machine::RunStrategy;
use host::qemu::monitor::GuestEnd;
use process::ProcessId;

use super::plan::Step;
use super::state::State;
use super::*;
use crate::running::vitals::Vitals;

/// A host in memory; `failing` names the calls that fail, counted from 0.
#[derive(Default)]
struct FakeHands {
    host: Mutex<FakeHost>,
}

#[derive(Default)]
struct FakeHost {
    found: Found,
    calls: usize,
    failing: BTreeSet<usize>,
    next_pid: i32,
    starts: usize,
}

impl FakeHands {
    fn failing_at(call: usize) -> Self {
        let hands = Self::default();
        hands.host.lock().unwrap().failing.insert(call);
        hands
    }

    fn found(&self) -> Found {
        self.host.lock().unwrap().found.clone()
    }

    fn edit(&self, edit: impl FnOnce(&mut FakeHost)) {
        edit(&mut self.host.lock().unwrap());
    }
}

impl Hands for FakeHands {
    async fn observe(&self, _: &Job) -> Result<Found, Error> {
        Ok(self.found())
    }

    async fn apply(&self, _: &Job, step: &Step) -> Result<(), Error> {
        let mut host = self.host.lock().unwrap();
        let call = host.calls;
        host.calls += 1;
        if host.failing.contains(&call) {
            // Failed after half of it was done, the worse of the two.
            if *step == Step::Start {
                host.next_pid += 1;
                host.starts += 1;
                host.found.process = Some(ProcessId { pid: host.next_pid, start_time: 1 });
            }
            return Err(Error::Spec { field: "test", reason: format!("call {call} fails") });
        }
        let now = jiff::Timestamp::now();
        match step {
            Step::Prepare => {
                host.found.directory = true;
                host.found.state.user_id = 7;
            }
            Step::MakeRoot(key) => host.found.state.root = Some(key.clone()),
            Step::Start => {
                host.next_pid += 1;
                host.starts += 1;
                let id = ProcessId { pid: host.next_pid, start_time: 1 };
                host.found.process = Some(id);
                host.found.followed = true;
                host.found.state.note_start(id, now);
            }
            Step::Adopt(id) => {
                host.found.followed = true;
                if host.found.state.process != Some(*id) {
                    host.found.state.note_start(*id, now);
                }
            }
            // The guest obeys at once.
            Step::Stop(_) => {
                host.found.state.stopping_since = Some(now);
                host.found.process = None;
            }
            Step::LetGo(end) => {
                host.found.state.switching_off = *end == GuestEnd::PoweredOff;
                (host.found.process, host.found.guest_end) = (None, None);
            }
            Step::NoteEnd => {
                host.found.followed = false;
                host.found.state.note_end(now);
            }
            Step::Forgive => host.found.state.forgive(),
            Step::Remove => host.found = Found::default(),
        }
        Ok(())
    }

    fn vitals(&self, _: &Job) -> Vitals {
        Vitals::default()
    }
}

fn nothing_resolved() -> Job {
    let owner = Owner { namespace: "t".into(), name: "a".into(), uid: "u".into() };
    Job { owner, readiness: None, resolved: None }
}

fn wants(strategy: RunStrategy) -> Wanted {
    Wanted { deleted: false, strategy, grace: Duration::from_secs(1), image: Some("k".into()) }
}

async fn settle(hands: &FakeHands, wanted: &Wanted) {
    for _ in 0..5 {
        let _ = converge(hands, wanted, &nothing_resolved()).await;
    }
}

#[tokio::test]
async fn a_second_pass_does_nothing() {
    let hands = FakeHands::default();
    converge(&hands, &wants(RunStrategy::Always), &nothing_resolved()).await.unwrap();
    let calls = hands.host.lock().unwrap().calls;
    converge(&hands, &wants(RunStrategy::Always), &nothing_resolved()).await.unwrap();
    assert_eq!(hands.host.lock().unwrap().calls, calls);
    assert!(hands.found().process.is_some());
}

#[tokio::test]
async fn whichever_step_fails_the_next_passes_converge_to_one_process_and_deletion_leaves_nothing() {
    for call in 0..8 {
        let hands = FakeHands::failing_at(call);
        settle(&hands, &wants(RunStrategy::Always)).await;
        assert!(hands.found().process.is_some() && hands.found().followed, "call {call}");
        assert_eq!(hands.host.lock().unwrap().starts, 1, "call {call} doubled the machine");
        settle(&hands, &wants(RunStrategy::Halted)).await;
        assert_eq!(hands.found().process, None, "call {call}");
        let deleted = Wanted { deleted: true, image: None, ..wants(RunStrategy::Always) };
        settle(&hands, &deleted).await;
        assert_eq!(hands.found(), Found::default(), "call {call} left something");
    }
}

#[tokio::test]
async fn a_killed_machine_is_started_again_at_once_and_counted() {
    let hands = FakeHands::default();
    settle(&hands, &wants(RunStrategy::Always)).await;
    hands.edit(|host| host.found.process = None);
    settle(&hands, &wants(RunStrategy::Always)).await;
    let found = hands.found();
    assert_eq!((found.state.restarts, found.process.is_some()), (1, true));
}

#[tokio::test]
async fn what_switched_itself_off_rests_under_rerun_on_failure_and_what_panicked_does_not() {
    for (end, strategy, runs) in [
        (GuestEnd::PoweredOff, RunStrategy::Always, true),
        (GuestEnd::PoweredOff, RunStrategy::RerunOnFailure, false),
        (GuestEnd::Panicked, RunStrategy::RerunOnFailure, true),
    ] {
        let hands = FakeHands::default();
        settle(&hands, &wants(strategy)).await;
        hands.edit(|host| host.found.guest_end = Some(end));
        settle(&hands, &wants(strategy)).await;
        assert_eq!(hands.found().process.is_some(), runs, "{end:?} under {strategy:?}");
        assert_eq!(hands.found().guest_end, None);
    }
}

#[tokio::test]
async fn a_machine_that_keeps_dying_is_slowed_down_until_it_is_forgiven() {
    let hands = FakeHands::default();
    for _ in 0..3 {
        settle(&hands, &wants(RunStrategy::Always)).await;
        hands.edit(|host| host.found.process = None);
    }
    settle(&hands, &wants(RunStrategy::Always)).await;
    assert_eq!(hands.found().process, None, "it waits");
    hands.edit(|host| host.found.state.forgive());
    settle(&hands, &wants(RunStrategy::Always)).await;
    assert!(hands.found().process.is_some());
}

#[tokio::test]
async fn an_adopted_machine_is_not_started_again() {
    let hands = FakeHands::default();
    let id = ProcessId { pid: 99, start_time: 1 };
    hands.edit(|host| {
        host.found.process = Some(id);
        host.found.directory = true;
        host.found.state = State { user_id: 7, root: Some("k".into()), ..State::default() };
        host.found.state.note_start(id, jiff::Timestamp::now());
    });
    settle(&hands, &wants(RunStrategy::Always)).await;
    let found = hands.found();
    assert_eq!((found.process, found.followed, found.state.restarts), (Some(id), true, 0));
}
