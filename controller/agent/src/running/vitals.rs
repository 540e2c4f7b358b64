//! Following one running QEMU: what it and its guest tell, kept up to date and told to the queue when it changes.
//!
//! ```text
//!   QMP events ─────────┐
//!   guest agent pings ──┼──► Vitals ──(changed)──► wake the machine's reconcile
//!   readiness command ──┤
//!   pidfd ──────────────┘  (the end wakes too, and ends the follower)
//! ```
//!
//! Nothing is decided here. One follower owns the monitor's and the guest agent's connection, since QEMU lets one client
//! in at a time; whoever else needs them takes a clone.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crds::virtual_machine::Readiness;
use host::qemu::guest_agent::GuestAgent;
use host::qemu::monitor::{Event, GuestEnd, Monitor};
use process::ProcessId;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::AbortHandle;

use super::readiness::{Probe, pause, try_readiness};
use control_loop::sentence;

/// Between two tries to reach a guest agent that has not answered yet.
const SEEK: Duration = Duration::from_millis(500);
/// Between two looks at one that has.
const KEEP: Duration = Duration::from_secs(10);
/// An answer to a ping: generous, since six guests may boot on one core.
const PING: Duration = Duration::from_secs(5);
/// Pings missed in a row before the agent counts as gone.
const MISSES: u32 = 3;
/// How long to wait for QEMU's monitor before trying again.
const MONITOR: Duration = Duration::from_secs(10);
/// What is known of a running machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// The guest is known not to answer; while it is merely not heard yet, what was known before stands.
    pub silent: bool,
    /// The processors are stopped.
    pub paused: bool,
    /// QEMU's word for why.
    pub paused_because: Option<String>,
    /// The guest agent answers.
    pub guest_agent: bool,
    /// The guest's boot.
    pub boot_id: Option<String>,
    /// What the readiness command says.
    pub probe: Probe,
    /// The guest has ended by itself and its QEMU waits for us.
    pub guest_end: Option<GuestEnd>,
}

impl Vitals {
    /// Whether enough is known to judge; before that, an earlier judgement over the same process stands.
    pub fn settled(&self, probed: bool) -> bool {
        self.silent || self.paused || (self.guest_agent && (!probed || self.probe.ready.is_some()))
    }

    fn fall_silent(&mut self) {
        self.silent = true;
        self.guest_agent = false;
        self.probe = Probe::default();
    }
}

/// A follower of one QEMU; dropping it ends the following, never the QEMU.
pub struct Follower {
    /// Whom it follows.
    pub id: ProcessId,
    /// The guest agent's one connection.
    pub agent: GuestAgent,
    shared: Arc<Shared>,
    readiness: watch::Sender<Option<Readiness>>,
    task: AbortHandle,
}

struct Shared {
    vitals: Mutex<Vitals>,
    monitor: Mutex<Option<Monitor>>,
    agent_opened: Notify,
    connected: Notify,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Begins to follow; `wake` is called whenever something changed, and when QEMU ends.
    pub fn start(
        id: ProcessId,
        run_dir: &std::path::Path,
        monitor: Option<Monitor>,
        readiness: Option<Readiness>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Follower {
        let agent = GuestAgent::open(run_dir);
        let shared = Arc::new(Shared {
            vitals: Mutex::default(),
            monitor: Mutex::new(monitor),
            agent_opened: Notify::new(),
            connected: Notify::new(),
            wake: Box::new(wake),
        });
        let (readiness, wanted) = watch::channel(readiness);
        let task = tokio::spawn(follow(id, run_dir.to_owned(), shared.clone(), agent.clone(), wanted));
        Follower { id, agent, shared, readiness, task: task.abort_handle() }
    }

    /// What is known now.
    pub fn vitals(&self) -> Vitals {
        self.shared.read()
    }

    /// QEMU's monitor, when it is connected.
    pub fn monitor(&self) -> Option<Monitor> {
        let monitor = self.shared.monitor.lock().unwrap_or_else(|broken| broken.into_inner());
        monitor.clone().filter(|monitor| !monitor.is_closed())
    }

    /// QEMU's monitor, after waiting a while for it to be connected.
    pub async fn monitor_within(&self, deadline: Duration) -> Option<Monitor> {
        let connected = async {
            loop {
                let connected = self.shared.connected.notified();
                if let Some(monitor) = self.monitor() {
                    return monitor;
                }
                connected.await;
            }
        };
        tokio::time::timeout(deadline, connected).await.ok()
    }

    /// How readiness is judged from now on.
    pub fn judge_by(&self, readiness: Option<Readiness>) {
        self.readiness.send_if_modified(|found| {
            let changed = *found != readiness;
            *found = readiness;
            changed
        });
    }
}

impl Shared {
    fn read(&self) -> Vitals {
        self.vitals.lock().unwrap_or_else(|broken| broken.into_inner()).clone()
    }

