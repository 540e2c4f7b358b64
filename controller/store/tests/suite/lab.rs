//! One etcd and what a test does with it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_client::{Certificate, Client, ConnectOptions, GetOptions, Identity, TlsOptions};
use futures::StreamExt;
use store::{Etcd, EtcdOptions, Event, Revision, Store, StoreOptions, Watch, WatchItem};
use testkit::Scratch;

/// Longest wait for anything that should happen at once.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Lab {
    pub etcd: Etcd,
    pub scratch: Scratch,
}

impl Lab {
    pub async fn new() -> Result<Lab> {
        let scratch = Scratch::new()?;
        let etcd = Etcd::start(options(&scratch)).await?;
        Ok(Lab { etcd, scratch })
    }

    /// A store that shares etcd with others.
    pub async fn replica(&self) -> Result<Store> {
        Ok(Store::connect(self.replica_options()).await?)
    }

    pub fn replica_options(&self) -> StoreOptions {
        StoreOptions { sole_writer: false, ..self.etcd.store_options() }
    }

    /// etcd itself, past the store.
    pub async fn raw(&self) -> Result<Client> {
        let files = self.etcd.tls();
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(std::fs::read(files.ca)?))
            .identity(Identity::from_pem(std::fs::read(files.cert)?, std::fs::read(files.key)?));
        let options = ConnectOptions::new().with_tls(tls);
        Ok(Client::connect(self.etcd.endpoints(), Some(options)).await?)
    }

    /// What etcd holds under `prefix`: key, value and `mod_revision`.
    pub async fn truth(&self, prefix: &str) -> Result<Vec<(String, Bytes, Revision)>> {
        let mut answer = self.raw().await?.get(prefix, Some(GetOptions::new().with_prefix())).await?;
        let entries = answer.take_kvs().into_iter().map(|kv| {
            let modified = Revision::new(kv.mod_revision().try_into()?);
            Ok((kv.key_str()?.to_owned(), Bytes::copy_from_slice(kv.value()), modified))
        });
        entries.collect()
    }
}

pub fn options(scratch: &Scratch) -> EtcdOptions {
    EtcdOptions {
        binary: None,
        data_dir: scratch.join("etcd"),
        pki_dir: scratch.join("pki"),
        log: scratch.join("etcd.log"),
        quota: None,
    }
}

/// The next event, progress aside.
pub async fn next_event(watch: &mut Watch) -> Result<Event> {
    loop {
        let item = tokio::time::timeout(SOON, watch.next()).await.context("no event came")?;
        if let WatchItem::Event(event) = item.context("the watch ended")?? {
            return Ok(event);
        }
    }
}

/// Events up to and including the one at `last`.
pub async fn events_until(watch: &mut Watch, last: Revision) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.revision() < last) {
        events.push(next_event(watch).await?);
    }
    Ok(events)
}

/// Revisions grow, and each event's previous state is the one that the event before it made.
pub fn ensure_unbroken(events: &[Event]) -> Result<()> {
    let mut states = std::collections::HashMap::new();
    for pair in events.windows(2) {
        ensure!(pair[0].revision() < pair[1].revision(), "out of order: {pair:?}");
    }
    for event in events {
        let before = event.previous.as_ref().map(|entry| entry.mod_revision);
        if let Some(known) = states.insert(event.entry.key.clone(), event) {
            let there = known.kind == store::EventKind::Put;
            ensure!(before == there.then(|| known.revision()), "{known:?} is not followed by {event:?}");
        }
    }
    Ok(())
}
