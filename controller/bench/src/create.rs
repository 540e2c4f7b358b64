//! Creates through the API, at one client over TLS, beside puts of the same bytes into the same etcd.
//!
//! Both are made in turns of [`TURN`], so that whatever else the machine does falls on both. A ConfigMap is the API
//! alone; a Port has a schema with rules, and a reconciler that wakes up for it.

use std::time::Instant;

use anyhow::{Context, Result};
use etcd_client::{Certificate, Client as Etcd, ConnectOptions, DeleteOptions, GetOptions, Identity, TlsOptions};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::figure::{Report, Sample};
use crate::lab::{Lab, counter};
use crate::usage;

/// Creates in a row, before as many puts.
const TURN: usize = 25;
/// Clients that fill the store.
const CLIENTS: usize = 16;
/// The small store.
const FEW: usize = 100;
/// Where our own puts go, outside of what the server watches.
pub const RAW: &str = "/bench/";

/// Creates objects in a small store and in a large one.
pub async fn measure(lab: &Lab, objects: usize, creates: usize, report: &mut Report) -> Result<()> {
    network(lab).await?;
    let mut etcd = etcd(lab).await?;
    for size in [FEW, objects] {
        for kind in [Kind::ConfigMap, Kind::Port] {
            fill(lab, kind, size).await?;
            timed(lab, &mut etcd, kind, size, creates, report).await?;
        }
    }
    forget(lab).await
}

/// Removes our own puts.
pub async fn forget(lab: &Lab) -> Result<()> {
    let options = DeleteOptions::new().with_prefix();
    etcd(lab).await?.delete(RAW, Some(options)).await.context("failed to remove our keys from etcd")?;
    Ok(())
}

/// The network that the Ports are on.
pub async fn network(lab: &Lab) -> Result<()> {
    let object = json!({
        "apiVersion": "photoncloud.dev/v1alpha1",
        "kind": "TenantNetwork",
        "metadata": {"name": "bench"},
        "spec": {"subnet": "10.96.0.0/16", "dhcp": {"enabled": false}},
    });
    if lab.api("TenantNetwork")?.get_opt("bench").await?.is_none() {
        lab.create(&object).await?;
    }
    Ok(())
}

/// A kind that is created in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No schema of ours, no reconciler.
    ConfigMap,
    /// Both.
    Port,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::ConfigMap => "ConfigMap",
            Kind::Port => "Port",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Kind::ConfigMap => "/registry/configmaps/",
            Kind::Port => "/registry/photoncloud.dev/ports/",
        }
    }

    /// The object of that number. A Port is complete, so that there is nothing to give it.
    fn object(self, name: &str, number: usize) -> Value {
        match self {
            Kind::ConfigMap => json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {"payload": "x".repeat(512)},
            }),
            Kind::Port => json!({
                "apiVersion": "photoncloud.dev/v1alpha1",
                "kind": "Port",
                "metadata": {"name": name},
                "spec": {
                    "network": "bench",
                    "ip": format!("10.96.{}.{}", number / 250, number % 250 + 2),
                    "mac": format!("52:54:00:{:02x}:{:02x}:{:02x}", number >> 16 & 255, number >> 8 & 255, number & 255),
                },
            }),
        }
    }
}

/// Creates objects until there are `size`, several at a time.
pub async fn fill(lab: &Lab, kind: Kind, size: usize) -> Result<()> {
    let mut etcd = etcd(lab).await?;
    let present = usize::try_from(count(&mut etcd, kind.prefix()).await?).unwrap_or_default();
    if present >= size {
        return Ok(());
    }
    eprintln!("bench: filling the store up to {size} objects of kind {}", kind.name());
    let create =
        |number: usize| async move { lab.create(&kind.object(&format!("fill-{number}"), number)).await.map(drop) };
    stream::iter(present..size).map(create).buffer_unordered(CLIENTS).try_collect::<()>().await
}

