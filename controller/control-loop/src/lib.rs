//! How everything that judges is run: one loop a kind, on kube-runtime's watcher, reflector, scheduler and runner.
//!
//! kube-runtime's `Controller` keeps its cache to itself, can be woken from outside only wholesale, and does not tell how
//! much waits. Here each kind's cache may be shared (a machine looks at ports, a network at its ports), anything may wake
//! one object by name, and all loops of a process are counted alike:
//!
//! ```text
//!  watch ──► cache                       ┌─────────── requeue, back-off ──────────┐
//!    └─────► wake(name) ─┐               ▼                                        │
//!  netlink ──wake(name) ─┼─► Queue ──► scheduler ──► runner (bounded) ──► reconcile(object re-read)
//!  QMP, pidfd, timers ───┘  (a set)    never two runs of one object
//! ```
//!
//! A wake-up carries no data: whoever wakes says *look*, never *what*.
//!
//! [`ControlLoop`] is all of it for one kind that is woken by its own and other kinds' watches. Who shares caches between
//! loops, or wakes from other sources, puts [`watch`], [`queue`] and [`run`] together himself.

mod backoff;
mod control;
mod failure;
mod metrics;
mod queue;
mod run;
mod watch;

pub use control::ControlLoop;
pub use failure::{Failure, Retry, sentence};
pub use queue::{Queue, Requests, queue};
pub use run::{Pace, Reconciler, run};
pub use watch::{Cache, Writer, watch};

use kube::Resource;

/// What an object must be to be reconciled here.
pub trait Kind: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static> Kind for K {}
