//! One machine: from its object to QEMU's answer, beside the same QEMU started by hand.
//!
//! Ours is the time from sending the object to hearing, through a watch, that the machine runs: the agent says so once
//! QEMU's monitor has answered. By hand it is the time from starting the program to the same answer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::ResourceExt;
use serde_json::json;

use crate::bare::machine::{self, Machine};
use crate::bare::template::Template;
use crate::figure::{Report, Sample};
use crate::lab::Lab;
use crate::manifest::BASE_IMAGE;

const LIMIT: Duration = Duration::from_secs(180);

/// Starts one machine after another, in turn by us and by hand.
pub async fn measure(lab: &Lab, machines: usize, report: &mut Report) -> Result<()> {
    lab.images().await?;
    let (mut ours, mut start, mut disk, mut bare, mut writes) =
        (Sample::default(), Sample::default(), Sample::default(), Sample::default(), Sample::default());
    for number in 0..machines {
        eprintln!("bench: machine {} of {machines}", number + 1);
        let name = format!("bench-{number}");
        // The last one is let boot, to count its writes until it is ready.
        let run = one(lab, &name, number + 1 == machines).await?;
        ours.add(run.running);
        start.add(run.monitor);
        run.writes.into_iter().for_each(|count| writes.add(count as f64));
        let dir = lab.scratch().join("monitor");
        let begun = Instant::now();
        let disks = machine::prepare(&run.template, &dir)?;
        disk.add(milliseconds(begun));
        let begun = Instant::now();
        let mut machine = Machine::start(&run.template, &dir, &disks, None)?;
        machine.answers().await?;
        bare.add(milliseconds(begun));
        machine.end().await?;
    }
    report.add("VM object → Running seen", "ms", &ours, Some(&bare), "150 ms more");
    report.note(
        "raw: program started → monitor takes commands; ours ends with the write of the status and its watch event",
    );
    report.add("agent: taps, QEMU, monitor", "ms", &start, Some(&bare), "part of the above");
    report.note("status.monitorReadyMilliseconds");
    report.add("overlay made by hand", "ms", &disk, None, "not in raw");
    report.add("writes of a VM until Ready", "writes", &writes, None, "8");
    Ok(())
}

struct Run {
    running: f64,
    monitor: f64,
    writes: Option<usize>,
    template: Template,
}

async fn one(lab: &Lab, name: &str, to_the_end: bool) -> Result<Run> {
    let mut watch = lab.watch(&["VirtualMachine"]).await?;
    let mut versions = HashSet::new();
    let begun = Instant::now();
    let object = json!({
        "apiVersion": "photoncloud.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"image": BASE_IMAGE, "memory": "128Mi", "terminationGracePeriodSeconds": 0},
    });
    lab.create(&object).await?;
    let mut count = |seen: &crate::watch::Seen| versions.insert(seen.object.resource_version());
    let seen = watch
        .until(LIMIT, "running machine", |seen| {
            count(seen);
            seen.object.data["status"]["phase"] == "Running"
        })
        .await?;
    let running = seen.at.duration_since(begun).as_secs_f64() * 1e3;
    let monitor = seen.object.data["status"]["monitorReadyMilliseconds"].as_f64();
    let monitor = monitor.context("the status has no monitorReadyMilliseconds")?;
    let template = Template::of(lab.dir(), &seen.object.uid().unwrap_or_default())?;
    if to_the_end && !seen.has("Ready") {
        watch
            .until(LIMIT, "ready machine", |seen| {
                count(seen);
                seen.has("Ready")
            })
            .await?;
    }
    lab.delete("VirtualMachine", name, &["VirtualMachine"]).await?;
    Ok(Run { running, monitor, writes: to_the_end.then_some(versions.len()), template })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