async fn timed(lab: &Lab, etcd: &mut Etcd, kind: Kind, size: usize, creates: usize, report: &mut Report) -> Result<()> {
    eprintln!("bench: {creates} creates beside {size} objects");
    let pid = lab.process("server")?.pid;
    let (mut ours, mut raw) = (Sample::default(), Sample::default());
    // The same number twice in a run of the program would be the same address twice.
    let first = size + creates;
    warm_up(lab, etcd, kind, size).await?;
    let bytes = value_of(etcd, kind, &format!("warm-{size}")).await?;
    let (before, metrics) = (usage::cpu(pid)?, lab.metrics().await?);
    for number in 0..creates {
        let object = kind.object(&format!("timed-{size}-{number}"), first + number);
        let begun = Instant::now();
        lab.create(&object).await?;
        ours.add(begun.elapsed().as_secs_f64() * 1e3);
        if (number + 1) % TURN == 0 {
            for put in 0..TURN {
                let begun = Instant::now();
                etcd.put(format!("{RAW}{kind:?}-{size}-{number}-{put}"), bytes.clone(), None)
                    .await
                    .context("failed to put")?;
                raw.add(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let cpu = (usage::cpu(pid)? - before).as_secs_f64() * 1e6 / creates.max(1) as f64;
    let within = shares(&metrics, &lab.metrics().await?, kind);
    report.add(format!("create {} beside {size}", kind.name()), "ms", &ours, Some(&raw), "p50 2 ×");
    report.note(format!("{} bytes in etcd; raw: puts of the same into the same etcd; {within}", bytes.len()));
    report.add(format!("server CPU a create of {} beside {size}", kind.name()), "µs", &Sample::one(cpu), None, "flat");
    Ok(())
}

/// How long a create took within the server, and how much of that the store, both on average.
fn shares(before: &str, after: &str, kind: Kind) -> String {
    let resource = format!("resource=\"{}\"", kind.name().to_lowercase() + "s");
    let mean = |name: &str, labels: &[&str]| {
        let grown = |end| {
            let name = format!("{name}_{end}");
            counter(after, &name, labels) - counter(before, &name, labels)
        };
        grown("sum") / grown("count") * 1e3
    };
    format!(
        "on average {:.2} ms within the server, {:.2} ms within its store",
        mean("clusterctl_apiserver_request_duration_seconds", &["verb=\"create\"", &resource]),
        mean("clusterctl_store_request_duration_seconds", &["operation=\"create\""]),
    )
}

/// The first requests of either side open connections.
async fn warm_up(lab: &Lab, etcd: &mut Etcd, kind: Kind, size: usize) -> Result<()> {
    lab.create(&kind.object(&format!("warm-{size}"), 60_000 + size % 5_000)).await?;
    etcd.put(format!("{RAW}warm"), "warm", None).await.context("failed to put")?;
    Ok(())
}

/// What the server stored of an object.
async fn value_of(etcd: &mut Etcd, kind: Kind, name: &str) -> Result<Vec<u8>> {
    let key = format!("{}default/{name}", kind.prefix());
    let found = etcd.get(key.clone(), None).await.context("failed to read from etcd")?;
    let value = found.kvs().first().map(|entry| entry.value().to_vec());
    value.with_context(|| format!("etcd has no {key}"))
}

/// How many keys begin so.
async fn count(etcd: &mut Etcd, prefix: &str) -> Result<i64> {
    let options = GetOptions::new().with_prefix().with_count_only();
    Ok(etcd.get(prefix, Some(options)).await.context("failed to count keys in etcd")?.count())
}

/// A client of the instance's own etcd.
pub async fn etcd(lab: &Lab) -> Result<Etcd> {
    let read = |name: &str| {
        let path = lab.dir().join(name);
        std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    let ports: Value = serde_json::from_slice(&read("etcd/ports.json")?).context("failed to read etcd's ports")?;
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read("pki/etcd/ca.crt")?))
        .identity(Identity::from_pem(read("pki/etcd/client.crt")?, read("pki/etcd/client.key")?));
    let endpoint = format!("https://127.0.0.1:{}", ports["client"]);
    let client = Etcd::connect([endpoint], Some(ConnectOptions::new().with_tls(tls))).await;
    client.context("failed to connect to etcd")
}
