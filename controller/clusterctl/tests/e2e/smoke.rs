//! What a new user does, with the manifests that a new user gets.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::node::NodePhase;
use crds::testrun::{RunPhase, StepPhase};
use crds::virtual_machine::VmPhase;
use crds::{Node, Port, TestRun, VirtualMachine};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use testkit::Lab;

use crate::machines::{self, LEAN, exec, is_ready, qemus};
use crate::objects::{self, SOON, until};
use crate::writes::Writes;

fn manifest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_one_machine_is_tested_stopped_and_started() -> Result<()> {
    let begun = Instant::now();
    let lab = Lab::up(&[])?;
    let report = lab.files().join("report.xml");
    let path = manifest("one-vm.yaml");
    let words = ["run", path.to_str().context("path")?, "--junit", report.to_str().context("path")?];
    let said = lab.run_within(Duration::from_secs(1200), &words)?.ok()?;
    println!("{said}one-vm: {} s", begun.elapsed().as_secs());
    let junit = std::fs::read_to_string(&report)?;
    ensure!(junit.contains("<testsuite ") && junit.contains("failures=\"0\""), "{junit}");
    let client = objects::client(&lab).await?;
    let run: TestRun = Api::default_namespaced(client.clone()).get("one-vm").await?;
    let metrics = run.status.context("no status")?.metrics;
    ensure!(metrics.iter().any(|m| m.name == "monitor_ready_milliseconds" && m.unit == "milliseconds"), "{metrics:?}");

    ensure!(exec(&lab, "one-vm", &["/bin/uname", "-s"])?.trim() == "Linux", "exec runs in the guest");
    ensure!(lab.run(&["exec", "one-vm", "--", "/bin/sh", "-c", "exit 7"])?.code == 7, "the code is the command's");
    shell_on_the_serial_port(&lab)?;
    ensure!(lab.run(&["logs", "one-vm", "--tail", "5"])?.ok()?.lines().count() <= 5, "a log has a tail");
    let status = lab.run(&["status"])?.ok()?;
    ensure!(["host01", "one-vm", "Passed"].iter().all(|word| status.contains(word)), "{status}");

    let vms: Api<VirtualMachine> = Api::default_namespaced(client);
    exec(&lab, "one-vm", &["/bin/sh", "-c", "echo kept >/root/kept; sync"])?;
    lab.run_within(Duration::from_secs(180), &["stop"])?.ok()?;
    objects::object(&vms, "one-vm", SOON, |vm| vm.status.as_ref().is_some_and(|s| s.phase == VmPhase::Stopped)).await?;
    ensure!(qemus(&lab).is_empty(), "it is off and runs");
    lab.run_within(Duration::from_secs(180), &["start"])?.ok()?;
    objects::object(&vms, "one-vm", objects::BOOT, is_ready).await?;
    ensure!(exec(&lab, "one-vm", &["/bin/cat", "/root/kept"])?.trim() == "kept", "the disk was not kept");
    lab.run_within(Duration::from_secs(180), &["delete", "-f", path.to_str().context("path")?])?.ok()?;
    ensure!(qemus(&lab).is_empty() && machines::running(&lab, "dnsmasq").is_empty(), "deleted objects run on");
    println!("with stop, start and delete: {} s", begun.elapsed().as_secs());
    lab.finish()
}

