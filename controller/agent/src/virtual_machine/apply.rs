//! Carrying out a machine's steps on the host. Every step may be cut off anywhere and is then done again.

use std::future::Future;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::virtual_machine::Readiness;
use crds::{Port, VirtualMachine};
use host::link::LinkName;
use host::netns::{self, Namespaces};
use host::qemu::accelerator::{Accelerator, Verdict};
use host::qemu::command::tap_fd;
use host::qemu::machine::RECORD;
use host::qemu::monitor::{GuestEnd, Monitor};
use host::qemu::reach::Identity;
use host::qemu::start;
use host::tap::{Spec, Tap, steal_fd};
use jiff::Timestamp;
use process::{ProcessId, Record};

use super::error::Error;
use super::machine;
use super::plan::{Found, Step};
use super::resolve::{self, Resolved};
use super::state::{PluggedNic, State};
use crate::layout::{self, FileError, Layout, Owner};
use crate::names::Names;
use crate::running::Machines;
use crate::running::vitals::{Follower, Vitals};
use crate::taps::{Plugged, Taps};
use crate::user_ids::UserIds;
use control_loop::{Queue, sentence};

/// QEMU's monitor answers in a tenth of a second on an idle machine; six may start on a busy one.
const READY: Duration = Duration::from_secs(30);
/// How long a stop waits for the monitor that it asks through.
const MONITOR: Duration = Duration::from_secs(5);
/// Serial log kept, and as much again of what came before.
pub const SERIAL_LOG_LIMIT: u64 = 8 << 20;

/// A machine to work on.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose it is.
    pub owner: Owner,
    /// How its readiness is judged.
    pub readiness: Option<Readiness>,
    /// What it is made of, when all of that is there.
    pub resolved: Option<Resolved>,
}

/// What a machine's steps need of the host.
pub trait Hands: Send + Sync + 'static {
    /// What is there.
    fn observe(&self, job: &Job) -> impl Future<Output = Result<Found, Error>> + Send;
    /// Carries out one step.
    fn apply(&self, job: &Job, step: &Step) -> impl Future<Output = Result<(), Error>> + Send;
    /// What QEMU and guest tell.
    fn vitals(&self, job: &Job) -> Vitals;
}

/// This host's hands.
pub struct HostHands {
    /// Directories.
    pub layout: Layout,
    /// Names.
    pub names: Names,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Taps in use.
    pub taps: Arc<Taps>,
    /// User ids.
    pub user_ids: Arc<UserIds>,
    /// Running machines.
    pub machines: Arc<Machines>,
    /// What instructions run on.
    pub accelerator: Verdict,
    /// Wakes machines.
    pub queue: Queue<VirtualMachine>,
    /// Wakes ports.
    pub ports: Queue<Port>,
}

impl Hands for HostHands {
    async fn observe(&self, job: &Job) -> Result<Found, Error> {
        let uid = &job.owner.uid;
        let dir = self.dir(job);
        let mut state = State::load(&dir)?;
        if state.process.is_none() && self.machines.take_forgiveness(uid) {
            state.forgive();
            state.save(&dir)?;
        }
        let process = match start::observe(&self.layout.run_dir(uid))? {
            start::Found::Running(id) => Some(id),
            start::Found::Absent | start::Found::Dead => None,
        };
        let follower = self.machines.follower(uid);
        if let Some(follower) = &follower {
            follower.judge_by(job.readiness.clone());
        }
        Ok(Found {
            process,
            followed: follower.as_ref().is_some_and(|follower| Some(follower.id) == process),
            stopping: self.machines.is_stopping(uid),
            guest_end: follower.and_then(|follower| follower.vitals().guest_end).filter(|_| process.is_some()),
            directory: dir.exists(),
            state,
        })
    }

    async fn apply(&self, job: &Job, step: &Step) -> Result<(), Error> {
        match step {
            Step::Adopt(id) => self.adopt(job, *id),
            Step::Stop(grace) => self.stop(job, *grace),
            Step::LetGo(end) => self.let_go(job, *end).await,
            Step::NoteEnd => self.note_end(job),
            Step::Forgive => self.remember(job, State::forgive),
            Step::Prepare => self.prepare(job),
            Step::MakeRoot(_) => self.make_root(job).await,
            Step::Start => self.start(job).await,
            Step::Remove => self.remove(job).await,
        }
    }

    fn vitals(&self, job: &Job) -> Vitals {
        self.machines.vitals(&job.owner.uid)
    }
}

impl HostHands {
    fn dir(&self, job: &Job) -> PathBuf {
        self.layout.vm(&job.owner.uid)
    }

    fn root(&self, job: &Job) -> PathBuf {
        self.layout.root_disk(&job.owner.uid)
    }

    fn remember(&self, job: &Job, change: impl FnOnce(&mut State)) -> Result<(), Error> {
        let dir = self.dir(job);
        let mut state = State::load(&dir)?;
        change(&mut state);
        Ok(state.save(&dir)?)
    }

