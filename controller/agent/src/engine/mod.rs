//! One controller a kind, on kube-runtime's watcher, reflector, scheduler and runner.
//!
//! kube-runtime's `Controller` keeps its cache to itself and can be woken from outside only wholesale. Here each kind's
//! cache is shared (a machine looks at ports, a network at its ports), and anything may wake one object by name:
//!
//! ```text
//!  watch ──► cache                       ┌─────────── requeue, back-off ──────────┐
//!    └─────► wake(name) ─┐               ▼                                        │
//!  netlink ──wake(name) ─┼─► Queue ──► scheduler ──► runner (bounded) ──► reconcile(object re-read)
//!  QMP, pidfd, timers ───┘  (a set)    never two runs of one object
//! ```
//!
//! A wake-up carries no data: whoever wakes says *look*, never *what*.

mod backoff;
mod queue;
mod watch;

pub use queue::{Queue, Requests, queue};
pub use watch::{Cache, watch};

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Resource;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::error::{Failure, Retry, sentence};
use crate::metrics::METRICS;
use backoff::Backoffs;

/// How long reconciles under way may go on after the agent was asked to stop. What they do is safe to cut off anywhere;
/// the grace only spares a repetition.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What an object must be to be reconciled here.
pub trait Kind: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static> Kind for K {}

/// The judgement over one kind.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Kind;
    /// What can go wrong.
    type Error: Failure;
    /// Brings the host nearer to what the object says. It may be cut off at any await.
    fn reconcile(&self, object: Arc<Self::Kind>) -> impl Future<Output = Result<Action, Self::Error>> + Send;
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("failed to reconcile")]
    Reconcile { retry: Retry },
    #[error("a reconcile panicked")]
    Panicked,
}

struct Run<R: Reconciler> {
    reconciler: R,
    queue: Queue<R::Kind>,
    backoffs: Backoffs<R::Kind>,
    kind: String,
}

/// Reconciles what is asked for until `shutdown`, at most `concurrency` objects at once.
pub async fn run<R: Reconciler>(
    reconciler: R,
    cache: Cache<R::Kind>,
    queue: Queue<R::Kind>,
    requests: Requests<R::Kind>,
    concurrency: u16,
    shutdown: CancellationToken,
) {
    let kind = R::Kind::kind(&()).into_owned();
    let run = Arc::new(Run { reconciler, queue, backoffs: Backoffs::default(), kind });
    let requests = requests.take_until(shutdown.clone().cancelled_owned()).map(Ok::<_, Infallible>);
    let results = applier(
        |object, run: Arc<Run<R>>| Box::pin(reconcile_one(run, object)),
        |object, error, run| run.failed(&object, error),
        run,
        cache.store(),
        requests,
        Config::default().concurrency(concurrency),
    );
    // Results are logged where they are made; an object that is gone from the cache needs nothing.
    let all = results.for_each(|_| std::future::ready(()));
    tokio::select! {
        () = all => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(STOP_GRACE).await } => {}
    }
}

async fn reconcile_one<R: Reconciler>(run: Arc<Run<R>>, object: Arc<R::Kind>) -> Result<Action, Failed> {
    let name = ObjectRef::from_obj(&*object);
    run.queue.begin(&name);
    let span = tracing::info_span!("reconcile", kind = run.kind, object = %name);
    // A task of its own, so that reconciles use every core and a panic stays in its object.
    let task = tokio::spawn({
        let run = run.clone();
        async move { run.timed(object).await }.instrument(span)
    });
    match AbortOnDropHandle::new(task).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(kind = run.kind, object = %name, %error, "a reconcile panicked; this is a bug, please report it");
            Err(Failed::Panicked)
        }
    }
}

impl<R: Reconciler> Run<R> {
    async fn timed(&self, object: Arc<R::Kind>) -> Result<Action, Failed> {
        let name = ObjectRef::from_obj(&*object);
        let begun = Instant::now();
        let result = self.reconciler.reconcile(object).await;
        METRICS.durations.with_label_values(&[&self.kind]).observe(begun.elapsed().as_secs_f64());
        let word = if result.is_ok() { "ok" } else { "error" };
        METRICS.reconciles.with_label_values(&[self.kind.as_str(), word]).inc();
        match result {
            Ok(action) => {
                self.backoffs.forget(&name);
                Ok(action)
            }
            Err(error) => {
                METRICS.errors.with_label_values(&[self.kind.as_str(), error.category()]).inc();
                tracing::warn!(category = error.category(), error = sentence(&error), "reconcile failed");
                Err(Failed::Reconcile { retry: error.retry() })
            }
        }
    }

    fn failed(&self, object: &R::Kind, error: &Failed) -> Action {
        match error {
            Failed::Reconcile { retry: Retry::OnChange } => Action::await_change(),
            Failed::Reconcile { retry: Retry::After(time) } => Action::requeue(*time),
            Failed::Reconcile { retry: Retry::Backoff } | Failed::Panicked => {
                Action::requeue(self.backoffs.next(&ObjectRef::from_obj(object)))
            }
        }
    }
}
