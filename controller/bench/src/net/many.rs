//! Very many ports on very many hosts, on hands that only count: what one host has to program grows with its own ports, and with those
//! of the networks it carries, but not with how many there are in all.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use agent::layout::Layout;
use agent::names::Names;
use agent::network::cells::Cells;
use agent::network::error::Error;
use agent::network::groups;
use agent::network::hands::Hands;
use agent::network::plan::{self, Wanted};
use agent::network::reach::{self, Reach};
use anyhow::{Context, Result};
use control_loop::queue;
use crds::{Port, SecurityGroup, TenantNetwork};
use host::link::Change;
use kube::ResourceExt;
use serde_json::json;
use tokio::task::JoinHandle;

use super::objects::{self, TENANT};
use super::ports::milliseconds;
use crate::figure::{Bound, Report, Sample};

/// Ports of each host.
const LOCAL: usize = 100;
/// Hosts that share networks with each other and with nobody else.
const FAMILY: usize = 10;
/// Networks of each family; each has ports on all its hosts.
const NETWORKS: usize = 10;

/// Remembers what was programmed, and counts what was new or taken away.
#[derive(Default)]
struct Counting(Mutex<(HashSet<String>, usize)>);

impl Counting {
    /// Makes what carries this word be exactly `things`.
    fn program(&self, word: &str, things: HashSet<String>) -> Result<Vec<Change>, Error> {
        let mut programmed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("{word} ");
        let things: HashSet<String> = things.into_iter().map(|thing| format!("{prefix}{thing}")).collect();
        let before: HashSet<String> = programmed.0.iter().filter(|thing| thing.starts_with(&prefix)).cloned().collect();
        programmed.1 += before.symmetric_difference(&things).count();
        programmed.0.retain(|thing| !before.contains(thing));
        programmed.0.extend(things);
        Ok(Vec::new())
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// One host's, by their owner.
struct Shared(Arc<Counting>);

impl Shared {
    fn one(&self, wanted: &Wanted, word: &str, thing: &str) -> Result<Vec<Change>, Error> {
        self.0.program(&format!("{} {word}", wanted.netns), [thing.to_owned()].into())
    }

    fn all(&self, wanted: &Wanted, word: &str, things: impl Iterator<Item = String>) -> Result<Vec<Change>, Error> {
        self.0.program(&format!("{} {word}", wanted.netns), things.collect())
    }
}

impl Hands for Shared {
    async fn ensure_namespaces(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.one(wanted, "namespace", &wanted.netns)
    }
    async fn ensure_bridge(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.one(wanted, "bridge", &wanted.bridge)
    }
    async fn ensure_guard(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.all(wanted, "guard", wanted.ports.iter().map(|port| format!("{} {:?}", port.tap, port.ip)))
    }
    async fn ensure_firewall(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let groups = wanted.policy.iter().flat_map(|policy| &policy.groups);
        let members = groups.flat_map(|group| group.members.iter().map(|ip| format!("{} {ip}", group.id)));
        self.all(wanted, "member", members)?;
        let guests = wanted.policy.iter().flat_map(|policy| &policy.guests);
        self.all(wanted, "judged", guests.map(|guest| guest.tap.to_string()))
    }
    async fn ensure_reach(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let peers = match &wanted.reach {
            Reach::Across { peers, .. } => peers.as_slice(),
            Reach::Here | Reach::Unknown => &[],
        };
        // Three tables of the kernel have an entry of each.
        let entries = peers.iter().flat_map(|peer| (0..3).map(move |table| format!("{table} {:?}", peer.peer)));
        self.all(wanted, "peer", entries)
    }
    async fn ensure_legs(&self, _: &Wanted) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }
    async fn ensure_taps(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.all(wanted, "tap", wanted.ports.iter().map(|port| port.tap.clone()))
    }
    async fn ensure_api_door(&self, _: &Wanted) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }
    async fn ensure_balancer(&self, _: &Wanted) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }
    async fn ensure_proxy(&self, _: &Wanted) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }
    async fn ensure_dhcp(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.all(wanted, "reservation", wanted.ports.iter().map(|port| port.hostname.clone()))
    }
    async fn ensure_dns(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.one(wanted, "names", &wanted.netns)
    }
    async fn watch(&self, _: &Wanted, _: Box<dyn Fn() + Send + Sync>) -> Result<JoinHandle<()>, Error> {
        Ok(tokio::spawn(std::future::pending()))
    }
    async fn remove(&self, _: &str, _: &str) -> Result<(), Error> {
        Ok(())
    }
    async fn remove_routers(&self, _: &BTreeSet<String>) -> Result<(), Error> {
        Ok(())
    }
    async fn sweep_namespaces(&self, _: &[String]) -> Result<(), Error> {
        Ok(())
    }
}

