//! What the server counts.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use crate::error::Error;

/// The server's metrics, in the process-wide registry.
#[derive(Clone)]
pub(crate) struct Metrics {
    duration: HistogramVec,
    writes: IntCounterVec,
    watches: IntGaugeVec,
    connections: IntGauge,
    leader: IntGaugeVec,
    turned_away: IntCounter,
    unwritten: IntCounter,
    decisions: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics; a second server in one process shares the first one's.
    pub(crate) fn register() -> Result<Self, Error> {
        static ONCE: std::sync::OnceLock<Result<Metrics, String>> = std::sync::OnceLock::new();
        let made = ONCE.get_or_init(|| Self::make().map_err(|error| error.to_string()));
        made.clone().map_err(|error| Error::Internal(format!("metrics cannot be registered: {error}")))
    }

    fn make() -> Result<Self, prometheus::Error> {
        let duration = HistogramVec::new(
            HistogramOpts::new("clusterctl_apiserver_request_duration_seconds", "Time to answer an API request.")
                .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]),
            &["verb", "resource", "code"],
        )?;
        let writes = IntCounterVec::new(
            Opts::new("clusterctl_apiserver_writes_total", "Objects written to the store."),
            &["resource"],
        )?;
        let watches =
            IntGaugeVec::new(Opts::new("clusterctl_apiserver_watches", "Watches being served now."), &["resource"])?;
        let connections = IntGauge::new("clusterctl_apiserver_connections", "Client connections open now.")?;
        let leader = IntGaugeVec::new(
            Opts::new("clusterctl_leader", "1 where this server holds the lease and does what only one may do."),
            &["lease"],
        )?;
        let turned_away = IntCounter::new(
            "clusterctl_apiserver_turned_away_total",
            "Requests refused because their client had its share under way.",
        )?;
        let unwritten = IntCounter::new(
            "clusterctl_audit_dropped_total",
            "Lines missing from the audit log because the disk was too slow.",
        )?;
        let decisions = IntCounterVec::new(
            Opts::new(
                "clusterctl_apiserver_authorizations_total",
                "Requests that the access rules allowed or forbade.",
            ),
            &["decision"],
        )?;
        let registry = prometheus::default_registry();
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        registry.register(Box::new(watches.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(turned_away.clone()))?;
        registry.register(Box::new(unwritten.clone()))?;
        Ok(Self { duration, writes, watches, connections, leader, turned_away, unwritten, decisions })
    }

    /// A request was answered. `resource` is a served plural or empty, never what a client invented.
    pub(crate) fn answered(&self, verb: &str, resource: &str, code: u16, took: Duration) {
        self.duration.with_label_values(&[verb, resource, &code.to_string()]).observe(took.as_secs_f64());
    }

    /// The access rules were asked about a request.
    pub(crate) fn decided(&self, allowed: bool) {
        self.decisions.with_label_values(&[if allowed { "allowed" } else { "forbidden" }]).inc();
    }

    /// An object was written.
    pub(crate) fn wrote(&self, resource: &str) {
        self.writes.with_label_values(&[resource]).inc();
    }

    /// A watch begins; it ends when the guard goes.
    pub(crate) fn watching(&self, resource: &str) -> Watching {
        Watching::new(self.watches.with_label_values(&[resource]))
    }

    /// Whether this server leads.
    pub(crate) fn leads(&self, lease: &str, leads: bool) {
        self.leader.with_label_values(&[lease]).set(i64::from(leads));
    }

    /// A request was refused because its client has too many.
    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// A line of the audit log was dropped.
    pub(crate) fn unwritten(&self) {
        self.unwritten.inc();
    }

    /// A connection begins; it ends when the guard goes.
    pub(crate) fn connected(&self) -> Watching {
        Watching::new(self.connections.clone())
    }
}

/// Counts one running thing for as long as it lives.
pub(crate) struct Watching(IntGauge);

impl Watching {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.dec();
    }
}
