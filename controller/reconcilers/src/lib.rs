//! The judgement of the control plane: one folder a kind.
//!
//! Every reconciler receives a name, re-reads what it needs, and writes only when something differs. What runs them is [`control_loop`]. They meet through
//! objects and never call each other:
//!
//! ```text
//!  Cluster ──makes──► Node ──makes──► Port, Volume, VirtualMachine
//!                       ▲ dependsOn gates the machine          │
//!                       └──────────── status ◄─── agent ◄──────┘ spec.host set by `scheduler`
//!  TenantNetwork: VNI, gateway      Port: address, host      Fault: host      Host: lost heartbeat
//!  Router: elected host, way out ──makes──► Port
//!  ServiceIP: address      LoadBalancer: who of its backends answers      DNSZone, DNSRecordSet: which of them are served
//! ```

use kube::Client;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub mod cluster;
pub mod dns_record_set;
pub mod dns_zone;
pub mod error;
pub mod fault;
pub mod host_health;
pub mod load_balancer;
pub mod network;
pub mod node;
mod pool;
pub mod port;
pub mod router;
pub mod scheduler;
pub mod service_ip;
mod states;
mod subnet;
pub mod write;

pub use error::Error;

/// Before each look: what is written in one go (a cluster's nodes, a node's port, volumes and machine) is seen in one go.
const GATHER: Duration = Duration::from_millis(2);

/// Runs every reconciler until `shutdown`. `client_for` gives each its own identity, by the reconciler's name.
pub async fn run(client_for: impl Fn(&str) -> Client, shutdown: CancellationToken) {
    let giving = subnet::Giving::default();
    tokio::join!(
        cluster::run(client_for("cluster"), shutdown.clone()),
        node::run(client_for("node"), shutdown.clone()),
        network::run(client_for("network"), shutdown.clone()),
        port::run(client_for("port"), giving.clone(), shutdown.clone()),
        service_ip::run(client_for("service-ip"), giving.clone(), shutdown.clone()),
        router::run(client_for("router"), giving, shutdown.clone()),
        load_balancer::run(client_for("load-balancer"), shutdown.clone()),
        scheduler::run(client_for("scheduler"), shutdown.clone()),
        fault::run(client_for("fault"), shutdown.clone()),
        dns_zone::run(client_for("dns-zone"), shutdown.clone()),
        dns_record_set::run(client_for("dns-record-set"), shutdown.clone()),
        host_health::run(client_for("host-health"), shutdown.clone()),
        states::run(client_for("metrics"), shutdown),
    );
}
