//! What goes wrong on a host: the object's condition says it in one sentence with the remedy, nothing half-made stays, and
//! it comes right by itself when the cause is gone.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use crds::condition::{READY, find};
use crds::image::ImagePhase;
use crds::virtual_machine::VmPhase;
use crds::{Image, Port, VirtualMachine};
use kube::{Api, Client};
use testkit::Lab;

use crate::machines::{self, qemus, standstill};
use crate::objects::{self, SOON, sh};

/// What the image's condition says once it is not ready.
async fn refused(client: &Client, name: &str) -> Result<String> {
    let images: Api<Image> = Api::default_namespaced(client.clone());
    let failed = |image: &Image| image.status.as_ref().is_some_and(|status| status.phase == ImagePhase::Failed);
    let status = objects::object(&images, name, SOON, failed).await?.status.context("no status")?;
    Ok(find(&status.conditions, READY).context("no condition")?.message.clone())
}

fn file_image(name: &str, path: &str, digest: &str, format: &str) -> String {
    format!(
        "---\napiVersion: photoncloud.dev/v1alpha1\nkind: Image\nmetadata: {{name: {name}}}\nspec: {{file: {{path: {path}, digest: \"sha256:{digest}\", format: {format}}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_forbidden_image_is_refused_with_the_reason() -> Result<()> {
    let lab = Lab::up(&[])?;
    let client = objects::client(&lab).await?;
    let disk = lab.write("disk.img", [0_u8; 4096])?.display().to_string();
    let backed = lab.files().join("backed.img").display().to_string();
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", "-u", &backed, "1M"])
        .status()?;
    ensure!(made.success(), "qemu-img failed");
    let digest = sh("sha256sum", &[&backed])?.split(' ').next().context("no digest")?.to_owned();
    let all = [
        file_image("changed", &disk, &"0".repeat(64), "raw"),
        file_image("backed", &backed, &digest, "qcow2"),
        file_image("absent", "/nowhere/disk.img", &digest, "raw"),
    ];
    lab.apply(&all.concat())?.ok()?;
    let said = refused(&client, "changed").await?;
    ensure!(said.contains(&disk) && said.contains("digest") && said.contains("changed or damaged"), "{said}");
    let said = refused(&client, "backed").await?;
    ensure!(said.contains("is refused") && said.contains("backing"), "{said}");
    let said = refused(&client, "absent").await?;
    ensure!(said.contains("/nowhere/disk.img"), "{said}");
    lab.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_programs_are_told_and_the_machine_comes_when_they_do() -> Result<()> {
    let lab = Lab::new()?;
    lab.start_in(&[], &[("CLUSTERCTL_QEMU", "/nowhere/qemu"), ("CLUSTERCTL_DNSMASQ", "/nowhere/dnsmasq")])?;
    let client = objects::client(&lab).await?;
    let machine = machines::machine("still", "standstill", "net", "32Mi");
    // Without a port, so that it waits for nothing but QEMU.
    let loose = "---\napiVersion: photoncloud.dev/v1alpha1\nkind: VirtualMachine\nmetadata: {name: loose}\nspec: {image: standstill, memory: 32Mi}\n";
    lab.apply(&format!("{}{}{machine}{loose}", standstill(&lab)?, machines::network("net", "10.66.0.0/24")))?.ok()?;

    let ports: Api<Port> = Api::default_namespaced(client.clone());
    let names =
        |conditions: &[crds::Condition], word: &str| find(conditions, READY).is_some_and(|c| c.message.contains(word));
    let told = |port: &Port| port.status.as_ref().is_some_and(|s| names(&s.conditions, "CLUSTERCTL_DNSMASQ"));
    objects::object(&ports, "still", SOON, told).await?;
    let vms: Api<VirtualMachine> = Api::default_namespaced(client);
    let told = |vm: &VirtualMachine| vm.status.as_ref().is_some_and(|s| names(&s.conditions, "CLUSTERCTL_QEMU"));
    objects::object(&vms, "loose", SOON, told).await?;
    ensure!(qemus(&lab).is_empty(), "something runs without a program");

    for name in ["up", "agent-host01", "server"] {
        lab.kill(name)?;
    }
    lab.start(&[])?;
    let runs = |vm: &VirtualMachine| vm.status.as_ref().is_some_and(|s| s.phase == VmPhase::Running);
    for name in ["still", "loose"] {
        objects::object(&vms, name, SOON, runs).await?;
    }
    lab.finish()
}
