//! `clusterctl server`: etcd, the API, the reconcilers and the test engine, without any privilege.

use super::access;
use super::etcd::EtcdArgs;
use super::ports;
use crate::instance::{Instance, credentials};
use anyhow::{Context, Result};
use apiserver::{ApiServer, AuditOptions, Election, Level};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreOptions};
use tokio_util::sync::CancellationToken;

/// What reconcilers get to end what they are at.
const ENDING: Duration = Duration::from_secs(5);

/// How the server runs.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Address to serve on. By default a free port of 127.0.0.1, the same one after a restart.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address of the door at which hosts of other machines show their join token. By default there is none.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub join_listen: Option<SocketAddr>,
    /// Which requests are written down in DIR/server/audit.log: none, those that change something or read Secrets, or all.
    #[arg(long, value_enum, default_value_t)]
    pub audit: AuditLevel,
    /// How long the certificates of joined hosts last: `90s`, `20m`, `24h`. They are renewed when two thirds are over.
    #[arg(long, default_value = "8760h", value_name = "TIME", value_parser = crate::commands::wait::duration)]
    pub host_certificate_life: Duration,
    /// Where etcd is.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

impl ServerArgs {
    /// Where the server will listen, as far as that is known before its first start, and by which flag.
    pub fn addresses(&self, instance: &Instance) -> Vec<(SocketAddr, &'static str)> {
        let kept = || ports::remembered(&ports::of_server(instance)).map(|port| (Ipv4Addr::LOCALHOST, port).into());
        let listen = self.listen.filter(|address| address.port() != 0).or_else(kept);
        let join = self.join_listen.map(|address| (address, "--join-listen"));
        listen.map(|address| (address, "--listen")).into_iter().chain(join).collect()
    }
}

/// What is written down of requests.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditLevel {
    /// Nothing.
    #[default]
    None,
    /// What changes something, and readings of Secrets.
    Writes,
    /// Everything about objects.
    All,
}

impl AuditLevel {
    /// The level as a word of the command line; none for the default.
    pub fn word(self) -> Option<&'static str> {
        self.level().map(|level| match level {
            Level::Writes => "writes",
            Level::All => "all",
        })
    }

    fn level(self) -> Option<Level> {
        match self {
            Self::None => None,
            Self::Writes => Some(Level::Writes),
            Self::All => Some(Level::All),
        }
    }
}

/// Serves until asked to end. What runs on the hosts goes on, and so does our own etcd.
pub async fn run(instance: &Instance, args: &ServerArgs) -> Result<()> {
    let shutdown = super::signals::shutdown()?;
    let _lock = instance.lock("server")?;
    // Bound before anything else starts: a taken port fails at once, and no child of ours can take it.
    let listener = ports::keep(&ports::of_server(instance), args.listen, "--listen").await?;
    let address = listener.local_addr().context("failed to read the address served on")?;
    let authority = credentials::authority(instance)?;
    let identity = credentials::server(instance, &authority, address)?;

    let door = match args.join_listen {
        Some(address) => Some(ports::listen(address, "--join-listen").await?),
        None => None,
    };
    let store = connect(instance, args).await?;
    // With an etcd of our own there is no other server: its directory is locked.
    let alone = args.etcd.etcd_endpoints.is_empty();
    let audit = args.audit.level().map(|level| AuditOptions::new(instance.path("server/audit.log"), level));
    let options = apiserver::Options {
        chores: alone,
        audit,
        callers: access::callers(),
        confinements: access::confinements(),
        token_key: Some(credentials::token_key(instance)?),
        ..apiserver::Options::default()
    };
    let api = ApiServer::new(store, options).await.context("failed to start the API")?;
    let documents = crds::all()
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<Vec<_>, _>>()
        .context("failed to render the CRDs")?;
    api.ensure_crds(&documents).await.context("failed to install the CRDs")?;
    api.ensure_policy(&access::documents()?).await.context("failed to install the access rules")?;

    super::relay::connect(&api, &identity, authority.cert_pem())?;
    let tls = pki::optional_server_config(&identity, authority.cert_pem()).context("failed to set up TLS")?;
    let artifacts = instance.path("server/artifacts");
    let judgement = match alone {
        true => tokio::spawn(judge(api.clone(), artifacts, shutdown.clone())),
        false => tokio::spawn(lead(api.clone(), instance.id().to_owned(), artifacts, shutdown.clone())),
    };
    credentials::write_kubeconfig(instance, &authority, address)?;
    let (authority, life) = (Arc::new(authority), args.host_certificate_life);
    super::join::certify::connect(&api, authority.clone(), life);
    if let Some(door) = door {
        let (api, identity) = (api.clone(), identity.clone());
        tokio::spawn(async move { super::join::door::serve(door, &api, &identity, (authority, life)).await });
    }
    tracing::info!(%address, "serving");
    api.serve(listener, tls, shutdown.clone().cancelled_owned()).await;
    finish(shutdown, judgement).await;
    Ok(())
}

/// The reconcilers and the test engine, until `stop`; all that they write goes through `api`.
async fn judge(api: ApiServer, artifacts: PathBuf, stop: CancellationToken) {
    let client_for = move |name: &str| api.client(&access::reconciler(name), &[], "default");
    let tests = testrun::Options::new(artifacts);
    let engine = testrun::run(client_for("testrun"), tests, stop.clone());
    tokio::join!(engine, reconcilers::run(client_for, stop));
}

/// Judges whenever this server leads, until `shutdown`.
async fn lead(api: ApiServer, instance: String, artifacts: PathBuf, shutdown: CancellationToken) {
    let identity = format!("{instance}-{}", uuid::Uuid::new_v4().simple());
    let election = Election::new(identity);
    while let Some(reign) = shutdown.run_until_cancelled(Box::pin(api.campaign(&election))).await {
        let stop = shutdown.child_token();
        let mut judging = tokio::spawn(judge(reign.api().clone(), artifacts.clone(), stop.clone()));
        tokio::select! {
            () = reign.lost() => tracing::warn!("this server leads no more"),
            () = shutdown.cancelled() => {}
        }
        stop.cancel();
        // What is still busy then is refused by the store, or done again by the next leader.
        if tokio::time::timeout(ENDING, &mut judging).await.is_err() {
            judging.abort();
        }
        reign.resign().await;
    }
}

/// Lets the reconcilers end what they are at, for a bounded time.
async fn finish(shutdown: CancellationToken, judgement: tokio::task::JoinHandle<()>) {
    shutdown.cancel();
    if tokio::time::timeout(ENDING + Duration::from_secs(2), judgement).await.is_err() {
        tracing::warn!("reconcilers were still busy; their work is taken up again at the next start");
    }
}

async fn connect(instance: &Instance, args: &ServerArgs) -> Result<Store> {
    let sealing = Some(super::etcd::sealing(instance)?);
    if let Some(options) = args.etcd.elsewhere()? {
        return Store::connect(StoreOptions { sealing, ..options }).await.context("failed to reach etcd");
    }
    let etcd = args.etcd.start(instance).await?;
    let store =
        Store::connect(StoreOptions { sealing, ..etcd.store_options() }).await.context("failed to reach our etcd")?;
    // The child is supervised for as long as the handle lives, which is as long as this process.
    std::mem::forget(etcd);
    Ok(store)
}
