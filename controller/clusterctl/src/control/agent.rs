//! `clusterctl agent`: realises what is bound to one host. The only process that needs root.

use super::join::renew::{self, Connect, Renewal};
use super::ports;
use crate::instance::{Instance, credentials};
use agent::{Agent, AgentOptions};
use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the agent runs.
#[derive(clap::Args, Clone, Debug)]
pub struct AgentArgs {
    /// Name of the Host.
    #[arg(long, default_value = "host01", value_name = "NAME")]
    pub host_name: String,
    /// URLs of servers, of which one is used until it fails, then the next. By default the server of this instance.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub server: Vec<String>,
    /// Address of the agent's door, which only the server may use. By default a free port of 127.0.0.1, the same one after a restart.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Network namespace that routers' ways out lead to (a name of `ip netns`, or `host` for this machine's own). Without it no Router
    /// with `spec.external` comes here.
    #[arg(long, value_name = "NETNS")]
    pub outside: Option<String>,
    /// Directory of built images, to share one between instances. By default `cache/images` in the data directory.
    #[arg(long, value_name = "DIR", env = "CLUSTERCTL_IMAGE_CACHE")]
    pub image_cache: Option<PathBuf>,
}

/// Runs until asked to end. What runs on the host goes on.
pub async fn run(instance: &Instance, args: &AgentArgs) -> Result<()> {
    let shutdown = super::signals::shutdown()?;
    let _lock = instance.lock(&format!("agent-{}", args.host_name))?;
    let (identity, ca_pem, joined) = match credentials::joined(instance, &args.host_name)? {
        Some(identity) => (identity, credentials::authority_pem(instance)?, true),
        None => {
            let authority = credentials::authority(instance)?;
            (credentials::agent(instance, &authority, &args.host_name)?, authority.cert_pem().to_owned(), false)
        }
    };
    let keeper = instance.record(&format!("agent-{}", args.host_name))?.with_extension("port");
    let door = ports::keep(&keeper, args.listen, "--listen").await?;
    let shown = pki::Shown::new(&identity).context("the agent's certificate is not usable")?;
    let mut caller = client(instance, &args.server, Some(&identity), &ca_pem).await?;
    if joined {
        let (exchangeable, exchange) = renew::exchangeable(caller);
        caller = exchangeable;
        let path = credentials::joined_certificate(instance, &args.host_name);
        let renewal = Renewal { host: args.host_name.clone(), path, identity, shown: shown.clone(), client: exchange };
        let (instance, servers, ca_pem) = (instance.clone(), args.server.clone(), ca_pem.clone());
        let connect: Connect = Box::new(move |identity| {
            let (instance, servers, ca_pem) = (instance.clone(), servers.clone(), ca_pem.clone());
            Box::pin(async move { client(&instance, &servers, Some(&identity), &ca_pem).await })
        });
        tokio::spawn(renewal.keep(connect, shutdown.clone()));
    }
    let data_dir = instance.path(&format!("hosts/{}", args.host_name));
    let options = AgentOptions {
        host_name: args.host_name.clone(),
        instance: instance.id().to_owned(),
        client: caller,
        node_client: client(instance, &args.server, None, &ca_pem).await?,
        data_dir,
        underlay_dir: instance.path("underlay"),
        outside: args.outside.clone(),
        image_cache: Some(args.image_cache.clone().unwrap_or_else(|| instance.path("cache/images"))),
        name_server: vec![super::name_server::COMMAND.to_owned()],
        identity: shown,
        ca_pem,
    };
    Agent::run(options, door, shutdown).await.context("the agent could not start")
}

/// A client of the servers named or of the instance's, with the agent's own identity or with none.
async fn client(
    instance: &Instance,
    servers: &[String],
    identity: Option<&pki::Identity>,
    ca_pem: &str,
) -> Result<Client> {
    match servers {
        [] => client_of(&own_server(instance).await, identity, ca_pem).await,
        servers => {
            let clients = servers.iter().map(|url| client_of(url, identity, ca_pem));
            Ok(agent::servers::any_of(futures::future::try_join_all(clients).await?, "default"))
        }
    }
}

/// Where the instance's server is, once it has said so.
async fn own_server(instance: &Instance) -> String {
    let path = instance.path("server/port");
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        if let Some(port) = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u16>().ok()) {
            return format!("https://127.0.0.1:{port}");
        }
    }
}

async fn client_of(url: &str, identity: Option<&pki::Identity>, ca_pem: &str) -> Result<Client> {
    Client::try_from(config(url, identity, ca_pem).await?).context("failed to set up the client")
}

async fn config(url: &str, identity: Option<&pki::Identity>, ca_pem: &str) -> Result<Config> {
    let user = identity.map(|identity| {
        serde_json::json!({
            "client-certificate-data": credentials::encoded(&identity.cert_pem),
            "client-key-data": credentials::encoded(&identity.key_pem),
        })
    });
    let kubeconfig: Kubeconfig = serde_json::from_value(serde_json::json!({
        "current-context": "agent",
        "clusters": [{"name": "agent", "cluster": {
            "server": url,
            "certificate-authority-data": credentials::encoded(ca_pem),
        }}],
        "users": [{"name": "agent", "user": user.unwrap_or_else(|| serde_json::json!({}))}],
        "contexts": [{"name": "agent", "context": {"cluster": "agent", "user": "agent"}}],
    }))
    .context("failed to put the agent's credentials together")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("the agent's credentials are not usable")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Whoever asks here tries again himself: a reconcile with its back-off and its place in the metrics, a watch, the heartbeat
    // every second. Requests repeated below them, up to three times within seconds, would hold one of the few places for
    // reconciles, hide every refusal but the last from the metrics, and ask a server that has too much to do four times as often.
    config.default_retry = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_heard_at_once() {
        pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let authority = pki::Authority::load_or_create(dir.path(), "test").unwrap();
        let identity = authority.issue(&pki::Subject::new("agent", ["agents"]), &pki::Usage::Client).unwrap();
        assert!(!config("https://127.0.0.1:1", Some(&identity), authority.cert_pem()).await.unwrap().default_retry);
    }
}
