//! Which host takes a machine. Pure.

use crds::{Host, Image, VirtualMachine, Volume, condition};
use kube::ResourceExt;
use std::collections::BTreeSet;

/// The host for an Image: its base's, or the first ready one.
pub fn place_image(base: Option<&Image>, hosts: &[Host]) -> Option<String> {
    base.and_then(|b| b.spec.host.clone()).or_else(|| usable(hosts).map(ResourceExt::name_any).min())
}

/// The host for a machine.
///
/// # Errors
/// A sentence that says why there is none.
pub fn place(
    machine: &VirtualMachine,
    volumes: &[Volume],
    image: Option<&Image>,
    hosts: &[Host],
    everyone: &[VirtualMachine],
) -> Result<String, String> {
    let Some(image) = image else {
        return Err(format!("spec.image: Image {} does not exist; create it", machine.spec.image));
    };
    for mount in &machine.spec.volumes {
        if !volumes.iter().any(|v| v.name_any() == mount.volume) {
            return Err(format!("spec.volumes: Volume {} does not exist; create it", mount.volume));
        }
    }
    let bound: BTreeSet<String> = volumes.iter().filter_map(|v| v.spec.host.clone()).collect();
    if bound.len() > 1 {
        let names: Vec<String> = bound.into_iter().collect();
        return Err(format!("spec.volumes: the volumes are on different hosts: {}", names.join(", ")));
    }
    let pinned = bound.into_iter().next().or_else(|| image.spec.host.clone());
    let wanted = machine.spec.memory.bytes().map_err(|error| format!("spec.memory: {error}"))?;
    let mut best: Option<(u64, String)> = None;
    let mut refusals = Vec::new();
    for host in usable(hosts).filter(|h| pinned.as_ref().is_none_or(|p| *p == h.name_any())) {
        let name = host.name_any();
        let promised = promised(&name, everyone);
        let capacity = host.status.as_ref().map(|s| s.capacity.memory_bytes).unwrap_or_default();
        if promised.saturating_add(wanted) > capacity {
            refusals.push(format!("{name} has {capacity} bytes of memory, {promised} promised, {wanted} wanted"));
        } else if best.as_ref().is_none_or(|(least, _)| promised < *least) {
            best = Some((promised, name));
        }
    }
    best.map(|(_, name)| name).ok_or_else(|| match (refusals.is_empty(), pinned) {
        (false, _) => format!("no host has room: {}", refusals.join("; ")),
        (true, Some(host)) => {
            format!("host {host}, which has the image or the volumes, is not ready")
        }
        (true, None) => "no host is ready; start an agent".to_owned(),
    })
}

fn usable(hosts: &[Host]) -> impl Iterator<Item = &Host> {
    hosts.iter().filter(|host| {
        !host.spec.unschedulable
            && host.metadata.deletion_timestamp.is_none()
            && host.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, condition::READY))
    })
}

/// Memory of the machines that are bound to a host, in bytes.
fn promised(host: &str, everyone: &[VirtualMachine]) -> u64 {
    everyone
        .iter()
        .filter(|m| m.spec.host.as_deref() == Some(host))
        .filter_map(|m| m.spec.memory.bytes().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn host(name: &str, memory: u64, ready: &str) -> Host {
        serde_json::from_value(json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Host", "metadata": {"name": name}, "spec": {},
            "status": {"capacity": {"cpus": 2, "memoryBytes": memory}, "conditions": [
                {"type": "Ready", "status": ready, "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    fn machine(name: &str, host: Option<&str>) -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "VirtualMachine", "metadata": {"name": name},
            "spec": {"image": "i", "memory": "1Gi", "host": host},
        }))
        .unwrap()
    }

    fn image(host: Option<&str>) -> Image {
        serde_json::from_value(json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Image", "metadata": {"name": "i"},
            "spec": {"debian": {}, "host": host},
        }))
        .unwrap()
    }

    #[test]
    fn the_ready_host_with_the_least_promised_wins() {
        let hosts = [host("a", 8 << 30, "True"), host("b", 8 << 30, "True"), host("c", 8 << 30, "False")];
        let there = [machine("x", Some("a"))];
        assert_eq!(place(&machine("m", None), &[], Some(&image(None)), &hosts, &there), Ok("b".to_owned()));
        assert_eq!(place(&machine("m", None), &[], Some(&image(Some("a"))), &hosts, &there), Ok("a".to_owned()));
    }

    #[test]
    fn no_place_says_why() {
        let small = [host("a", 1 << 30, "True")];
        let full = [machine("x", Some("a"))];
        for (image, hosts, wanted) in [
            (None, &small[..], "spec.image: Image i does not exist; create it"),
            (Some(image(None)), &[][..], "no host is ready; start an agent"),
            (Some(image(Some("z"))), &small[..], "host z, which has the image or the volumes, is not ready"),
            (
                Some(image(None)),
                &small[..],
                "no host has room: a has 1073741824 bytes of memory, 1073741824 promised, 1073741824 wanted",
            ),
        ] {
            assert_eq!(place(&machine("m", None), &[], image.as_ref(), hosts, &full).unwrap_err(), wanted);
        }
    }
}
