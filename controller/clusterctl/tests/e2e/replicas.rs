//! Several servers over one three-member etcd: they die, stop and restart, and nobody loses anything.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config, ResourceExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::{Lab, Scratch};

/// Longer than what is promised of a failover (`Election::new`): a deadline is no stopwatch.
pub const SOON: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub struct Process(Child);

impl Process {
    /// Starts it; what it says goes to a file.
    pub fn start(command: &mut Command, log: &Path) -> Result<Process> {
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Process(child.with_context(|| format!("failed to start {command:?}"))?))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Ends it and waits until it is gone.
    pub fn end(mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, or not ours to end any other way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Three members on loopback.
struct Cluster {
    members: Vec<Option<Process>>,
    scratch: Scratch,
    ports: Vec<(u16, u16)>,
}

impl Cluster {
    fn start() -> Result<Cluster> {
        let free = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let ports = (0..3).map(|_| Ok((free()?, free()?))).collect::<Result<Vec<_>>>()?;
        let mut cluster = Cluster { members: vec![None, None, None], scratch: Scratch::new()?, ports };
        (0..3).try_for_each(|member| cluster.start_member(member))?;
        Ok(cluster)
    }

    fn start_member(&mut self, member: usize) -> Result<()> {
        let peer = |member: usize| format!("m{member}=http://127.0.0.1:{}", self.ports[member].1);
        let (client, own) = (format!("http://127.0.0.1:{}", self.ports[member].0), self.ports[member].1);
        let mut command = Command::new(process::find_program("etcd", "CLUSTERCTL_ETCD")?);
        command.arg(format!("--name=m{member}"));
        command.arg(format!("--data-dir={}", self.scratch.join(format!("m{member}")).display()));
        command.args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")]);
        command.arg(format!("--listen-peer-urls=http://127.0.0.1:{own}"));
        command.arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{own}"));
        command.arg(format!("--initial-cluster={},{},{}", peer(0), peer(1), peer(2)));
        command.args(["--logger=zap", "--heartbeat-interval=200", "--election-timeout=2000"]);
        self.members[member] = Some(Process::start(&mut command, &self.scratch.join("etcd.log"))?);
        Ok(())
    }

    fn endpoints(&self) -> String {
        self.ports.iter().map(|(client, _)| format!("http://127.0.0.1:{client}")).collect::<Vec<_>>().join(",")
    }
}

/// One server, in a directory of its own.
pub struct Replica {
    pub lab: Lab,
    pub process: Option<Process>,
    id: String,
}

impl Replica {
    /// The first makes the authority and the keys; the others get a copy.
    fn new(first: Option<&Replica>) -> Result<Replica> {
        let lab = Lab::new()?;
        if let Some(first) = first {
            let copied = Command::new("cp").arg("-a").args([first.lab.join("pki"), lab.join("pki")]).status()?;
            ensure!(copied.success(), "the keys were not copied");
        }
        Ok(Replica { lab, process: None, id: String::new() })
    }

    /// Starts it; returns once it answers.
    async fn start(&mut self, endpoints: &str) -> Result<()> {
        let mut command = Command::new(self.lab.binary());
        command.arg("--data-dir").arg(self.lab.path()).args(["server", "--etcd-endpoints", endpoints]);
        self.process = Some(Process::start(&mut command, &self.lab.files().join("server.log"))?);
        let answers = async {
            loop {
                if let Ok(client) = self.client().await
                    && client.request_text(http::Request::get("/readyz").body(Vec::new())?).await.is_ok()
                {
                    return Ok::<_, anyhow::Error>(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let log = || std::fs::read_to_string(self.lab.files().join("server.log")).unwrap_or_default();
        tokio::time::timeout(SOON, answers)
            .await
            .with_context(|| format!("a server does not come up: {}", log()))??;
        self.id = std::fs::read_to_string(self.lab.join("instance"))?.trim().to_owned();
        Ok(())
    }

    pub async fn client(&self) -> Result<Client> {
        let config = Kubeconfig::read_from(self.lab.join("kubeconfig"))?;
        let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        (config.connect_timeout, config.read_timeout) = (Some(Duration::from_secs(2)), Some(Duration::from_secs(5)));
        Ok(Client::try_from(config)?)
    }

    async fn leads(&self) -> Result<bool> {
        let text = self.client().await?.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        Ok(text.lines().any(|line| line == "clusterctl_leader{lease=\"clusterctl-server\"} 1"))
    }
}

/// Three members and three servers.
pub struct World {
    cluster: Cluster,
    pub replicas: Vec<Replica>,
}

impl World {
    pub async fn new() -> Result<World> {
        let cluster = Cluster::start()?;
        let endpoints = cluster.endpoints();
        let mut replicas = vec![Replica::new(None)?];
        replicas[0].start(&endpoints).await?;
        for _ in 0..2 {
            let mut replica = Replica::new(replicas.first())?;
            replica.start(&endpoints).await?;
            replicas.push(replica);
        }
        Ok(World { cluster, replicas })
    }

    async fn clients(&self) -> Result<Vec<Client>> {
        futures::future::try_join_all(self.replicas.iter().map(Replica::client)).await
    }

    /// The replica that holds the Lease, as any server that answers tells; not `other_than`.
    async fn leader(&self, other_than: Option<usize>, limit: Duration) -> Result<usize> {
        let look = async {
            loop {
                for replica in &self.replicas {
                    let Ok(client) = replica.client().await else { continue };
                    let leases = Api::<Lease>::namespaced(client, "photon-system");
                    let Ok(Ok(lease)) =
                        tokio::time::timeout(Duration::from_secs(1), leases.get("clusterctl-server")).await
                    else {
                        continue;
                    };
                    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
                    let found =
                        self.replicas.iter().position(|replica| holder.starts_with(&format!("{}-", replica.id)));
                    if let Some(found) = found.filter(|found| Some(*found) != other_than) {
                        return found;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(limit, look).await.with_context(|| format!("nobody leads within {limit:?}"))
    }

    pub fn finish(self) -> Result<()> {
        drop(self.cluster);
        for mut replica in self.replicas {
            drop(replica.process.take());
            replica.lab.finish()?;
        }
        Ok(())
    }
}

/// Writes through every replica in turn until told to end; returns the names that were acknowledged.
async fn write(clients: Vec<Client>, over: Arc<AtomicBool>) -> Result<Vec<String>> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if over.load(Ordering::Acquire) {
            break;
        }
        let maps = Api::<ConfigMap>::default_namespaced(clients[number % clients.len()].clone());
        let name = format!("written-{number}");
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        if maps.create(&PostParams::default(), &map).await.is_ok() {
            acknowledged.push(name);
        }
    }
    Ok(acknowledged)
}

/// Watches through whichever replica answers, always from the last revision seen; returns how often each name came,
/// once all of `until` came or the time is up. A server that has just begun knows no changes from before, and says so: then,
/// as any client does, it lists, and goes on from there.
async fn watch(
    clients: Vec<Client>,
    mut from: String,
    last: tokio::sync::oneshot::Receiver<Vec<String>>,
) -> Result<BTreeMap<String, usize>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut last = last;
    let mut wanted: Option<Vec<String>> = None;
    for turn in 0.. {
        let maps = Api::<ConfigMap>::default_namespaced(clients[turn % clients.len()].clone());
        let Ok(events) = maps.watch(&WatchParams::default().timeout(3), &from).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut events = events.boxed();
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Added(map) => {
                    from = map.resource_version().context("no revision")?;
                    *seen.entry(map.name_any()).or_default() += 1;
                }
                WatchEvent::Error(status) if status.code == 410 => {
                    println!("told to list again: {}", status.message);
                    // It may be stopped before it answers; then another one is asked, and says the same.
                    let Ok(all) = maps.list(&ListParams::default()).await else { break };
                    from = all.metadata.resource_version.context("no revision")?;
                    for map in all.items {
                        seen.entry(map.name_any()).or_insert(1);
                    }
                }
                WatchEvent::Error(status) => anyhow::bail!("the watch has lost its place: {status:?}"),
                _ => {}
            }
        }
        if let (None, Ok(names)) = (&wanted, last.try_recv()) {
            wanted = Some(names);
        }
        if wanted.as_ref().is_some_and(|names| names.iter().all(|name| seen.contains_key(name))) || turn > 1000 {
            break;
        }
    }
    Ok(seen)
}

pub fn networks(client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("photoncloud.dev", "v1alpha1", "TenantNetwork");
    Api::default_namespaced_with(client, &ApiResource::from_gvk(&kind))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_may_die_and_restart_without_a_write_or_an_event_lost() -> Result<()> {
    let mut world = World::new().await?;
    let clients = world.clients().await?;
    let from = Api::<ConfigMap>::default_namespaced(clients[0].clone())
        .list(&ListParams::default())
        .await?
        .metadata
        .resource_version
        .context("no revision")?;
    let over = Arc::new(AtomicBool::new(false));
    let (done, last) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(write(clients.clone(), over.clone()));
    let watching = tokio::spawn(watch(clients, from, last));

    let first = world.leader(None, SOON).await?;
    let killed = Instant::now();
    world.replicas[first].process.take().context("not started")?.end(Signal::KILL)?;
    let second = world.leader(Some(first), SOON).await?;
    println!("{:?} from the leader's death to the next lease", killed.elapsed());
    let endpoints = world.cluster.endpoints();
    world.replicas[first].start(&endpoints).await?;

    // A member dies and comes back.
    world.cluster.members[1].take().context("not started")?.end(Signal::KILL)?;
    world.leader(None, SOON).await?;
    world.cluster.start_member(1)?;

    // A rolling restart, the leader first: it gives its lease back.
    for replica in [second, first, 3 - first - second] {
        world.replicas[replica].process.take().context("not started")?.end(Signal::TERM)?;
        world.replicas[replica].start(&endpoints).await?;
    }
    let leader = world.leader(None, SOON).await?;
    // The leader's chores are done by whoever leads now.
    let client = world.replicas[leader].client().await?;
    let network = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "TenantNetwork",
        "metadata": {"name": "after"}, "spec": {"subnet": "10.9.0.0/24"}});
    networks(client.clone()).create(&PostParams::default(), &serde_json::from_value(network)?).await?;
    allocated(&networks(client), 1).await?;

    over.store(true, Ordering::Release);
    let acknowledged = writing.await??;
    println!("{} writes were acknowledged", acknowledged.len());
    ensure!(acknowledged.len() > 20, "hardly anything was written");
    // A watch that has failed says so below.
    let _ = done.send(acknowledged.clone());
    let seen = tokio::time::timeout(SOON, watching).await.context("the watch misses events")???;
    let kept = Api::<ConfigMap>::default_namespaced(world.replicas[leader].client().await?)
        .list(&ListParams::default())
        .await?;
    let kept: Vec<String> = kept.iter().map(ResourceExt::name_any).collect();
    for name in &acknowledged {
        ensure!(kept.contains(name), "{name} was acknowledged and is lost");
        ensure!(seen.get(name) == Some(&1), "{name} was seen {:?} times", seen.get(name));
    }
    ensure!(seen.values().all(|times| *times == 1), "an event came twice: {seen:?}");
    world.finish()
}

/// Waits until so many networks have an identifier; returns them.
async fn allocated(networks: &Api<DynamicObject>, count: usize) -> Result<Vec<i64>> {
    let all = async {
        loop {
            let listed = networks.list(&ListParams::default()).await?;
            let ids: Vec<i64> = listed.iter().filter_map(|network| network.data["status"]["vni"].as_i64()).collect();
            if ids.len() >= count {
                return Ok::<_, anyhow::Error>(ids);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, all).await.context("the reconcilers do nothing")?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_stopped_past_its_lease_wakes_up_harmless() -> Result<()> {
    let world = World::new().await?;
    let first = world.leader(None, SOON).await?;
    let other = (first + 1) % 3;
    let client = world.replicas[other].client().await?;
    let networks = networks(client);
    let make = async |name: String, octet: usize| -> Result<()> {
        let network = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "TenantNetwork",
            "metadata": {"name": name}, "spec": {"subnet": format!("10.{octet}.0.0/24")}});
        networks.create(&PostParams::default(), &serde_json::from_value(network)?).await?;
        Ok(())
    };
    // Stopped in the midst of work, with work that waits for it when it wakes.
    for number in 0..10 {
        make(format!("before-{number}"), number).await?;
    }
    let sleeper = world.replicas[first].process.as_ref().context("not started")?;
    sleeper.signal(Signal::STOP)?;
    for number in 0..10 {
        make(format!("during-{number}"), 100 + number).await?;
    }
    world.leader(Some(first), SOON).await?;
    sleeper.signal(Signal::CONT)?;
    for number in 0..10 {
        make(format!("after-{number}"), 200 + number).await?;
    }
    let mut ids = allocated(&networks, 30).await?;
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == 30, "two leaders gave one identifier to two networks: {ids:?}");
    // It has learnt that it leads no more, and serves its clients like any other.
    let learnt = async {
        while world.replicas[first].leads().await.unwrap_or(true) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, learnt).await.context("the old leader still believes to lead")?;
    ensure!(allocated(&self::networks(world.replicas[first].client().await?), 30).await?.len() == 30);
    let mut leading = 0;
    for replica in &world.replicas {
        leading += usize::from(replica.leads().await?);
    }
    ensure!(leading == 1, "{leading} servers lead");
    world.finish()
}
