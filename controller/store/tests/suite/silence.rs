//! A member of etcd that says nothing, whose connections look alive: others are asked, and what it was told before is void.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use store::{Consistency, Store, StoreOptions};

use crate::lab::{Lab, next_event};
use crate::wire::Wire;

const PREFIX: &str = "/registry/x.dev/things/";
/// Shorter than it takes to notice by the connection that nobody is there (keep-alive: 12 s).
const PATIENCE: Duration = Duration::from_secs(11);

/// To a store that reaches it by three wires, one etcd is three members.
async fn three_ways(lab: &Lab) -> Result<(Vec<Wire>, Store)> {
    let endpoint = &lab.etcd.endpoints()[0];
    let wires = vec![Wire::to(endpoint).await?, Wire::to(endpoint).await?, Wire::to(endpoint).await?];
    let endpoints = wires.iter().map(Wire::endpoint).collect();
    let options = StoreOptions { endpoints, timeout: PATIENCE, ..lab.replica_options() };
    Ok((wires, Store::connect(options).await?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_falls_silent_costs_no_answer() -> Result<()> {
    let lab = Lab::new().await?;
    let (wires, store) = three_ways(&lab).await?;
    let other = lab.replica().await?;
    let mut watch = store.watch(PREFIX, store.revision())?;
    // One after the other: at least once it is the one that everything is asked of.
    for (number, wire) in wires.iter().enumerate() {
        wire.stall();
        let own = store.create(&format!("{PREFIX}n/own-{number}"), Bytes::new()).await?;
        let theirs = other.create(&format!("{PREFIX}n/theirs-{number}"), Bytes::new()).await?;
        ensure!(store.get(&theirs.key).await?.is_some(), "another's write is not seen");
        let past = store.list_at(PREFIX, theirs.mod_revision).await?;
        ensure!(past.is_some_and(|past| past.len() == number + 2), "the past is another");
        let removed = other.delete(&own.key, own.mod_revision).await?;
        for expected in [own.mod_revision, theirs.mod_revision, removed] {
            ensure!(next_event(&mut watch).await?.revision() == expected, "an event is missing");
        }
        // What was kept on the wire goes to etcd now: a first attempt to create what has been created and removed since.
        wire.resume();
    }
    ensure!(store.verify().await? == 0, "the cache differs from a full list");
    let (entries, _) = store.list(PREFIX, Consistency::Linearizable).await?;
    let left = entries.iter().filter(|entry| entry.key.contains("own")).count();
    ensure!(left == 0, "an attempt that had been given up was made later");
    Ok(())
}
