//! `net matrix`: every pair of Ports, and with `--probe` what their guests find.

use super::objects::world;
use super::probe::{self, Limits, Report};
use super::questions::{self, Named, Protocol};
use crate::commands::output;
use crate::print::Ending;
use crate::print::table::Table;
use anyhow::{Context, Result, bail};
use kube::Client;
use reachability::matrix::{Cell, entries};
use reachability::{Endpoint, Question, Verdict, World};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Most pairs and questions that are printed: more is no table that anybody reads, and a mistake more likely.
const MOST_CELLS: usize = 1_000_000;

/// Which pairs, which questions, in which form.
#[derive(clap::Args, Debug)]
pub struct MatrixArgs {
    /// Only what begins at this Port; may be given several times.
    #[arg(long, value_name = "PORT")]
    pub from: Vec<String>,
    /// Only what goes to this Port; may be given several times.
    #[arg(long, value_name = "PORT")]
    pub to: Vec<String>,
    /// Only Ports of this TenantNetwork; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub network: Vec<String>,
    /// Only this protocol.
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
    /// Only this port of TCP (or of --protocol udp), instead of those that rules mention; may be given several times.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,
    /// Only over this family of addresses.
    #[arg(long, value_enum)]
    pub family: Option<Named>,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Let the guests try it, what is open and what is closed; 1 is returned when anything disagrees.
    #[arg(long)]
    pub probe: bool,
    /// Most tries of a probe.
    #[arg(long, default_value_t = 500, requires = "probe", value_name = "COUNT")]
    pub max_tries: usize,
    /// Seconds that a try waits for an answer.
    #[arg(long, default_value_t = 5, requires = "probe", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=60))]
    pub wait: u32,
    /// wide (a line for each question, with what decided it and pairs of different networks, too), json, yaml.
    #[arg(short, long, value_parser = ["wide", "json", "yaml"], value_name = "FORM")]
    pub output: Option<String>,
    /// Leave out the line of headings.
    #[arg(long)]
    pub no_headers: bool,
}

/// Derives, prints, and probes where that is asked for.
pub async fn run(client: &Client, namespace: &str, args: &MatrixArgs) -> Result<ExitCode> {
    let world = world(client, (!args.all_namespaces).then_some(namespace)).await?;
    let (from, to) = (chosen(&world, args, &args.from)?, chosen(&world, args, &args.to)?);
    let questions = asked(&world, args, &from, &to)?;
    let count = from.len() * to.len() * questions.len();
    if count > MOST_CELLS {
        bail!(Ending::Usage(format!(
            "{count} conversations are too many to print: choose by --network, --from, --to or --port"
        )));
    }
    let cells = cells(&world, args, &from, &to, &questions);
    let limits = Limits { tries: args.max_tries, seconds: args.wait };
    let report = if args.probe { Some(probe::run(client, &world, &cells, limits).await?) } else { None };
    match args.output.as_deref() {
        Some(form @ ("json" | "yaml")) => {
            let document = document(&cells, report.as_ref());
            if form == "yaml" {
                print!("{}", output::yaml(&document)?);
            } else {
                println!("{}", serde_json::to_string_pretty(&document).context("failed to render JSON")?);
            }
        }
        form => {
            let table = if form == Some("wide") {
                wide(&cells, args.all_namespaces)
            } else {
                short(&cells, args.all_namespaces)
            };
            print!("{}", table.render(!args.no_headers));
            if cells.is_empty() {
                eprintln!("No two Ports found: a pair needs two of them, on whichever networks.");
            }
            report.iter().for_each(probe::print);
        }
    }
    let agrees = report.as_ref().is_none_or(Report::agrees);
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The Ports of the chosen networks, or those of these names.
fn chosen<'a>(world: &'a World, args: &MatrixArgs, names: &[String]) -> Result<Vec<&'a Endpoint>> {
    let on_network = |one: &&Endpoint| args.network.is_empty() || args.network.contains(&one.network);
    let all: Vec<&Endpoint> = world.endpoints().iter().filter(on_network).collect();
    if let Some(network) = args.network.iter().find(|network| !all.iter().any(|one| one.network == **network)) {
        bail!("no Port is on a TenantNetwork {network}; `clusterctl get tenantnetworks` lists them");
    }
    let plain = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let names: Vec<String> = names.iter().map(|name| plain(name)).collect();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|one| one.name == **name)) {
        bail!("there is no Port {name} among those asked about; `clusterctl get ports` lists them");
    }
    Ok(all.into_iter().filter(|one| names.is_empty() || names.contains(&one.name)).collect())
}

