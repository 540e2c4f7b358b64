//! A test that cannot go red proves nothing: each thing that the smoke vouches for is broken, and the run must end
//! accordingly, with the exit code of its kind and a message that names the cause.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::testrun::RunPhase;
use crds::{TestRun, VirtualMachine};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use testkit::Lab;

use crate::machines::{self, LEAN};
use crate::objects;

const LIMIT: Duration = Duration::from_secs(400);

/// One machine with a volume, ready when DHCP has brought it the address that was reserved for it.
const WORLD: &str = "
---
apiVersion: photoncloud.dev/v1alpha1
kind: TenantNetwork
metadata: {name: red}
spec: {subnet: 10.63.0.0/24}
---
apiVersion: photoncloud.dev/v1alpha1
kind: Port
metadata: {name: red}
spec: {network: red, ip: 10.63.0.10}
---
apiVersion: photoncloud.dev/v1alpha1
kind: Volume
metadata: {name: red-data}
spec: {size: 64Mi, filesystem: ext4}
---
apiVersion: photoncloud.dev/v1alpha1
kind: VirtualMachine
metadata: {name: red}
spec:
  image: lean
  interfaces: [{port: red}]
  volumes: [{volume: red-data}]
  readiness:
    exec: [/bin/sh, -c, \"ip -4 address show dev eth0 | grep -q 10.63.0.10/ || { echo 'eth0 has no address by DHCP' >&2; exit 1; }\"]
    periodSeconds: 2
";

/// Runs the steps as a TestRun; how it ended, once the exit code has been checked.
async fn run(lab: &Lab, client: &Client, name: &str, steps: &str, code: i32) -> Result<(RunPhase, String)> {
    let header =
        format!("apiVersion: photoncloud.dev/v1alpha1\nkind: TestRun\nmetadata: {{name: {name}}}\nspec:\n  steps:\n");
    let path = lab.write(&format!("{name}.yaml"), format!("{header}{steps}"))?;
    let ran = lab.run_within(LIMIT, &["run", &path.display().to_string()])?;
    let found: TestRun = Api::default_namespaced(client.clone()).get(name).await?;
    let status = found.status.context("no status")?;
    println!("{name}: exit code {}, {:?}: {}", ran.code, status.phase, status.message);
    ensure!(ran.code == code, "exit code {code} was expected: {ran}\n{status:#?}");
    ensure!(
        code == 0 || ran.stdout.contains(&status.message) || ran.stderr.contains(&status.message),
        "the reason is not printed: {ran}"
    );
    Ok((status.phase, status.message))
}

const GREEN: &str = "
    - name: write
      exec:
        node: red
        command: [/bin/sh, -c, \"/usr/lib/photon/volume red-data && seq 1 1000 >/mnt/red-data/numbers && sync && sha256sum /mnt/red-data/numbers\"]
        expect: {stdoutContains: 67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f}
";
const QUORUM: &str = "
    - name: quorum
      timeoutSeconds: 60
      exec:
        node: red
        command: [/bin/sh, -c, \"echo started; echo started\"]
        expect: {stdoutEquals: three members are started}
    - name: never
      exec: {node: red, command: [/bin/true]}
";
const NO_VOLUME: &str = "
    - name: volume-write
      timeoutSeconds: 60
      exec:
        node: red
        command: [/bin/sh, -c, \"mountpoint -q /mnt/ghost || { echo 'the volume ghost is not mounted' >&2; exit 1; }\"]
";
const DAMAGED: &str = "
    - name: damage
      exec:
        node: red
        command: [/bin/sh, -c, \"echo 1001 >>/mnt/red-data/numbers && sync\"]
    - name: volume-survived
      timeoutSeconds: 60
      exec:
        node: red
        command: [/bin/sh, -c, \"sha256sum /mnt/red-data/numbers\"]
        expect: {stdoutContains: 67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f}
";
const LOST: &str = "
    - name: rebooted-under-it
      timeoutSeconds: 240
      exec:
        node: red
        command: [/bin/sh, -c, \"sync; echo b >/proc/sysrq-trigger; /bin/busybox sleep 60\"]
";
const NO_DHCP: &str = "
    - name: cut
      timeoutSeconds: 120
      fault: {target: {kind: VirtualMachine, name: red}, action: PowerCycle, untilReverted: true}
    - name: machine-ready
      timeoutSeconds: 75
      wait: {object: {kind: VirtualMachine, name: red}, after: cut}
";

#[tokio::test(flavor = "multi_thread")]
async fn vm_a_run_goes_red_for_the_right_reason() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.apply(&format!("{LEAN}{WORLD}"))?.ok()?;
    let client = objects::client(&lab).await?;
    machines::ready(&client, "red").await?;

    let (phase, _) = run(&lab, &client, "green", GREEN, 0).await?;
    ensure!(phase == RunPhase::Passed, "{phase:?}");
    let (phase, said) = run(&lab, &client, "quorum", QUORUM, 1).await?;
    ensure!(
        phase == RunPhase::Failed && said.contains("quorum") && said.contains("three members are started"),
        "{said}"
    );
    let (phase, said) = run(&lab, &client, "no-volume", NO_VOLUME, 1).await?;
    ensure!(phase == RunPhase::Failed && said.contains("the volume ghost is not mounted"), "{said}");
    let (phase, said) = run(&lab, &client, "damaged", DAMAGED, 1).await?;
    ensure!(phase == RunPhase::Failed && said.contains("volume-survived"), "{said}");
    let (phase, said) = run(&lab, &client, "lost", LOST, 5).await?;
    ensure!(phase == RunPhase::Errored && said.contains("rebooted-under-it"), "{said}");

    // The DHCP server is switched off for good; the next boot gets no address.
    lab.apply("apiVersion: photoncloud.dev/v1alpha1\nkind: TenantNetwork\nmetadata: {name: red}\nspec: {subnet: 10.63.0.0/24, dhcp: {enabled: false}}\n")?.ok()?;
    objects::until("the end of dnsmasq", objects::SOON, async || {
        Ok(machines::running(&lab, "dnsmasq").is_empty().then_some(()))
    })
    .await?;
    let (phase, said) = run(&lab, &client, "no-dhcp", NO_DHCP, 1).await?;
    ensure!(phase == RunPhase::Failed && said.contains("machine-ready") && said.contains("red"), "{said}");
    ensure!(said.contains("eth0 has no address by DHCP"), "the cause is not named: {said}");

    // A finished run never changes.
    let runs: Api<TestRun> = Api::default_namespaced(client.clone());
    let patch = Patch::Merge(serde_json::json!({"status": {"phase": "Passed"}}));
    let refused = runs.patch_status("quorum", &PatchParams::default(), &patch).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("never changes")), "a verdict could be changed");
    let vms: Api<VirtualMachine> = Api::default_namespaced(client);
    ensure!(vms.get("red").await?.status.is_some_and(|status| status.restarts >= 1), "the power was cut");
    lab.finish()
}
