//! The network half of one agent, wired as the agent wires it, with a count of its looks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent::dns::Tenants;
use agent::layout::Layout;
use agent::names::{self, Names};
use agent::network::cells::Cells;
use agent::network::certificates::Certificates;
use agent::network::doors::Doors;
use agent::network::drains::Drains;
use agent::network::error::Error;
use agent::network::hands::HostHands;
use agent::network::health::Health;
use agent::network::peers::Peers;
use agent::network::{Ports, trial};
use agent::node_door::NodeDoors;
use agent::objects::Objects;
use agent::taps::{Plugged, Taps};
use agent::underlay::Underlay;
use agent::user_ids::UserIds;
use anyhow::{Context, Result, anyhow, bail};
use control_loop::{Cache, Pace, Queue, Reconciler, Requests, Writer, queue, watch};
use crds::{Host, Port, SecurityGroup, TenantNetwork};
use futures::{Stream, StreamExt};
use host::netns::{Namespace, Namespaces};
use host::tap::Spec;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use pki::{Authority, Subject, Usage};
use tempfile::TempDir;
use testkit::FakeApi;
use tokio::sync::watch as news;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::objects::{HERE, NETWORK, TENANT};

/// As the agent's own.
const PACE: Pace = agent::network::PACE;
/// Machines that the agent starts at once, each of which makes its taps.
const MACHINES: usize = 16;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long nobody looks at anything before all is called quiet.
const QUIET: Duration = Duration::from_millis(300);

/// The agent's judgement over ports, counted.
struct Counted {
    ports: Ports<HostHands>,
    looks: news::Sender<u64>,
}

impl Reconciler for Counted {
    type Kind = Port;
    type Error = Error;

    async fn reconcile(&self, port: Arc<Port>) -> Result<Action, Error> {
        let done = self.ports.reconcile(port).await;
        self.looks.send_modify(|looks| *looks += 1);
        done
    }
}

/// A host.
pub struct NetHost {
    /// Its API.
    pub api: FakeApi,
    /// Its address on the underlay.
    pub underlay: std::net::Ipv4Addr,
    ports: Cache<Port>,
    queue: Queue<Port>,
    taps: Arc<Taps>,
    cells: Arc<Cells<HostHands>>,
    looks: news::Receiver<u64>,
    judge: Option<(Counted, Requests<Port>)>,
    shutdown: CancellationToken,
    tasks: Vec<AbortOnDropHandle<()>>,
    dir: Arc<TempDir>,
}

/// What is left of a host that was cut off.
struct Left {
    cells: Arc<Cells<HostHands>>,
    dir: Arc<TempDir>,
}

/// Hosts that were begun and have not ended.
static OPEN: Mutex<Vec<Left>> = Mutex::new(Vec::new());

fn open() -> std::sync::MutexGuard<'static, Vec<Left>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deletes all that hosts made which were cut off.
///
/// # Errors
/// What could not be removed.
pub async fn end_all() -> Result<()> {
    let left = std::mem::take(&mut *open());
    for one in left {
        remove(&one.cells).await?;
    }
    Ok(())
}

async fn remove(cells: &Cells<HostHands>) -> Result<()> {
    let none = BTreeSet::new;
    let failures = cells.sweep(none, none, || false).await;
    match failures.first() {
        None => Ok(()),
        Some(error) => bail!("failed to remove the network: {}", control_loop::sentence(error)),
    }
}