/// The machine has no SSH server. What is typed comes through a pipe, or through a terminal that `script` makes.
fn shell_on_the_serial_port(lab: &Lab) -> Result<()> {
    let limit = Duration::from_secs(120);
    let typed = |mut command: Command, keys: &str| -> Result<(Option<i32>, String)> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        // Dropped at once: the input has an end.
        child.stdin.take().context("no input")?.write_all(keys.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let said = lab.run(&["ssh", "one-vm", "--", "/bin/uname", "-s"])?.ok()?;
    ensure!(said.trim() == "Linux", "a command needs no shell: {said}");
    let (code, said) = typed(lab.command(limit, &["ssh", "one-vm"]), "echo answer-$((40 + 2))\nexit 3\n")?;
    ensure!(code == Some(3) && said.contains("answer-42"), "a shell with piped input ended with {code:?}: {said}");
    // It was heard at once, not only after the longest wait for it.
    ensure!(!said.contains("clusterctl-"), "the word that the shell listens is shown: {said}");
    // The input ends while a command still has the terminal, whose modes are the command's then and not a prompt's.
    let (code, said) = typed(lab.command(limit, &["ssh", "root@one-vm"]), "sleep 2; tty; echo last-$((1 + 1))")?;
    ensure!(
        code == Some(0) && said.contains("/dev/ttyS0") && said.contains("last-2"),
        "the end of the input ended the shell with {code:?}: {said}"
    );
    let ours = lab.command(limit, &["ssh", "one-vm"]);
    let words: Vec<_> = [ours.get_program()].into_iter().chain(ours.get_args()).map(|w| w.to_string_lossy()).collect();
    let mut script = Command::new("script");
    // `timeout` takes the terminal from what it runs, unless it leads the session: not the shell that `script` starts, whichever.
    let words = format!("exec {}", words.join(" "));
    script.args(["--quiet", "--return", "--flush", "--command", &words, "/dev/null"]);
    script.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, said) = typed(script, "echo on-a-terminal-$((2 + 2))\nexit 4\n")?;
    ensure!(code == Some(4) && said.contains("on-a-terminal-4"), "on a terminal it ended with {code:?}: {said}");
    let (code, said) = typed(lab.command(limit, &["console", "one-vm"]), "\x1dnever typed")?;
    ensure!(code == Some(0), "the escape ended the console with {code:?}: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_two_networks_with_one_range_do_not_meet() -> Result<()> {
    let lab = Lab::up(&[])?;
    let mut all = LEAN.to_owned();
    for name in ["left", "right"] {
        let machine =
            machines::machine(name, "lean", name, "256Mi").replace("network: left}", "network: left, ip: 10.65.0.10}");
        all += &machines::network(name, "10.65.0.0/24");
        all += &machine.replace("network: right}", "network: right, ip: 10.65.0.10}");
    }
    lab.apply(&all)?.ok()?;
    let client = objects::client(&lab).await?;
    let ports: Api<Port> = Api::default_namespaced(client.clone());
    let mut places = Vec::new();
    for name in ["left", "right"] {
        machines::ready(&client, name).await?;
        let addressed =
            async || exec(&lab, name, &["/bin/sh", "-c", "ip -4 address show dev eth0 | grep 10.65.0.10/24"]).map(Some);
        until("the reserved address", SOON, addressed).await?;
        ensure!(exec(&lab, name, &["/bin/cat", "/proc/sys/kernel/hostname"])?.trim() == name, "it is somebody else");
        exec(&lab, name, &["/bin/busybox", "ping", "-c", "1", "-W", "5", "10.65.0.1"])?;
        let port = ports.get(name).await?;
        places.push((port.status.and_then(|s| s.netns).context("no namespace")?, port.spec.mac));
    }
    ensure!(places[0].0 != places[1].0, "two networks share a namespace: {places:?}");
    ensure!(machines::running(&lab, "dnsmasq").len() == 2, "each network has a DHCP server of its own");
    let root = objects::sh("ip", &["-o", "address", "show"])?;
    ensure!(!root.contains("10.65.0."), "a tenant's address is in the root namespace: {root}");
    lab.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_six_machines_from_one_file_pass() -> Result<()> {
    let begun = Instant::now();
    let lab = Lab::up(&[])?;
    let client = objects::client(&lab).await?;
    let machine_writes = Writes::of::<VirtualMachine>(&client, is_ready).await?;
    let node_writes =
        Writes::of::<Node>(&client, |node| node.status.as_ref().is_some_and(|status| status.phase == NodePhase::Ready))
            .await?;
    let ran = lab.run_within(Duration::from_secs(1500), &["run", "fresh-smoke"])?;
    println!("{}{}\nfresh-smoke: {} s", ran.stdout, ran.stderr, begun.elapsed().as_secs());
    ran.ok()?;
    for (kind, writes) in [("VirtualMachine", machine_writes.until_ready()), ("Node", node_writes.until_ready())] {
        println!("writes of a {kind} until Ready: {writes:?}");
        ensure!(writes.len() == 6 && writes.values().all(|count| *count <= 8), "{kind}: {writes:?}");
    }
    let run: TestRun = Api::default_namespaced(client.clone()).get("fresh-smoke").await?;
    let status = run.status.context("no status")?;
    ensure!(
        status.phase == RunPhase::Passed && status.steps.iter().all(|step| step.phase == StepPhase::Passed),
        "{status:#?}"
    );
    for name in ["node05_power_cycle_seconds", "node02_recovery_seconds", "cluster_boot_seconds"] {
        ensure!(
            status.metrics.iter().any(|metric| metric.name == name && metric.unit == "seconds"),
            "{name} is missing"
        );
    }
    ensure!(serde_json::to_vec(&status)?.len() < 256 << 10, "the status is too large");
    let nodes: Api<Node> = Api::default_namespaced(client);
    let names: Vec<String> = nodes.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
    ensure!(names.len() == 6 && qemus(&lab).len() == 6, "{names:?}");
    ensure!(exec(&lab, "node04", &["/bin/uname", "-s"])?.trim() == "Linux", "exec names a node");
    lab.finish()
}
