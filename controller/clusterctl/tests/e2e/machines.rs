//! Machines of a lab: manifests of small ones, and what the kernel knows of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::condition::{self, READY};
use crds::{Image, VirtualMachine};
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use testkit::Lab;

use super::objects::{self, BOOT};

/// A boot sector that stops the processor for good: a machine that is there and costs nothing.
const STANDSTILL: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];

/// The lean Debian that every guest boots; built once, kept in the labs' image cache.
pub const LEAN: &str = "
apiVersion: photoncloud.dev/v1alpha1
kind: Image
metadata: {name: lean}
spec: {debian: {suite: bookworm}}
";

/// An image of a machine that stands still, as a disk file.
pub fn standstill(lab: &Lab) -> Result<String> {
    let mut disk = vec![0; 1 << 20];
    disk[..STANDSTILL.len()].copy_from_slice(&STANDSTILL);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = lab.write("standstill.img", &disk)?;
    let digest: String = Sha256::digest(&disk).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!(
        "
apiVersion: photoncloud.dev/v1alpha1
kind: Image
metadata: {{name: standstill}}
spec: {{file: {{path: {}, digest: \"sha256:{digest}\"}}}}
",
        path.display()
    ))
}

/// A network of that range.
pub fn network(name: &str, subnet: &str) -> String {
    format!(
        "
---
apiVersion: photoncloud.dev/v1alpha1
kind: TenantNetwork
metadata: {{name: {name}}}
spec: {{subnet: {subnet}}}
"
    )
}

/// A machine of that name with a port of the same name.
pub fn machine(name: &str, image: &str, network: &str, memory: &str) -> String {
    format!(
        "
---
apiVersion: photoncloud.dev/v1alpha1
kind: Port
metadata: {{name: {name}}}
spec: {{network: {network}}}
---
apiVersion: photoncloud.dev/v1alpha1
kind: VirtualMachine
metadata: {{name: {name}}}
spec: {{image: {image}, memory: {memory}, interfaces: [{{port: {name}}}], terminationGracePeriodSeconds: 5}}
"
    )
}

/// Waits until the image can be booted.
pub async fn image_ready(client: &Client, name: &str) -> Result<Image> {
    let images: Api<Image> = Api::default_namespaced(client.clone());
    let ready = |image: &Image| image.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, READY));
    objects::object(&images, name, BOOT, ready).await
}

/// Whether the machine is ready.
pub fn is_ready(vm: &VirtualMachine) -> bool {
    vm.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, READY))
}

/// Waits until the machine is ready.
pub async fn ready(client: &Client, name: &str) -> Result<VirtualMachine> {
    objects::object(&Api::default_namespaced(client.clone()), name, BOOT, is_ready).await
}

/// What a command in the guest prints.
pub fn exec(lab: &Lab, name: &str, words: &[&str]) -> Result<String> {
    let all: Vec<&str> = ["exec", name, "--"].into_iter().chain(words.iter().copied()).collect();
    lab.run_within(Duration::from_secs(90), &all)?.ok()
}

/// Every QEMU of the lab: the machine's UID and the processes that claim to be it.
pub fn qemus(lab: &Lab) -> BTreeMap<String, Vec<i32>> {
    qemus_of(lab.path())
}

/// The same, for somebody who has no more than the lab's directory.
pub fn qemus_of(dir: &Path) -> BTreeMap<String, Vec<i32>> {
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (id, words) in testkit::processes_of(dir) {
        let mut rest = words.split(' ').skip_while(|word| *word != "-uuid");
        if let (Some(_), Some(uid)) = (rest.next(), rest.next()) {
            found.entry(uid.to_owned()).or_default().push(id.pid);
        }
    }
    found
}

/// The one process of the machine.
pub fn qemu(lab: &Lab, uid: &str) -> Result<i32> {
    let all = qemus(lab);
    let pids = all.get(uid).with_context(|| format!("no QEMU runs for {uid}: {all:?}"))?;
    ensure!(pids.len() == 1, "machine {uid} runs {} times: {pids:?}", pids.len());
    Ok(pids[0])
}

/// Processes of the lab that run this program.
pub fn running(lab: &Lab, program: &str) -> Vec<i32> {
    let named = |words: &str| words.split(' ').next().is_some_and(|first| first.rsplit('/').next() == Some(program));
    testkit::processes_of(lab.path()).into_iter().filter(|(_, words)| named(words)).map(|(id, _)| id.pid).collect()
}
