//! The API under load, beside puts of the same bytes into the same etcd: `make bench-api`.
//!
//! Every client has a connection of its own and asks again when it is answered. The measured kind is a user's, made for
//! this: it has a schema, a status and lists, but no reconciler of ours that would work meanwhile.
//!
//! The load generator lives on the same machine and takes its share of it; what it took is printed beside what the server
//! took. Puts into etcd are made before and after, with as many clients, so that a machine that grows busier does not pass
//! for a slow server.

mod door;
mod load;
mod requests;
mod steady;
mod watchers;

use anyhow::{Context, Result};
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

use crate::create;
use crate::figure::{Report, Sample};
use crate::lab::Lab;
use crate::usage::{self, Spending};
use door::Door;
use load::{Done, Shape};
use requests::Operation;

/// Numbers of clients.
const CLIENTS: [usize; 3] = [1, 16, 64];
/// Objects in the small store.
const FEW: usize = 100;
/// Most bytes of a range over everything in etcd.
const MOST_BYTES: usize = 256 << 20;
/// How often everything is listed.
const LISTS: usize = 5;

/// Measures everything, with `objects` in the large store and `operations` of each sort.
pub async fn measure(lab: &Lab, objects: usize, operations: usize, report: &mut Report) -> Result<()> {
    let doors = Door::open(lab, CLIENTS[2]).await?;
    requests::define(lab).await?;
    beside(lab, &doors, FEW, operations, report).await?;
    for clients in CLIENTS {
        round(lab, &doors, clients, operations, report).await?;
    }
    beside(lab, &doors, objects, operations, report).await?;
    lists(lab, &doors, report).await?;
    watchers::measure(lab, &doors, report).await?;
    steady::measure(lab, &doors, report).await?;
    create::forget(lab).await
}

/// One of each sort of operation, over objects made for it.
async fn round(lab: &Lab, doors: &[Arc<Door>], clients: usize, operations: usize, report: &mut Report) -> Result<()> {
    let shape = Shape { clients, operations };
    let stem = format!("r{clients}");
    let mut all = Vec::new();
    let before = raw(lab, shape, &stem).await?;
    for operation in Operation::ALL {
        eprintln!("bench: {operations} × {} at {clients} clients", operation.word());
        let known = Arc::new(if operation == Operation::Update { current(doors, &stem).await? } else { Vec::new() });
        let stem = stem.clone();
        let done = load::run(lab, doors, shape, move |number| operation.request(&stem, number, &known)).await?;
        all.push((operation, done));
    }
    let puts = [before, raw(lab, shape, &format!("{stem}b")).await?];
    for (operation, done) in all {
        tell(report, operation.word(), shape, &done, &puts, operation.budget(clients));
    }
    Ok(())
}

/// Puts into etcd, without a server between.
struct Puts {
    rate: f64,
    /// Microseconds on a CPU for each, of etcd and of the load generator.
    spent: Vec<f64>,
}

fn tell(report: &mut Report, word: &str, shape: Shape, done: &Done, puts: &[Puts], budget: &str) {
    let rates: Sample = puts.iter().map(|puts| puts.rate).collect();
    report.add(format!("{word}, {} clients", shape.clients), "/s", &Sample::one(done.rate), Some(&rates), budget);
    let mean =
        |part: usize| puts.iter().filter_map(|puts| puts.spent.get(part)).sum::<f64>() / puts.len().max(1) as f64;
    let [server, etcd, own] = [0, 1, 2].map(|part| done.spent.get(part).copied().unwrap_or(f64::NAN));
    report.note(format!(
        "p50 {:.2} ms, p99 {:.2} ms; µs of CPU each: server {server:.0}, etcd {etcd:.0}, load generator {own:.0}; \
         raw: etcd puts, etcd {:.0}, load generator {:.0}",
        done.latency(0.5),
        done.latency(0.99),
        mean(0),
        mean(1)
    ));
}

