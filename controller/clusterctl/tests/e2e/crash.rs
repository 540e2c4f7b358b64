//! `kill -9` at random moments of a convergence, again and again. A witness looks at the kernel all the while: no machine
//! ever has two processes, and none gets another process than its first.
//!
//! Most machines here stand still from their first instruction on, so that many of them come and go in a few seconds; two
//! boot a real Debian and tell their boot IDs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use crds::virtual_machine::VmPhase;
use crds::{Port, VirtualMachine};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use process::ProcessId;
use testkit::{Lab, Random};

use crate::machines::{self, LEAN, exec, qemus, qemus_of};
use crate::objects::{self, SOON, until};

/// Moments at which something is killed.
const ROUNDS: usize = 24;
/// Machines that stand still at the same time.
const ALIVE: usize = 3;
/// For what several restarts of ours may hold up.
const RECOVERY: Duration = Duration::from_secs(120);

/// Looks at the kernel until it is dismissed: the processes each machine ever had, in order.
struct Witness {
    dismissed: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<BTreeMap<String, Vec<i32>>>>,
}

impl Witness {
    /// It knows the lab's directory only: were the lab its own, too, a failed test could not clean up.
    fn call(lab: &Lab) -> Witness {
        let dismissed = Arc::new(AtomicBool::new(false));
        let (dir, done) = (lab.path().to_owned(), dismissed.clone());
        let thread = std::thread::spawn(move || {
            let mut had: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            while !done.load(Ordering::Relaxed) {
                for (uid, pids) in qemus_of(&dir) {
                    ensure!(pids.len() == 1, "machine {uid} had two processes at once: {pids:?}");
                    let seen = had.entry(uid).or_default();
                    if seen.last() != pids.first() {
                        seen.extend(pids);
                    }
                }
                std::thread::park_timeout(Duration::from_millis(100));
            }
            Ok(had)
        });
        Witness { dismissed, thread }
    }

    fn dismiss(self) -> Result<BTreeMap<String, Vec<i32>>> {
        self.dismissed.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(testimony) => testimony,
            Err(_) => bail!("the witness panicked"),
        }
    }
}

/// The lab, its client and what is killed.
struct World {
    lab: Lab,
    vms: Api<VirtualMachine>,
    ports: Api<Port>,
}

impl World {
    fn new(lab: Lab, client: &Client) -> World {
        World { lab, vms: Api::default_namespaced(client.clone()), ports: Api::default_namespaced(client.clone()) }
    }

    /// Applies when the server is back: it may have been killed a moment ago.
    async fn apply(&self, manifest: &str) -> Result<()> {
        until("an accepted manifest", RECOVERY, async || self.lab.apply(manifest)?.ok().map(Some)).await.map(drop)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let vm = async || delete(&self.vms, name).await.map(Some);
        until("the deletion of a machine", RECOVERY, vm).await?;
        until("the deletion of a port", RECOVERY, async || delete(&self.ports, name).await.map(Some)).await
    }

    async fn running(&self, name: &str) -> Result<VirtualMachine> {
        let runs =
            |vm: &VirtualMachine| vm.status.as_ref().is_some_and(|s| s.phase == VmPhase::Running && s.pid.is_some());
        objects::object(&self.vms, name, RECOVERY, runs).await
    }

    /// Kills these at once, and has `up` back when it was among them; the others come back by themselves.
    async fn kill(&self, victims: &[&str]) -> Result<()> {
        let before: Vec<_> = victims.iter().map(|name| (*name, self.lab.process(name).ok())).collect();
        for name in victims {
            self.lab.kill(name)?;
        }
        let is_dead = |id: &Option<ProcessId>| id.is_none_or(|id| !id.is_alive());
        until("their end", SOON, async || Ok(before.iter().all(|(_, id)| is_dead(id)).then_some(()))).await?;
        if victims.contains(&"up") {
            self.lab.start(&[])?;
        }
        for (name, old) in before {
            let another = async || Ok(self.lab.process(name).ok().filter(|id| Some(*id) != old));
            until(&format!("another {name}"), RECOVERY, another).await?;
        }
        Ok(())
    }
}

async fn delete<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What can be killed, by the way it is started again: by `up`, or by the user, who types `up` once more.
const VICTIMS: [&[&str]; 5] = [
    &["server"],
    &["agent-host01"],
    &["server", "agent-host01"],
    &["up", "server", "agent-host01"],
    &["agent-host01", "up"],
];

