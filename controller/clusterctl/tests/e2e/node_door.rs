//! The way of a Cluster's nodes to the API: the real agent, real namespaces, and in place of a guest a namespace that is
//! plugged in where its machine would be.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{Lab, Ran};

use crate::objects::{SOON, sh};

const OBJECTS: &str = "
apiVersion: photoncloud.dev/v1alpha1
kind: TenantNetwork
metadata: {name: management}
spec: {subnet: 10.88.0.0/24, apiAccess: true}
---
apiVersion: photoncloud.dev/v1alpha1
kind: TenantNetwork
metadata: {name: tenants}
spec: {subnet: 10.88.0.0/24}
---
apiVersion: photoncloud.dev/v1alpha1
kind: Image
metadata: {name: none}
spec:
  host: host01
  file: {path: /nowhere, digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}
---
apiVersion: photoncloud.dev/v1alpha1
kind: Cluster
metadata: {name: small}
spec:
  network: management
  nodes: [{name: node01, image: none, ip: 10.88.0.10}, {name: node02, image: none, ip: 10.88.0.11}]
---
apiVersion: photoncloud.dev/v1alpha1
kind: Port
metadata: {name: guest}
spec: {network: tenants, host: host01, ip: 10.88.0.10}
";

/// A namespace in place of a guest, plugged into the bridge as its port's tap would be. Goes with the test.
struct Guest(String);

impl Guest {
    fn plug(lab: &Lab, port: &str, bridge_of: &str) -> Result<Guest> {
        let read = |path: &str| lab.run(&["get", "port", port, "-o", &format!("jsonpath={{{path}}}")])?.ok();
        let text = |path: &str| read(path).map(|text| text.trim().to_owned());
        let (tap, cell, mac, ip) =
            (text(".status.device")?, text(".status.netns")?, text(".spec.mac")?, text(".spec.ip")?);
        let uid = lab.run(&["get", "tnet", bridge_of, "-o", "jsonpath={.metadata.uid}"])?.ok()?;
        let bridge = format!("br{}", &uid.trim().replace('-', "")[..12]);
        let guest = Guest(format!("test-{tap}"));
        let ip_command = |line: &str| sh("ip", &line.split(' ').collect::<Vec<_>>());
        ip_command(&format!("netns add {}", guest.0))?;
        ip_command(&format!("-n {cell} link add {tap} type veth peer name eth0 netns {}", guest.0))?;
        ip_command(&format!("-n {cell} link set {tap} master {bridge} up"))?;
        for line in
            [format!("link set eth0 address {mac} up"), format!("addr add {ip}/24 dev eth0"), "link set lo up".into()]
        {
            ip_command(&format!("-n {} {line}", guest.0))?;
        }
        Ok(guest)
    }

    /// What a client in the guest says, by this kubeconfig.
    fn ask(&self, lab: &Lab, config: &str, line: &str) -> Result<Ran> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.0, "timeout", "60"])
            .arg(lab.binary())
            .args(line.split(' '))
            .args(["--kubeconfig", config])
            .output()
            .context("failed to run ip")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran {
            words: format!("in a guest: {line}"),
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What is left shows in the lab's own look at leftovers.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A kubeconfig for the door, with this way to prove who calls.
fn config(lab: &Lab, name: &str, user: &Value) -> Result<String> {
    let authority = lab.join("pki/ca.crt");
    let document = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.88.0.1:6443", "tls-server-name": "localhost",
            "certificate-authority": authority.display().to_string()}}],
        "users": [{"name": "u", "user": user}],
    });
    Ok(lab.write(name, document.to_string())?.display().to_string())
}

#[test]
fn nodes_and_nobody_else_reach_the_api_from_their_network() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.apply(OBJECTS)?.ok()?;
    let limit = format!("--timeout={}s", SOON.as_secs());
    for port in ["node01", "node02", "guest"] {
        // Those of the Nodes are made by the Cluster's reconciler.
        for wanted in ["--for=create", "--for=condition=Ready"] {
            lab.run(&["wait", &format!("port/{port}"), wanted, &limit])?.ok()?;
        }
    }
    let token_of = |who: &str| -> Result<Value> {
        Ok(serde_json::json!({"token": lab.run(&["create", "token", who])?.ok()?.trim()}))
    };
    let node01 = config(&lab, "node01.conf", &token_of("node/node01")?)?;
    let node02 = config(&lab, "node02.conf", &token_of("node/node02")?)?;
    let account = config(&lab, "account.conf", &token_of("default")?)?;
    let files = |name: &str| {
        serde_json::json!({"client-certificate": lab.join(format!("pki/{name}.crt")),
            "client-key": lab.join(format!("pki/{name}.key"))})
    };
    let guest = Guest::plug(&lab, "node01", "management")?;

    let who = guest.ask(&lab, &node01, "auth whoami")?.ok()?;
    ensure!(who.contains("system:node:default:node01") && who.contains("photoncloud:nodes"), "{who}");
    for own in ["get node node01", "get port node01", "get vm node01"] {
        guest.ask(&lab, &node01, own)?.ok()?;
    }
    for other in ["get node node02", "get nodes", "get secrets", "get hosts", "get node node01 -n photon-system"] {
        let refused = guest.ask(&lab, &node01, other)?.fails_with(1)?;
        ensure!(refused.contains("forbidden") || refused.contains("cannot"), "{other}: {refused}");
    }
    let carried_off = guest.ask(&lab, &node02, "get node node02")?.fails_with(1)?;
    ensure!(carried_off.contains("only a node of this network"), "{carried_off}");
    let account = guest.ask(&lab, &account, "auth whoami")?.fails_with(1)?;
    ensure!(account.contains("only a node of this network"), "{account}");
    for name in ["server", "agent-host01"] {
        let by_certificate = config(&lab, "other.conf", &files(name))?;
        let refused = guest.ask(&lab, &by_certificate, "auth whoami")?.fails_with(1)?;
        ensure!(refused.contains("Unauthorized"), "{name}: {refused}");
    }

    let outside = Guest::plug(&lab, "guest", "tenants")?;
    let nothing = outside.ask(&lab, &node01, "auth whoami")?;
    ensure!(nothing.code == 5, "there is a way to the API from another network: {nothing}");
    drop((guest, outside));
    lab.finish()
}
