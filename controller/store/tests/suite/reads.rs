//! Who sees what, and when.

use anyhow::Result;
use bytes::Bytes;
use store::{Consistency, Store};

use crate::lab::Lab;

#[tokio::test]
async fn a_read_sees_every_write_acknowledged_before_it_began() -> Result<()> {
    let lab = Lab::new().await?;
    let (writer, reader) = (lab.replica().await?, lab.replica().await?);
    for round in 0..200 {
        let key = format!("/registry/x.dev/things/n/{round}");
        let made = writer.create(&key, Bytes::from(round.to_string())).await?;
        assert_eq!(writer.get_stale(&key).map(|entry| entry.mod_revision), Some(made.mod_revision));
        assert_eq!(reader.get(&key).await?.map(|entry| entry.mod_revision), Some(made.mod_revision));
        let (entries, revision) = reader.list("/registry/x.dev/things/", Consistency::Linearizable).await?;
        assert_eq!(entries.len(), round + 1);
        assert!(revision >= made.mod_revision);
    }
    Ok(())
}

#[tokio::test]
async fn concurrent_writers_read_their_own_writes() -> Result<()> {
    let lab = Lab::new().await?;
    let store = Store::connect(lab.etcd.store_options()).await?;
    let writer = async |name: usize| -> Result<()> {
        let key = format!("/registry/x.dev/things/n/{name}");
        let mut entry = store.create(&key, Bytes::from_static(b"0")).await?;
        for round in 1..50 {
            entry = store.update(&key, Bytes::from(round.to_string()), entry.mod_revision).await?;
            assert_eq!(store.get(&key).await?.expect("exists").mod_revision, entry.mod_revision);
        }
        Ok(())
    };
    futures::future::try_join_all((0..16).map(writer)).await?;
    Ok(())
}

#[tokio::test]
async fn writes_elsewhere_in_etcd_do_not_hold_up_reads() -> Result<()> {
    let lab = Lab::new().await?;
    let (store, mut raw) = (lab.replica().await?, lab.raw().await?);
    for round in 0..20 {
        raw.put("/elsewhere", round.to_string(), None).await?;
        // One that is held up says so in the end: it is behind.
        assert!(store.get("/registry/x.dev/things/n/a").await?.is_none());
    }
    Ok(())
}

#[tokio::test]
async fn a_prefix_lists_what_is_under_it_and_nothing_beside() -> Result<()> {
    let lab = Lab::new().await?;
    let store = Store::connect(lab.etcd.store_options()).await?;
    for key in ["things/a/1", "things/a/2", "things/ab/1", "thingsx/a/1"] {
        store.create(&format!("/registry/x.dev/{key}"), Bytes::new()).await?;
    }
    let under = async |prefix: &str| -> Result<usize> { Ok(store.list(prefix, Consistency::Any).await?.0.len()) };
    assert_eq!(under(&store.keys().in_namespace("x.dev", "things", "a")).await?, 2);
    assert_eq!(under(&store.keys().collection("x.dev", "things")).await?, 3);
    assert_eq!(under("/registry/").await?, 4, "the store's own keys are hidden");
    Ok(())
}

#[tokio::test]
async fn a_later_store_loads_everything_page_by_page() -> Result<()> {
    let lab = Lab::new().await?;
    let first = Store::connect(lab.etcd.store_options()).await?;
    let keys: Vec<String> = (0..1203).map(|i| format!("/registry/x.dev/things/n/{i:04}")).collect();
    let writes = keys.iter().map(|key| first.create(key, Bytes::from_static(b"x")));
    futures::future::try_join_all(writes).await?;
    drop(first);
    let second = Store::connect(lab.etcd.store_options()).await?;
    let (entries, _) = second.list("/registry/", Consistency::Any).await?;
    assert_eq!(entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), keys);
    assert_eq!(second.verify().await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_entry_is_parsed_once_for_all_its_readers() -> Result<()> {
    let lab = Lab::new().await?;
    let store = Store::connect(lab.etcd.store_options()).await?;
    let made = store.create("/registry/x.dev/things/n/a", Bytes::from_static(b"7")).await?;
    let parse = |bytes: &Bytes| std::str::from_utf8(bytes).map(str::to_owned);
    let first = made.decoded(parse)?;
    let again = store.get(&made.key).await?.expect("exists").decoded(parse)?;
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    Ok(())
}

#[tokio::test]
async fn parsed_forms_are_kept_up_to_a_bound() -> Result<()> {
    let lab = Lab::new().await?;
    let store = Store::connect(lab.etcd.store_options()).await?;
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    let parse = |bytes: &Bytes| std::str::from_utf8(bytes).map(str::len);
    let (mut entries, mut forms) = (Vec::new(), Vec::new());
    for name in ["a", "b", "c", "d", "e", "f"] {
        let made = store.create(&format!("/registry/x.dev/things/n/{name}"), large.clone()).await?;
        forms.push(std::sync::Arc::downgrade(&made.decoded(parse)?));
        entries.push(made);
    }
    let kept: Vec<bool> = forms.iter().map(|form| form.upgrade().is_some()).collect();
    assert_eq!(kept, [false, false, true, true, true, true], "those of the newest 4 MiB");
    assert_eq!(*entries[0].decoded(parse)?, 1 << 20, "an older one is parsed anew");
    Ok(())
}