#[tokio::test(flavor = "multi_thread")]
async fn vm_kills_at_random_moments_double_nothing_and_lose_nothing() -> Result<()> {
    let begun = Instant::now();
    let mut random = Random::seeded("this choice of moments and victims")?.0;
    let lab = Lab::up(&[])?;
    let client = objects::client(&lab).await?;
    let world = World::new(lab, &client);
    world
        .apply(&format!("{LEAN}---{}{}", machines::standstill(&world.lab)?, machines::network("net", "10.64.0.0/24")))
        .await?;
    machines::image_ready(&client, "lean").await?;
    let witness = Witness::call(&world.lab);
    let guests = ["debian-a", "debian-b"];
    world.apply(&guests.map(|name| machines::machine(name, "lean", "net", "256Mi")).concat()).await?;

    for round in 0..ROUNDS {
        world.apply(&machines::machine(&format!("still-{round}"), "standstill", "net", "32Mi")).await?;
        if let Some(old) = round.checked_sub(ALIVE) {
            world.delete(&format!("still-{old}")).await?;
        }
        let moment = Duration::from_millis(random.below(1500));
        let victims = VICTIMS[usize::try_from(random.below(VICTIMS.len() as u64))?];
        println!("{:>5} s  round {round}: {victims:?} after {} ms", begun.elapsed().as_secs(), moment.as_millis());
        // The moment itself; nothing is waited for.
        tokio::time::sleep(moment).await;
        world.kill(victims).await?;
    }

    let survivors: Vec<String> =
        (ROUNDS - ALIVE..ROUNDS).map(|n| format!("still-{n}")).chain(guests.map(str::to_owned)).collect();
    for name in &survivors {
        world.running(name).await?;
    }
    settled(&world, &survivors).await?;
    let mut boots = BTreeMap::new();
    for name in guests {
        let vm = machines::ready(&client, name).await?;
        boots.insert(name, vm.status.and_then(|s| s.boot_id).context("no boot ID")?);
    }
    println!("{:>5} s  all ready", begun.elapsed().as_secs());

    world.kill(&["up", "server", "agent-host01"]).await?;
    etcd_comes_back(&world, &survivors).await?;
    for (name, boot) in boots {
        let vm = machines::ready(&client, name).await?;
        ensure!(
            vm.status.is_some_and(|s| s.boot_id.as_ref() == Some(&boot) && s.restarts == 0),
            "{name} was started again"
        );
        let told = exec(&world.lab, name, &["/bin/cat", "/proc/sys/kernel/random/boot_id"])?;
        ensure!(told.trim() == boot, "{name} booted again: {told}");
    }
    let had = witness.dismiss()?;
    let doubled: Vec<_> = had.iter().filter(|(_, pids)| pids.len() != 1).collect();
    ensure!(doubled.is_empty(), "machines that had more than one process: {doubled:?}");
    println!(
        "{:>5} s  {} machines had one process each, over {} kills",
        begun.elapsed().as_secs(),
        had.len(),
        ROUNDS + 2
    );
    world.lab.finish()
}

/// Nothing is there but what the survivors need: directories, taps, DHCP servers, namespaces.
async fn settled(world: &World, survivors: &[String]) -> Result<()> {
    let count = |below: &str| std::fs::read_dir(world.lab.join(below)).into_iter().flatten().count();
    let wanted = (survivors.len(), 1, survivors.len(), 1);
    let port = objects::object(&world.ports, &survivors[0], SOON, |port: &Port| {
        port.status.as_ref().is_some_and(|status| status.netns.is_some())
    })
    .await?;
    let netns = port.status.and_then(|status| status.netns).context("no namespace")?;
    let there = async || {
        let taps = objects::sh("ip", &["-n", &netns, "-o", "link", "show", "type", "tun"])?.lines().count();
        let found = (
            count("hosts/host01/vms"),
            count("hosts/host01/networks"),
            taps,
            machines::running(&world.lab, "dnsmasq").len(),
        );
        ensure!(found == wanted, "machines, networks, taps, DHCP servers: {found:?}, not {wanted:?}");
        ensure!(qemus(&world.lab).len() == survivors.len(), "{:?} run", qemus(&world.lab));
        Ok(Some(()))
    };
    until("the end of what was deleted", RECOVERY, there).await
}

/// Kills etcd: it is started again, nothing is lost, watches go on, and no machine notices.
async fn etcd_comes_back(world: &World, survivors: &[String]) -> Result<()> {
    let list = async || -> Result<BTreeMap<String, Option<String>>> {
        let all = world.vms.list(&ListParams::default()).await?.items;
        Ok(all.into_iter().map(|vm| (vm.name_any(), vm.uid())).collect())
    };
    let before = until("a list", RECOVERY, async || list().await.map(Some)).await?;
    ensure!(survivors.iter().all(|name| before.contains_key(name)), "objects are lost: {before:?}");
    let (pids, server, agent) = (qemus(&world.lab), world.lab.process("server")?, world.lab.process("agent-host01")?);
    world.kill(&["etcd"]).await?;
    world.apply(&machines::machine("after-etcd", "standstill", "net", "32Mi")).await?;
    world.running("after-etcd").await?;
    let mut after = list().await?;
    after.remove("after-etcd");
    ensure!(after == before, "before {before:?}, after {after:?}");
    let now = qemus(&world.lab);
    ensure!(pids.iter().all(|(uid, pid)| now.get(uid) == Some(pid)), "before {pids:?}, after {now:?}");
    ensure!(
        world.lab.process("server")? == server && world.lab.process("agent-host01")? == agent,
        "etcd took others with it"
    );
    Ok(())
}
