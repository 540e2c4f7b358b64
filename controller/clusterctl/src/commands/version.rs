//! `version`: what this program is, and what the server is.

use super::{api, connection, output};
use crate::global::Global;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Whose version, and how.
#[derive(clap::Args, Debug)]
pub struct VersionArgs {
    /// Only this program's; the server is not asked.
    #[arg(long)]
    pub client: bool,
    /// `yaml` or `json`.
    #[arg(short, long, value_parser = ["yaml", "json"], value_name = "FORM")]
    pub output: Option<String>,
}

/// Prints versions. A server that does not answer is an error, after the client's own version.
pub async fn run(global: &Global, args: &VersionArgs) -> Result<()> {
    let client = json!({"product": "PhotonCloud clusterctl", "version": env!("CARGO_PKG_VERSION"), "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION)});
    if args.client {
        return print(args, &client, None);
    }
    let answer = async { api::read(&connection::client(global).await?, "/version").await };
    match answer.await {
        Ok(server) => print(args, &client, Some(&server)),
        Err(error) => {
            print(args, &client, None)?;
            Err(error)
        }
    }
}

fn print(args: &VersionArgs, client: &Value, server: Option<&Value>) -> Result<()> {
    let mut document = json!({"clientVersion": client});
    if let Some(server) = server {
        document["serverVersion"] = server.clone();
    }
    match args.output.as_deref() {
        Some("json") => println!("{}", serde_json::to_string_pretty(&document).context("failed to render JSON")?),
        Some(_) => print!("{}", output::yaml(&document)?),
        None => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            println!(
                "Client: {} {}, API {}",
                text(&client["product"]),
                text(&client["version"]),
                text(&client["apiVersion"])
            );
            if let Some(server) = server {
                println!("Server: Kubernetes API {}", text(&server["gitVersion"]));
            }
        }
    }
    Ok(())
}
