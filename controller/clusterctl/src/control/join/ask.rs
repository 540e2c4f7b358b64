//! `clusterctl join`: the host's side.

use super::{Asked, Given, Token};
use crate::instance::Instance;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;

/// How to join.
#[derive(clap::Args, Debug)]
pub struct JoinArgs {
    /// What `clusterctl join-token create` printed.
    #[arg(long, value_name = "TOKEN", env = "CLUSTERCTL_JOIN_TOKEN", hide_env_values = true)]
    pub token: String,
}

/// Gets this host's certificate; its key is made here and stays here.
pub async fn run(instance: &Instance, args: &JoinArgs) -> Result<()> {
    let bytes = URL_SAFE_NO_PAD.decode(args.token.trim()).context("the token is not whole")?;
    let token: Token = serde_json::from_slice(&bytes).context("the token is not whole")?;
    let kept = |name: &str| -> PathBuf { instance.path(&format!("pki/{name}")) };
    if kept("ca.key").exists() {
        bail!(
            "{} belongs to an instance with an authority of its own: pass another --data-dir",
            instance.dir().display()
        );
    }
    let (key, request) = pki::request().context("failed to make a key")?;
    let asked = Asked { id: token.id.clone(), word: token.word.clone(), request };
    let given = ask(&token, &asked).await?;
    std::fs::create_dir_all(instance.path("pki")).context("failed to make the directory of keys")?;
    let store = |name: &str, text: &str, mode| {
        process::write_atomic(kept(name), text, mode).with_context(|| format!("failed to store {name}"))
    };
    store("ca.crt", &token.authority, 0o644)?;
    store(&format!("agent-{}.key", token.host), &key, 0o600)?;
    store(&format!("agent-{}.crt", token.host), &given.certificate, 0o644)?;
    println!("joined as {} · now run `clusterctl agent --host-name {} --server URL`", token.host, token.host);
    Ok(())
}

async fn ask(token: &Token, asked: &Asked) -> Result<Given> {
    let mut config = Config::new(token.url.parse().context("the token's URL is none")?);
    let authority = pem_to_der(&token.authority)?;
    config.root_cert = Some(vec![authority]);
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(20));
    config.default_retry = false;
    let client = Client::try_from(config).context("failed to set up the client")?;
    let body = serde_json::to_vec(asked).context("failed to write the request")?;
    let request = http::Request::post("/join")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .context("failed to write the request")?;
    client.request(request).await.context("the server does not let this host in")
}

fn pem_to_der(pem: &str) -> Result<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).context("the token's authority is none")
}
