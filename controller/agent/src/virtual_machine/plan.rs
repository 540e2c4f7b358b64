//! What to do next for a machine: pure, and empty when all is well.
//!
//! ```text
//!                 ┌──────────────── Start ◄── (MakeRoot) ◄─────────────┐
//!                 ▼                                                    │ wanted, back-off over
//!   absent ──► running ──(Halted, deleted)── Stop ──► ended ──NoteEnd──┴─► off ──(deleted)── Remove
//!                 ├──────── QEMU dies ──► ended
//!                 └──────── guest switches off or panics, QEMU waits ── LetGo ──► ended
//! ```

use std::time::Duration;

use crds::virtual_machine::RunStrategy;
use host::qemu::monitor::GuestEnd;
use jiff::Timestamp;
use process::ProcessId;

use super::state::State;

/// What the object asks for, as far as running is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The object is being deleted.
    pub deleted: bool,
    /// When it should run.
    pub strategy: RunStrategy,
    /// How long a graceful stop may take.
    pub grace: Duration,
    /// Key of the image it boots; none while something it needs is not there.
    pub image: Option<String>,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its QEMU.
    pub process: Option<ProcessId>,
    /// Somebody here follows that QEMU.
    pub followed: bool,
    /// A stop is under way here.
    pub stopping: bool,
    /// The guest has ended by itself, and its QEMU waits for us.
    pub guest_end: Option<GuestEnd>,
    /// Its directory exists.
    pub directory: bool,
    /// What is remembered.
    pub state: State,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take up a QEMU that an earlier run of ours started.
    Adopt(ProcessId),
    /// Begin to end the guest, by force after this long.
    Stop(Duration),
    /// Write down how the guest ended, and let its QEMU go.
    LetGo(GuestEnd),
    /// Write down that QEMU ended.
    NoteEnd,
    /// Forget that the guest switched itself off: the owner did so too.
    Forgive,
    /// Make the directory and give it a user.
    Prepare,
    /// Make a fresh root disk over the image of this key.
    MakeRoot(String),
    /// Start QEMU.
    Start,
    /// Remove everything.
    Remove,
}

/// Steps, and when to look again if nothing else happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order; each may be cut off and is then planned again.
    pub steps: Vec<Step>,
    /// When a clock alone changes what is to be done.
    pub look_again: Option<Duration>,
}

impl Plan {
    fn of(steps: impl Into<Vec<Step>>) -> Plan {
        Plan { steps: steps.into(), look_again: None }
    }
}

/// Plans from here to there.
pub fn plan(wanted: &Wanted, found: &Found, now: Timestamp) -> Plan {
    match found.process {
        Some(id) => plan_running(wanted, found, id, now),
        None => plan_off(wanted, found, now),
    }
}

fn plan_running(wanted: &Wanted, found: &Found, id: ProcessId, now: Timestamp) -> Plan {
    let mut steps = Vec::new();
    if !found.followed || found.state.process != Some(id) {
        steps.push(Step::Adopt(id));
    }
    if let Some(end) = found.guest_end.filter(|_| !found.stopping) {
        steps.push(Step::LetGo(end));
        return Plan::of(steps);
    }
    let unwanted = wanted.deleted || wanted.strategy == RunStrategy::Halted;
    // A stop once begun is brought to its end: half of the guest's services are down already.
    if (unwanted || found.state.stopping_since.is_some()) && !found.stopping {
        let passed = found.state.stopping_since.map_or(Duration::ZERO, |since| elapsed(since, now));
        steps.push(Step::Stop(wanted.grace.saturating_sub(passed)));
    }
    Plan::of(steps)
}

fn plan_off(wanted: &Wanted, found: &Found, now: Timestamp) -> Plan {
    if wanted.deleted {
        return if found.directory { Plan::of([Step::Remove]) } else { Plan::default() };
    }
    if found.state.process.is_some() {
        // Noted first, so that a crash right after cannot count the end twice. The next look goes on from there.
        return Plan { steps: vec![Step::NoteEnd], look_again: Some(Duration::ZERO) };
    }
    match wanted.strategy {
        RunStrategy::Halted if found.state.powered_off => Plan::of([Step::Forgive]),
        RunStrategy::Halted => Plan::default(),
        RunStrategy::RerunOnFailure if found.state.powered_off => Plan::default(),
        RunStrategy::Always | RunStrategy::RerunOnFailure => plan_start(wanted, found, now),
    }
}

fn plan_start(wanted: &Wanted, found: &Found, now: Timestamp) -> Plan {
    let Some(image) = &wanted.image else { return Plan::default() };
    if let Some(wait) = found.state.not_before.map(|at| elapsed(now, at)).filter(|wait| !wait.is_zero()) {
        return Plan { steps: Vec::new(), look_again: Some(wait) };
    }
    let mut steps = Vec::new();
    if !found.directory || found.state.user_id == 0 {
        steps.push(Step::Prepare);
    }
    if found.state.root.as_ref() != Some(image) {
        steps.push(Step::MakeRoot(image.clone()));
    }
    steps.push(Step::Start);
    Plan::of(steps)
}