impl NetHost {
    /// A host that hears of all objects, and does nothing yet.
    pub async fn new(api: FakeApi) -> Result<NetHost> {
        let dir =
            tempfile::Builder::new().prefix("clusterctl-bench-net-").tempdir().context("failed to make a directory")?;
        // The users of dnsmasq and of the name server pass through it.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let names = Names::new(&uuid::Uuid::new_v4().to_string(), HERE);
        let layout = Layout::new(&dir.path().join("data"))?;
        layout.create()?;
        let underlay = Arc::new(Underlay::open(&dir.path().join("underlay"), &names, HERE).await?);
        let address = underlay.address();
        let ability = trial::ability(&names).await;
        ability.clone().map_err(|why| anyhow!("this machine cannot enforce groups: {why}"))?;
        let client = api.client();
        let (queue, requests) = queue();
        let health = Arc::new(Health::new(queue.clone()));
        let taps = Arc::new(Taps::default());
        let hands = HostHands {
            outside: None,
            layout: layout.clone(),
            names: names.clone(),
            namespaces: Namespaces::default(),
            taps: taps.clone(),
            user_ids: Arc::new(UserIds::load(&layout.user_ids(), names.first_id())?),
            underlay,
            node_doors: NodeDoors::new(&identity(dir.path())?, client.clone())?,
            tenants: Tenants::new(client.clone()),
            name_server: vec![crate::NAME_SERVER.to_owned()],
            health: health.clone(),
            drains: Drains::default(),
            dhcp: host::dnsmasq::Memory::default(),
            tenure: Arc::default(),
            laying: tokio::sync::Mutex::default(),
            doors: Doors::default(),
        };
        let (cells, dir) = (Arc::new(Cells::new(hands, names.clone(), layout, queue.clone())), Arc::new(dir));
        open().push(Left { cells: cells.clone(), dir: dir.clone() });
        let shutdown = CancellationToken::new();
        let mut watches = Watches { client: client.clone(), shutdown: shutdown.clone(), tasks: Vec::new() };
        let (ports, writer) = Cache::new();
        watches.follow(writer, Some(queue.clone()), Some(format!("spec.host={HERE}")), |_| {});
        let networks = watches.cache(waker::<TenantNetwork>(&ports, &queue, |_| true));
        let groups =
            watches.cache(waker::<SecurityGroup>(&ports, &queue, |port| !port.spec.security_groups.is_empty()));
        let hosts = watches.cache(waker::<Host>(&ports, &queue, |_| false));
        let (services, balancers, machines) = (watches.cache(|_| {}), watches.cache(|_| {}), watches.cache(|_| {}));
        let routers = watches.cache(|_| {});
        futures::join!(
            ports.ready(),
            networks.ready(),
            groups.ready(),
            hosts.ready(),
            services.ready(),
            balancers.ready(),
            routers.ready()
        );
        let judge = Ports {
            objects: Arc::new(Objects::new(client.clone(), HERE)),
            ports: ports.clone(),
            networks,
            machines,
            host: HERE.to_owned(),
            hosts,
            groups,
            services,
            balancers,
            routers,
            health,
            ability,
            certificates: Certificates::new(client.clone(), ports.clone(), queue.clone()),
            peers: Peers::new(client, HERE, ports.clone(), queue.clone()),
            cells: cells.clone(),
        };
        let (counter, looks) = news::channel(0);
        let judge = Some((Counted { ports: judge, looks: counter }, requests));
        let tasks = watches.tasks;
        Ok(NetHost { api, underlay: address, ports, queue, taps, cells, looks, judge, shutdown, tasks, dir })
    }

