//! An agent that may ask several servers goes on at the next when its own dies, and what runs on the host notices nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use rustix::process::Signal;
use serde_json::json;
use testkit::Lab;

use crate::machines::running;
use crate::objects;
use crate::replicas::{Process, Replica, SOON, World, networks};

/// An agent's process on a host of its own, which may ask any of these servers.
fn agent(host: &Lab, first: &Replica, servers: &[String]) -> Result<Process> {
    let copied = Command::new("cp").arg("-a").args([first.lab.join("pki"), host.join("pki")]).status()?;
    ensure!(copied.success(), "the keys were not copied");
    let mut command = Command::new(host.binary());
    command.arg("--data-dir").arg(host.path()).args(["agent", "--host-name", "edge", "--server", &servers.join(",")]);
    command.arg("--image-cache").arg(host.files().join("images"));
    Process::start(&mut command, &host.files().join("agent.log"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_on_at_the_next_server_and_what_runs_is_untouched() -> Result<()> {
    let mut world = World::new().await?;
    let url = |replica: &Replica| -> Result<String> {
        let port = std::fs::read_to_string(replica.lab.join("server/port"))?;
        Ok(format!("https://127.0.0.1:{}", port.trim()))
    };
    let servers = [url(&world.replicas[0])?, url(&world.replicas[1])?];
    let host = Lab::new()?;
    let agent = agent(&host, &world.replicas[0], &servers)?;
    let client = world.replicas[2].client().await?;
    let hosts = Api::<crds::Host>::all(client.clone());
    let ready = |host: &crds::Host| {
        host.status.as_ref().is_some_and(|status| crds::condition::is_true(&status.conditions, crds::condition::READY))
    };
    objects::object(&hosts, "edge", SOON, ready).await?;

    let network = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "TenantNetwork",
        "metadata": {"name": "net"}, "spec": {"subnet": "10.62.0.0/24"}});
    networks(client.clone()).create(&PostParams::default(), &serde_json::from_value(network)?).await?;
    let ports = Api::<crds::Port>::default_namespaced(client.clone());
    let plug = async |name: &str| -> Result<()> {
        let port = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port", "metadata": {"name": name},
            "spec": {"network": "net", "host": "edge"}});
        ports.create(&PostParams::default(), &serde_json::from_value(port)?).await?;
        let realised = |port: &crds::Port| port.status.as_ref().is_some_and(|status| status.device.is_some());
        objects::object(&ports, name, SOON, realised).await.map(drop)
    };
    plug("before").await?;
    let serving = running(&host, "dnsmasq");
    ensure!(serving.len() == 1, "one dnsmasq serves one network: {serving:?}");

    // Nobody tells the agent; it finds out by asking.
    let leases = Api::<Lease>::namespaced(client.clone(), crds::SYSTEM_NAMESPACE);
    let renewed = async || -> Result<_> { Ok(leases.get("edge").await?.spec.and_then(|spec| spec.renew_time)) };
    world.replicas[0].process.take().context("not started")?.end(Signal::KILL)?;
    let (killed, last) = (Instant::now(), renewed().await?);
    plug("after").await?;
    println!("{:?} from the server's death to a new port realised through the other", killed.elapsed());
    // Heartbeats come every ten seconds.
    objects::until(
        "the next heartbeat",
        Duration::from_secs(20),
        async || Ok((renewed().await? != last).then_some(())),
    )
    .await?;
    ensure!(ready(&hosts.get("edge").await?), "the host was given up although its agent found another server");
    ensure!(running(&host, "dnsmasq") == serving, "what ran was restarted");
    drop(agent);
    host.finish()?;
    world.finish()
}
