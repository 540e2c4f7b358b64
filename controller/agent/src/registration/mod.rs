//! The agent's own Host: who it is, what its machine can do, and its heartbeat.
//!
//! The Host says what changes seldom. That the agent lives is said by a Lease of the host's name, renewed every ten
//! seconds, so that a heartbeat costs a write of a few bytes and wakes nobody who watches Hosts.

mod status;

use std::time::{Duration, Instant};

use crds::host::Capabilities;
use crds::{Host, HostSpec, HostStatus, SYSTEM_NAMESPACE};
use host::qemu::accelerator::Verdict;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;
use crate::network::groups::Ability;
use control_loop::sentence;

use status::observe_capabilities;

/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A host is taken for lost when its Lease is older than this.
const LEASE_SECONDS: i32 = 40;
const RETRY: Duration = Duration::from_secs(1);

/// What there is to register.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The host's name.
    pub host: String,
    /// Where the door listens.
    pub endpoint: String,
    /// Where other hosts reach this one's networks.
    pub underlay_address: std::net::Ipv4Addr,
    /// Whether routers have a way out here.
    pub outside: bool,
    /// What instructions run on, and why.
    pub accelerator: Verdict,
    /// Whether groups can be enforced, or why not.
    pub filter: Ability,
}

/// Registers the Host, trying until it stands, then renews the Lease until `shutdown`. `heard` is told when each word that the API
/// has heard was sent.
pub async fn keep(
    client: Client,
    registration: Registration,
    heard: impl Fn(Instant) + Send,
    shutdown: CancellationToken,
) {
    let started = crds::condition::now();
    let capabilities = observe_capabilities(&registration).await;
    let mut registered = false;
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beat.tick() => {}
        }
        let moment = Instant::now();
        let told = async {
            if !registered {
                register(&client, &registration, &capabilities, started).await?;
                registered = true;
            }
            renew(&client, &registration.host).await
        };
        match told.await {
            Ok(()) => heard(moment),
            Err(error) => {
                tracing::warn!(error = sentence(&error), "failed to tell the API that this host lives; trying again");
                // Meanwhile it may have been given up for lost.
                registered = false;
                beat.reset_after(RETRY);
            }
        }
    }
}

async fn register(
    client: &Client,
    registration: &Registration,
    capabilities: &Capabilities,
    started: jiff::Timestamp,
) -> Result<(), ApiError> {
    let api = Api::<Host>::all(client.clone());
    let name = registration.host.as_str();
    let failed = |verb: &'static str| {
        move |source| ApiError::Request { verb, kind: "Host".into(), name: name.to_owned(), source: Box::new(source) }
    };
    let host = match api.get_opt(name).await.map_err(failed("read"))? {
        Some(host) => host,
        None => create(&api, name).await.map_err(failed("create"))?,
    };
    let wanted = status::compute(registration, capabilities, &host, started);
    let patch = json!({"status": wanted});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(failed("write the status of"))?;
    tracing::info!(host = name, endpoint = registration.endpoint, "registered");
    Ok(())
}

async fn create(api: &Api<Host>, name: &str) -> kube::Result<Host> {
    let host = Host {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: HostSpec::default(),
        status: None::<HostStatus>,
    };
    match api.create(&PostParams::default(), &host).await {
        Err(kube::Error::Api(status)) if status.code == 409 => api.get(name).await,
        other => other,
    }
}

async fn renew(client: &Client, host: &str) -> Result<(), ApiError> {
    let api = Api::<Lease>::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let failed = |verb: &'static str| {
        move |source| ApiError::Request { verb, kind: "Lease".into(), name: host.to_owned(), source: Box::new(source) }
    };
    let now = MicroTime(k8s_openapi::jiff::Timestamp::now());
    let patch = json!({"spec": {"renewTime": now}});
    match api.patch(host, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(host.to_owned()), ..ObjectMeta::default() },
                spec: Some(LeaseSpec {
                    holder_identity: Some(host.to_owned()),
                    lease_duration_seconds: Some(LEASE_SECONDS),
                    acquire_time: Some(now.clone()),
                    renew_time: Some(now),
                    ..LeaseSpec::default()
                }),
            };
            api.create(&PostParams::default(), &lease).await.map(drop).map_err(failed("create"))
        }
        Err(source) => Err(failed("renew")(source)),
    }
}
