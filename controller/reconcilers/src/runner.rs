//! How a reconciler runs: bounded concurrency, back-off per object, metrics, one log line per failure.

use crate::Error;
use futures::{FutureExt, StreamExt};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

static RECONCILES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter(
        "clusterctl_reconcile_total",
        "Reconciles by kind and result: ok, or the error's category.",
        &["kind", "result"],
    )
});
static DURATIONS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let options =
        prometheus::HistogramOpts::new("clusterctl_reconcile_duration_seconds", "Time one reconcile took, in seconds.")
            .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]);
    registered(HistogramVec::new(options, &["kind"]))
});
static ACTIVE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    registered(IntGaugeVec::new(
        prometheus::Opts::new("clusterctl_reconcile_active", "Reconciles under way, by kind."),
        &["kind"],
    ))
});

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(IntCounterVec::new(prometheus::Opts::new(name, help), labels))
}

#[expect(
    clippy::expect_used,
    reason = "a metric's name and labels are constants; a wrong one must fail the first test"
)]
fn registered<C: prometheus::core::Collector + Clone + 'static>(metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("metric definition");
    prometheus::default_registry().register(Box::new(metric.clone())).expect("metric registered once");
    metric
}

/// What every reconcile is given beside its object: the caller's context and the failure counts behind the back-off.
struct Shared<K: Resource, C>
where
    K::DynamicType: Hash + Eq,
{
    context: Arc<C>,
    failures: Mutex<HashMap<ObjectRef<K>, u32>>,
}

/// Default settings: at most `concurrency` objects of the kind at the same time, bursts of wake-ups merged.
#[must_use]
pub fn config(concurrency: u16) -> Config {
    Config::default().concurrency(concurrency).debounce(std::time::Duration::from_millis(2))
}

/// Drives `controller` until `shutdown`.
pub async fn drive<K, C, F, Fut>(controller: Controller<K>, context: C, shutdown: CancellationToken, reconcile: F)
where
    K: Clone + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static,
    C: Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<C>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let kind = K::kind(&()).into_owned();
    let shared = Arc::new(Shared::<K, C> { context: Arc::new(context), failures: Mutex::default() });
    controller
        .graceful_shutdown_on(async move { shutdown.cancelled().await })
        .run(
            move |object, shared| {
                let reconcile = reconcile.clone();
                let span = info_span!("reconcile", kind = %K::kind(&()), namespace = object.namespace(), name = object.name_any());
                observed(object, shared, reconcile).instrument(span).boxed()
            },
            |object, error, shared| {
                let failures = count_failure(&shared, &object);
                Action::requeue(error.retry(failures))
            },
            shared,
        )
        .for_each(|result| {
            if let Err(kube::runtime::controller::Error::QueueError(error)) = &result {
                debug!(kind, error = error as &dyn std::error::Error, "watch interrupted; it resumes by itself");
            }
            futures::future::ready(())
        })
        .await;
}

async fn observed<K, C, F, Fut>(object: Arc<K>, shared: Arc<Shared<K, C>>, reconcile: F) -> Result<Action, Error>
where
    K: Clone + Resource<DynamicType = ()> + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<C>) -> Fut,
    Fut: Future<Output = Result<Action, Error>>,
{
    let kind = K::kind(&());
    let started = Instant::now();
    ACTIVE.with_label_values(&[kind.as_ref()]).inc();
    let result = reconcile(object.clone(), shared.context.clone()).await;
    ACTIVE.with_label_values(&[kind.as_ref()]).dec();
    DURATIONS.with_label_values(&[kind.as_ref()]).observe(started.elapsed().as_secs_f64());
    let word = match &result {
        Ok(_) => "ok",
        Err(error) => error.category(),
    };
    RECONCILES.with_label_values(&[kind.as_ref(), word]).inc();
    match &result {
        Ok(_) => {
            lock(&shared.failures).remove(&ObjectRef::from_obj(object.as_ref()));
        }
        Err(error) if word == "conflict" => {
            debug!(error = error as &dyn std::error::Error, "reconcile will be repeated")
        }
        Err(error) => warn!(error = error as &dyn std::error::Error, "reconcile failed; it will be repeated"),
    }
    result
}

fn count_failure<K: Resource<DynamicType = ()>, C>(shared: &Shared<K, C>, object: &K) -> u32 {
    let mut failures = lock(&shared.failures);
    let count = failures.entry(ObjectRef::from_obj(object)).or_default();
    *count = count.saturating_add(1);
    *count
}

/// Locks, and goes on with the data of a thread that died: a count is never half written.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The objects of a reflector's store that `wanted` picks, as names to reconcile.
pub fn references<K>(store: &kube::runtime::reflector::Store<K>, wanted: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state().iter().filter(|object| wanted(object)).map(|object| ObjectRef::from_obj(object.as_ref())).collect()
}
