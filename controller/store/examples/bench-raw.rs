//! What the store costs on top of etcd: `cargo run --release -p store --example bench-raw [writes]`.
//!
//! Raw puts and the store's operations alternate in blocks, so that a noisy machine disturbs both alike.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, KvClient, TlsOptions};
use futures::StreamExt;
use store::{Consistency, Etcd, EtcdOptions, Store, StoreOptions, WatchItem};
use testkit::Scratch;

const BLOCK: usize = 100;
const CLIENTS: usize = 16;

/// Times of one kind of operation.
struct Times(&'static str, Vec<Duration>);

impl Times {
    fn report(mut self) {
        self.1.sort();
        let at = |part: f64| self.1[((self.1.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        println!("{:<34} p50 {:>8.3} ms   p99 {:>8.3} ms   n {}", self.0, at(0.5), at(0.99), self.1.len());
    }
}

async fn raw(etcd: &Etcd) -> Result<KvClient> {
    let files = etcd.tls();
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(std::fs::read(files.ca)?))
        .identity(Identity::from_pem(std::fs::read(files.cert)?, std::fs::read(files.key)?));
    Ok(Client::connect(etcd.endpoints(), Some(ConnectOptions::new().with_tls(tls))).await?.kv_client())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let writes: usize = std::env::args().nth(1).map_or(Ok(2000), |count| count.parse())?;
    let scratch = Scratch::new()?;
    let options = EtcdOptions {
        binary: None,
        data_dir: scratch.join("etcd"),
        pki_dir: scratch.join("pki"),
        log: scratch.join("etcd.log"),
        quota: None,
    };
    let etcd = Etcd::start(options).await?;
    let value = Bytes::from(vec![b'x'; 1024]);
    one_client(&etcd, writes, &value).await?;
    many_clients(&etcd, writes, &value).await?;
    many_objects(&etcd, &value).await?;
    etcd.stop().await?;
    Ok(())
}

async fn one_client(etcd: &Etcd, writes: usize, value: &Bytes) -> Result<()> {
    let mut kv = raw(etcd).await?;
    let sole = Store::connect(etcd.store_options()).await?;
    let replica = Store::connect(StoreOptions { sole_writer: false, ..etcd.store_options() }).await?;
    let mut put = Times("raw etcd put", Vec::new());
    let mut create = Times("store.create", Vec::new());
    let mut get = Times("store.get (sole writer)", Vec::new());
    let mut fresh = Times("store.get (linearizable by etcd)", Vec::new());
    let mut event = Times("own watch event after create began", Vec::new());
    let mut watch = sole.watch("/registry/bench/", sole.revision())?;
    for block in 0..writes.div_ceil(BLOCK) {
        for i in 0..BLOCK {
            let begun = Instant::now();
            kv.put(format!("/raw/{block}/{i}"), value.as_ref(), None).await?;
            put.1.push(begun.elapsed());
        }
        for i in 0..BLOCK {
            let key = format!("/registry/bench/n/{block}-{i}");
            let begun = Instant::now();
            sole.create(&key, value.clone()).await?;
            create.1.push(begun.elapsed());
            while !matches!(watch.next().await, Some(Ok(WatchItem::Event(_)))) {}
            event.1.push(begun.elapsed());
            let begun = Instant::now();
            sole.get(&key).await?;
            get.1.push(begun.elapsed());
            let begun = Instant::now();
            replica.get(&key).await?;
            fresh.1.push(begun.elapsed());
        }
    }
    for times in [put, create, event, get, fresh] {
        times.report();
    }
    Ok(())
}

async fn many_clients(etcd: &Etcd, writes: usize, value: &Bytes) -> Result<()> {
    let (kv, store) = (raw(etcd).await?, Store::connect(etcd.store_options()).await?);
    let each = writes / CLIENTS;
    let begun = Instant::now();
    let puts = (0..CLIENTS).map(|client| {
        let (mut kv, value) = (kv.clone(), value.clone());
        tokio::spawn(async move {
            for i in 0..each {
                kv.put(format!("/raw/many/{client}/{i}"), value.as_ref(), None).await?;
            }
            anyhow::Ok(())
        })
    });
    for put in futures::future::join_all(puts).await {
        put??;
    }
    println!("raw puts, {CLIENTS} clients   {:>8.0}/s", (each * CLIENTS) as f64 / begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let creates = (0..CLIENTS).map(|client| {
        let (store, value) = (store.clone(), value.clone());
        tokio::spawn(async move {
            for i in 0..each {
                store.create(&format!("/registry/many/{client}/{i}"), value.clone()).await?;
            }
            anyhow::Ok(())
        })
    });
    for create in futures::future::join_all(creates).await {
        create??;
    }
    println!("creates, {CLIENTS} clients    {:>8.0}/s", (each * CLIENTS) as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

/// Is a create as quick with many objects as with few?
async fn many_objects(etcd: &Etcd, value: &Bytes) -> Result<()> {
    let store = Store::connect(etcd.store_options()).await?;
    let mut made = 0;
    for goal in [10_000, 50_000] {
        let keys: Vec<String> = (made..goal).map(|i| format!("/registry/load/n/{i:06}")).collect();
        futures::stream::iter(&keys)
            .map(|key| store.create(key, value.clone()))
            .buffer_unordered(64)
            .for_each(|result| async { drop(result) })
            .await;
        made = goal;
        let mut create = Times("store.create among many", Vec::new());
        for i in 0..500 {
            let begun = Instant::now();
            store.create(&format!("/registry/among/{goal}/{i}"), value.clone()).await?;
            create.1.push(begun.elapsed());
        }
        let begun = Instant::now();
        let (entries, _) = store.list("/registry/load/", Consistency::Linearizable).await?;
        println!("list of {:<6}             {:>8.3} ms", entries.len(), begun.elapsed().as_secs_f64() * 1e3);
        create.report();
    }
    let begun = Instant::now();
    let second = Store::connect(StoreOptions { sole_writer: false, ..etcd.store_options() }).await?;
    println!("connect and load           {:>8.3} ms", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    second.verify().await?;
    println!("verify                     {:>8.3} ms", begun.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
