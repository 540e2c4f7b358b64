//! No fault breaks a promise: clients write, read and watch while servers and etcd members die, stand still and are cut
//! off, and then everything they were told is judged (`testkit::history`).
//!
//! ```text
//!   hub: clients, watchers ── bridge ─┬─ s0 s1 s2: servers         rooms are network namespaces of the test's own;
//!                                     └─ m0 m1 m2: etcd members    a cut drops what the bridge carries between two
//! ```
//!
//! One round: the faults one after the other while everybody works, then all is healed, a last write to each key, and the
//! judgement, for which etcd itself tells what it holds. `SOAK_SECONDS` makes rounds until they have passed
//! (`make soak`). A seed repeats the faults, their order and victims, and each client's choices; not the kernel's scheduling.

mod audit;
mod clients;
mod faults;
mod figures;
mod registers;
mod rooms;
mod truth;
mod watchers;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::Random;
use testkit::history::History;

use figures::Figures;
use rooms::Rooms;
use world::World;

/// Until everybody has noticed that all is well again.
const SOON: Duration = Duration::from_secs(90);

#[test]
fn no_fault_breaks_a_promise() -> Result<()> {
    let (random, seed) = Random::seeded("these faults and choices")?;
    let soak = std::env::var("SOAK_SECONDS").ok().map(|text| text.parse()).transpose().context("SOAK_SECONDS")?;
    let rooms = Rooms::new()?;
    // What this thread's runtime does happens in the hub: its workers inherit the namespace.
    let hub = rooms.hub()?;
    host::netns::run_in(&hub, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(run(rooms, random, seed, soak.map(Duration::from_secs)))
    })?
}

async fn run(rooms: Rooms, random: Random, seed: u64, soak: Option<Duration>) -> Result<()> {
    let mut world = World::new(rooms).await?;
    let started = Instant::now();
    let mut figures = Figures::default();
    for number in 0.. {
        let done = round(&mut world, &random.fork(number), number, soak.is_some(), &mut figures).await;
        if let Err(error) = done {
            let kept = world.keep_logs(seed)?;
            bail!("SEED={seed}, round {number}: {error:#}\nlogs are kept in {}", kept.display());
        }
        println!("round {number}, {:?}:\n{figures}", started.elapsed());
        if soak.is_none_or(|soak| started.elapsed() >= soak) {
            break;
        }
    }
    world.finish()
}

/// Everybody works through the faults; then it is judged.
async fn round(world: &mut World, random: &Random, number: u64, long: bool, figures: &mut Figures) -> Result<()> {
    let keys = registers::keys(number);
    let beginning = truth::begin(world).await?;
    let clock = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let clients = clients::start(world, &keys, random, clock, &over).await?;
    let watching = watchers::start(world, &keys, random).await?;
    let networks = tokio::spawn(clients::make_networks(world.clients().await?, number, over.clone()));

    let plan = faults::plan(&mut random.fork(1000), long);
    let injected = faults::inject(world, &plan, clock).await;
    over.store(true, Ordering::Release);
    let mut operations = clients.finish().await?;
    networks.await?;
    let injected = injected?;
    world.settled().await?;
    operations.extend(clients::last_writes(world, &keys, clock).await?);

    let truth = truth::read(world, &beginning, &keys).await?;
    let watches = watching.finish(&truth).await?;
    let leader_writes = audit::leader_writes(world, beginning.revision, &truth)?;
    let until = truth.until();
    let history = History { operations, watches, chain: truth.chain, until, terms: truth.terms, leader_writes };
    figures.add(&history);
    figures.add_faults(&injected, &history);
    judge(world, &history)?;
    let much = history.chain.len() > 50 && history.terms.len() > 1 && !history.leader_writes.is_empty();
    ensure!(much, "hardly anything happened, which proves nothing:\n{figures}");
    Ok(())
}

fn judge(world: &World, history: &History) -> Result<()> {
    let violations = history.check();
    let Some(first) = violations.first() else { return Ok(()) };
    let text: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let file = world.write_history(&format!("{}\n\n{}", text.join("\n"), history.of(&first.key)))?;
    let shown = text.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    bail!("{} violations, written to {}:\n{shown}", violations.len(), file.display())
}