/// Puts per second into the instance's etcd, of a value as large as the measured objects.
async fn raw(lab: &Lab, shape: Shape, stem: &str) -> Result<Puts> {
    let value = requests::stored_size();
    let mut clients = Vec::new();
    for _ in 0..shape.clients {
        clients.push(create::etcd(lab).await?);
    }
    let each = shape.operations.div_ceil(shape.clients);
    let spending = Spending::of(vec![lab.etcd()?.pid, load::own_pid()?])?;
    let begun = Instant::now();
    let workers = clients.into_iter().enumerate().map(|(client, mut etcd)| {
        let (stem, value) = (stem.to_owned(), vec![b'x'; value]);
        tokio::spawn(async move {
            for number in 0..each {
                etcd.put(format!("{}{stem}-{client}-{number}", create::RAW), value.clone(), None).await?;
            }
            Ok::<_, etcd_client::Error>(())
        })
    });
    for done in futures::future::join_all(workers).await {
        done.context("a worker broke")?.context("failed to put")?;
    }
    let (took, puts) = (begun.elapsed().as_secs_f64(), each * shape.clients);
    Ok(Puts { rate: puts as f64 / took, spent: spending.each(puts)? })
}

/// Creates beside at least `size` objects: the cost of a write shall not depend on what is there already.
async fn beside(lab: &Lab, doors: &[Arc<Door>], size: usize, operations: usize, report: &mut Report) -> Result<()> {
    let shape = Shape { clients: 16, operations };
    let present = count(doors).await?;
    if size > present {
        eprintln!("bench: filling the store up to {size} objects");
        let fill = Shape { clients: 16, operations: size - present };
        let name = format!("fill{size}");
        load::run(lab, doors, fill, move |number| Operation::Create.request(&name, number, &[])).await?;
    }
    let present = present.max(size);
    let stem = format!("f{size}");
    let before = raw(lab, shape, &stem).await?;
    let name = stem.clone();
    let done = load::run(lab, doors, shape, move |number| Operation::Create.request(&name, number, &[])).await?;
    let puts = [before, raw(lab, shape, &format!("{stem}b")).await?];
    tell(report, &format!("create beside {present}"), shape, &done, &puts, "flat");
    Ok(())
}

/// Lists of everything.
async fn lists(lab: &Lab, doors: &[Arc<Door>], report: &mut Report) -> Result<()> {
    let mut etcd = create::etcd(lab).await?.kv_client().max_decoding_message_size(MOST_BYTES);
    let (mut ours, mut raw, mut bytes, mut found) = (Sample::default(), Sample::default(), 0, 0);
    for _ in 0..LISTS {
        let begun = Instant::now();
        bytes = doors[0].send(requests::list()).await?.len();
        ours.add(begun.elapsed().as_secs_f64());
        let options = etcd_client::GetOptions::new().with_prefix();
        let begun = Instant::now();
        found = etcd.get(requests::STORED, Some(options)).await.context("failed to range over etcd")?.kvs().len();
        raw.add(begun.elapsed().as_secs_f64());
    }
    report.add(format!("list of {found}"), "s", &ours, Some(&raw), "0.15 for 10,000");
    report.note(format!("{:.1} MB; raw: a range over the same keys in etcd", bytes as f64 / 1e6));
    Ok(())
}

async fn count(doors: &[Arc<Door>]) -> Result<usize> {
    Ok(doors[0].document(requests::list()).await?["items"].as_array().map_or(0, Vec::len))
}

/// The objects of a round as they are now, by number.
async fn current(doors: &[Arc<Door>], stem: &str) -> Result<Vec<Value>> {
    let mut list = doors[0].document(requests::list()).await?;
    let items = list["items"].take();
    let prefix = format!("{stem}-");
    let number = |object: &Value| {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        name.strip_prefix(&prefix).and_then(|rest| rest.parse::<usize>().ok())
    };
    let Value::Array(items) = items else { anyhow::bail!("a list without items") };
    let mut numbered: Vec<_> = items.into_iter().filter_map(|item| Some((number(&item)?, item))).collect();
    numbered.sort_by_key(|(number, _)| *number);
    Ok(numbered.into_iter().map(|(_, item)| item).collect())
}

/// The server's resident memory, in MiB.
fn resident(lab: &Lab) -> Result<f64> {
    Ok(usage::memory(lab.process("server")?.pid)?.0)
}
