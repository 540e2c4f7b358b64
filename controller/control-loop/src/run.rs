//! Working off a queue: bounded, one look at an object at a time, each counted, timed, and tried again when it failed.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Resource;
use kube::runtime::controller::{self, Action, Config, applier};
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::backoff::{Backoffs, FAILED, OUTDATED};
use crate::failure::{Failure, Retry, sentence};
use crate::metrics::METRICS;
use crate::{Cache, Kind, Queue, Requests};

/// How long reconciles under way may go on after the process was asked to stop. What they do is safe to cut off anywhere;
/// the grace only spares a repetition.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// The judgement over one kind.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Kind;
    /// What can go wrong.
    type Error: Failure;
    /// Brings the world nearer to what the object says. It may be cut off at any await.
    fn reconcile(&self, object: Arc<Self::Kind>) -> impl Future<Output = Result<Action, Self::Error>> + Send;
}

/// How fast a loop goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    at_once: u16,
    gather: Duration,
}

impl Pace {
    /// At most so many objects at the same time.
    #[must_use]
    pub const fn at_once(objects: u16) -> Self {
        Self { at_once: objects, gather: Duration::ZERO }
    }

    /// Waits so long before each look: what wakes an object meanwhile is seen by that same look.
    #[must_use]
    pub const fn gathering(self, gather: Duration) -> Self {
        Self { gather, ..self }
    }
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
    cache: Cache<R::Kind>,
    queue: Queue<R::Kind>,
    backoffs: Backoffs<R::Kind>,
    kind: String,
}

/// Reconciles what is asked for until `shutdown`.
pub async fn run<R: Reconciler>(
    reconciler: R,
    cache: Cache<R::Kind>,
    queue: Queue<R::Kind>,
    requests: Requests<R::Kind>,
    pace: Pace,
    shutdown: CancellationToken,
) {
    let kind = R::Kind::kind(&()).into_owned();
    let run = Arc::new(Run { reconciler, cache: cache.clone(), queue, backoffs: Backoffs::default(), kind });
    let requests = requests.take_until(shutdown.clone().cancelled_owned()).map(Ok::<_, Infallible>);
    let results = applier(
        |object, run: Arc<Run<R>>| Box::pin(reconcile_one(run, object)),
        |object, error, run| run.failed(&object, error),
        run.clone(),
        cache.store(),
        requests,
        Config::default().concurrency(pace.at_once).debounce(pace.gather),
    );
    // Failures are logged where they are made.
    let all = results.for_each(|result| {
        if let Err(controller::Error::ObjectNotFound(absent)) = result {
            run.absent(&absent.name, absent.namespace.as_deref());
        }
        std::future::ready(())
    });
    tokio::select! {
        () = all => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(STOP_GRACE).await } => {}
    }
}

async fn reconcile_one<R: Reconciler>(run: Arc<Run<R>>, found: Arc<R::Kind>) -> Result<Action, Failed> {
    let name = ObjectRef::from_obj(&*found);
    run.queue.begin(&name);
    // What was found is from before the look began, and may have changed since without a wake-up: the name was waiting. From
    // here on every change wakes it again, so this reading misses none.
    let Some(object) = run.cache.store().get(&name) else { return Ok(run.left(&name)) };
    let active = METRICS.active.with_label_values(&[run.kind.as_str()]);
    active.inc();
    let span = tracing::info_span!("reconcile", kind = run.kind, object = %name);
    // A task of its own, so that reconciles use every core and a panic stays in its object.
    let task = tokio::spawn({
        let run = run.clone();
        async move { run.timed(object).await }.instrument(span)
    });
    let result = AbortOnDropHandle::new(task).await;
    active.dec();
    run.queue.end(&name);
    result.unwrap_or_else(|error| {
        tracing::error!(kind = run.kind, object = %name, %error, "a reconcile panicked; this is a bug, please report it");
        Err(Failed::Panicked)
    })
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
                let retry = error.retry();
                if retry == Retry::Reread {
                    tracing::debug!(error = sentence(&error), "somebody wrote in between; reconciling again");
                } else {
                    tracing::warn!(category = error.category(), error = sentence(&error), "reconcile failed");
                }
                Err(Failed::Reconcile { retry })
            }
        }
    }

    fn failed(&self, object: &R::Kind, error: &Failed) -> Action {
        let next = |steps| Action::requeue(self.backoffs.next(&ObjectRef::from_obj(object), steps));
        match error {
            Failed::Reconcile { retry: Retry::OnChange } => Action::await_change(),
            Failed::Reconcile { retry: Retry::After(time) } => Action::requeue(*time),
            Failed::Reconcile { retry: Retry::Reread } => next(OUTDATED),
            Failed::Reconcile { retry: Retry::Backoff } | Failed::Panicked => next(FAILED),
        }
    }

    /// The object went between its wake-up and the look.
    fn left(&self, name: &ObjectRef<R::Kind>) -> Action {
        self.queue.end(name);
        self.backoffs.forget(name);
        Action::await_change()
    }

    /// An object was woken that the cache does not have. When it comes it must be possible to wake it again; when it has come
    /// since, that wake-up was taken for this one.
    fn absent(&self, name: &str, namespace: Option<&str>) {
        let mut object = ObjectRef::new(name);
        object.namespace = namespace.map(str::to_owned);
        self.queue.gone(&object);
        self.backoffs.forget(&object);
        if self.cache.store().get(&object).is_some() {
            self.queue.wake(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use kube::runtime::watcher::Event;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("never")]
    struct Never;

    impl Failure for Never {
        fn category(&self) -> &'static str {
            "Never"
        }
        fn retry(&self) -> Retry {
            Retry::OnChange
        }
    }

    /// Remembers which versions it was shown.
    #[derive(Default)]
    struct Versions(std::sync::Mutex<Vec<String>>);

    impl Reconciler for Versions {
        type Kind = ConfigMap;
        type Error = Never;

        async fn reconcile(&self, object: Arc<ConfigMap>) -> Result<Action, Never> {
            self.0.lock().unwrap().push(object.resource_version().unwrap());
            Ok(Action::await_change())
        }
    }

    fn version(version: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({"metadata": {
            "name": "a", "namespace": "t", "resourceVersion": version}}))
        .unwrap()
    }

    #[tokio::test]
    async fn a_change_between_the_wake_up_and_the_look_is_seen() {
        let ((cache, mut writer), (queue, _requests)) = (Cache::new(), crate::queue());
        let reconciler = Versions::default();
        let (backoffs, kind) = (Backoffs::default(), "ConfigMap".to_owned());
        let run = Arc::new(Run { reconciler, cache: cache.clone(), queue: queue.clone(), backoffs, kind });
        writer.apply_watcher_event(&Event::Apply(version("1")));
        queue.wake_named("t", "a");
        // The applier takes the object out of the cache and makes the future; it polls it later.
        let look = reconcile_one(run.clone(), cache.get("t", "a").unwrap());
        writer.apply_watcher_event(&Event::Apply(version("2")));
        // Swallowed: the name is waiting still.
        queue.wake_named("t", "a");
        look.await.unwrap();
        assert_eq!(*run.reconciler.0.lock().unwrap(), ["2"]);

        queue.wake_named("t", "a");
        let look = reconcile_one(run.clone(), cache.get("t", "a").unwrap());
        writer.apply_watcher_event(&Event::Delete(version("2")));
        look.await.unwrap();
        assert_eq!(run.reconciler.0.lock().unwrap().len(), 1, "what is gone is not looked at");
    }
}
