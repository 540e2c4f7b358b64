//! One machine: from its object to QEMU's answer, beside the same QEMU started by hand.
//!
//! Ours is the time from sending the object to hearing, through a watch, that the machine runs: the agent says so once
//! QEMU's monitor has answered. By hand it is the time from starting the program to the same answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::ResourceExt;
use serde_json::json;

use crate::bare::machine::{self, Machine};
use crate::bare::template::Template;
use crate::figure::{Report, Sample};
use crate::lab::Lab;
use crate::manifest::BASE_IMAGE;
use crate::watch::Seen;

const LIMIT: Duration = Duration::from_secs(180);

/// Starts one machine after another, in turn by us and by hand.
pub async fn measure(lab: &Lab, machines: usize, report: &mut Report) -> Result<()> {
    lab.images().await?;
    let (mut ours, mut start, mut disk, mut bare) =
        (Sample::default(), Sample::default(), Sample::default(), Sample::default());
    let mut versions = Vec::new();
    for number in 0..machines {
        eprintln!("bench: machine {} of {machines}", number + 1);
        let name = format!("bench-{number}");
        // The last one is let boot, to count its writes until it is ready.
        let run = one(lab, &name, number + 1 == machines).await?;
        ours.add(run.running);
        start.add(run.monitor);
        versions = run.versions.unwrap_or_default();
        let dir = lab.scratch().join("monitor");
        let begun = Instant::now();
        let disks = machine::prepare(&run.template, &dir)?;
        disk.add(since(begun, Instant::now()));
        let begun = Instant::now();
        let mut machine = Machine::start(&run.template, &dir, &disks, None)?;
        machine.answers().await?;
        bare.add(since(begun, Instant::now()));
        machine.end().await?;
    }
    report.add("VM object → Running seen", "ms", &ours, Some(&bare), "150 ms more");
    report.note(
        "raw: program started → monitor takes commands; ours ends with the write of the status and its watch event",
    );
    report.add("agent: taps, QEMU, monitor", "ms", &start, Some(&bare), "part of the above");
    report.note("status.monitorReadyMilliseconds");
    report.add("overlay made by hand", "ms", &disk, None, "not in raw");
    report.add("writes of a VM until Ready", "writes", &Sample::one(versions.len() as f64), None, "8");
    report.note(format!("versions seen, in ms from the create: {}", versions.join(", ")));
    Ok(())
}

struct Run {
    running: f64,
    monitor: f64,
    versions: Option<Vec<String>>,
    template: Template,
}

async fn one(lab: &Lab, name: &str, to_the_end: bool) -> Result<Run> {
    let mut watch = lab.watch(&["VirtualMachine"]).await?;
    let mut versions = Vec::new();
    let begun = Instant::now();
    let object = json!({
        "apiVersion": "photoncloud.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"image": BASE_IMAGE, "memory": "128Mi", "terminationGracePeriodSeconds": 0},
    });
    lab.create(&object).await?;
    let mut note = |seen: &Seen| versions.push(format!("{} at {:.0}", said_by(seen), since(begun, seen.at)));
    let seen = watch
        .until(LIMIT, "running machine", |seen| {
            note(seen);
            seen.object.data["status"]["phase"] == "Running"
        })
        .await?;
    let running = since(begun, seen.at);
    let monitor = seen.object.data["status"]["monitorReadyMilliseconds"].as_f64();
    let monitor = monitor.context("the status has no monitorReadyMilliseconds")?;
    let template = Template::of(lab.dir(), &seen.object.uid().unwrap_or_default())?;
    if to_the_end && !seen.has("Ready") {
        watch
            .until(LIMIT, "ready machine", |seen| {
                note(seen);
                seen.has("Ready")
            })
            .await?;
    }
    lab.delete("VirtualMachine", name, &["VirtualMachine"]).await?;
    Ok(Run { running, monitor, versions: to_the_end.then_some(versions), template })
}

fn since(begun: Instant, at: Instant) -> f64 {
    at.duration_since(begun).as_secs_f64() * 1e3
}

/// What a version of a machine is about, as far as its phase and binding tell.
fn said_by(seen: &Seen) -> String {
    let object = &seen.object;
    let phase = object.data["status"]["phase"].as_str();
    match phase {
        Some(phase) if seen.has("Ready") => format!("{phase}, ready"),
        Some(phase) => phase.to_owned(),
        None if !object.finalizers().is_empty() => "claimed".to_owned(),
        None if object.data["spec"]["host"].is_string() => "bound".to_owned(),
        None => "created".to_owned(),
    }
}
