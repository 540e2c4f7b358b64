//! Encryption at rest: judged by what etcd itself holds.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use store::{Consistency, Error, KeyFile, Keyring, Sealing, Store, StoreOptions};

use crate::lab::{Lab, SOON};

const SECRET: &str = "/registry/secrets/n/a";
const OTHER: &str = "/registry/secrets/n/b";
const PLAIN: &str = "/registry/configmaps/n/a";
const WORDS: &[u8] = br#"{"data":"open sesame"}"#;

fn key_file(lab: &Lab) -> KeyFile {
    KeyFile::new(lab.scratch.join("keys.json"))
}

fn sealed(lab: &Lab, file: &KeyFile) -> Result<StoreOptions> {
    let keyring = Arc::new(Keyring::load_or_create(file)?);
    let sealing = Some(Sealing { keyring, folders: vec!["secrets/".to_owned()] });
    Ok(StoreOptions { sealing, ..lab.replica_options() })
}

async fn stored(lab: &Lab, key: &str) -> Result<Bytes> {
    let found = lab.truth(key).await?;
    Ok(found.into_iter().find(|(known, ..)| known == key).context("not stored")?.1)
}

/// Waits until what etcd holds is as expected.
async fn until(lab: &Lab, key: &str, settled: impl Fn(&[u8]) -> bool) -> Result<Bytes> {
    let poll = async {
        loop {
            let now = stored(lab, key).await?;
            if settled(&now) {
                return Ok::<_, anyhow::Error>(now);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.with_context(|| format!("{key} never settled"))?
}

fn shows(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

#[tokio::test]
async fn etcd_never_sees_a_secret_and_every_replica_reads_it() -> Result<()> {
    let lab = Lab::new().await?;
    let file = key_file(&lab);
    let (writer, reader) = (Store::connect(sealed(&lab, &file)?).await?, Store::connect(sealed(&lab, &file)?).await?);
    let made = writer.create(SECRET, Bytes::from_static(WORDS)).await?;
    writer.create(PLAIN, Bytes::from_static(WORDS)).await?;
    ensure!(!shows(&stored(&lab, SECRET).await?, "sesame"), "the plain value is in etcd");
    ensure!(shows(&stored(&lab, PLAIN).await?, "sesame"));
    ensure!(reader.get(SECRET).await?.context("lost")?.value == WORDS);
    let changed = writer.update(SECRET, Bytes::from_static(b"{\"data\":\"sesame 2\"}"), made.mod_revision).await?;
    ensure!(!shows(&stored(&lab, SECRET).await?, "sesame"));
    ensure!(reader.get(SECRET).await?.context("lost")?.value == changed.value);
    ensure!(reader.verify().await? == 0);
    Ok(())
}

#[tokio::test]
async fn what_was_stored_plain_is_read_and_then_sealed() -> Result<()> {
    let lab = Lab::new().await?;
    lab.raw().await?.put(SECRET, WORDS, None).await?;
    let store = Store::connect(sealed(&lab, &key_file(&lab))?).await?;
    ensure!(store.get(SECRET).await?.context("lost")?.value == WORDS);
    until(&lab, SECRET, |bytes| !shows(bytes, "sesame")).await?;
    ensure!(store.get(SECRET).await?.context("lost")?.value == WORDS);
    Ok(())
}

#[tokio::test]
async fn a_new_first_key_is_taken_up_and_seals_everything_anew() -> Result<()> {
    let lab = Lab::new().await?;
    let file = key_file(&lab);
    let store = Store::connect(sealed(&lab, &file)?).await?;
    for key in [SECRET, OTHER] {
        store.create(key, Bytes::from_static(WORDS)).await?;
    }
    let new = file.stage()?;
    file.promote(&new)?;
    for key in [SECRET, OTHER] {
        until(&lab, key, |bytes| shows(bytes, &new)).await?;
    }
    // The old key is of no more use.
    ensure!(file.prune(&[])?.len() == 1);
    let fresh = Store::connect(sealed(&lab, &file)?).await?;
    ensure!(fresh.list("/registry/secrets/", Consistency::Linearizable).await?.0.iter().all(|e| e.value == WORDS));
    Ok(())
}

#[tokio::test]
async fn values_cannot_be_swapped_behind_our_back() -> Result<()> {
    let lab = Lab::new().await?;
    let file = key_file(&lab);
    let store = Store::connect(sealed(&lab, &file)?).await?;
    store.create(SECRET, Bytes::from_static(WORDS)).await?;
    store.create(OTHER, Bytes::from_static(b"{}")).await?;
    let taken = stored(&lab, SECRET).await?;
    lab.raw().await?.put(OTHER, taken.to_vec(), None).await?;
    let read = store.get(OTHER).await?.context("lost")?.value.clone();
    ensure!(!shows(&read, "sesame"), "a copied value was opened");
    let error = Store::connect(sealed(&lab, &file)?).await.err().context("a copied value was accepted")?;
    ensure!(matches!(&error, Error::Closed { key, .. } if key == OTHER), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn another_key_file_is_refused_at_the_start() -> Result<()> {
    let lab = Lab::new().await?;
    Store::connect(sealed(&lab, &key_file(&lab))?).await?.create(SECRET, Bytes::from_static(WORDS)).await?;
    let other = KeyFile::new(lab.scratch.join("other.json"));
    let error = Store::connect(sealed(&lab, &other)?).await.err().context("connected")?;
    ensure!(matches!(&error, Error::Closed { key, .. } if key == SECRET), "{error:?}");
    ensure!(error.to_string().contains("key file"), "{error}");
    ensure!(!shows(&stored(&lab, SECRET).await?, "sesame"), "the value was replaced");
    Ok(())
}