/// What the hosts of a world had to do.
struct Cost {
    operations: Sample,
    milliseconds: Sample,
}

/// Measures with one family of hosts, and with as many as make `hosts`.
pub async fn measure(hosts: usize, report: &mut Report) -> Result<()> {
    let few = world(FAMILY).await?;
    let many = world(hosts.max(FAMILY)).await?;
    let ports = hosts.max(FAMILY) * LOCAL;
    let beside = format!("beside {} ports on {FAMILY} hosts", FAMILY * LOCAL);
    report.add(
        format!("programming a host, {ports} ports on {hosts} hosts"),
        "operations",
        &many.operations,
        Some(&few.operations),
        "1 ×",
    );
    report.bound(Bound::Ratio(1.0));
    report.note(&beside);
    report.add(
        format!("planning a host, {ports} ports on {hosts} hosts"),
        "ms",
        &many.milliseconds,
        Some(&few.milliseconds),
        "",
    );
    report.note(&beside);
    Ok(())
}

async fn world(hosts: usize) -> Result<Cost> {
    // Of the shared address space, as the underlay's are.
    let address = |number: u32| std::net::Ipv4Addr::from(0x6440_0001 + number);
    let addresses = (0..hosts).zip(0..).map(|(host, number)| (format!("h{host}"), address(number))).collect();
    let mut cost = Cost { operations: Sample::default(), milliseconds: Sample::default() };
    let group = with_uid(objects::group("all", 80)?, "group");
    let families: Vec<Family> = (0..hosts / FAMILY).map(family).collect::<Result<_>>()?;
    for (number, family) in families.iter().enumerate() {
        for member in 0..FAMILY {
            let (operations, took) =
                host(&format!("h{}", number * FAMILY + member), family, &group, &addresses).await?;
            cost.operations.add(operations as f64);
            cost.milliseconds.add(milliseconds(took));
        }
    }
    Ok(cost)
}

/// Networks with their ports.
type Family = Vec<(TenantNetwork, Vec<Arc<Port>>)>;

fn family(number: usize) -> Result<Family> {
    let network = |which: usize| {
        let name = format!("net{number}-{which}");
        let mut network = TenantNetwork::new(&name, serde_json::from_value(json!({"subnet": "10.0.0.0/16"}))?);
        network.status = serde_json::from_value(json!({"vni": 10_000 + number * NETWORKS + which, "ports": 0}))?;
        network.metadata.namespace = Some(TENANT.to_owned());
        let network = with_uid(network, &name);
        let ports = (0..FAMILY * LOCAL / NETWORKS).map(|one| {
            let host = format!("h{}", number * FAMILY + one % FAMILY);
            let port = objects::port_of(&name, one, &host, &["all".to_owned()])?;
            Ok(Arc::new(with_uid(port, &format!("{name}-{one}"))))
        });
        Ok((network, ports.collect::<Result<_>>()?))
    };
    (0..NETWORKS).map(network).collect()
}

/// The same UID for the same words.
fn with_uid<K: ResourceExt>(mut object: K, words: &str) -> K {
    object.meta_mut().uid = Some(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, words.as_bytes()).to_string());
    object
}

/// One host's passes over its networks, by the agent's own way from objects to hands.
async fn host(
    me: &str,
    family: &Family,
    group: &SecurityGroup,
    addresses: &std::collections::HashMap<String, std::net::Ipv4Addr>,
) -> Result<(usize, std::time::Duration)> {
    let dir = tempfile::tempdir().context("failed to make a directory")?;
    let layout = Layout::new(dir.path())?;
    let counting = Arc::new(Counting::default());
    let cells = Cells::new(Shared(counting.clone()), Names::new("bench", me), layout, queue().0);
    let mut took = std::time::Duration::ZERO;
    for (network, ports) in family {
        let here: Vec<Arc<Port>> = ports.iter().filter(|port| port.spec.host.as_deref() == Some(me)).cloned().collect();
        let begun = Instant::now();
        let read = || {
            let mut wanted = plan::wanted(cells.names(), network, &here)?;
            wanted.reach = reach::reach(network, &wanted, me, Some(ports.clone()), addresses);
            let (policy, closed) = groups::policy(&wanted, &[Arc::new(group.clone())], &Ok(()))?;
            wanted.policy = policy;
            wanted.refused.extend(closed);
            Ok(wanted)
        };
        let uid = network.uid().unwrap_or_default();
        cells.converge(&uid, cells.ticket(), read).await?;
        took += begun.elapsed();
    }
    Ok((counting.count(), took))
}
