//! Three servers over three etcd members, each in a room of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Lab, Scratch};

use super::rooms::{COUNT, Place, Rooms};
use super::{SOON, registers};

/// Between two looks at what nobody announces.
const LOOK: Duration = Duration::from_millis(50);

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("no pid")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, or not ours to end any other way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process ends before its directory is cleaned.
struct Server {
    process: Option<Process>,
    lab: Lab,
    id: String,
}

/// All of it. The processes end before their rooms go.
pub struct World {
    servers: Vec<Server>,
    members: Vec<Option<Process>>,
    etcd: Scratch,
    /// The rooms, to cut the network between them.
    pub rooms: Rooms,
}

impl World {
    /// Starts everybody, and teaches the servers the kind that is written.
    pub async fn new(rooms: Rooms) -> Result<World> {
        let mut world =
            World { servers: Vec::new(), members: (0..COUNT).map(|_| None).collect(), etcd: Scratch::new()?, rooms };
        for member in 0..COUNT {
            world.start(Place::Member(member)).await?;
        }
        for server in 0..COUNT {
            let lab = Lab::new()?;
            if let Some(first) = world.servers.first() {
                let copied = Command::new("cp").arg("-a").args([first.lab.join("pki"), lab.join("pki")]).status()?;
                ensure!(copied.success(), "the keys were not copied");
            }
            world.servers.push(Server { process: None, lab, id: String::new() });
            world.start(Place::Server(server)).await?;
            world.wait_ready(Place::Server(server)).await?;
            let id = std::fs::read_to_string(world.servers[server].lab.join("instance"))?;
            id.trim().clone_into(&mut world.servers[server].id);
        }
        world.define().await?;
        Ok(world)
    }

    async fn define(&self) -> Result<()> {
        let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let crds = Api::<DynamicObject>::all_with(self.client(0)?, &ApiResource::from_gvk(&kind));
        crds.create(&PostParams::default(), &serde_json::from_value(registers::definition())?).await?;
        for server in 0..COUNT {
            let registers = registers::api(self.client(server)?);
            eventually("the kind is not served", async || registers.list(&ListParams::default()).await.is_ok()).await?;
        }
        Ok(())
    }

    /// Starts someone who is not running. Servers begin to serve a while later.
    pub async fn start(&mut self, place: Place) -> Result<()> {
        let (command, log) = match place {
            Place::Member(member) => (self.member(member)?, self.etcd.join("etcd.log")),
            Place::Server(server) => {
                let lab = &self.servers[server].lab;
                let mut command = Command::new(lab.binary());
                command.arg("--data-dir").arg(lab.path()).args(["server", "--audit", "writes"]);
                command.args(["--listen", &format!("{}:6443", place.address())]);
                command.args(["--etcd-endpoints", &self.endpoints().join(",")]);
                (command, lab.files().join("server.log"))
            }
        };
        let process = Some(Process(self.rooms.start(place, logged(command, &log)?)?));
        match place {
            Place::Member(member) => self.members[member] = process,
            Place::Server(server) => self.servers[server].process = process,
        }
        Ok(())
    }

