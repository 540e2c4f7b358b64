//! What goes wrong at the start: one clear sentence with the remedy each, and nothing half-made left.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use process::Record;
use rustix::process::Signal;
use testkit::Lab;

use crate::objects;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_taken_port_is_named_with_the_remedy() -> Result<()> {
    let other = TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?.to_string();
    let lab = Lab::new()?;
    let said = lab.run(&["server", "--listen", &address])?.fails_with(1)?;
    let holder = format!("(process {}): stop it, or choose another --listen", std::process::id());
    ensure!(said.contains(&format!("{address} is taken by ")) && said.contains(&holder), "{said}");
    ensure!(lab.process("etcd").is_err(), "etcd was started for a server that cannot serve");
    let said = lab.run(&["up", "--detach", "--no-agent", "--listen", &address])?.fails_with(1)?;
    ensure!(said.contains(&address) && said.contains("--listen"), "{said}");
    lab.finish()
}

/// A kubeconfig that was handed out keeps its meaning: what was killed listens where it did, and when somebody else does, it is
/// said who, and nothing is moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_kept_is_never_replaced() -> Result<()> {
    const KEPT: [&str; 3] = ["server/port", "etcd/ports.json", "kubeconfig"];
    let lab = Lab::up(&["--no-agent"])?;
    let kept = || KEPT.iter().map(|name| std::fs::read_to_string(lab.join(name))).collect::<std::io::Result<Vec<_>>>();
    let first = kept()?;
    for name in ["server", "etcd"] {
        let id = lab.process(name)?;
        lab.kill(name)?;
        id.exited().await;
    }
    lab.start(&["--no-agent"])?;
    ensure!(kept()? == first, "{:?} became {:?}", first, kept()?);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], first[0].trim().parse::<u16>()?));
    ensure!(!process::is_ephemeral(address.port()), "{address} may be given to any connection that goes out");

    for name in ["up", "server"] {
        let id = lab.process(name)?;
        lab.kill(name)?;
        id.exited().await;
    }
    let other = process::listen(address).await?;
    let holder = format!("(process {}): stop it, or choose another --listen", std::process::id());
    for words in [&["up", "--detach", "--no-agent"][..], &["server"]] {
        let said = lab.run(words)?.fails_with(1)?;
        ensure!(said.contains(&format!("{address} is taken by ")) && said.contains(&holder), "{said}");
    }
    ensure!(kept()? == first, "something was moved");
    drop(other);
    lab.start(&["--no-agent"])?;
    lab.run(&["get", "namespaces"])?.ok()?;
    ensure!(kept()? == first, "something was moved");
    lab.finish()
}

#[test]
fn a_missing_etcd_is_told_with_the_remedy() -> Result<()> {
    let lab = Lab::new()?;
    let mut command = lab.command(LIMIT, &["server"]);
    let said = command.env("CLUSTERCTL_ETCD", lab.join("no-etcd-here")).output()?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.status.code() == Some(1), "{said:?}");
    ensure!(text.contains("etcd was not found") || text.contains("no-etcd-here"), "{text}");
    ensure!(text.contains("install") || text.contains("correct or unset it"), "no remedy: {text}");
    ensure!(!text.contains("panicked"), "{text}");
    lab.finish()
}

#[test]
fn a_second_controller_on_the_same_directory_is_refused() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let server = lab.process("server")?;
    for words in [&["up", "--no-agent"][..], &["server"]] {
        let said = lab.run(words)?.fails_with(1)?;
        ensure!(said.contains("already uses") && said.contains("--data-dir"), "{said}");
    }
    // Up again in the background is what is up already.
    lab.start(&["--no-agent"])?;
    ensure!(lab.process("server")? == server, "the server was started again");
    lab.finish()
}

