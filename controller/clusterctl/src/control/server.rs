//! `clusterctl server`: etcd, the API, the reconcilers and the test engine, without any privilege.

use crate::instance::{Instance, credentials};
use anyhow::{Context, Result, bail};
use apiserver::ApiServer;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use store::{Etcd, EtcdOptions, Store, StoreOptions, TlsFiles};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How the server runs.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Address to serve on. By default a free port of 127.0.0.1, the same one after a restart.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Client URLs of an etcd cluster to use, instead of an etcd of our own.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd_endpoints: Vec<String>,
    /// Authority that signed that etcd cluster's certificates.
    #[arg(long, value_name = "FILE", requires = "etcd_endpoints")]
    pub etcd_ca: Option<std::path::PathBuf>,
    /// Our certificate for that etcd cluster.
    #[arg(long, value_name = "FILE", requires = "etcd_ca")]
    pub etcd_cert: Option<std::path::PathBuf>,
    /// Our key for that etcd cluster.
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<std::path::PathBuf>,
    /// The etcd program, when it is not on PATH.
    #[arg(long, value_name = "FILE", env = "CLUSTERCTL_ETCD")]
    pub etcd_binary: Option<std::path::PathBuf>,
}

/// Serves until asked to end. What runs on the hosts goes on, and so does our own etcd.
pub async fn run(instance: &Instance, args: &ServerArgs) -> Result<()> {
    let shutdown = super::signals::shutdown()?;
    let _lock = instance.lock("server")?;
    // Bound before anything else starts: a taken port fails at once, and no child of ours can take it.
    let listener = listen(instance, args.listen).await?;
    let address = listener.local_addr().context("failed to read the address served on")?;
    let authority = credentials::authority(instance)?;
    let identity = credentials::server(instance, &authority, address)?;

    let store = connect(instance, args).await?;
    let api = ApiServer::new(store, apiserver::Options::default()).await.context("failed to start the API")?;
    let documents = crds::all()
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<Vec<_>, _>>()
        .context("failed to render the CRDs")?;
    api.ensure_crds(&documents).await.context("failed to install the CRDs")?;

    super::relay::connect(&api, &identity, authority.cert_pem())?;
    let tls = pki::server_config(&identity, authority.cert_pem()).context("failed to set up TLS")?;
    let mounted = api.clone();
    let client_for = move |name: &str| {
        mounted.client(&format!("system:reconciler:{name}"), &[credentials::ADMINISTRATORS], "default")
    };
    let tests = testrun::Options::new(instance.path("server/artifacts"));
    let engine = tokio::spawn(testrun::run(client_for("testrun"), tests, shutdown.clone().cancelled_owned()));
    let reconcilers = tokio::spawn(reconcilers::run(client_for, shutdown.clone()));
    credentials::write_kubeconfig(instance, &authority, address)?;
    tracing::info!(%address, "serving");
    api.serve(listener, tls, shutdown.clone().cancelled_owned()).await;
    finish(shutdown, [reconcilers, engine]).await;
    Ok(())
}

/// Lets the reconcilers end what they are at, for a bounded time.
async fn finish(shutdown: CancellationToken, tasks: [tokio::task::JoinHandle<()>; 2]) {
    shutdown.cancel();
    let ended = futures::future::join_all(tasks);
    if tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.is_err() {
        tracing::warn!("reconcilers were still busy; their work is taken up again at the next start");
    }
}

async fn connect(instance: &Instance, args: &ServerArgs) -> Result<Store> {
    if !args.etcd_endpoints.is_empty() {
        let tls = match (&args.etcd_ca, &args.etcd_cert, &args.etcd_key) {
            (Some(ca), Some(cert), Some(key)) => {
                Some(TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
            }
            (None, None, None) => None,
            _ => bail!("--etcd-ca, --etcd-cert and --etcd-key go together"),
        };
        return Store::connect(StoreOptions::new(args.etcd_endpoints.clone(), tls))
            .await
            .context("failed to reach etcd");
    }
    let etcd = Etcd::start(EtcdOptions {
        binary: args.etcd_binary.clone(),
        data_dir: instance.path("etcd"),
        pki_dir: instance.path("pki/etcd"),
        log: instance.log("etcd")?,
    })
    .await
    .context("failed to start etcd")?;
    let store = Store::connect(etcd.store_options()).await.context("failed to reach our etcd")?;
    // The child is supervised for as long as the handle lives, which is as long as this process.
    std::mem::forget(etcd);
    Ok(store)
}

/// The listener: on the address asked for, on the port of last time, or on any free one.
async fn listen(instance: &Instance, wanted: Option<SocketAddr>) -> Result<TcpListener> {
    let path = instance.path("server/port");
    let last = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let address = wanted.unwrap_or_else(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), last.unwrap_or(0)));
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && wanted.is_none() => {
            tracing::warn!(%address, "the port of last time is taken; another one is used and the kubeconfig rewritten");
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to find a free port")?
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{address} is taken by another program: stop it, or choose another --listen")
        }
        Err(error) => return Err(error).with_context(|| format!("failed to listen on {address}")),
    };
    let port = listener.local_addr().context("failed to read the port")?.port();
    process::replace_file(&path, port.to_string(), 0o644).context("failed to store the port")?;
    Ok(listener)
}
