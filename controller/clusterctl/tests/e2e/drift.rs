//! Somebody changes the kernel by hand: it is set right, an Event says so, and the guest reaches its gateway again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::{Port, TenantNetwork};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use process::ProcessId;
use rustix::process::Signal;
use testkit::Lab;

use crate::machines::{self, LEAN, exec};
use crate::objects::{self, SOON, sh, until};

/// The network of the test, as the kernel has it.
struct Cell {
    netns: String,
    tap: String,
    bridge: String,
    gateway: String,
}

impl Cell {
    async fn find(client: &Client) -> Result<Cell> {
        let ports: Api<Port> = Api::default_namespaced(client.clone());
        let realised = |port: &Port| port.status.as_ref().is_some_and(|status| status.device.is_some());
        let port = objects::object(&ports, "guest", SOON, realised).await?.status.context("no status")?;
        let networks: Api<TenantNetwork> = Api::default_namespaced(client.clone());
        let network = networks.get("net").await?;
        let (netns, tap) = (port.netns.context("no namespace")?, port.device.context("no device")?);
        let shown = sh("ip", &["-n", &netns, "-o", "link", "show", "type", "bridge"])?;
        let bridge = shown.split([':', ' ']).find(|word| word.starts_with("br")).context("no bridge")?.to_owned();
        Ok(Cell { netns, tap, bridge, gateway: network.status.and_then(|s| s.gateway).context("no gateway")? })
    }

    fn ip(&self, words: &str) -> Result<String> {
        let all: Vec<&str> = ["-n", &self.netns].into_iter().chain(words.split(' ')).collect();
        sh("ip", &all)
    }

    /// The tap hangs on the bridge, the bridge has the gateway's address, and all are up.
    fn is_whole(&self) -> bool {
        let tap = self.ip(&format!("-o link show {}", self.tap)).unwrap_or_default();
        let bridge = self.ip(&format!("-o addr show {}", self.bridge)).unwrap_or_default();
        tap.contains(&format!("master {} ", self.bridge))
            && tap.contains("UP")
            && bridge.contains(&format!("inet {}/", self.gateway))
    }
}

/// Breaks one thing and proves that it is repaired, that it is told, and that the guest notices nothing for long.
async fn repaired(
    lab: &Lab,
    client: &Client,
    cell: &Cell,
    what: &str,
    harm: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let told = async || -> Result<usize> {
        let all = events.list(&ListParams::default()).await?.items;
        let drift = all.iter().filter(|event| event.reason.as_deref() == Some("DriftRepaired"));
        Ok(drift.map(|event| event.series.as_ref().map_or(1, |series| series.count.max(1) as usize)).sum())
    };
    let before = told().await?;
    harm()?;
    let begun = Instant::now();
    until(&format!("the repair of {what}"), SOON, async || Ok(cell.is_whole().then_some(()))).await?;
    println!("{what}: repaired after {} ms", begun.elapsed().as_millis());
    until(&format!("an Event on {what}"), SOON, async || Ok((told().await? > before).then_some(()))).await?;
    let ping = ["/bin/busybox", "ping", "-c", "1", "-W", "2", &cell.gateway];
    until(&format!("the gateway's answer after {what}"), SOON, async || exec(lab, "guest", &ping).map(Some)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_what_somebody_breaks_is_repaired_and_told() -> Result<()> {
    let lab = Lab::up(&[])?;
    let guest = machines::machine("guest", "lean", "net", "256Mi");
    lab.apply(&format!("{LEAN}{}{guest}", machines::network("net", "10.61.0.0/24")))?.ok()?;
    let client = objects::client(&lab).await?;
    let vm = machines::ready(&client, "guest").await?;
    let pid = machines::qemu(&lab, &vm.uid().context("no UID")?)?;
    let cell = Cell::find(&client).await?;
    ensure!(cell.is_whole(), "the network is not as it should be before anything was broken");

    let prefix = cell.ip(&format!("-o -4 addr show {}", cell.bridge))?;
    let address =
        prefix.split_whitespace().find(|word| word.starts_with(&cell.gateway)).context("no address")?.to_owned();
    repaired(&lab, &client, &cell, "a deleted address", || {
        cell.ip(&format!("addr del {address} dev {}", cell.bridge)).map(drop)
    })
    .await?;
    repaired(&lab, &client, &cell, "a tap off its bridge", || {
        cell.ip(&format!("link set {} nomaster", cell.tap)).map(drop)
    })
    .await?;
    repaired(&lab, &client, &cell, "a link set down", || cell.ip(&format!("link set {} down", cell.bridge)).map(drop))
        .await?;
    repaired(&lab, &client, &cell, "a deleted bridge", || cell.ip(&format!("link del {}", cell.bridge)).map(drop))
        .await?;
    repaired(&lab, &client, &cell, "a deleted tap", || cell.ip(&format!("link del {}", cell.tap)).map(drop)).await?;

    let old = machines::running(&lab, "dnsmasq");
    ensure!(old.len() == 1, "one dnsmasq serves one network: {old:?}");
    ProcessId::of(old[0]).context("dnsmasq is gone")?.signal(Signal::KILL)?;
    let served = async || Ok(machines::running(&lab, "dnsmasq").first().filter(|pid| **pid != old[0]).copied());
    until("another dnsmasq", SOON, served).await?;
    let lease = ["/bin/busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-s", "/bin/true"];
    until("a lease from the new dnsmasq", Duration::from_secs(90), async || exec(&lab, "guest", &lease).map(Some))
        .await?;

    ensure!(machines::qemu(&lab, &vm.uid().context("no UID")?)? == pid, "the machine was started again");
    lab.finish()
}
