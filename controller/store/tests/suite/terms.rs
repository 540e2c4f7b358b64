//! Terms of leadership: the store itself keeps a superseded leader from writing.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use store::{Error, Revision};

use crate::lab::Lab;

const LEASE: &str = "/registry/coordination.k8s.io/leases/n/leader";
const KEY: &str = "/registry/x.dev/things/n/a";

#[tokio::test]
async fn a_superseded_leader_writes_nothing_whatever_it_tries() -> Result<()> {
    let lab = Lab::new().await?;
    let (one, two) = (lab.replica().await?, lab.replica().await?);
    let lease = one.create(LEASE, Bytes::from_static(b"one")).await?;
    let old = one.under(one.begin_term(LEASE, lease.mod_revision, "one").await?);
    let made = old.create(KEY, Bytes::from_static(b"1")).await?;
    let made = old.update(KEY, Bytes::from_static(b"2"), made.mod_revision).await?;

    let taken = two.update(LEASE, Bytes::from_static(b"two"), lease.mod_revision).await?;
    let new = two.under(two.begin_term(LEASE, taken.mod_revision, "two").await?);
    let refused = [
        old.create("/registry/x.dev/things/n/b", Bytes::new()).await.err(),
        old.update(KEY, Bytes::from_static(b"stale"), made.mod_revision).await.err(),
        old.delete(KEY, made.mod_revision).await.err(),
    ];
    for error in refused {
        ensure!(matches!(error, Some(Error::Deposed)), "{error:?}");
    }
    let truth = lab.truth("/registry/x.dev/").await?;
    ensure!(truth.len() == 1 && truth[0].1 == "2", "{truth:?}");
    new.update(KEY, Bytes::from_static(b"3"), made.mod_revision).await?;
    // Clients' requests have no term: any server may make their writes.
    let now = one.get(KEY).await?.context("lost")?;
    one.update(KEY, Bytes::from_static(b"4"), now.mod_revision).await?;
    ensure!(lab.truth(KEY).await?[0].1 == "4");
    Ok(())
}

#[tokio::test]
async fn a_term_begins_only_while_its_lease_is_as_it_was_taken() -> Result<()> {
    let lab = Lab::new().await?;
    let store = lab.replica().await?;
    let lease = store.create(LEASE, Bytes::from_static(b"one")).await?;
    let first = store.begin_term(LEASE, lease.mod_revision, "one").await?;
    store.update(LEASE, Bytes::from_static(b"two"), lease.mod_revision).await?;
    for revision in [lease.mod_revision, Revision::ZERO] {
        let late = store.begin_term(LEASE, revision, "one").await.err();
        ensure!(matches!(late, Some(Error::Deposed)), "{late:?}");
    }
    // The late comer has not ended the term of who is there.
    store.under(first).create(KEY, Bytes::new()).await?;
    Ok(())
}
