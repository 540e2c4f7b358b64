//! Watches: complete, in order, and honest about what they lost.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use store::{Consistency, Error, EventKind, History, Lagged, Revision, Store, WatchItem};

use crate::lab::{Lab, SOON, ensure_unbroken, events_until, next_event};

const THINGS: &str = "/registry/x.dev/things/";

#[tokio::test]
async fn every_change_of_concurrent_writers_is_seen_once_and_in_order() -> Result<()> {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 40;
    let lab = Lab::new().await?;
    let stores = [lab.replica().await?, lab.replica().await?];
    let from = stores[0].list(THINGS, Consistency::Linearizable).await?.1;
    let mut watches = vec![stores[0].watch(THINGS, from)?, stores[1].watch(THINGS, from)?];
    let writer = async |name: usize| -> Result<Vec<Revision>> {
        let (store, key) = (&stores[name % 2], format!("{THINGS}n/{name}"));
        let mut revisions = Vec::new();
        for _ in 0..ROUNDS / 4 {
            let made = store.create(&key, Bytes::from_static(b"a")).await?;
            let changed = store.update(&key, Bytes::from_static(b"b"), made.mod_revision).await?;
            let again = store.update(&key, Bytes::from_static(b"c"), changed.mod_revision).await?;
            let gone = store.delete(&key, again.mod_revision).await?;
            revisions.extend([made.mod_revision, changed.mod_revision, again.mod_revision, gone]);
        }
        Ok(revisions)
    };
    let written = futures::future::try_join_all((0..WRITERS).map(writer)).await?;
    let mut written = written.concat();
    written.sort();
    let last = *written.last().context("nothing written")?;
    // One that starts in the middle of the past sees the second half.
    let middle = written[written.len() / 2];
    watches.push(stores[0].watch(THINGS, middle)?);
    for (watch, start) in watches.iter_mut().zip([from, from, middle]) {
        let events = events_until(watch, last).await?;
        ensure_unbroken(&events)?;
        let seen: Vec<_> = events.iter().map(store::Event::revision).collect();
        let due: Vec<_> = written.iter().copied().filter(|at| *at > start).collect();
        assert_eq!(seen, due);
    }
    Ok(())
}

#[tokio::test]
async fn a_deletion_tells_what_was_there() -> Result<()> {
    let lab = Lab::new().await?;
    let store = Store::connect(lab.etcd.store_options()).await?;
    let mut watch = store.watch(THINGS, store.revision())?;
    store.create("/registry/x.dev/other/n/a", Bytes::new()).await?;
    let made = store.create(&format!("{THINGS}n/a"), Bytes::from_static(b"x")).await?;
    let gone = store.delete(&made.key, made.mod_revision).await?;
    let put = next_event(&mut watch).await?;
    assert_eq!((put.kind, put.revision(), put.previous.is_none()), (EventKind::Put, made.mod_revision, true));
    let delete = next_event(&mut watch).await?;
    assert_eq!((delete.kind, delete.revision()), (EventKind::Delete, gone));
    assert_eq!(delete.previous.map(|entry| entry.value.clone()), Some(Bytes::from_static(b"x")));
    Ok(())
}

#[tokio::test]
async fn a_slow_watch_lags_and_disturbs_nobody() -> Result<()> {
    let lab = Lab::new().await?;
    let history = History { events: 50, bytes: usize::MAX };
    let store = Store::connect(store::StoreOptions { history, ..lab.etcd.store_options() }).await?;
    let from = store.revision();
    let mut slow = store.watch(THINGS, from)?;
    let mut idle = store.watch("/registry/x.dev/quiet/", from)?;
    let mut quick = store.watch(THINGS, from)?;
    for round in 0..200 {
        let made = store.create(&format!("{THINGS}n/{round}"), Bytes::new()).await?;
        assert_eq!(next_event(&mut quick).await?.revision(), made.mod_revision);
    }
    assert!(matches!(slow.next().await, Some(Err(Lagged))));
    assert!(slow.next().await.is_none());
    let quiet = store.create("/registry/x.dev/quiet/n/a", Bytes::new()).await?;
    assert_eq!(next_event(&mut idle).await?.revision(), quiet.mod_revision);
    match store.watch(THINGS, from) {
        Err(Error::Compacted { requested, oldest }) => assert!(requested == from && oldest > from),
        other => anyhow::bail!("{other:?}"),
    }
    let (_, now) = store.list(THINGS, Consistency::Any).await?;
    store.watch(THINGS, now)?;
    Ok(())
}

#[tokio::test]
async fn progress_is_told_only_when_there_is_some() -> Result<()> {
    let lab = Lab::new().await?;
    let options = store::StoreOptions { progress: Duration::from_millis(20), ..lab.etcd.store_options() };
    let store = Store::connect(options).await?;
    let mut watch = store.watch(THINGS, store.revision())?;
    let silent = tokio::time::timeout(Duration::from_millis(200), watch.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    let elsewhere = store.create("/registry/x.dev/other/n/a", Bytes::new()).await?.mod_revision;
    match tokio::time::timeout(SOON, watch.next()).await? {
        Some(Ok(WatchItem::Progress(revision))) => assert_eq!(revision, elsewhere),
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_ends_with_its_store() -> Result<()> {
    let lab = Lab::new().await?;
    let store = Store::connect(lab.etcd.store_options()).await?;
    let mut watch = store.watch(THINGS, store.revision())?;
    drop(store);
    assert!(tokio::time::timeout(SOON, watch.next()).await?.is_none());
    Ok(())
}
