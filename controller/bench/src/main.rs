//! `make bench`: our figures beside the raw tools', measured in one run on one machine.
//!
//! ```text
//!  idle ─► monitor ─► nodes ─► create ─► resync        one instance, in a data directory of its own
//!            │          │        └── beside puts into the same etcd
//!            │          └── beside the same QEMUs, started by hand in a namespace with a bridge, taps and dnsmasq
//!            └── beside the same QEMU, started by hand
//! ```
//!
//! Absolute times depend on the machine, so what counts is the ratio. Nothing is judged here: the exit code is 0 unless
//! something broke, and the budget of the design stands beside each figure for whoever reads it. What other programs do
//! meanwhile shows in the figures, which is why the load average is printed with them.

mod api;
mod bare;
mod create;
mod figure;
mod idle;
mod lab;
mod manifest;
mod monitor;
mod net;
mod nodes;
mod resync;
mod usage;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use figure::Report;
use lab::Lab;

/// Measures clusterctl beside the raw tools.
#[derive(Parser, Debug)]
#[command(name = "clusterctl-bench", max_term_width = 110)]
struct Options {
    /// The program to measure.
    #[arg(long, env = "CLUSTERCTL_BINARY", default_value = "target/release/clusterctl", value_name = "FILE")]
    binary: PathBuf,
    /// Directory of the instance made for this. Everything in it is deleted at the end, the image cache apart.
    #[arg(long, default_value = "/var/lib/clusterctl-bench", value_name = "DIR")]
    data_dir: PathBuf,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Only these parts of what networks cost.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    net: Vec<net::Part>,
    /// How often six nodes are booted, by us and by hand.
    #[arg(long, default_value_t = 1, value_name = "N")]
    runs: usize,
    /// How many single machines are started, by us and by hand.
    #[arg(long, default_value_t = 10, value_name = "N")]
    machines: usize,
    /// How many objects make the large store.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    objects: usize,
    /// How many creates are timed at each size of the store.
    #[arg(long, default_value_t = 300, value_name = "N")]
    creates: usize,
    /// How many requests of each sort put the API under load.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    operations: usize,
    /// How many ports the host has whose network is measured.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    ports: usize,
    /// How many members the group has to which one more comes.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    members: usize,
    /// How many things of a network are broken.
    #[arg(long, default_value_t = 60, value_name = "N")]
    harms: usize,
    /// How many names the tenant has of which answers are counted.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    names: usize,
    /// How many hosts are simulated.
    #[arg(long, default_value_t = 100, value_name = "N")]
    hosts: usize,
    /// How long the idle processes are watched.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    idle_seconds: u64,
    /// Write the figures to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Memory and CPU of server and agent with nothing to do.
    Idle,
    /// One machine, from its object to QEMU's answer.
    Monitor,
    /// Six nodes, from apply to Ready, and the writes that takes.
    Nodes,
    /// Creates through the API.
    Create,
    /// Looking at many converged objects again.
    Resync,
    /// The API under load. Only when asked for.
    Api,
    /// Networks, in namespaces and without an instance. Only when asked for, and alone.
    Net,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.contains(&part) || self.only.is_empty() && !matches!(part, Part::Api | Part::Net)
    }
}

/// The word by which a measured host makes a name server of this program.
const NAME_SERVER: &str = "name-server";

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == NAME_SERVER) {
        let directory = PathBuf::from(words.next().context("a name server needs a directory")?);
        // What a single guest may ask is not what is measured: here one asks for all.
        let limits = dns::serve::Limits { each_second: u32::MAX, burst: u32::MAX, ..dns::serve::Limits::default() };
        dns::serve::run(&directory, limits).context("the name server cannot go on")?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    pki::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(Box::pin(run(options)))
}

async fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::default();
    if options.only == [Part::Net] {
        let Options { ports, members, harms, names, hosts, .. } = options;
        let size = net::Size { ports, members, harms, names, hosts };
        let measured = Box::pin(net::measure(size, &options.net, asked_to_stop(), &mut report)).await;
        return print(&options, &report, measured);
    }
    let lab = Lab::start(&options.binary, &options.data_dir).await?;
    let measured = tokio::select! {
        done = measure(&lab, &options, &mut report) => done,
        stopped = asked_to_stop() => stopped,
    };
    let cleaned = lab.clean().await;
    print(&options, &report, measured.and(cleaned))
}

fn print(options: &Options, report: &Report, measured: Result<()>) -> Result<ExitCode> {
    // What was measured before something broke is still worth reading.
    print!("{}", report.table());
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(report).context("failed to render the figures")?;
        std::fs::write(path, text + "\n").with_context(|| format!("failed to write {}", path.display()))?;
    }
    measured.map(|()| ExitCode::SUCCESS)
}

/// Returns when interrupted or told to end: machines started by hand would stay otherwise.
async fn asked_to_stop() -> Result<()> {
    let mut end = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    tokio::select! {
        _ = end.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    anyhow::bail!("told to stop")
}

async fn measure(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    if options.wants(Part::Idle) {
        idle::measure(lab, options.idle_seconds, "nothing to do", report).await.context("idle")?;
    }
    if options.wants(Part::Monitor) {
        monitor::measure(lab, options.machines, report).await.context("monitor")?;
    }
    if options.wants(Part::Nodes) {
        nodes::measure(lab, options.runs, report).await.context("nodes")?;
    }
    if options.wants(Part::Create) {
        Box::pin(create::measure(lab, options.objects, options.creates, report)).await.context("create")?;
    }
    if options.wants(Part::Resync) {
        resync::measure(lab, options.objects, report).await.context("resync")?;
    }
    if options.wants(Part::Api) {
        Box::pin(api::measure(lab, options.objects, options.operations, report)).await.context("api")?;
    }
    Ok(())
}
