//! Writes while etcd is killed or out of reach: none acknowledged is lost, none is made twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_client::CompactionOptions;
use futures::StreamExt;
use rustix::process::Signal;
use store::{Consistency, Entry, Error, Event, Revision, Store, StoreOptions, Watch, WatchItem};
use tokio::sync::watch;

use crate::lab::{Lab, SOON, ensure_unbroken};
use crate::wire::Wire;

const PREFIX: &str = "/registry/x.dev/things/";
const WRITERS: usize = 6;
const WRITES: usize = 120;
const BLOWS: usize = 4;

/// A number generator that a failure can be repeated with: set `STORE_SEED` to what the test printed.
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let given = std::env::var("STORE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = given.unwrap_or(now.subsec_nanos().into());
        println!("STORE_SEED={seed}");
        Random(seed | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }
}

/// What one writer was told.
#[derive(Default)]
struct Told {
    acknowledged: Vec<(String, Revision)>,
    unknown: Vec<String>,
}

/// Creates or updates one key again and again, each time with another value.
async fn write(store: Store, name: usize, count: Arc<watch::Sender<usize>>) -> Result<Told> {
    let key = format!("{PREFIX}n/{name}");
    let mut told = Told::default();
    let mut current: Option<Entry> = None;
    for round in 0..WRITES {
        let value = format!("{name}-{round}");
        let result = match &current {
            None => store.create(&key, value.clone().into()).await,
            Some(entry) => store.update(&key, value.clone().into(), entry.mod_revision).await,
        };
        match result {
            Ok(entry) => {
                told.acknowledged.push((value, entry.mod_revision));
                current = Some(entry);
                count.send_modify(|count| *count += 1);
            }
            Err(Error::Indeterminate { .. } | Error::Unavailable { .. }) => {
                told.unknown.push(value);
                current = store.get(&key).await?;
            }
            // This key has one writer: a conflict would mean that a write of its own came back.
            Err(other) => return Err(other).context(format!("{key} round {round}")),
        }
    }
    Ok(told)
}

async fn collect(mut watch: Watch) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    while let Some(item) = watch.next().await {
        match item? {
            WatchItem::Event(event) if event.entry.key.ends_with("/end") => return Ok(events),
            WatchItem::Event(event) => events.push(event),
            WatchItem::Progress(_) => {}
        }
    }
    anyhow::bail!("the watch ended")
}

/// Runs writers and a watch, strikes `BLOWS` times when a random number of writes has been made, and judges.
async fn survive(lab: &Lab, store: Store, mut strike: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let mut random = Random::seeded();
    let events = tokio::spawn(collect(store.watch(PREFIX, store.revision())?));
    let count = Arc::new(watch::Sender::new(0));
    let writers: Vec<_> = (0..WRITERS).map(|name| tokio::spawn(write(store.clone(), name, count.clone()))).collect();
    let mut counted = count.subscribe();
    for blow in 0..BLOWS {
        let after = WRITERS * WRITES * blow / (BLOWS + 1) + random.below(WRITERS * WRITES / (BLOWS + 2));
        // Writers that end early have failed, which the join below reports.
        let _ = tokio::time::timeout(SOON, counted.wait_for(|count| *count >= after)).await;
        strike().await?;
    }
    let mut told = Vec::new();
    for writer in writers {
        told.push(writer.await??);
    }
    store.create(&format!("{PREFIX}n/end"), Bytes::new()).await?;
    let events = tokio::time::timeout(SOON, events).await.context("the watch is incomplete")???;
    judge(&told, &events)?;
    let known: Vec<_> = store.list(PREFIX, Consistency::Linearizable).await?.0;
    let known: Vec<_> =
        known.iter().map(|entry| (entry.key.to_string(), entry.value.clone(), entry.mod_revision)).collect();
    ensure!(known == lab.truth(PREFIX).await?, "the cache differs from etcd");
    ensure!(store.verify().await? == 0, "the cache differs from a full list");
    Ok(())
}

