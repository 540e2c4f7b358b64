//! Six nodes, from apply to Ready, beside the same six started by hand; and what is written meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crds::{Node, TenantNetwork};
use kube::{Api, ResourceExt, api::ListParams};
use rustix::fs::{SeekFrom, seek};

use crate::bare::nodes::{self as by_hand, boot};
use crate::bare::template::Template;
use crate::figure::{Report, Sample};
use crate::idle;
use crate::lab::{Lab, counter};
use crate::manifest::{self, CLUSTER};

const LIMIT: Duration = Duration::from_secs(900);
/// Kinds of which a node consists.
const KINDS: [&str; 4] = ["VirtualMachine", "Node", "Port", "Volume"];
/// How long the processes are watched while six guests run.
const BUSY_SECONDS: u64 = 20;

/// Boots the cluster `runs` times by us and by hand.
pub async fn measure(lab: &Lab, runs: usize, report: &mut Report) -> Result<()> {
    lab.images().await?;
    // Whoever comes first would read the images from the disk for both.
    warm(&lab.dir().join("cache/images/images"));
    let (mut ours, mut bare) = (Sample::default(), Sample::default());
    let mut tally = Tally::default();
    for run in 0..runs {
        eprintln!("bench: six nodes by us, run {} of {runs}", run + 1);
        let before = lab.metrics().await?;
        tally = Tally::default();
        let took = apply(lab, &mut tally).await?;
        eprintln!("bench: ready after {took:.1} s");
        ours.add(took);
        tally.total = written(&lab.metrics().await?) - written(&before);
        if run + 1 == runs {
            idle::measure(lab, BUSY_SECONDS, "six nodes up", report).await?;
        }
        let (nodes, gateway, mtu) = templates(lab).await?;
        lab.delete("Cluster", CLUSTER, &["Cluster", "Node", "VirtualMachine", "Volume", "Port"]).await?;
        lab.delete("TenantNetwork", CLUSTER, &["TenantNetwork"]).await?;
        eprintln!("bench: six nodes by hand, run {} of {runs}", run + 1);
        let begun = Instant::now();
        let booted = boot(&nodes, &lab.scratch(), &gateway, mtu).await?;
        let took = begun.elapsed().as_secs_f64();
        eprintln!("bench: ready after {took:.1} s");
        bare.add(took);
        for machine in booted.0 {
            machine.end().await?;
        }
    }
    report.add("six nodes: apply → all Ready", "s", &ours, Some(&bare), "1.15 ×");
    report.add("writes of a VM until all Ready", "writes", &tally.of(&["VirtualMachine"]), None, "8");
    report.add("writes of a Node until all Ready", "writes", &tally.of(&["Node"]), None, "8");
    report.add("writes of a node's objects", "writes", &tally.of(&KINDS), None, "-");
    report.note(format!("{}; {} writes by all kinds, events and leases apart", tally.by_kind(), tally.total));
    Ok(())
}

/// Applies network and cluster and returns the seconds until the Cluster is Ready.
async fn apply(lab: &Lab, tally: &mut Tally) -> Result<f64> {
    let mut watch = lab.watch(&["VirtualMachine", "Node", "Port", "Volume", "Cluster"]).await?;
    let begun = Instant::now();
    for object in manifest::of_kinds(&["TenantNetwork", "Cluster"])? {
        lab.create(&object).await?;
    }
    let ready = watch
        .until(LIMIT, "ready cluster", |seen| {
            tally.count(&seen.kind, seen.object.name_any(), seen.object.resource_version());
            seen.is("Cluster", CLUSTER) && seen.has("Ready")
        })
        .await?;
    Ok(ready.at.duration_since(begun).as_secs_f64())
}

/// What it takes to boot the running nodes by hand, and the network's gateway and MTU.
async fn templates(lab: &Lab) -> Result<(Vec<by_hand::Node>, String, u32)> {
    let nodes: Api<Node> = Api::namespaced(lab.client.clone(), "default");
    let machines = lab.api("VirtualMachine")?;
    let mut all = Vec::new();
    for node in nodes.list(&ListParams::default()).await.context("failed to list the nodes")?.items {
        let name = node.name_any();
        let machine = machines.get(&name).await.with_context(|| format!("failed to read machine {name}"))?;
        all.push(by_hand::Node {
            ip: node.status.and_then(|status| status.ip).with_context(|| format!("node {name} has no address"))?,
            template: Template::of(lab.dir(), &machine.uid().unwrap_or_default())?,
            depends_on: node.spec.depends_on,
            readiness: node.spec.readiness,
            name,
        });
    }
    let networks: Api<TenantNetwork> = Api::namespaced(lab.client.clone(), "default");
    let network = networks.get(CLUSTER).await.context("failed to read the network")?;
    let subnets = crds::Subnets::of(&network.spec).context("the network has no subnet")?;
    let main = subnets.all().next().context("the network has no IPv4 subnet")?;
    Ok((all, format!("{}/{}", main.gateway, main.range.prefix_len()), network.spec.mtu))
}

/// Reads all files of the images, holes apart, so that they are in memory.
fn warm(images: &Path) {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in entries(images).flat_map(|image| entries(&image).collect::<Vec<_>>()) {
        // Not worth failing for: it costs the one who reads it first a second or so.
        let _ = read_data(&file);
    }
}

fn read_data(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut at = 0;
    while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(start))?;
        seek(&file, SeekFrom::Start(start))?;
        io::copy(&mut (&mut file).take(at - start), &mut io::sink())?;
    }
    Ok(())
}

fn written(metrics: &str) -> f64 {
    let all = |labels: &[&str]| counter(metrics, "clusterctl_apiserver_writes_total", labels);
    all(&[]) - all(&["resource=\"events\""]) - all(&["resource=\"leases\""])
}

/// Versions seen of one object.
#[derive(Default)]
struct Versions(HashSet<String>);

/// Versions seen of each object.
#[derive(Default)]
struct Tally {
    objects: BTreeMap<(String, String), Versions>,
    total: f64,
}

impl Tally {
    fn count(&mut self, kind: &str, name: String, version: Option<String>) {
        self.objects.entry((kind.to_owned(), name)).or_default().0.extend(version);
    }

    /// Writes by node, of objects of these kinds. What was made for a node is named after it: `node05-data`.
    fn of(&self, kinds: &[&str]) -> Sample {
        let mut by_node: BTreeMap<&str, usize> = BTreeMap::new();
        for ((kind, name), versions) in &self.objects {
            if kinds.contains(&kind.as_str()) {
                *by_node.entry(name.split('-').next().unwrap_or_default()).or_default() += versions.0.len();
            }
        }
        by_node.into_values().map(|count| count as f64).collect()
    }

    fn by_kind(&self) -> String {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for ((kind, _), versions) in &self.objects {
            *kinds.entry(kind).or_default() += versions.0.len();
        }
        kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    }
}
