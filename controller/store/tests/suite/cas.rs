//! Compare-and-swap, as the API server relies on it.

use anyhow::Result;
use bytes::Bytes;
use store::{Error, Revision, Store};

use crate::lab::Lab;

const KEY: &str = "/registry/x.dev/things/n/a";

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn a_sole_writer_and_a_replica_keep_the_same_contract() -> Result<()> {
    let lab = Lab::new().await?;
    for store in [Store::connect(lab.etcd.store_options()).await?, lab.replica().await?] {
        creates_once(&store).await?;
        updates_only_what_was_expected(&store).await?;
        deletes_only_what_was_expected(&store).await?;
        refuses_what_is_no_key(&store).await?;
    }
    Ok(())
}

async fn creates_once(store: &Store) -> Result<()> {
    let made = store.create(KEY, value("one")).await?;
    assert_eq!((&*made.key, &made.value), (KEY, &value("one")));
    assert_eq!(made.create_revision, made.mod_revision);
    match store.create(KEY, value("two")).await {
        Err(Error::AlreadyExists { current }) => {
            assert_eq!((current.mod_revision, &current.value), (made.mod_revision, &value("one")));
        }
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}

async fn updates_only_what_was_expected(store: &Store) -> Result<()> {
    let first = store.get(KEY).await?.expect("was created");
    let second = store.update(KEY, value("two"), first.mod_revision).await?;
    assert_eq!(second.create_revision, first.create_revision);
    assert!(second.mod_revision > first.mod_revision);
    for stale in [first.mod_revision, Revision::ZERO, second.mod_revision.next()] {
        match store.update(KEY, value("three"), stale).await {
            Err(Error::Conflict { expected, current }) => {
                assert_eq!((expected, current.mod_revision), (stale, second.mod_revision));
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
    let nowhere = store.update("/registry/x.dev/things/n/none", value("x"), Revision::new(1)).await;
    assert!(matches!(nowhere, Err(Error::NotFound { .. })), "{nowhere:?}");
    let nowhere = store.update("/registry/x.dev/things/n/none", value("x"), Revision::ZERO).await;
    assert!(matches!(nowhere, Err(Error::NotFound { .. })), "{nowhere:?}");
    Ok(())
}

async fn deletes_only_what_was_expected(store: &Store) -> Result<()> {
    let current = store.get(KEY).await?.expect("was updated");
    let stale = store.delete(KEY, current.create_revision).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    let gone = store.delete(KEY, current.mod_revision).await?;
    assert!(gone > current.mod_revision);
    assert!(store.get(KEY).await?.is_none() && store.get_stale(KEY).is_none());
    let again = store.delete(KEY, current.mod_revision).await;
    assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}");
    let reborn = store.create(KEY, value("new")).await?;
    assert!(reborn.create_revision > gone);
    store.delete(KEY, reborn.mod_revision).await?;
    Ok(())
}

async fn refuses_what_is_no_key(store: &Store) -> Result<()> {
    for key in ["/other/a", "/registry/", "/registry/~store/fence"] {
        let refused = store.create(key, Bytes::new()).await;
        assert!(matches!(refused, Err(Error::InvalidKey { .. })), "{key}: {refused:?}");
    }
    let large = store.create(KEY, Bytes::from(vec![b'x'; 2 << 20])).await;
    assert!(matches!(large, Err(Error::TooLarge { .. })), "{large:?}");
    let largest = store.create(KEY, Bytes::from(vec![b'x'; (3 << 19) - 4096])).await?;
    store.delete(KEY, largest.mod_revision).await?;
    Ok(())
}

#[tokio::test]
async fn of_many_who_swap_one_key_exactly_one_wins_each_round() -> Result<()> {
    let lab = Lab::new().await?;
    let stores = [lab.replica().await?, lab.replica().await?];
    let mut current = stores[0].create(KEY, value("0")).await?.mod_revision;
    for _ in 0..20 {
        let swaps = (0..16).map(|i| stores[i % 2].update(KEY, Bytes::from(i.to_string()), current));
        let results = futures::future::join_all(swaps).await;
        let won: Vec<_> = results.iter().flatten().collect();
        assert_eq!(won.len(), 1);
        current = won[0].mod_revision;
    }
    Ok(())
}

#[tokio::test]
async fn a_thousand_writes_at_once_wait_their_turn() -> Result<()> {
    let lab = Lab::new().await?;
    // The last one waits for all the others, on however slow a machine.
    let timeout = std::time::Duration::from_secs(120);
    let options = store::StoreOptions { in_flight: 4, timeout, ..lab.etcd.store_options() };
    let store = Store::connect(options).await?;
    let keys: Vec<String> = (0..1000).map(|i| format!("/registry/x.dev/things/n/{i:04}")).collect();
    let writes = keys.iter().map(|key| store.create(key, value("x")));
    futures::future::try_join_all(writes).await?;
    let (entries, _) = store.list("/registry/x.dev/", store::Consistency::Linearizable).await?;
    assert_eq!(entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), keys);
    Ok(())
}