    /// Returns when it has heard of so many ports of its own, of its network with a number, and of both hosts.
    pub async fn heard(&self, ports: usize) -> Result<()> {
        let Some((judge, _)) = &self.judge else { return Ok(()) };
        let numbered = || {
            let network = judge.ports.networks.get(TENANT, NETWORK);
            network.is_some_and(|network| network.status.as_ref().is_some_and(|status| status.vni.is_some()))
        };
        let joined = || judge.ports.hosts.all().iter().filter(|host| host.status.is_some()).count();
        let end = Instant::now() + DEADLINE;
        while !(self.ports.all().len() >= ports && numbered() && joined() == 2) {
            anyhow::ensure!(Instant::now() < end, "the objects were never heard");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Begins to judge.
    pub fn begin(&mut self) {
        let Some((judge, requests)) = self.judge.take() else { return };
        let (cache, queue, shutdown) = (self.ports.clone(), self.queue.clone(), self.shutdown.clone());
        let run = control_loop::run(judge, cache, queue, requests, PACE, shutdown);
        self.tasks.push(AbortOnDropHandle::new(tokio::spawn(run)));
    }

    /// This host's ports as they were last heard.
    pub fn ports(&self) -> Vec<Arc<Port>> {
        self.ports.all()
    }

    /// Returns when all ports here say that they work.
    pub async fn all_ready(&self) -> Result<()> {
        let mut looks = self.looks.clone();
        let ready = async {
            while !self.ports.all().iter().all(|port| is_ready(port)) {
                // The status that a look wrote is heard a moment later.
                let _ = tokio::time::timeout(Duration::from_millis(2), looks.changed()).await;
            }
        };
        tokio::time::timeout(DEADLINE, ready).await.map_err(|_| {
            let not = self.ports.all().into_iter().find(|port| !is_ready(port));
            anyhow!("a port never became ready: {:?}", not.and_then(|port| port.status.clone()))
        })
    }

    /// Returns when nobody has looked at anything for a while.
    pub async fn quiet(&self) -> Result<()> {
        let mut looks = self.looks.clone();
        let quiet = async { while tokio::time::timeout(QUIET, looks.changed()).await.is_ok() {} };
        tokio::time::timeout(DEADLINE, quiet).await.map_err(|_| anyhow!("it never became quiet"))
    }

    /// Has all ports looked at again, as a resync does; how long that took.
    pub async fn resync(&self) -> Result<Duration> {
        let mut looks = self.looks.clone();
        let all = self.ports.all();
        let before = *looks.borrow_and_update();
        let begun = Instant::now();
        for port in &all {
            self.queue.wake(ObjectRef::from_obj(&**port));
        }
        let wanted = before + all.len() as u64;
        let done = tokio::time::timeout(DEADLINE, looks.wait_for(|looks| *looks >= wanted)).await;
        done.map_err(|_| anyhow!("a resync never ended"))?.context("the judge ended")?;
        Ok(begun.elapsed())
    }

    /// The network's namespace.
    pub fn cell(&self) -> Result<Namespace> {
        let name = self.ports().iter().find_map(|port| netns_of(port));
        Ok(Namespaces::default().open(&name.context("no port has a namespace")?)?)
    }

    /// UID of the network.
    pub fn network(&self) -> Result<String> {
        let all = self.api.objects("tenantnetworks");
        let found = all.iter().find(|one| one["metadata"]["name"] == NETWORK);
        found.and_then(|one| one["metadata"]["uid"].as_str()).map(str::to_owned).context("there is no network")
    }

    /// Makes the taps of all ports, as the agent makes those of machines that start: each once its port says that it works.
    pub async fn plug_all(&self) -> Result<()> {
        let network = self.network()?;
        let bridge: host::link::LinkName = names::bridge(&network).parse()?;
        let made = self.readied().map(|port| {
            let (bridge, taps) = (bridge.clone(), self.taps.clone());
            async move {
                let cell = Namespaces::default().open(&netns_of(&port).context("a port has no namespace")?)?;
                let uid = port.uid().unwrap_or_default();
                let name = names::tap(&uid).parse()?;
                let spec = Spec { name, owner_uid: 300_000, bridge, mtu: 1450, alias: uid.clone() };
                let tap = taps.make(&cell, spec.clone()).await?;
                taps.plug(&uid, Plugged { tap, spec });
                anyhow::Ok(())
            }
        });
        let made = made.buffer_unordered(MACHINES).collect::<Vec<Result<()>>>();
        let made = tokio::time::timeout(DEADLINE, made).await;
        made.context("a port never became ready, or its tap was never made")?.into_iter().collect()
    }

    /// This host's ports, each as soon as it works, to the last.
    fn readied(&self) -> impl Stream<Item = Arc<Port>> {
        let waiting: BTreeSet<String> = self.ports().iter().map(|port| port.name_any()).collect();
        let begin = (waiting, Vec::new(), self.looks.clone(), self.ports.clone());
        futures::stream::unfold(begin, |(mut waiting, mut ready, mut looks, ports)| async move {
            loop {
                if let Some(port) = ready.pop() {
                    return Some((port, (waiting, ready, looks, ports)));
                }
                if waiting.is_empty() {
                    return None;
                }
                ready = ports.all();
                ready.retain(|port| is_ready(port) && waiting.remove(&port.name_any()));
                if ready.is_empty() {
                    // The status that a look wrote is heard a moment later.
                    let _ = tokio::time::timeout(Duration::from_millis(2), looks.changed()).await;
                }
            }
        })
    }

    /// Deletes all that it made.
    pub async fn end(mut self) -> Result<()> {
        self.shutdown.cancel();
        for task in self.tasks.drain(..) {
            // A panic of the judge was logged by the loop.
            let _ = tokio::time::timeout(DEADLINE, task).await;
        }
        self.ports.all().iter().for_each(|port| self.taps.unplug(&port.uid().unwrap_or_default()));
        remove(&self.cells).await?;
        open().retain(|one| !Arc::ptr_eq(&one.dir, &self.dir));
        Ok(())
    }
}

fn netns_of(port: &Port) -> Option<String> {
    port.status.as_ref()?.netns.clone()
}

fn is_ready(port: &Port) -> bool {
    let conditions = port.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Wakes those ports of the tenant that may be concerned.
fn waker<K>(ports: &Cache<Port>, queue: &Queue<Port>, concerned: fn(&Port) -> bool) -> impl Fn(&K) + Send + use<K> {
    let (ports, queue) = (ports.clone(), queue.clone());
    move |_: &K| {
        for port in ports.pick(TENANT, concerned) {
            queue.wake(ObjectRef::from_obj(&*port));
        }
    }
}

fn identity(dir: &Path) -> Result<pki::Shown> {
    let authority = Authority::load_or_create(&dir.join("pki"), "bench")?;
    let subject = Subject::new(format!("system:agent:{HERE}"), ["system:agents"]);
    Ok(pki::Shown::new(&authority.issue(&subject, &Usage::Both { names: vec![HERE.to_owned()] })?)?)
}

/// Watches that are begun one after the other.
struct Watches {
    client: kube::Client,
    shutdown: CancellationToken,
    tasks: Vec<AbortOnDropHandle<()>>,
}

impl Watches {
    fn cache<K: control_loop::Kind + serde::de::DeserializeOwned>(
        &mut self,
        concerned: impl Fn(&K) + Send + 'static,
    ) -> Cache<K> {
        let (cache, writer) = Cache::new();
        self.follow(writer, None, None, concerned);
        cache
    }

    fn follow<K: control_loop::Kind + serde::de::DeserializeOwned>(
        &mut self,
        writer: Writer<K>,
        queue: Option<Queue<K>>,
        fields: Option<String>,
        concerned: impl Fn(&K) + Send + 'static,
    ) {
        let api = Api::all(self.client.clone());
        let task = tokio::spawn(watch(api, fields, writer, queue, concerned, self.shutdown.clone()));
        self.tasks.push(AbortOnDropHandle::new(task));
    }
}
