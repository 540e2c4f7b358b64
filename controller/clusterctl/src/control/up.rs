//! `clusterctl up`: starts the server and the agents of this machine, and keeps them alive.
//!
//! ```text
//!  up ─┬─ clusterctl server           own session, log in DIR/logs, adopted by the next `up` when this one dies
//!      └─ clusterctl agent --host …   the same; the only one that needs root
//! ```

use super::ports;
use super::server::ServerArgs;
use crate::instance::{Instance, credentials};
use anyhow::{Context, Result, bail};
use process::{ProcessId, Record, Spawn};
use std::io::ErrorKind::NotFound;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How the controller comes up.
#[derive(clap::Args, Clone, Debug)]
pub struct UpArgs {
    /// Return once everything is ready, and leave it running.
    #[arg(long)]
    pub detach: bool,
    /// Start no agent: serve the API only. Needs no root.
    #[arg(long)]
    pub no_agent: bool,
    /// Number of hosts to simulate on this machine, an agent and a cell each.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub hosts: u8,
    /// Network namespace that routers' ways out lead to, of all hosts: a name of `ip netns`, or `host` for this machine's own. Without
    /// it tenants have no way out.
    #[arg(long, value_name = "NETNS")]
    pub outside: Option<String>,
    /// How the server runs.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// One child of `up`: its name in logs and records, and its arguments.
#[derive(Clone)]
struct Child {
    name: String,
    arguments: Vec<String>,
    /// User and group it runs as; ours when none.
    user: Option<(u32, u32)>,
}

/// Runs in the foreground until asked to end, or starts a copy of itself in the background and returns when it is ready.
pub async fn run(dir: &Path, args: &UpArgs) -> Result<()> {
    if !args.no_agent && !rustix::process::geteuid().is_root() {
        bail!(
            "an agent needs root to make namespaces and machines: run as root, or pass --no-agent to serve the API only"
        );
    }
    let instance = Instance::create(dir)?;
    if args.detach {
        return detach(&instance, args).await;
    }
    let _lock = instance.lock("up")?;
    prepare(&instance, &agents(args))?;
    let shutdown = super::signals::shutdown()?;
    let children = children(&instance, args);
    let _ports = match Record::load(&instance.record("server")?).ok().flatten().and_then(|record| record.running()) {
        // It has them itself.
        Some(_) => Vec::new(),
        None => ports::held_by_up(&args.server.addresses(&instance)).await?,
    };
    let hosts = agents(args);
    let mut tasks = Vec::new();
    for child in children {
        tasks.push(tokio::spawn(keep_alive(instance.clone(), child, shutdown.clone())));
    }
    tokio::select! {
        ready = super::ready::wait(&instance, &hosts, Duration::from_secs(90)) => {
            ready?;
            eprintln!("ready · kubeconfig {}", instance.kubeconfig().display());
        }
        () = shutdown.cancelled() => {}
    }
    for task in tasks {
        task.await.context("a supervisor died")??;
    }
    if !args.no_agent {
        eprintln!(
            "stopped; machines that were running still run: `clusterctl up` takes them up, `clusterctl clean` deletes them"
        );
    }
    Ok(())
}

/// Names of the hosts whose agents `up` starts.
fn agents(args: &UpArgs) -> Vec<String> {
    if args.no_agent {
        return Vec::new();
    }
    (1..=args.hosts).map(|n| format!("host{n:02}")).collect()
}

fn children(instance: &Instance, args: &UpArgs) -> Vec<Child> {
    let dir = instance.dir().display().to_string();
    let mut server = vec!["--data-dir".to_owned(), dir.clone(), "server".to_owned()];
    server.extend(server_arguments(&args.server));
    let mut all =
        vec![Child { name: "server".to_owned(), arguments: server, user: credentials::server_user(instance) }];
    for host in agents(args) {
        let mut arguments =
            vec!["--data-dir".to_owned(), dir.clone(), "agent".to_owned(), "--host-name".to_owned(), host.clone()];
        arguments.extend(outside_arguments(args));
        all.push(Child { name: format!("agent-{host}"), arguments, user: None });
    }
    all
}

fn outside_arguments(args: &UpArgs) -> impl Iterator<Item = String> {
    args.outside.iter().flat_map(|name| ["--outside".to_owned(), name.clone()])
}

fn server_arguments(server: &ServerArgs) -> Vec<String> {
    let listen = server.listen.map(|listen| ["--listen".to_owned(), listen.to_string()]);
    let audit = server.audit.word().map(|word| ["--audit".to_owned(), word.to_owned()]);
    let join = server.join_listen.map(|listen| ["--join-listen".to_owned(), listen.to_string()]);
    let life = format!("{}s", server.host_certificate_life.as_secs());
    let life = ["--host-certificate-life".to_owned(), life];
    listen.into_iter().chain(audit).chain(join).chain([life]).flatten().chain(server.etcd.words()).collect()
}

/// Makes what both the server and the agents read before either of them starts, and gives the server what it writes.
fn prepare(instance: &Instance, hosts: &[String]) -> Result<()> {
    let authority = credentials::authority(instance)?;
    for host in hosts {
        credentials::agent(instance, &authority, host)?;
    }
    if let Some((user, group)) = credentials::server_user(instance) {
        for name in ["etcd", "server", "pki", "logs"] {
            let dir = instance.path(name);
            std::fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
            own(&dir, user, group).with_context(|| format!("failed to give {} to the server", dir.display()))?;
        }
    }
    Ok(())
}

/// Gives a directory and all below it to a user. Links are not followed. What goes meanwhile needs no owner: a server that an
/// earlier `up` left may be at work in there.
fn own(path: &Path, user: u32, group: u32) -> std::io::Result<()> {
    let all = || {
        std::os::unix::fs::lchown(path, Some(user), Some(group))?;
        if path.is_dir() && !path.is_symlink() {
            for entry in std::fs::read_dir(path)? {
                own(&entry?.path(), user, group)?;
            }
        }
        Ok(())
    };
    all().or_else(|error: std::io::Error| if error.kind() == NotFound { Ok(()) } else { Err(error) })
}

/// Starts the child, or adopts the one an earlier `up` left, and starts it again whenever it ends.
async fn keep_alive(instance: Instance, child: Child, shutdown: CancellationToken) -> Result<()> {
    let record = instance.record(&child.name)?;
    let mut delay = Duration::from_millis(100);
    loop {
        let adopted = Record::load(&record).ok().flatten().and_then(|r| r.running());
        let id = match adopted {
            Some(id) => id,
            None => start(&instance, &child, &record)?,
        };
        let started = std::time::Instant::now();
        tokio::select! {
            () = id.exited() => {}
            () = shutdown.cancelled() => {
                id.terminate(Duration::from_secs(10)).await.with_context(|| format!("failed to stop {}", child.name))?;
                let _ = std::fs::remove_file(&record);
                return Ok(());
            }
        }
        // Long enough alive: this end is news, not the same trouble again.
        delay = if started.elapsed() > Duration::from_secs(30) {
            Duration::from_millis(100)
        } else {
            (delay * 2).min(Duration::from_secs(5))
        };
        eprintln!("{} ended; starting it again · {}", child.name, instance.last_words(&child.name)?);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

fn start(instance: &Instance, child: &Child, record: &Path) -> Result<ProcessId> {
    let mut spawn = Spawn::new(own_program(child.user.is_some())?, instance.log(&child.name)?);
    spawn.args.clone_from(&child.arguments);
    spawn.env = passed_on();
    spawn.tag = instance.id().to_owned();
    spawn.uid_gid = child.user;
    let id = spawn.start().with_context(|| format!("failed to start {}", child.name))?;
    Record::new(id, "clusterctl", instance.id())
        .save(record)
        .with_context(|| format!("failed to record {}", child.name))?;
    Ok(id)
}

/// Our own program. A user that is not ours may not be able to pass through the directories above it (a build below
/// `/root`, say); then the link of the kernel to it, which asks only for the file's own permission (proc(5)).
fn own_program(for_another_user: bool) -> Result<PathBuf> {
    let program = std::env::current_exe().context("failed to find our own program")?;
    let open_to_all = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
    if for_another_user && !program.ancestors().all(open_to_all) {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    Ok(program)
}

/// The environment that our children get: where programs are, and how much to log.
fn passed_on() -> Vec<(String, String)> {
    const NAMES: [&str; 6] = ["PATH", "HOME", "LANG", "RUST_LOG", "RUST_BACKTRACE", "TMPDIR"];
    std::env::vars()
        .filter(|(name, _)| {
            NAMES.contains(&name.as_str())
                || name.starts_with("CLUSTERCTL_")
                || name.ends_with("_proxy")
                || name.ends_with("_PROXY")
        })
        .collect()
}

async fn detach(instance: &Instance, args: &UpArgs) -> Result<()> {
    let record = instance.record("up")?;
    let hosts = agents(args);
    for _ in 0..3 {
        let up = match Record::load(&record).ok().flatten().and_then(|record| record.running()) {
            Some(id) => id,
            None => {
                let mut arguments =
                    vec!["--data-dir".to_owned(), instance.dir().display().to_string(), "up".to_owned()];
                if args.no_agent {
                    arguments.push("--no-agent".to_owned());
                }
                arguments.extend(["--hosts".to_owned(), args.hosts.to_string()]);
                arguments.extend(outside_arguments(args));
                arguments.extend(server_arguments(&args.server));
                start(instance, &Child { name: "up".to_owned(), arguments, user: None }, &record)?
            }
        };
        // One that was killed a moment ago may still be seen to run. What it leaves may be ready, but nobody looks after it.
        tokio::select! {
            ready = super::ready::wait(instance, &hosts, Duration::from_secs(90)) => ready?,
            () = up.exited() => continue,
        }
        if up.is_alive() {
            println!("ready · kubeconfig {}", instance.kubeconfig().display());
            return Ok(());
        }
    }
    bail!("`up` does not stay: {}", instance.last_words("up")?)
}
