//! Faults: harm done on purpose to a machine of this host, once, and undone.
//!
//! ```text
//!  Pending ──target runs──► Injecting(pid stored) ──act──► Injected ──Pause: time over, deleted──► Reverted
//!                               │ pid is gone: it was us, or it was late enough            ▲
//!                               └──────────────────────────────────────────────────────────┘ Kill, PowerCycle: at once
//! ```
//!
//! The process that is to be harmed is stored before it is touched. After a crash the fault is carried on against that very
//! process: if it is gone, the harm is done; its successor is never touched.

pub mod error;
pub mod plan;
pub mod status;

use std::sync::Arc;

use crds::fault::FaultAction;
use crds::{Fault, VirtualMachine};
use host::qemu::start;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use process::ProcessId;

use crate::layout::Layout;
use crate::objects::Objects;
use crate::running::Machines;
use control_loop::{Cache, Failure, Reconciler, Retry, sentence};
use error::Error;
use plan::{Found, Next, plan};

/// The judgement over faults.
pub struct Faults {
    /// Pen.
    pub objects: Arc<Objects>,
    /// This host's machines, as objects.
    pub vms: Cache<VirtualMachine>,
    /// This host's machines, running.
    pub machines: Arc<Machines>,
    /// Directories.
    pub layout: Layout,
}

impl Reconciler for Faults {
    type Kind = Fault;
    type Error = Error;

    async fn reconcile(&self, fault: Arc<Fault>) -> Result<Action, Error> {
        let found = self.observe(&fault);
        match plan(&fault, &found, jiff::Timestamp::now()) {
            Next::Nothing => Ok(Action::await_change()),
            Next::Wait { why } => {
                self.objects.publish(&*fault, status::waiting(&fault, why)).await?;
                Ok(Action::await_change())
            }
            Next::LookAgain(time) => Ok(Action::requeue(time)),
            Next::Announce(id) => {
                let Some(fault) = self.objects.claim(&*fault).await? else { return Ok(Action::await_change()) };
                self.objects.publish(&fault, status::injecting(&fault, id)).await?;
                // The stored intent comes back through the watch, and only then is anything touched.
                Ok(Action::await_change())
            }
            Next::Inject => self.inject(&fault, &found).await,
            Next::Revert => self.revert(&fault, &found).await,
            Next::Release => {
                self.objects.release(&*fault).await?;
                Ok(Action::await_change())
            }
        }
    }
}

impl Faults {
    /// A node's machine has the node's name.
    fn observe(&self, fault: &Fault) -> Found {
        let vm = self.vms.get(&fault.namespace().unwrap_or_default(), &fault.spec.target.name);
        let Some(uid) = vm.as_ref().and_then(|vm| vm.uid()) else { return Found::default() };
        // By its record, not by our memory: after a restart of ours the fault may come before the adoption.
        let process = match start::observe(&self.layout.run_dir(&uid)) {
            Ok(start::Found::Running(id)) => Some(id),
            Ok(start::Found::Absent | start::Found::Dead) | Err(_) => None,
        };
        Found { target: true, uid, process }
    }

    async fn inject(&self, fault: &Fault, found: &Found) -> Result<Action, Error> {
        let victim = plan::victim(fault, found);
        let done = match victim {
            // Gone: killed by us before a crash, or dead by itself. Either way the plug is out.
            None => Ok(()),
            Some(id) => self.act(fault.spec.action, &found.uid, id).await,
        };
        match done {
            Ok(()) => {
                let status = status::injected(fault);
                self.objects.publish(fault, status).await?;
                let note = format!("{:?} injected into {}.", fault.spec.action, fault.spec.target.name);
                self.objects.event(fault, false, "Injected", "Inject", note).await;
                Ok(Action::await_change())
            }
            Err(error) if error.retry() == Retry::OnChange => {
                self.objects.publish(fault, status::failed(fault, error.category(), sentence(&error))).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn act(&self, action: FaultAction, uid: &str, id: ProcessId) -> Result<(), Error> {
        match action {
            FaultAction::Kill => Ok(host::qemu::stop::kill(id).await?),
            FaultAction::PowerCycle => {
                self.machines.forgive(uid);
                Ok(host::qemu::stop::kill(id).await?)
            }
            FaultAction::Pause => Ok(self.monitor(uid, id)?.pause().await?),
        }
    }

    async fn revert(&self, fault: &Fault, found: &Found) -> Result<Action, Error> {
        let victim = plan::victim(fault, found);
        if let (FaultAction::Pause, Some(id)) = (fault.spec.action, victim) {
            self.monitor(&found.uid, id)?.resume().await?;
        }
        self.objects.publish(fault, status::reverted(fault)).await?;
        if fault.metadata.deletion_timestamp.is_some() {
            self.objects.release(fault).await?;
        }
        Ok(Action::await_change())
    }

    fn monitor(&self, uid: &str, id: ProcessId) -> Result<host::qemu::monitor::Monitor, Error> {
        let follower = self.machines.follower(uid).filter(|follower| follower.id == id);
        follower.and_then(|follower| follower.monitor()).ok_or(Error::NoMonitor { pid: id.pid })
    }
}
