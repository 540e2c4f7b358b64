//! Who may speak to whom: certificates of the server, the administrator and the agents, and the kubeconfig.

use super::Instance;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pki::{Authority, Identity, Subject, TokenKey, Usage};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Members of this group may do everything (Kubernetes' name for it).
pub const ADMINISTRATORS: &str = "system:masters";
/// The user name under which the server speaks to agents.
pub const SERVER: &str = "system:apiserver";
/// The group of agents.
pub const AGENTS: &str = "photoncloud:agents";
/// What an agent's user name begins with; the name of its host follows.
pub const AGENT_USER: &str = "system:agent:";

/// First of the user ids that servers get: below the agents', above what people and distributions use.
const FIRST_USER: u32 = 0x23ff_0000;

/// User and group of the server's process when root starts it: one of its own for each instance, with no privilege.
pub fn server_user(instance: &Instance) -> Option<(u32, u32)> {
    let id = FIRST_USER + u32::from_str_radix(&instance.id()[..4], 16).unwrap_or_default();
    rustix::process::geteuid().is_root().then_some((id, id))
}

/// The authority of an instance, made when missing.
pub fn authority(instance: &Instance) -> Result<Authority> {
    Authority::load_or_create(&instance.path("pki"), "photoncloud")
        .context("failed to set up the certificate authority")
}

/// The server's certificate: for clients that come in, and for its own calls to agents.
pub fn server(instance: &Instance, authority: &Authority, listen: SocketAddr) -> Result<Identity> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.ip().is_loopback() && !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    let subject = Subject::new(SERVER, [ADMINISTRATORS]);
    authority
        .load_or_issue(&instance.path("pki"), "server", &subject, &Usage::Both { names })
        .context("failed to issue the server's certificate")
}

/// Who a host's agent is, and what its certificate is good for: its calls to the server, and its own door.
pub fn of_agent(host: &str) -> (Subject, Usage) {
    let names = vec![host.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    (Subject::new(format!("{AGENT_USER}{host}"), [AGENTS]), Usage::Both { names })
}

/// The certificate of a host's agent, issued when it is missing.
pub fn agent(instance: &Instance, authority: &Authority, host: &str) -> Result<Identity> {
    let (subject, usage) = of_agent(host);
    authority
        .load_or_issue(&instance.path("pki"), &format!("agent-{host}"), &subject, &usage)
        .with_context(|| format!("failed to issue the certificate of agent {host}"))
}

/// The certificate with which a host joined (`clusterctl join`), where the authority's key is not at hand.
pub fn joined(instance: &Instance, host: &str) -> Result<Option<Identity>> {
    let read = |kind: &str| {
        let path = instance.path(&format!("pki/agent-{host}.{kind}"));
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    if instance.path("pki/ca.key").exists() || !instance.path("pki/ca.crt").exists() {
        return Ok(None);
    }
    Ok(Some(Identity { cert_pem: read("crt")?, key_pem: read("key")? }))
}

/// Where the certificate of a joined host is kept.
pub fn joined_certificate(instance: &Instance, host: &str) -> PathBuf {
    instance.path(&format!("pki/agent-{host}.crt"))
}

/// The authority's certificate.
pub fn authority_pem(instance: &Instance) -> Result<String> {
    let path = instance.path("pki/ca.crt");
    std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// The key that signs ServiceAccount tokens, made when missing.
pub fn token_key(instance: &Instance) -> Result<Arc<TokenKey>> {
    let key = TokenKey::load_or_create(&instance.path("pki"), "service-accounts");
    Ok(Arc::new(key.context("failed to set up the key that signs tokens")?))
}

/// Writes the administrator's kubeconfig, for this binary and for kubectl.
pub fn write_kubeconfig(instance: &Instance, authority: &Authority, address: SocketAddr) -> Result<()> {
    let subject = Subject::new("admin", [ADMINISTRATORS]);
    let admin = authority
        .load_or_issue(&instance.path("pki"), "admin", &subject, &Usage::Client)
        .context("failed to issue the administrator's certificate")?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "photoncloud",
        "clusters": [{"name": "photoncloud", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": STANDARD.encode(authority.cert_pem()),
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": STANDARD.encode(&admin.cert_pem),
            "client-key-data": STANDARD.encode(&admin.key_pem),
        }}],
        "contexts": [{"name": "photoncloud", "context": {
            "cluster": "photoncloud", "user": "admin", "namespace": "default",
        }}],
    });
    let text = serde_saphyr::to_string(&config).context("failed to write the kubeconfig")?;
    process::replace_file(instance.path("server/kubeconfig"), text, 0o600).context("failed to store the kubeconfig")
}

/// Base64, as kubeconfigs carry certificates and keys.
pub fn encoded(pem: &str) -> String {
    STANDARD.encode(pem)
}