fn judge(told: &[Told], events: &[Event]) -> Result<()> {
    ensure_unbroken(events)?;
    let mut seen: HashMap<&[u8], Vec<Revision>> = HashMap::new();
    for event in events {
        seen.entry(&event.entry.value).or_default().push(event.revision());
    }
    let (mut lost, mut doubled) = (0, 0);
    for (value, revision) in told.iter().flat_map(|told| &told.acknowledged) {
        match seen.get(value.as_bytes()).map(Vec::as_slice) {
            Some([only]) if only == revision => {}
            Some([_, _, ..]) => doubled += 1,
            _ => lost += 1,
        }
    }
    let unknown: Vec<_> = told.iter().flat_map(|told| &told.unknown).collect();
    doubled += unknown.iter().filter(|value| seen.get(value.as_bytes()).is_some_and(|at| at.len() > 1)).count();
    println!("{} events, {} of unknown outcome", events.len(), unknown.len());
    ensure!((lost, doubled) == (0, 0), "{lost} acknowledged writes lost, {doubled} writes made twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_etcd_loses_and_doubles_nothing() -> Result<()> {
    let lab = Lab::new().await?;
    let store = Store::connect(lab.etcd.store_options()).await?;
    let kill = async || {
        if let Some(id) = lab.etcd.process() {
            id.signal(Signal::KILL)?;
            id.exited().await;
        }
        Ok(())
    };
    survive(&lab, store, kill).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cutting_the_connection_loses_and_doubles_nothing() -> Result<()> {
    let lab = Lab::new().await?;
    let wire = Wire::to(&lab.etcd.endpoints()[0]).await?;
    let options = StoreOptions { endpoints: vec![wire.endpoint()], ..lab.replica_options() };
    let store = Store::connect(options).await?;
    let raw = lab.raw().await?;
    let revision = async || -> Result<i64> {
        let answer = raw.kv_client().get("/none", None).await?;
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    };
    let cuts = AtomicUsize::new(0);
    let cut = async || {
        if cuts.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            // Writes are made and nobody is told.
            wire.deafen();
            let before = revision().await?;
            tokio::time::timeout(SOON, async {
                while revision().await? == before {}
                anyhow::Ok(())
            })
            .await??;
            wire.cut();
        } else {
            wire.cut();
            tokio::time::timeout(SOON, wire.refuses()).await??;
        }
        wire.mend();
        Ok(())
    };
    survive(&lab, store, cut).await?;
    ensure!(fenced_writes() > 0, "no outcome was ever unknown: the test proves nothing");
    Ok(())
}

/// What a store is told of two equal writes at once, of which etcd makes one and the answers are lost.
async fn two_lost<T, F>(
    sole_writer: bool,
    write: impl Fn(Store, Entry) -> F,
    made: impl Fn(&[(String, Bytes, Revision)]) -> bool,
) -> Result<Vec<Result<T, Error>>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: Send + 'static,
{
    let lab = Lab::new().await?;
    let wire = Wire::to(&lab.etcd.endpoints()[0]).await?;
    let options = StoreOptions { endpoints: vec![wire.endpoint()], sole_writer, ..lab.replica_options() };
    let store = Store::connect(options).await?;
    let coveted = store.create(&format!("{PREFIX}n/coveted"), Bytes::new()).await?;
    wire.deafen();
    let writes = [(); 2].map(|()| tokio::spawn(write(store.clone(), coveted.clone())));
    tokio::time::timeout(SOON, async {
        while !made(&lab.truth(PREFIX).await?) {}
        anyhow::Ok(())
    })
    .await??;
    wire.cut();
    wire.mend();
    let mut told = Vec::new();
    for write in writes {
        told.push(tokio::time::timeout(SOON, write).await??);
    }
    Ok(told)
}

async fn removal(store: Store, entry: Entry) -> Result<Revision, Error> {
    store.delete(&entry.key, entry.mod_revision).await
}

async fn replacement(store: Store, entry: Entry) -> Result<Entry, Error> {
    store.update(&entry.key, Bytes::from_static(b"mine"), entry.mod_revision).await
}

#[tokio::test]
async fn of_two_equal_writes_of_one_store_one_is_told_that_it_was_made() -> Result<()> {
    let told = two_lost(true, removal, <[_]>::is_empty).await?;
    assert_eq!(told.iter().filter(|told| told.is_ok()).count(), 1, "{told:?}");
    let told = two_lost(true, replacement, |all| all.iter().any(|(_, value, _)| value == "mine")).await?;
    assert_eq!(told.iter().filter(|told| told.is_ok()).count(), 1, "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_write_that_may_be_another_servers_is_nobodys() -> Result<()> {
    // Nothing in etcd tells whether it was this store that made it.
    let told = two_lost(false, removal, <[_]>::is_empty).await?;
    assert!(told.iter().all(Result::is_err), "{told:?}");
    assert!(told.iter().any(|told| matches!(told, Err(Error::Indeterminate { .. }))), "{told:?}");
    let told = two_lost(false, replacement, |all| all.iter().any(|(_, value, _)| value == "mine")).await?;
    assert!(told.iter().all(Result::is_err), "{told:?}");
    assert!(told.iter().any(|told| matches!(told, Err(Error::Indeterminate { .. }))), "{told:?}");
    Ok(())
}

fn fenced_writes() -> u64 {
    let text = prometheus::TextEncoder::new().encode_to_string(&prometheus::gather()).unwrap_or_default();
    let counted = text.lines().find_map(|line| line.strip_prefix("clusterctl_store_fenced_writes_total "));
    counted.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn after_a_compaction_in_its_absence_a_store_lists_again_and_says_so() -> Result<()> {
    let lab = Lab::new().await?;
    let wire = Wire::to(&lab.etcd.endpoints()[0]).await?;
    let options = StoreOptions { endpoints: vec![wire.endpoint()], ..lab.replica_options() };
    let (cut_off, other) = (Store::connect(options).await?, lab.replica().await?);
    let gone = other.create(&format!("{PREFIX}n/gone"), Bytes::new()).await?;
    assert!(cut_off.get(&gone.key).await?.is_some());
    let mut watch = cut_off.watch(PREFIX, cut_off.revision())?;
    wire.cut();
    other.delete(&gone.key, gone.mod_revision).await?;
    let mut last = gone.mod_revision;
    for round in 0..20 {
        last = other.create(&format!("{PREFIX}n/{round}"), Bytes::new()).await?.mod_revision;
    }
    let compacted = i64::try_from(last.get())?;
    lab.raw().await?.compact(compacted, Some(CompactionOptions::new().with_physical())).await?;
    wire.mend();
    let (entries, _) = cut_off.list(PREFIX, Consistency::Linearizable).await?;
    assert_eq!(entries.len(), 20);
    let lagged = tokio::time::timeout(SOON, watch.next()).await?;
    assert!(matches!(lagged, Some(Err(store::Lagged))), "{lagged:?}");
    assert!(matches!(cut_off.watch(PREFIX, gone.mod_revision), Err(Error::Compacted { .. })));
    assert_eq!(cut_off.verify().await?, 0);
    Ok(())
}
