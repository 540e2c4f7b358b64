//! What Prometheus sees of the store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

pub(crate) struct Metrics {
    requests: HistogramVec,
    pub(crate) writes: IntCounterVec,
    pub(crate) watchers: IntGauge,
    pub(crate) lagged: IntCounter,
    pub(crate) entries: IntGauge,
    pub(crate) feed_restarts: IntCounter,
    pub(crate) discrepancies: IntCounter,
    pub(crate) fenced: IntCounter,
    pub(crate) etcd_restarts: IntCounter,
    pub(crate) full: IntGauge,
}

/// One set a process: the default registry refuses a second one, and several stores may share it (tests do).
static SHARED: Mutex<Option<Arc<Metrics>>> = Mutex::new(None);

impl Metrics {
    pub(crate) fn shared() -> Result<Arc<Metrics>, prometheus::Error> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*shared {
            return Ok(metrics.clone());
        }
        let metrics = Arc::new(Self::register(prometheus::default_registry())?);
        *shared = Some(metrics.clone());
        Ok(metrics)
    }

    fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let buckets = prometheus::exponential_buckets(0.000_05, 2.0, 18)?;
        let requests = HistogramOpts::new(
            "clusterctl_store_request_duration_seconds",
            "How long store operations took, waiting included.",
        );
        let writes = Opts::new("clusterctl_store_writes_total", "Acknowledged writes.");
        let metrics = Metrics {
            requests: HistogramVec::new(requests.buckets(buckets), &["operation"])?,
            writes: IntCounterVec::new(writes, &["resource"])?,
            watchers: IntGauge::new("clusterctl_store_watchers", "Open watches.")?,
            lagged: IntCounter::new(
                "clusterctl_store_watches_lagged_total",
                "Watches that fell behind the history kept.",
            )?,
            entries: IntGauge::new("clusterctl_store_entries", "Keys in the cache.")?,
            feed_restarts: IntCounter::new(
                "clusterctl_store_feed_restarts_total",
                "Times the watch on etcd was opened again.",
            )?,
            discrepancies: IntCounter::new(
                "clusterctl_store_discrepancies_total",
                "Keys on which the cache and a full list disagreed.",
            )?,
            fenced: IntCounter::new(
                "clusterctl_store_fenced_writes_total",
                "Writes whose outcome had to be found out.",
            )?,
            etcd_restarts: IntCounter::new(
                "clusterctl_etcd_restarts_total",
                "Times our own etcd was started again after it died.",
            )?,
            full: IntGauge::new("clusterctl_store_full", "1 while etcd's quota is used up and writes are refused.")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.writes.clone()))?;
        registry.register(Box::new(metrics.watchers.clone()))?;
        registry.register(Box::new(metrics.lagged.clone()))?;
        registry.register(Box::new(metrics.entries.clone()))?;
        registry.register(Box::new(metrics.feed_restarts.clone()))?;
        registry.register(Box::new(metrics.discrepancies.clone()))?;
        registry.register(Box::new(metrics.fenced.clone()))?;
        registry.register(Box::new(metrics.etcd_restarts.clone()))?;
        registry.register(Box::new(metrics.full.clone()))?;
        Ok(metrics)
    }

    /// Observes the time until the returned timer is dropped.
    pub(crate) fn time(&self, operation: &str) -> Timer {
        Timer { histogram: self.requests.with_label_values(&[operation]), since: Instant::now() }
    }
}

/// Observes its own lifetime.
pub(crate) struct Timer {
    histogram: Histogram,
    since: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.observe(self.since.elapsed().as_secs_f64());
    }
}