fn asked(world: &World, args: &MatrixArgs, from: &[&Endpoint], to: &[&Endpoint]) -> Result<Vec<Question>> {
    let named = questions::named(args.protocol, &args.port)?;
    if !named.is_empty() {
        return Ok(named.into_iter().map(Question::from).collect());
    }
    let all = world.questions(&[from, to].concat());
    let about = |one: &Question| args.protocol.is_none_or(|protocol| questions::is_about(one, protocol));
    Ok(all.into_iter().filter(about).collect())
}

fn cells<'a>(
    world: &'a World,
    args: &MatrixArgs,
    from: &'a [&'a Endpoint],
    to: &'a [&'a Endpoint],
    questions: &'a [Question],
) -> Vec<Cell<'a>> {
    let of_family = |cell: &Cell<'_>| args.family.is_none_or(|named| cell.what.family() == named.into());
    world.matrix(from, to, questions).filter(of_family).collect()
}

fn name(of: &Endpoint, with_namespace: bool) -> String {
    if with_namespace { of.full_name() } else { of.name.clone() }
}

/// A line for each pair on one network, or on two that routers join. What is closed in a family for want of any way, and what the two have
/// no addresses for, is left out beside what is not.
fn short(cells: &[Cell<'_>], namespaces: bool) -> Table {
    let mut table = Table::new(["NETWORK", "FROM", "TO", "OPEN", "CLOSED"].map(str::to_owned).to_vec());
    for pair in cells.chunk_by(same_pair) {
        let (from, to) = (pair[0].from, pair[0].to);
        let together = from.shares_network_with(to);
        let counts = |cell: &&Cell<'_>| !cell.is_foreign() && (together || cell.verdict != Verdict::AnotherNetwork);
        let mut told: Vec<Cell<'_>> = pair.iter().filter(counts).cloned().collect();
        if told.is_empty() && together {
            told = pair.to_vec();
        }
        let told = entries(&told, |one, other| one.verdict.is_open() == other.verdict.is_open());
        if told.is_empty() {
            continue;
        }
        let labels = |open: bool| {
            let of_it = told.iter().filter(|entry| entry.cell.verdict.is_open() == open);
            let all: Vec<&str> = of_it.map(|entry| entry.label.as_str()).collect();
            match all.len() {
                0 => "-".to_owned(),
                count if count == told.len() && count > 1 => "all".to_owned(),
                _ => all.join(","),
            }
        };
        let networks = if together { from.network.clone() } else { format!("{} → {}", from.network, to.network) };
        table.push(vec![networks, name(from, namespaces), name(to, namespaces), labels(true), labels(false)]);
    }
    table
}

fn same_pair(a: &Cell<'_>, b: &Cell<'_>) -> bool {
    std::ptr::eq(a.from, b.from) && std::ptr::eq(a.to, b.to)
}

/// A line for each pair and question.
fn wide(cells: &[Cell<'_>], namespaces: bool) -> Table {
    let mut table = Table::new(["FROM", "TO", "CONVERSATION", "VERDICT", "DECIDED BY"].map(str::to_owned).to_vec());
    for pair in cells.chunk_by(same_pair) {
        for entry in entries(pair, |one, other| one.verdict == other.verdict) {
            let cell = entry.cell;
            let verdict = if cell.verdict.is_open() { "open" } else { "closed" };
            let (from, to) = (name(cell.from, namespaces), name(cell.to, namespaces));
            table.push(vec![from, to, entry.label, verdict.to_owned(), cell.verdict.to_string()]);
        }
    }
    table
}

fn document(cells: &[Cell<'_>], report: Option<&Report>) -> Value {
    let pair = |cell: &Cell<'_>| {
        json!({
            "from": {"namespace": cell.from.namespace, "port": cell.from.name, "network": cell.from.network},
            "to": {"namespace": cell.to.namespace, "port": cell.to.name, "network": cell.to.network},
            "conversation": cell.question.label,
            "family": cell.what.family().to_string(),
            "open": cell.verdict.is_open(),
            "decidedBy": cell.verdict.to_string(),
        })
    };
    let mut document = json!({ "pairs": cells.iter().map(pair).collect::<Vec<_>>() });
    if let Some(report) = report {
        document["probe"] = report.document();
    }
    document
}

#[cfg(test)]
mod tests;
