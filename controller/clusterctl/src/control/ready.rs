//! Waiting until the server answers and the agents of this very start serve.
//!
//! What the API says of a host may be older than its agent: after everything was killed at once, a Host is `Ready` until
//! its heartbeat is overdue. So an agent counts only when its process lives and its Lease was renewed after that process
//! began.

use crate::instance::Instance;
use anyhow::{Context, Result, bail};
use crds::{Host, SYSTEM_NAMESPACE, condition};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use process::Record;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How often is looked at what nobody announces.
const LOOK: Duration = Duration::from_millis(50);
/// A heartbeat that is older tells of the past: two that should have come since did not.
const FRESH: SignedDuration = SignedDuration::from_secs(25);

/// Waits until the API is ready and every host in `hosts` is served, or says what hinders it.
pub async fn wait(instance: &Instance, hosts: &[String], limit: Duration) -> Result<()> {
    let all = async {
        let client = server(instance).await?;
        agents(instance, &client, hosts).await
    };
    tokio::select! {
        done = tokio::time::timeout(limit, all) => match done {
            Ok(result) => result,
            Err(_) => bail!(
                "not ready after {} s · server: {} · agents: {}",
                limit.as_secs(),
                instance.last_words("server")?,
                hosts.iter().map(|h| instance.last_words(&agent(h))).collect::<Result<Vec<_>>>()?.join("; "),
            ),
        },
        name = gives_up(instance) => bail!("{name} does not come up: {}", instance.last_words(&name)?),
    }
}

/// The agent of a host, as its records and logs are named.
fn agent(host: &str) -> String {
    format!("agent-{host}")
}

/// The server's client, once `/readyz` answers.
async fn server(instance: &Instance) -> Result<Client> {
    let mut tick = tokio::time::interval(LOOK);
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

async fn agents(instance: &Instance, client: &Client, hosts: &[String]) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let objects: Api<Host> = Api::all(client.clone());
    let mut tick = tokio::time::interval(LOOK);
    for name in hosts {
        loop {
            tick.tick().await;
            let record = Record::load(&instance.record(&agent(name))?).ok().flatten();
            let Some(record) = record.filter(|record| record.running().is_some()) else { continue };
            // An error is a state like others: the server may be on its way back.
            let (Ok(Some(host)), Ok(Some(lease))) = (objects.get_opt(name).await, leases.get_opt(name).await) else {
                continue;
            };
            if serves(&record, &host, &lease, Timestamp::now()) {
                break;
            }
        }
    }
    Ok(())
}

/// Whether the agent of this record, which lives, serves its host.
fn serves(record: &Record, host: &Host, lease: &Lease, now: Timestamp) -> bool {
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    let (Ok(started), Some(renewed)) = (record.started_at.parse::<Timestamp>(), renewed) else { return false };
    let ready = host.status.as_ref().is_some_and(|status| condition::is_true(&status.conditions, condition::READY));
    ready && renewed >= started && now.duration_since(renewed) < FRESH
}

/// Resolves to the name of a process that keeps ending: five ends in the time we wait.
async fn gives_up(instance: &Instance) -> String {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut seen: HashMap<String, HashSet<i32>> = HashMap::new();
    loop {
        tick.tick().await;
        let hosts = instance.hosts().into_iter().map(|host| agent(&host));
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

#[cfg(test)]
mod tests {
    use super::*;
    use process::ProcessId;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn serves_when(started: i64, renewed: i64, ready: &str, now: i64) -> bool {
        let id = ProcessId { pid: 7, start_time: 1 };
        let record = Record { started_at: at(started).to_string(), ..Record::new(id, "clusterctl", "tag") };
        let host = json!({"metadata": {"name": "host01"}, "spec": {}, "status": {"conditions": [{"type": "Ready",
            "status": ready, "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let lease = json!({"metadata": {"name": "host01"}, "spec": {"renewTime": format!("{:.6}", at(renewed))}});
        let (host, lease) = (serde_json::from_value(host), serde_json::from_value(lease));
        serves(&record, &host.expect("a Host"), &lease.expect("a Lease"), at(now))
    }

    #[test]
    fn what_an_earlier_agent_said_does_not_count() {
        assert!(serves_when(10, 11, "True", 12));
        assert!(!serves_when(10, 9, "True", 12), "the heartbeat is the dead one's");
        assert!(!serves_when(10, 11, "Unknown", 12));
        assert!(!serves_when(10, 11, "True", 60), "it lives and is not heard");
        assert!(serves_when(10, 590, "True", 600), "adopted, and heard of late");
    }
}
