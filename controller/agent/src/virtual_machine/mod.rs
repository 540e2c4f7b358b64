//! Machines on this host: one QEMU each, started, followed, adopted, stopped and removed.
//!
//! A pass reads what the object names ([`resolve`]), looks at what is there ([`apply::Hands::observe`]), plans ([`plan`])
//! and carries the plan out until nothing is left to do; then it tells what it found ([`status`]). What happens to a
//! running machine is seen by its follower ([`vitals`]), which wakes the next pass.

pub mod apply;
pub mod error;
pub mod machine;
pub mod plan;
pub mod resolve;
pub mod state;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use crds::VirtualMachine;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::layout::Owner;
use crate::objects::Objects;
use apply::{Hands, Job};
use control_loop::{Failure, Reconciler, Retry, sentence};
use error::{Error, Waiting};
use plan::{Found, Plan, Wanted, plan};
use resolve::{References, Resolved, resolve};
use status::{Facts, Trouble};

/// Plans carried out in one pass; a machine that needs more is looked at again soon.
const ROUNDS: usize = 4;

/// The judgement over machines.
pub struct VirtualMachines<H: Hands> {
    /// Pen.
    pub objects: Arc<Objects>,
    /// Where a machine's references are looked up.
    pub references: References,
    /// What does it.
    pub hands: H,
}

impl<H: Hands> Reconciler for VirtualMachines<H> {
    type Kind = VirtualMachine;
    type Error = Error;

    async fn reconcile(&self, vm: Arc<VirtualMachine>) -> Result<Action, Error> {
        let deleted = vm.metadata.deletion_timestamp.is_some();
        let (resolved, waiting) = match deleted {
            true => (None, None),
            false => match resolve(&vm, &self.references).await {
                Ok(Ok(resolved)) => (Some(resolved), None),
                Ok(Err(waiting)) => (None, Some(waiting)),
                Err(error) => return self.refuse(&vm, error).await,
            },
        };
        let job = job(&vm, resolved);
        let wanted = wanted(&vm, &job);
        let found = self.hands.observe(&job).await?;
        let vm = match deleted || plan(&wanted, &found, jiff::Timestamp::now()).steps.is_empty() {
            true => (*vm).clone(),
            // The finalizer stands before anything is made.
            false => match self.objects.claim(&*vm).await? {
                Some(vm) => vm,
                None => return Ok(Action::await_change()),
            },
        };
        self.carry_out(&vm, &wanted, &job, waiting.as_ref()).await
    }
}

impl<H: Hands> VirtualMachines<H> {
    async fn carry_out(
        &self,
        vm: &VirtualMachine,
        wanted: &Wanted,
        job: &Job,
        waiting: Option<&Waiting>,
    ) -> Result<Action, Error> {
        let done = converge(&self.hands, wanted, job).await;
        let found = self.hands.observe(job).await?;
        if wanted.deleted && done.is_ok() && found.process.is_none() && !found.directory {
            self.objects.release(vm).await?;
            return Ok(Action::await_change());
        }
        let trouble = done.as_ref().err().map(|error| Trouble {
            reason: error.category(),
            message: sentence(error),
            final_: error.retry() == Retry::OnChange,
        });
        let kept_back = self.publish(vm, job, &found, waiting, trouble.as_ref()).await?;
        done.map(|plan| {
            plan.look_again.into_iter().chain(kept_back).min().map_or_else(Action::await_change, Action::requeue)
        })
    }

    /// Stores the status; or says when to look again, because what it would say now is likely to change at once.
    async fn publish(
        &self,
        vm: &VirtualMachine,
        job: &Job,
        found: &Found,
        waiting: Option<&Waiting>,
        trouble: Option<&Trouble>,
    ) -> Result<Option<Duration>, Error> {
        let vitals = self.hands.vitals(job);
        let ip = job.resolved.as_ref().and_then(|resolved| resolved.nics.first()).map(|nic| nic.ip.clone());
        let status = status::compute(&Facts { vm, found, vitals: &vitals, waiting, trouble, ip });
        let kept_back = status::kept_back(vm, &status, jiff::Timestamp::now());
        if kept_back.is_none() {
            self.objects.publish(vm, status).await?;
        }
        Ok(kept_back)
    }

    /// A spec that cannot be: said in the status; what runs goes on.
    async fn refuse(&self, vm: &VirtualMachine, error: Error) -> Result<Action, Error> {
        let job = job(vm, None);
        let found = self.hands.observe(&job).await?;
        let trouble = Trouble { reason: error.category(), message: sentence(&error), final_: true };
        self.publish(vm, &job, &found, None, Some(&trouble)).await?;
        Err(error)
    }
}

fn job(vm: &VirtualMachine, resolved: Option<Resolved>) -> Job {
    Job {
        owner: Owner {
            namespace: vm.namespace().unwrap_or_default(),
            name: vm.name_any(),
            uid: vm.uid().unwrap_or_default(),
        },
        readiness: vm.spec.readiness.clone(),
        resolved,
    }
}

fn wanted(vm: &VirtualMachine, job: &Job) -> Wanted {
    Wanted {
        deleted: vm.metadata.deletion_timestamp.is_some(),
        strategy: vm.spec.run_strategy,
        grace: Duration::from_secs(vm.spec.termination_grace_period_seconds.into()),
        image: job.resolved.as_ref().map(|resolved| resolved.image.key.clone()),
    }
}

/// Looks, plans and acts until there is nothing left to do; what is left is the last plan's time to look again.
async fn converge<H: Hands>(hands: &H, wanted: &Wanted, job: &Job) -> Result<Plan, Error> {
    for _ in 0..ROUNDS {
        let found = hands.observe(job).await?;
        let plan = plan(wanted, &found, jiff::Timestamp::now());
        if plan.steps.is_empty() {
            return Ok(plan);
        }
        for step in &plan.steps {
            tracing::info!(?step, vm = job.owner.name, "carrying out");
            hands.apply(job, step).await?;
        }
    }
    Ok(Plan { steps: Vec::new(), look_again: Some(Duration::from_secs(1)) })
}

#[cfg(test)]
mod tests;
