//! Waiting until the server answers and the hosts have registered.

use super::up::tail;
use crate::instance::Instance;
use anyhow::{Context, Result, bail};
use crds::{Host, condition};
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use process::Record;
use std::collections::HashSet;
use std::time::Duration;

/// Waits until the API is ready and every host in `hosts` is, or says what hinders it.
pub async fn wait(instance: &Instance, hosts: &[String], limit: Duration) -> Result<()> {
    let all = async {
        let client = server(instance).await?;
        agents(client, hosts).await
    };
    tokio::select! {
        done = tokio::time::timeout(limit, all) => match done {
            Ok(result) => result,
            Err(_) => bail!(
                "not ready after {} s · server: {} · agents: {}",
                limit.as_secs(),
                tail(&instance.log("server")?),
                hosts.iter().map(|h| Ok(tail(&instance.log(&format!("agent-{h}"))?))).collect::<Result<Vec<_>>>()?.join("; "),
            ),
        },
        name = gives_up(instance) => bail!("{name} does not come up: {}", tail(&instance.log(&name)?)),
    }
}

/// The server's client, once `/readyz` answers.
async fn server(instance: &Instance) -> Result<Client> {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        if !instance.kubeconfig().exists() {
            continue;
        }
        let client = crate::commands::connection::client_of(instance).await?;
        let request = http::Request::get("/readyz").body(Vec::new()).context("failed to make a request")?;
        if client.request_text(request).await.is_ok() {
            return Ok(client);
        }
    }
}

async fn agents(client: Client, hosts: &[String]) -> Result<()> {
    let mut missing: HashSet<String> = hosts.iter().cloned().collect();
    let mut seen =
        watcher(Api::<Host>::all(client), watcher::Config::default()).default_backoff().applied_objects().boxed();
    while !missing.is_empty() {
        match seen.next().await {
            Some(Ok(host)) => {
                let ready = host.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, condition::READY));
                if ready {
                    missing.remove(&host.name_any());
                }
            }
            Some(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "watch interrupted"),
            None => bail!("the server ended the watch over hosts"),
        }
    }
    Ok(())
}

/// Resolves to the name of a process that keeps ending: five ends in the time we wait.
async fn gives_up(instance: &Instance) -> String {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut seen: std::collections::HashMap<String, HashSet<i32>> = std::collections::HashMap::new();
    loop {
        tick.tick().await;
        let hosts = instance.hosts().into_iter().map(|h| format!("agent-{h}"));
        for name in std::iter::once("server".to_owned()).chain(hosts) {
            let Some(record) = instance.record(&name).ok().and_then(|path| Record::load(&path).ok().flatten()) else {
                continue;
            };
            let pids = seen.entry(name.clone()).or_default();
            pids.insert(record.id.pid);
            if pids.len() > 4 {
                return name;
            }
        }
    }
}
