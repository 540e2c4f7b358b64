//! etcd as our child: it outlives us, it comes back, and its failures have names.

use anyhow::{Context, Result};
use bytes::Bytes;
use rustix::process::Signal;
use store::{Consistency, Etcd, EtcdError, EtcdOptions, Store};
use testkit::Scratch;

use crate::lab::{Lab, SOON, options};

const KEY: &str = "/registry/x.dev/things/n/a";

#[tokio::test]
async fn a_dropped_etcd_goes_on_and_is_adopted() -> Result<()> {
    let Lab { etcd, scratch } = Lab::new().await?;
    let store = Store::connect(etcd.store_options()).await?;
    store.create(KEY, Bytes::from_static(b"x")).await?;
    let (id, endpoints) = (etcd.process().context("runs")?, etcd.endpoints());
    drop((store, etcd));
    let again = Etcd::start(options(&scratch)).await?;
    assert!(again.was_adopted());
    assert_eq!((again.process(), again.endpoints()), (Some(id), endpoints));
    let store = Store::connect(again.store_options()).await?;
    assert!(store.get(KEY).await?.is_some());
    // A crash of ours between start and record leaves no record, and one etcd all the same.
    drop((store, again));
    std::fs::remove_file(scratch.join("etcd/process.json"))?;
    let found = Etcd::start(options(&scratch)).await?;
    assert_eq!((found.was_adopted(), found.process()), (true, Some(id)));
    found.stop().await?;
    assert!(!id.is_alive() && found.process().is_none());
    Ok(())
}

#[tokio::test]
async fn a_killed_etcd_comes_back_with_its_data() -> Result<()> {
    let lab = Lab::new().await?;
    let store = Store::connect(lab.replica_options()).await?;
    store.create(KEY, Bytes::from_static(b"x")).await?;
    let first = lab.etcd.process().context("runs")?;
    first.signal(Signal::KILL)?;
    first.exited().await;
    // A linearizable read needs etcd: it waits for the new one.
    assert!(store.get(KEY).await?.is_some());
    let second = lab.etcd.process().context("runs again")?;
    assert_ne!(first, second);
    lab.etcd.stop().await?;
    let third = Etcd::start(options(&lab.scratch)).await;
    assert!(matches!(third, Err(EtcdError::Locked { .. })), "{:?}", third.err());
    Ok(())
}

#[tokio::test]
async fn an_etcd_that_lost_its_past_is_followed_into_its_new_one() -> Result<()> {
    let lab = Lab::new().await?;
    let store = lab.replica().await?;
    for round in 0..5 {
        store.create(&format!("{KEY}{round}"), Bytes::new()).await?;
    }
    lab.etcd.stop().await?;
    let Lab { etcd, scratch } = lab;
    drop(etcd);
    std::fs::remove_dir_all(scratch.join("etcd/member"))?;
    let _etcd = Etcd::start(options(&scratch)).await?;
    let emptied = async {
        loop {
            if matches!(store.list("/registry/", Consistency::Any).await, Ok((entries, _)) if entries.is_empty()) {
                return store.create(KEY, Bytes::from_static(b"new")).await;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, emptied).await??;
    Ok(())
}

#[tokio::test]
async fn a_missing_program_is_named_with_its_remedy() -> Result<()> {
    let scratch = Scratch::new()?;
    let binary = Some(scratch.join("no-such-etcd"));
    let error = Etcd::start(EtcdOptions { binary, ..options(&scratch) }).await.err().context("started")?;
    assert!(matches!(error, EtcdError::Missing { .. }), "{error:?}");
    assert!(error.to_string().contains("apt-get install etcd-server"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_quoted() -> Result<()> {
    let scratch = Scratch::new()?;
    let binary = Some("/bin/false".into());
    let error = Etcd::start(EtcdOptions { binary, ..options(&scratch) }).await.err().context("started")?;
    assert!(matches!(error, EtcdError::Died { .. }) && error.retry(), "{error:?}");
    Ok(())
}