/// Time from `from` to `to`, nothing when that is negative.
fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ProcessId = ProcessId { pid: 7, start_time: 1 };

    fn now() -> Timestamp {
        Timestamp::from_second(1000).unwrap()
    }

    fn wanted() -> Wanted {
        Wanted {
            deleted: false,
            strategy: RunStrategy::Always,
            grace: Duration::from_secs(30),
            image: Some("k1".into()),
        }
    }

    fn off() -> Found {
        Found {
            directory: true,
            state: State { user_id: 9, root: Some("k1".into()), ever_started: true, ..State::default() },
            ..Found::default()
        }
    }

    fn running() -> Found {
        let mut found = off();
        found.process = Some(ID);
        found.followed = true;
        found.state.process = Some(ID);
        found
    }

    fn steps(wanted: &Wanted, found: &Found) -> Vec<Step> {
        plan(wanted, found, now()).steps
    }

    #[test]
    fn a_new_machine_is_prepared_and_started() {
        let all = steps(&wanted(), &Found::default());
        assert_eq!(all, [Step::Prepare, Step::MakeRoot("k1".into()), Step::Start]);
    }

    #[test]
    fn a_running_machine_needs_nothing() {
        assert_eq!(plan(&wanted(), &running(), now()), Plan::default());
    }

    #[test]
    fn nothing_starts_before_what_it_needs_is_there() {
        let waiting = Wanted { image: None, ..wanted() };
        assert_eq!(steps(&waiting, &off()), []);
        assert_eq!(steps(&waiting, &running()), [], "what runs goes on");
    }

    #[test]
    fn a_restart_of_ours_adopts_and_starts_nothing() {
        let mut found = running();
        found.followed = false;
        assert_eq!(steps(&wanted(), &found), [Step::Adopt(ID)]);
        found.state.process = None;
        found.followed = true;
        assert_eq!(steps(&wanted(), &found), [Step::Adopt(ID)], "we died between start and note");
    }

    #[test]
    fn a_changed_image_waits_for_the_next_start() {
        let changed = Wanted { image: Some("k2".into()), ..wanted() };
        assert_eq!(steps(&changed, &running()), []);
        assert_eq!(steps(&changed, &off()), [Step::MakeRoot("k2".into()), Step::Start]);
    }

    #[test]
    fn an_end_is_noted_before_anything_else() {
        let mut found = running();
        found.process = None;
        assert_eq!(steps(&wanted(), &found), [Step::NoteEnd]);
    }

    #[test]
    fn a_guest_that_ended_by_itself_is_let_go_unless_a_stop_does_so() {
        let mut found = running();
        found.guest_end = Some(GuestEnd::PoweredOff);
        assert_eq!(steps(&wanted(), &found), [Step::LetGo(GuestEnd::PoweredOff)]);
        let halted = Wanted { strategy: RunStrategy::Halted, ..wanted() };
        assert_eq!(steps(&halted, &found), [Step::LetGo(GuestEnd::PoweredOff)]);
        found.stopping = true;
        found.state.stopping_since = Some(now());
        assert_eq!(steps(&halted, &found), []);
    }

    #[test]
    fn a_guest_that_switched_itself_off_stays_off_only_under_rerun_on_failure() {
        let mut found = off();
        found.state.powered_off = true;
        let rerun = Wanted { strategy: RunStrategy::RerunOnFailure, ..wanted() };
        assert_eq!(steps(&rerun, &found), []);
        assert_eq!(steps(&wanted(), &found), [Step::Start]);
        let halted = Wanted { strategy: RunStrategy::Halted, ..wanted() };
        assert_eq!(steps(&halted, &found), [Step::Forgive]);
        found.state.powered_off = false;
        assert_eq!(steps(&halted, &found), []);
        assert_eq!(steps(&rerun, &found), [Step::Start]);
    }

    #[test]
    fn a_stop_is_begun_once_and_brought_to_its_end_with_what_is_left_of_its_grace() {
        let halted = Wanted { strategy: RunStrategy::Halted, ..wanted() };
        let mut found = running();
        assert_eq!(steps(&halted, &found), [Step::Stop(Duration::from_secs(30))]);
        found.stopping = true;
        found.state.stopping_since = Some(now());
        assert_eq!(steps(&halted, &found), []);
        assert_eq!(steps(&wanted(), &found), []);
        // After a restart of ours nobody stops it any more.
        found.stopping = false;
        found.state.stopping_since = Timestamp::from_second(990).ok();
        assert_eq!(steps(&wanted(), &found), [Step::Stop(Duration::from_secs(20))]);
        found.state.stopping_since = Timestamp::from_second(1).ok();
        assert_eq!(steps(&halted, &found), [Step::Stop(Duration::ZERO)]);
    }

    #[test]
    fn deletion_stops_then_removes_then_needs_nothing() {
        let deleted = Wanted { deleted: true, image: None, ..wanted() };
        assert_eq!(steps(&deleted, &running()), [Step::Stop(Duration::from_secs(30))]);
        assert_eq!(steps(&deleted, &off()), [Step::Remove]);
        assert_eq!(steps(&deleted, &Found::default()), [], "never applied");
    }

    #[test]
    fn a_start_waits_out_its_back_off() {
        let mut found = off();
        found.state.not_before = Timestamp::from_second(1004).ok();
        let waiting = plan(&wanted(), &found, now());
        assert_eq!((waiting.steps.len(), waiting.look_again), (0, Some(Duration::from_secs(4))));
        found.state.not_before = Timestamp::from_second(1000).ok();
        assert_eq!(steps(&wanted(), &found), [Step::Start]);
    }
}