/// A clone in root's home, say: the server's user cannot pass through the directories above its own program.
#[test]
fn a_build_that_only_root_can_reach_serves_all_the_same() -> Result<()> {
    let closed = tempfile::tempdir()?;
    std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700))?;
    let binary = closed.path().join("clusterctl");
    let lab = Lab::new()?;
    std::fs::copy(lab.binary(), &binary)?;
    let lab = lab.with_binary(binary);
    lab.start(&[])?;
    let hosts = lab.run(&["get", "hosts", "--no-headers"])?.ok()?;
    ensure!(hosts.lines().count() == 1 && hosts.contains("host01"), "{hosts}");
    let owner = |name: &str| -> Result<u32> {
        Ok(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{}", lab.process(name)?.pid))?))
    };
    ensure!(owner("server")? != 0 && owner("agent-host01")? == 0, "the server runs as root, or the agent does not");
    // Started again by `up`, it finds its program just as well.
    let first = lab.process("server")?;
    lab.kill("server")?;
    lab.start(&[])?;
    ensure!(lab.process("server")? != first && owner("server")? != 0, "the server was not started again");
    lab.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn up_returns_when_the_agent_of_this_very_start_serves() -> Result<()> {
    let lab = Lab::up(&[])?;
    let first = lab.process("agent-host01")?;
    for name in ["up", "agent-host01", "server", "etcd"] {
        lab.kill(name)?;
    }
    // The Host says `Ready` still: its heartbeat is not overdue yet.
    lab.start(&[])?;
    let agent = lab.process("agent-host01")?;
    let record = Record::load(&lab.join("server/agent-host01.json"))?.context("no record")?;
    ensure!(agent != first && record.id == agent, "the agent is the old one");
    let leases: Api<Lease> = Api::namespaced(objects::client(&lab).await?, crds::SYSTEM_NAMESPACE);
    let renewed = leases.get("host01").await?.spec.and_then(|spec| spec.renew_time).context("no heartbeat")?;
    let started: k8s_openapi::jiff::Timestamp = record.started_at.parse()?;
    ensure!(renewed.0 >= started, "the last heartbeat, of {}, is older than the agent, of {started}", renewed.0);
    lab.finish()
}

/// Everything was killed at once, and the old `up` takes its time to die: the new one counts on it at first.
#[tokio::test(flavor = "multi_thread")]
async fn an_up_that_counts_on_one_that_ends_starts_another() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let dying = lab.process("up")?;
    dying.signal(Signal::STOP)?;
    lab.kill("server")?;
    lab.kill("etcd")?;
    let mut again = Command::new(lab.binary())
        .args([OsStr::new("--data-dir"), lab.path().as_os_str()])
        .args(["up", "--detach", "--no-agent"])
        .spawn()?;
    let descriptors = format!("/proc/{}/fd", again.id());
    let waits_for_it = || {
        let links =
            std::fs::read_dir(&descriptors)?.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        Ok(links.into_iter().any(|link| link == Path::new("anon_inode:[pidfd]")).then_some(()))
    };
    let waited = objects::until("a wait for the old one", LIMIT, async || waits_for_it()).await;
    lab.kill("up")?;
    let ended = again.wait()?;
    waited?;
    ensure!(ended.success() && lab.process("up")? != dying, "it ended with {ended}");
    lab.finish()
}

#[test]
fn without_root_only_the_api_can_be_served() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))?;
    let lab = Lab::new()?;
    // A path that nobody may pass would prove nothing about root.
    let binary = dir.path().join("clusterctl");
    std::fs::copy(lab.binary(), &binary)?;
    let as_nobody = |words: &[&str]| -> Result<std::process::Output> {
        let data = dir.path().join("data");
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "timeout", "120"])
            .arg(&binary)
            .args([OsStr::new("--data-dir"), data.as_os_str()])
            .args(words)
            .output()
            .context("failed to run setpriv, of util-linux")
    };
    let refused = as_nobody(&["up", "--detach"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && said.contains("run as root") && said.contains("--no-agent"),
        "{refused:?}"
    );
    ensure!(!dir.path().join("data").exists(), "something was made all the same");

    let up = as_nobody(&["up", "--detach", "--no-agent"])?;
    let listed = as_nobody(&["get", "virtualmachines"])?;
    let left_before = testkit::processes_of(&dir.path().join("data")).len();
    let cleaned = as_nobody(&["clean"])?;
    ensure!(up.status.success(), "{up:?}");
    ensure!(listed.status.success(), "{listed:?}");
    ensure!(cleaned.status.success(), "{cleaned:?}");
    ensure!(left_before >= 3, "up, server and etcd run: {left_before}");
    let left = testkit::processes_of(&dir.path().join("data"));
    ensure!(left.is_empty(), "{left:?}");
    lab.finish()
}
