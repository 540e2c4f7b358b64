//! The same state by the raw tools: one `ip -batch`, one `nft -f`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use host::netns::{Namespace, Namespaces, enter};
use kube::ResourceExt;

use super::host::NetHost;
use agent::names;

/// How long the raw tools take to make in a namespace of their own what the host made: bridge, taps, packet filter.
pub async fn measure(host: &NetHost) -> Result<Duration> {
    let name = format!("{}-raw", host.cell()?.name());
    let (namespace, _) = Namespaces::default().ensure(&name).await?;
    let took = make(host, &namespace).await;
    Namespaces::default().delete(&name).await?;
    took
}

async fn make(host: &NetHost, namespace: &Namespace) -> Result<Duration> {
    let network = host.network()?;
    let bridge = names::bridge(&network);
    let mut batch = format!(
        "link add {bridge} address 02:00:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set {bridge} mtu 1450 alias {network} up\naddress add 10.0.0.1/16 dev {bridge}\n"
    );
    for port in host.ports() {
        let uid = port.uid().unwrap_or_default();
        let tap = names::tap(&uid);
        batch.push_str(&format!("tuntap add {tap} mode tap user 300000\n"));
        batch.push_str(&format!("link set {tap} mtu 1450 alias {uid} master {bridge} up\n"));
    }
    let rules = run(&host.cell()?, "nft", &["list", "ruleset"], String::new()).await?;
    let begun = Instant::now();
    run(namespace, "ip", &["-batch", "-"], batch).await?;
    run(namespace, "nft", &["-f", "-"], rules).await?;
    Ok(begun.elapsed())
}

/// Runs a program in the namespace; what it printed.
///
/// # Errors
/// That it cannot be run, or failed.
pub async fn run(namespace: &Namespace, program: &'static str, arguments: &[&str], input: String) -> Result<String> {
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let output = enter(namespace, move || -> std::io::Result<std::process::Output> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // When it ends early its exit code tells.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    });
    let output = output.await?.with_context(|| format!("failed to run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed: {}", said.lines().next().unwrap_or("without a word"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