    fn prepare(&self, job: &Job) -> Result<(), Error> {
        layout::ensure_owned(&self.dir(job), &job.owner)?;
        let id = self.user_ids.take(&job.owner.uid)?;
        self.remember(job, |state| state.user_id = id)
    }

    /// Forgotten before it is touched, so that a half-made disk is never taken for a whole one of another image.
    async fn make_root(&self, job: &Job) -> Result<(), Error> {
        let resolved = resolved(job)?;
        self.remember(job, |state| state.root = None)?;
        let identity = identity(&State::load(&self.dir(job))?, &self.accelerator);
        let (image, path) = (resolved.image.clone(), self.root(job));
        blocking(move || {
            host::blockdev::remove(&path)?;
            host::blockdev::ensure_overlay(&image.disk, image.format, &path, None, Some(identity))
        })
        .await
        .map_err(Error::Root)?;
        self.remember(job, |state| state.root = Some(resolved.image.key.clone()))
    }

    async fn start(&self, job: &Job) -> Result<(), Error> {
        let begun = Instant::now();
        let resolved = resolved(job)?;
        let state = State::load(&self.dir(job))?;
        let machine = machine::machine(&job.owner, resolved, &self.accelerator, &self.layout)?;
        let identity = identity(&state, &self.accelerator);
        let room = self.room(resolved).await?;
        for volume in &resolved.volumes {
            // A volume outlives its machines, each of which has a user of its own.
            chown(&volume.path, Some(identity.uid), Some(identity.gid))
                .map_err(|source| FileError::new("give to QEMU's user", &volume.path, source))?;
        }
        let taps = match self.make_taps(resolved, state.user_id).await {
            Ok(taps) => taps,
            // A QEMU that we started and died before recording holds them; this finds and records it, or fails likewise.
            Err(error) => match start::spawn(&machine, Some(identity), Vec::new()) {
                Ok(id) => return self.adopt(job, id),
                Err(_) => return Err(error),
            },
        };
        let descriptors = taps.iter().zip(&resolved.nics).map(|((_, plugged), nic)| {
            plugged.tap.descriptor().map_err(|source| {
                tap_failed(nic, host::tap::Error::Tap { action: "duplicate", name: nic.tap.to_string(), source })
            })
        });
        let descriptors = descriptors.collect::<Result<Vec<_>, _>>()?;
        let run_dir = machine.run_dir.clone();
        let id = netns::enter(&room, move || start::spawn(&machine, Some(identity), descriptors)).await??;
        let monitor = start::ready(&run_dir, id, READY).await?;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.remember(job, |state| {
            state.note_start(id, crds::condition::now());
            state.monitor_ready_milliseconds = Some(milliseconds);
            state.accelerator = Some(self.accelerator.accelerator.to_string());
            state.nics = resolved.nics.iter().map(plugged_nic).collect();
        })?;
        for (port, plugged) in taps {
            self.taps.plug(&port, plugged);
        }
        self.follow(job, id, Some(monitor));
        Ok(())
    }

    /// The namespace QEMU runs in: its first network's, or the host's own underlay; never the machine's.
    async fn room(&self, resolved: &Resolved) -> Result<netns::Namespace, Error> {
        Ok(match resolved.nics.first() {
            Some(nic) => self.namespaces.open(&nic.netns)?,
            None => self.namespaces.ensure(&self.names.underlay()).await?.0,
        })
    }

    async fn make_taps(&self, resolved: &Resolved, user_id: u32) -> Result<Vec<(String, Plugged)>, Error> {
        let mut taps = Vec::new();
        for nic in &resolved.nics {
            let namespace = self.namespaces.open(&nic.netns)?;
            let spec = spec(&plugged_nic(nic), user_id)?;
            let tap = self.taps.make(&namespace, spec.clone()).await.map_err(|source| tap_failed(nic, source))?;
            taps.push((nic.port_uid.clone(), Plugged { tap, spec }));
        }
        Ok(taps)
    }

    /// Takes up a QEMU that runs: its taps, its monitor, its guest.
    fn adopt(&self, job: &Job, id: ProcessId) -> Result<(), Error> {
        let record = Record::load(&self.layout.run_dir(&job.owner.uid).join(RECORD)).map_err(start::Error::from)?;
        let started = record.and_then(|record| record.started_at.parse().ok()).unwrap_or_else(Timestamp::now);
        self.remember(job, |state| {
            if state.process != Some(id) {
                state.note_start(id, started);
                state.accelerator = Some(self.accelerator.accelerator.to_string());
                if let Some(resolved) = &job.resolved {
                    state.nics = resolved.nics.iter().map(plugged_nic).collect();
                }
            }
        })?;
        let state = State::load(&self.dir(job))?;
        for (fd, nic) in (0..).map(tap_fd).zip(&state.nics) {
            let tap = match steal_fd(&id, fd) {
                Ok(file) => Tap::adopt(file),
                Err(error) => {
                    tracing::warn!(
                        port = nic.port,
                        error = sentence(&error),
                        "failed to fetch a tap from QEMU; it cannot be repaired when somebody deletes it"
                    );
                    continue;
                }
            };
            self.taps.plug(&nic.port_uid, Plugged { tap, spec: spec(nic, state.user_id)? });
            // It may have been deleted while nobody looked.
            self.ports.wake_named(&job.owner.namespace, &nic.port);
        }
        self.follow(job, id, None);
        Ok(())
    }

