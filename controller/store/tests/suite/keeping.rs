//! Looking after etcd: backup and restore judged by what etcd holds, and a quota that is really used up.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use store::{
    Consistency, Error, Etcd, EtcdOptions, Keeper, KeeperError, KeyFile, Keyring, Sealing, Store, StoreOptions,
};
use testkit::Scratch;

use crate::lab::{Lab, SOON, options};

fn sealed(options: StoreOptions, keys: &std::path::Path) -> Result<StoreOptions> {
    let keyring = Arc::new(Keyring::load_or_create(&KeyFile::new(keys))?);
    Ok(StoreOptions { sealing: Some(Sealing { keyring, folders: vec!["secrets/".to_owned()] }), ..options })
}

/// Some objects, one of them sealed and one rewritten.
async fn fill(store: &Store) -> Result<()> {
    for number in 0..250 {
        let value = format!("{{\"number\":{number},\"text\":\"ü \\n\"}}");
        store.create(&format!("/registry/x.dev/things/n/{number:04}"), value.into()).await?;
    }
    let first = store.create("/registry/configmaps/n/a", "{}".into()).await?;
    store.update("/registry/configmaps/n/a", "{\"v\":2}".into(), first.mod_revision).await?;
    store.create("/registry/secrets/n/a", "{\"data\":\"sesame\"}".into()).await?;
    Ok(())
}

#[tokio::test]
async fn a_restored_backup_is_what_was_saved_object_by_object() -> Result<()> {
    let (old, new) = (Lab::new().await?, Lab::new().await?);
    let keys = old.scratch.join("keys.json");
    let store = Store::connect(sealed(old.replica_options(), &keys)?).await?;
    fill(&store).await?;
    let file = old.scratch.join("backup.jsonl");
    let saved = Keeper::connect(&old.replica_options()).await?.backup(&file).await?;
    ensure!((saved.count(), saved.encryption_keys.len()) == (252, 1), "{saved:?}");
    let text = std::fs::read_to_string(&file)?;
    ensure!(!text.contains("sesame"), "the backup shows a secret");
    use std::os::unix::fs::PermissionsExt;
    ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);

    let keeper = Keeper::connect(&new.replica_options()).await?;
    let restored = keeper.restore(&file).await?;
    ensure!(saved.differing(&restored).is_empty() && restored.resources["x.dev/things"].count == 250, "{restored:?}");
    let values = |of: Vec<(String, Bytes, store::Revision)>| -> Vec<(String, Bytes)> {
        of.into_iter().filter(|(key, ..)| !key.contains('~')).map(|(key, value, _)| (key, value)).collect()
    };
    ensure!(values(old.truth("/registry/").await?) == values(new.truth("/registry/").await?));
    let again = Store::connect(sealed(new.replica_options(), &keys)?).await?;
    ensure!(again.get("/registry/secrets/n/a").await?.context("lost")?.value == "{\"data\":\"sesame\"}");
    // Made in the order of their making: who came first counts for some kinds.
    let (mut things, _) = again.list("/registry/x.dev/", Consistency::Linearizable).await?;
    things.sort_by_key(|entry| entry.create_revision);
    ensure!(things.windows(2).all(|pair| pair[0].key < pair[1].key));

    let error = keeper.restore(&file).await.err().context("restored over objects")?;
    ensure!(matches!(error, KeeperError::NotEmpty { count: 252 }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_damaged_backup_changes_nothing() -> Result<()> {
    let lab = Lab::new().await?;
    let store = lab.replica().await?;
    fill(&store).await?;
    let file = lab.scratch.join("backup.jsonl");
    Keeper::connect(&lab.replica_options()).await?.backup(&file).await?;
    let text = std::fs::read_to_string(&file)?;
    let lines: Vec<&str> = text.lines().collect();
    let other = Lab::new().await?;
    let keeper = Keeper::connect(&other.replica_options()).await?;
    let cases = [
        ("cut off", lines[..lines.len() - 1].join("\n")),
        ("one object less", [&lines[..9], &lines[10..]].concat().join("\n")),
        ("a changed value", text.replacen("\\\"number\\\":7,", "\\\"number\\\":8,", 1)),
        ("not ours", "{\"kind\": \"List\"}\n".to_owned()),
        ("empty", String::new()),
        ("a line after the end", format!("{text}{}\n", lines[3])),
    ];
    for (name, damaged) in cases {
        ensure!(damaged != text, "{name}: nothing is damaged");
        std::fs::write(&file, damaged)?;
        let error = keeper.restore(&file).await.err().context(name)?;
        ensure!(matches!(error, KeeperError::Damaged { .. }), "{name}: {error:?}");
        ensure!(other.truth("/").await?.is_empty(), "{name}: something was written");
    }
    Ok(())
}

#[tokio::test]
async fn half_a_restore_is_not_served_and_can_be_repeated() -> Result<()> {
    let lab = Lab::new().await?;
    fill(&lab.replica().await?).await?;
    let file = lab.scratch.join("backup.jsonl");
    Keeper::connect(&lab.replica_options()).await?.backup(&file).await?;
    let other = Lab::new().await?;
    let mut raw = other.raw().await?;
    // What a restore that was killed leaves: its mark, and some of the objects.
    raw.put("/registry/~store/restoring", "", None).await?;
    raw.put("/registry/x.dev/things/n/0001", "{}", None).await?;
    let error = Store::connect(other.replica_options()).await.err().context("half a restore was served")?;
    ensure!(matches!(error, Error::HalfRestored), "{error:?}");
    let restored = Keeper::connect(&other.replica_options()).await?.restore(&file).await?;
    ensure!(restored.count() == 252);
    ensure!(other.replica().await?.get("/registry/x.dev/things/n/0001").await?.context("lost")?.value.len() > 2);
    Ok(())
}

#[tokio::test]
async fn a_used_up_quota_is_told_and_there_is_a_way_out() -> Result<()> {
    let scratch = Scratch::new()?;
    let etcd = Etcd::start(EtcdOptions { quota: Some(4 << 20), ..options(&scratch) }).await?;
    let store = Store::connect(etcd.store_options()).await?;
    let (mut written, block) = (Vec::new(), Bytes::from(vec![b'x'; 256 << 10]));
    let error = loop {
        let key = format!("/registry/x.dev/things/n/{:03}", written.len());
        match store.create(&key, block.clone()).await {
            Ok(entry) => written.push(entry),
            Err(error) => break error,
        }
        ensure!(written.len() < 100, "the quota has no effect");
    };
    ensure!(matches!(error, Error::NoSpace) && error.to_string().contains("clusterctl store defrag"), "{error}");
    ensure!(store.is_full());
    let keeper = Keeper::connect(&etcd.store_options()).await?;
    ensure!(keeper.members().await?[0].alarms == ["NOSPACE"]);
    // Reads and deletions go on; the rest does when space was made and the alarm taken back.
    for entry in &written {
        ensure!(store.get(&entry.key).await?.is_some());
        store.delete(&entry.key, entry.mod_revision).await?;
    }
    ensure!(matches!(store.create("/registry/a/b/c", block.clone()).await, Err(Error::NoSpace)));
    let before = keeper.members().await?[0].size;
    keeper.compact().await?;
    keeper.defragment().await?;
    keeper.disarm().await?;
    let after = keeper.members().await?;
    ensure!(after[0].alarms.is_empty() && after[0].size * 2 < before, "{before} {after:?}");
    store.create("/registry/a/b/c", block).await?;
    let relieved = async {
        while store.is_full() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, relieved).await.context("still said to be full")?;
    etcd.stop().await?;
    Ok(())
}
