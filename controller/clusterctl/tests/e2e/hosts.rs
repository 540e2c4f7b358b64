//! Several hosts on this machine: what is placed apart is joined, and only what belongs together.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{Host, VirtualMachine};
use kube::{Api, Client};
use serde_json::Value;
use testkit::Lab;

use crate::machines::{self, exec};
use crate::objects::{self, SOON, sh, until};

const HOSTS: [&str; 2] = ["host01", "host02"];

/// The lean Debian on a host, under that host's name. Both are one build: the hosts share the image cache.
fn image(host: &str) -> String {
    format!(
        "
---
apiVersion: photoncloud.dev/v1alpha1
kind: Image
metadata: {{name: lean-{host}}}
spec: {{debian: {{suite: bookworm}}, host: {host}}}
"
    )
}

/// Lets in an echo, and one port of TCP.
const WEB: &str = "
---
apiVersion: photoncloud.dev/v1alpha1
kind: SecurityGroup
metadata: {name: web}
spec:
  rules:
  - {direction: Ingress, protocol: ICMP, icmpType: 8}
  - {direction: Ingress, protocol: TCP, port: 80, cidr: 10.62.0.0/24}
";

/// Both guests try what the objects say of them: all is open to `one`, to `two` what its group lets in.
fn as_the_objects_say(lab: &Lab) -> Result<()> {
    let words = ["net", "matrix", "--network", "blue", "--probe", "-o", "json"];
    let said = lab.run_within(Duration::from_secs(300), &words)?.ok()?;
    let told: Value = serde_json::from_str(&said)?;
    ensure!(told["probe"]["tries"] == 6 && told["probe"]["agreed"] == 6, "{said}");
    let closed = |pair: &&Value| pair["open"] == false && pair["from"]["port"] == "one" && pair["to"]["port"] == "two";
    let closed: Vec<&Value> = told["pairs"].as_array().into_iter().flatten().filter(closed).collect();
    ensure!(closed.len() == 2 && closed.iter().all(|pair| pair["decidedBy"] == "default deny in"), "{said}");
    let trace = lab.run(&["net", "trace", "one", "vm/two", "--port", "81"])?;
    let hops = ["tunnel", "host01 (100.64.", "rule in", "stops", "default deny in"];
    ensure!(trace.code == 1 && hops.iter().all(|word| trace.stdout.contains(word)), "{trace}");
    Ok(())
}

/// What a guest's ping says: whether that address answers.
fn answers(lab: &Lab, guest: &str, address: &str) -> bool {
    exec(lab, guest, &["/bin/busybox", "ping", "-c", "1", "-W", "2", address]).is_ok()
}

async fn host_of(client: &Client, guest: &str) -> Result<String> {
    let vm: VirtualMachine = Api::default_namespaced(client.clone()).get(guest).await?;
    vm.spec.host.context("it has no host")
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_guests_of_one_network_on_two_hosts_reach_each_other_and_nobody_else() -> Result<()> {
    let lab = Lab::up(&["--hosts", "2"])?;
    let client = objects::client(&lab).await?;
    for name in HOSTS {
        let host: Host = Api::all(client.clone()).get(name).await?;
        let address = host.status.and_then(|status| status.underlay_address);
        ensure!(address.is_some(), "host {name} has no address for the others");
    }
    // Two networks of one range on the same two hosts; a guest of the second has the address that the first one's looks for.
    let networks = [machines::network("blue", "10.62.0.0/24"), machines::network("red", "10.62.0.0/24")].concat();
    let stranger = "
---
apiVersion: photoncloud.dev/v1alpha1
kind: Port
metadata: {name: stranger}
spec: {network: red, ip: 10.62.0.99, host: host02}
---
apiVersion: photoncloud.dev/v1alpha1
kind: Port
metadata: {name: friend-of-stranger}
spec: {network: red, ip: 10.62.0.98, host: host01}
";
    let guests = [
        machines::machine("one", "lean-host01", "blue", "256Mi"),
        machines::machine("two", "lean-host02", "blue", "256Mi")
            .replace("network: blue}", "network: blue, securityGroups: [web]}"),
    ];
    let all = [HOSTS.map(image).concat(), networks, WEB.to_owned(), stranger.to_owned(), guests.concat()].concat();
    lab.apply(&all)?.ok()?;
    let mut addresses = Vec::new();
    for (guest, host) in ["one", "two"].into_iter().zip(HOSTS) {
        let vm = machines::ready(&client, guest).await?;
        ensure!(host_of(&client, guest).await? == host, "{guest} is not where its image is");
        addresses.push(vm.status.and_then(|status| status.ip).context("no address")?);
    }
    let met = async || Ok((answers(&lab, "one", &addresses[1]) && answers(&lab, "two", &addresses[0])).then_some(()));
    until("an answer from the other host", SOON, met).await?;
    // One visit to the guest for all of it: each takes seconds under emulation.
    let asked = "for name in two stranger; do busybox nslookup $name >/dev/null 2>&1 && echo knows $name; done
        for ip in 10.62.0.99 10.62.0.98 10.62.0.77; do busybox ping -c 1 -W 1 $ip >/dev/null && echo meets $ip; done; true";
    let told = exec(&lab, "one", &["/bin/busybox", "sh", "-c", asked])?;
    ensure!(told == "knows two\n", "a guest knows and meets those of its own network alone: {told}");
    as_the_objects_say(&lab)?;
    // Each host's own namespaces hold all of it: the machine's own network has no link of ours.
    let here = sh("ip", &["-o", "link", "show", "type", "vxlan"])?;
    ensure!(here.is_empty(), "a tunnel in the machine's own namespace: {here}");
    for vm in ["one", "two"] {
        let status = Api::<VirtualMachine>::default_namespaced(client.clone()).get(vm).await?.status;
        ensure!(status.is_some_and(|status| status.restarts == 0), "{vm} was started again");
    }
    lab.finish()
}