    fn member(&self, number: usize) -> Result<Command> {
        let url = |member: usize, port: u16| format!("http://{}:{port}", Place::Member(member).address());
        let cluster: Vec<String> = (0..COUNT).map(|member| format!("m{member}={}", url(member, 2380))).collect();
        let mut command = Command::new(process::find_program("etcd", "CLUSTERCTL_ETCD")?);
        command.arg(format!("--name=m{number}"));
        command.arg(format!("--data-dir={}", self.etcd.join(format!("m{number}")).display()));
        for flag in ["--listen-client-urls", "--advertise-client-urls"] {
            command.arg(format!("{flag}={}", url(number, 2379)));
        }
        for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.arg(format!("{flag}={}", url(number, 2380)));
        }
        command.arg(format!("--initial-cluster={}", cluster.join(",")));
        command.args(["--logger=zap", "--heartbeat-interval=200", "--election-timeout=2000"]);
        Ok(command)
    }

    /// etcd's client URLs.
    pub fn endpoints(&self) -> Vec<String> {
        (0..COUNT).map(|member| format!("http://{}:2379", Place::Member(member).address())).collect()
    }

    /// Kills someone without any chance to tidy up.
    pub fn kill(&mut self, place: Place) {
        drop(match place {
            Place::Member(member) => self.members[member].take(),
            Place::Server(server) => self.servers[server].process.take(),
        });
    }

    /// Sends a signal.
    pub fn signal(&self, place: Place, signal: Signal) -> Result<()> {
        let process = match place {
            Place::Member(member) => self.members[member].as_ref(),
            Place::Server(server) => self.servers[server].process.as_ref(),
        };
        process.context("not started")?.signal(signal)
    }

    /// A client of one server that tries nothing twice.
    pub fn client(&self, server: usize) -> Result<Client> {
        let config = Kubeconfig::read_from(self.servers[server].lab.join("kubeconfig"))?;
        let options = KubeConfigOptions::default();
        let mut config = futures::executor::block_on(Config::from_custom_kubeconfig(config, &options))?;
        config.default_retry = false;
        (config.connect_timeout, config.read_timeout) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(4)));
        Ok(Client::try_from(config)?)
    }

    /// A client of each server.
    pub async fn clients(&self) -> Result<Vec<Client>> {
        (0..COUNT).map(|server| self.client(server)).collect()
    }

    /// Waits until someone answers as well as can be.
    pub async fn wait_ready(&self, place: Place) -> Result<()> {
        match place {
            Place::Server(server) => {
                let ready = async || {
                    let asked = http::Request::get("/readyz").body(Vec::new());
                    let (Ok(client), Ok(asked)) = (self.client(server), asked) else { return false };
                    client.request_text(asked).await.is_ok()
                };
                eventually("a server does not come up", ready).await
            }
            Place::Member(member) => {
                let endpoint = self.endpoints()[member].clone();
                let ready = async || {
                    let Ok(mut client) = etcd_client::Client::connect([&endpoint], None).await else { return false };
                    let asked = tokio::time::timeout(Duration::from_secs(2), client.get("health", None)).await;
                    matches!(asked, Ok(Ok(_)))
                };
                eventually("a member does not come up", ready).await
            }
        }
    }

    /// Heals the network and waits until everybody is well.
    pub async fn settled(&self) -> Result<()> {
        self.rooms.cut(&[])?;
        for place in Place::all() {
            self.wait_ready(place).await.with_context(|| format!("{place:?}"))?;
        }
        self.leader(None).await.map(drop)
    }

    /// The server that holds the Lease, as any server that answers tells; not `other_than`.
    pub async fn leader(&self, other_than: Option<usize>) -> Result<usize> {
        let mut found = None;
        let look = async || {
            for server in 0..COUNT {
                let Ok(client) = self.client(server) else { continue };
                let leases = Api::<Lease>::namespaced(client, "photon-system");
                let asked = tokio::time::timeout(Duration::from_secs(1), leases.get("clusterctl-server")).await;
                let holder = asked.ok().and_then(Result::ok).and_then(|lease| lease.spec?.holder_identity);
                found = holder.and_then(|holder| self.whose(&holder)).filter(|found| Some(*found) != other_than);
                if found.is_some() {
                    return true;
                }
            }
            false
        };
        eventually("nobody leads", look).await?;
        found.context("nobody leads")
    }

    /// The server to whom a leader's name belongs.
    pub fn whose(&self, holder: &str) -> Option<usize> {
        self.servers.iter().position(|server| holder.starts_with(&format!("{}-", server.id)))
    }

    /// A server's audit logs, the newest first.
    pub fn audit_logs(&self, server: usize) -> Vec<PathBuf> {
        let path = |end: &str| self.servers[server].lab.join(format!("server/audit.log{end}"));
        ["", ".1", ".2", ".3", ".4"].map(path).into_iter().filter(|path| path.exists()).collect()
    }

    /// Writes what shows a violation among the logs.
    pub fn write_history(&self, text: &str) -> Result<PathBuf> {
        let path = self.etcd.join("history.txt");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Copies all logs to where they outlive the test.
    pub fn keep_logs(&self, seed: u64) -> Result<PathBuf> {
        let kept = std::env::temp_dir().join(format!("clusterctl-history-{seed}"));
        std::fs::create_dir_all(&kept)?;
        let keep = |from: PathBuf, name: String| std::fs::copy(from, kept.join(name)).map(drop);
        for (number, server) in self.servers.iter().enumerate() {
            keep(server.lab.files().join("server.log"), format!("server{number}.log"))?;
            keep(server.lab.join("server/audit.log"), format!("audit{number}.log"))?;
        }
        keep(self.etcd.join("etcd.log"), "etcd.log".to_owned())?;
        if self.etcd.join("history.txt").exists() {
            keep(self.etcd.join("history.txt"), "history.txt".to_owned())?;
        }
        Ok(kept)
    }

    /// Ends everybody and proves that nothing is left.
    pub fn finish(mut self) -> Result<()> {
        for place in Place::all() {
            self.kill(place);
        }
        std::mem::take(&mut self.servers).into_iter().try_for_each(|server| server.lab.finish())
    }
}

fn logged(mut command: Command, log: &Path) -> Result<Command> {
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// Waits until something is so.
async fn eventually(otherwise: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<()> {
    let look = async {
        while !is_so().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(SOON, look).await.with_context(|| otherwise.to_owned())
}