    fn follow(&self, job: &Job, id: ProcessId, monitor: Option<Monitor>) {
        let run_dir = self.layout.run_dir(&job.owner.uid);
        let (queue, owner) = (self.queue.clone(), job.owner.clone());
        let wake = move || queue.wake_named(&owner.namespace, &owner.name);
        let follower = Follower::start(id, &run_dir, monitor, job.readiness.clone(), wake);
        self.machines.follow(&job.owner.uid, follower);
    }

    fn stop(&self, job: &Job, grace: Duration) -> Result<(), Error> {
        self.remember(job, |state| {
            state.stopping_since.get_or_insert_with(Timestamp::now);
        })?;
        let run_dir = self.layout.run_dir(&job.owner.uid);
        let follower = self.machines.follower(&job.owner.uid);
        let (queue, owner) = (self.queue.clone(), job.owner.clone());
        self.machines.stop(&job.owner.uid, async move {
            // Just after an adoption it is not connected yet, and without it the guest would not be asked.
            let monitor = match &follower {
                Some(follower) => follower.monitor_within(MONITOR).await,
                None => None,
            };
            let agent = follower.as_ref().map(|follower| &follower.agent);
            match host::qemu::stop::stop(&run_dir, monitor.as_ref(), agent, grace).await {
                Ok(ended) => tracing::info!(vm = owner.name, ?ended, "stopped"),
                Err(error) => tracing::warn!(vm = owner.name, error = sentence(&error), "failed to stop; trying again"),
            }
            queue.wake_named(&owner.namespace, &owner.name);
        });
        Ok(())
    }

    /// Written down first: a QEMU that is gone tells nobody why.
    async fn let_go(&self, job: &Job, end: GuestEnd) -> Result<(), Error> {
        self.remember(job, |state| state.switching_off = end == GuestEnd::PoweredOff)?;
        let monitor = self.machines.follower(&job.owner.uid).and_then(|follower| follower.monitor());
        let run_dir = self.layout.run_dir(&job.owner.uid);
        host::qemu::stop::stop(&run_dir, monitor.as_ref(), None, Duration::ZERO).await?;
        Ok(())
    }

    fn note_end(&self, job: &Job) -> Result<(), Error> {
        let run_dir = self.layout.run_dir(&job.owner.uid);
        let state = State::load(&self.dir(job))?;
        for nic in &state.nics {
            self.taps.unplug(&nic.port_uid);
        }
        self.machines.forget(&job.owner.uid);
        start::forget(&run_dir)?;
        self.remember(job, |state| state.note_end(Timestamp::now()))
    }

    async fn remove(&self, job: &Job) -> Result<(), Error> {
        for nic in &State::load(&self.dir(job))?.nics {
            self.taps.unplug(&nic.port_uid);
        }
        self.machines.forget(&job.owner.uid);
        layout::remove(&self.dir(job))?;
        if self.layout.is_idle() {
            self.namespaces.delete(&self.names.underlay()).await?;
        }
        Ok(self.user_ids.give_back(&job.owner.uid)?)
    }
}

fn resolved(job: &Job) -> Result<&Resolved, Error> {
    job.resolved
        .as_ref()
        .ok_or_else(|| Error::Spec { field: "spec", reason: "something it names went away meanwhile".to_owned() })
}

fn identity(state: &State, verdict: &Verdict) -> Identity {
    let group = verdict.group.filter(|_| verdict.accelerator == Accelerator::Kvm);
    Identity { uid: state.user_id, gid: group.unwrap_or(state.user_id) }
}

fn plugged_nic(nic: &resolve::Nic) -> PluggedNic {
    PluggedNic {
        port: nic.port.clone(),
        port_uid: nic.port_uid.clone(),
        tap: nic.tap.to_string(),
        bridge: nic.bridge.to_string(),
        mtu: nic.mtu,
    }
}

fn spec(nic: &PluggedNic, owner_uid: u32) -> Result<Spec, Error> {
    let name = |text: &str| -> Result<LinkName, Error> {
        text.parse().map_err(|error: host::link::InvalidLinkName| Error::Spec {
            field: "spec.interfaces",
            reason: error.to_string(),
        })
    };
    Ok(Spec { name: name(&nic.tap)?, owner_uid, bridge: name(&nic.bridge)?, mtu: nic.mtu, alias: nic.port_uid.clone() })
}

fn tap_failed(nic: &resolve::Nic, source: host::tap::Error) -> Error {
    Error::Tap { device: nic.tap.to_string(), port: nic.port.clone(), source: Box::new(source) }
}

/// File work that may take a moment, off the runtime's workers.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
