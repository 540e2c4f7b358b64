//! `net trace`: one way, hop by hop.

use super::objects::world;
use super::questions::{self, Protocol};
use crate::commands::output;
use crate::print::Ending;
use crate::print::table::Table;
use anyhow::{Context, Result, bail};
use kube::Client;
use reachability::path::{Fate, Hop};
use reachability::{Conversation, Endpoint, World};
use serde_json::json;
use std::process::ExitCode;

/// From where to where, and what about.
#[derive(clap::Args, Debug)]
pub struct TraceArgs {
    /// Who begins: a Port, or vm/NAME for a machine's first one.
    pub from: String,
    /// Whom it speaks to: a Port, or vm/NAME for a machine's first one.
    pub to: String,
    /// The protocol; tcp when a port is given, else icmp.
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
    /// The port spoken to.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// json, yaml.
    #[arg(short, long, value_parser = ["json", "yaml"], value_name = "FORM")]
    pub output: Option<String>,
    /// Leave out the line of headings.
    #[arg(long)]
    pub no_headers: bool,
}

/// Explains the way.
pub async fn run(client: &Client, namespace: &str, args: &TraceArgs) -> Result<ExitCode> {
    let what = asked(args)?;
    let world = world(client, Some(namespace)).await?;
    let (from, to) = (end(&world, namespace, &args.from)?, end(&world, namespace, &args.to)?);
    if std::ptr::eq(from, to) {
        bail!(Ending::Usage(format!(
            "{} and {} are one Port; what it says to itself is on no network",
            args.from, args.to
        )));
    }
    let (verdict, hops) = (world.verdict(from, to, what), world.path(from, to, what));
    let open = verdict.is_open();
    let word = if open { "open" } else { "closed" };
    if let Some(form) = &args.output {
        let document = json!({"from": from.name, "to": to.name, "conversation": what.to_string(), "open": open,
            "decidedBy": verdict.to_string(), "hops": hops});
        match form.as_str() {
            "yaml" => print!("{}", output::yaml(&document)?),
            _ => println!("{}", serde_json::to_string_pretty(&document).context("failed to render JSON")?),
        }
    } else {
        print!("{}", table(&hops).render(!args.no_headers));
        println!("{} → {} {what}: {word}, by {verdict}", from.name, to.name);
        if open && hops.iter().any(|hop| hop.fate == Fate::Suspect) {
            println!("The rules let it pass, but at a suspect hop it may be stopped.");
        }
    }
    Ok(if open { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn asked(args: &TraceArgs) -> Result<Conversation> {
    let protocol = args.protocol.or_else(|| args.port.is_none().then_some(Protocol::Icmp));
    let named = questions::named(protocol, &args.port.into_iter().collect::<Vec<_>>())?;
    match named.as_slice() {
        [one] => Ok(*one),
        _ => bail!(Ending::Usage("name the port by --port".to_owned())),
    }
}

/// The Port that a word names.
fn end<'a>(world: &'a World, namespace: &str, word: &str) -> Result<&'a Endpoint> {
    let (kind, name) = word.split_once('/').unwrap_or(("", word));
    let of_machine = || world.endpoints().iter().find(|one| one.machine.as_deref() == Some(name));
    let found = match kind {
        "vm" | "virtualmachine" | "virtualmachines" | "node" => of_machine(),
        "" => world.find(namespace, name).or_else(of_machine),
        "port" | "ports" => world.find(namespace, name),
        other => bail!(Ending::Usage(format!("a way leads from Port to Port, not from or to a {other}"))),
    };
    found.with_context(|| {
        format!("there is no Port {name}, and no VirtualMachine {name} with one, in namespace {namespace}; `clusterctl get ports` lists them")
    })
}

fn table(hops: &[Hop]) -> Table {
    let mut table = Table::new(["HOP", "OF", "FATE", "WHY"].map(str::to_owned).to_vec());
    for hop in hops {
        table.push(vec![hop.place.to_string(), hop.of.clone(), hop.fate.to_string(), hop.why.clone()]);
    }
    table
}