    /// Changes what is known, and wakes when that shows.
    fn change(&self, change: impl FnOnce(&mut Vitals)) {
        let mut vitals = self.vitals.lock().unwrap_or_else(|broken| broken.into_inner());
        let before = vitals.clone();
        change(&mut vitals);
        let same = Vitals { probe: before.probe.clone(), ..vitals.clone() } == before
            && before.probe.visible() == vitals.probe.visible();
        drop(vitals);
        if !same {
            (self.wake)();
        }
    }
}

async fn follow(
    id: ProcessId,
    run_dir: std::path::PathBuf,
    shared: Arc<Shared>,
    agent: GuestAgent,
    readiness: watch::Receiver<Option<Readiness>>,
) {
    tokio::select! {
        () = id.exited() => {}
        () = follow_monitor(&run_dir, &shared) => {}
        () = follow_agent(&shared, &agent) => {}
        () = follow_readiness(&shared, &agent, readiness) => {}
    }
    (shared.wake)();
}

async fn follow_monitor(run_dir: &std::path::Path, shared: &Shared) {
    loop {
        let present = shared.monitor.lock().unwrap_or_else(|broken| broken.into_inner()).clone();
        let opened = match present.filter(|monitor| !monitor.is_closed()) {
            Some(monitor) => Ok(monitor),
            None => Monitor::open(run_dir, MONITOR).await,
        };
        match opened {
            Ok(monitor) => {
                *shared.monitor.lock().unwrap_or_else(|broken| broken.into_inner()) = Some(monitor.clone());
                shared.connected.notify_waiters();
                follow_events(&monitor, shared).await;
            }
            Err(error) => tracing::warn!(error = sentence(&error), "failed to reach QEMU's monitor; trying again"),
        }
        tokio::time::sleep(SEEK).await;
    }
}

/// Until the connection ends. Subscribed before the first look, so that nothing falls between the two.
async fn follow_events(monitor: &Monitor, shared: &Shared) {
    let mut events = monitor.events();
    look_at_processors(monitor, shared).await;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = monitor.closed() => return,
        };
        match event {
            Ok(event) => {
                note(&event, shared);
                if matches!(event, Event::Stop | Event::Resume | Event::BlockIoError { .. } | Event::Reset { .. }) {
                    look_at_processors(monitor, shared).await;
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => look_at_processors(monitor, shared).await,
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn note(event: &Event, shared: &Shared) {
    match event {
        Event::GuestAgent { open: true } => shared.agent_opened.notify_one(),
        Event::GuestAgent { open: false } | Event::Reset { .. } => shared.change(Vitals::fall_silent),
        _ => {}
    }
}

async fn look_at_processors(monitor: &Monitor, shared: &Shared) {
    match monitor.status().await {
        Ok(status) => shared.change(|vitals| {
            vitals.guest_end = status.guest_end();
            vitals.paused = !status.running && vitals.guest_end.is_none();
            vitals.paused_because = vitals.paused.then_some(status.state);
        }),
        Err(error) => tracing::debug!(error = sentence(&error), "failed to ask QEMU for the processors' state"),
    }
}

async fn follow_agent(shared: &Shared, agent: &GuestAgent) {
    let mut misses = 0;
    loop {
        if !shared.read().paused {
            match look_at_guest(agent).await {
                Ok(boot_id) => {
                    misses = 0;
                    shared.change(|vitals| {
                        if vitals.boot_id.as_ref().is_some_and(|known| *known != boot_id) {
                            vitals.probe = Probe::default();
                        }
                        vitals.silent = false;
                        vitals.guest_agent = true;
                        vitals.boot_id = Some(boot_id);
                    });
                }
                Err(error) => {
                    misses += 1;
                    tracing::trace!(%error, misses, "the guest agent did not answer");
                    if misses >= MISSES {
                        shared.change(Vitals::fall_silent);
                    }
                }
            }
        }
        let wait = if shared.read().guest_agent { KEEP } else { SEEK };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.agent_opened.notified() => {}
        }
    }
}

async fn look_at_guest(agent: &GuestAgent) -> Result<String, host::qemu::guest_agent::Error> {
    agent.ping(PING).await?;
    agent.boot_id(PING).await
}

async fn follow_readiness(shared: &Shared, agent: &GuestAgent, mut readiness: watch::Receiver<Option<Readiness>>) {
    loop {
        let wanted = readiness.borrow_and_update().clone();
        let vitals = shared.read();
        let wait = match &wanted {
            Some(wanted) if vitals.guest_agent && !vitals.paused => {
                let result = try_readiness(agent, wanted).await;
                // A try that a pause or a reboot fell into says nothing.
                let now = shared.read();
                if now.guest_agent && !now.paused && now.boot_id == vitals.boot_id {
                    shared.change(|vitals| vitals.probe.note(result, wanted.failure_threshold, Instant::now()));
                }
                pause(wanted, shared.read().probe.ready)
            }
            Some(_) => SEEK / 5,
            None => KEEP,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = readiness.changed() => if changed.is_err() {
                // Our owner is gone, and so are we in a moment.
                std::future::pending::<()>().await;
            },
        }
    }
}
