//! `net trace`: one way, hop by hop.

use super::objects::world;
use super::questions::{self, Named, Protocol};
use crate::commands::output;
use crate::print::Ending;
use crate::print::table::Table;
use anyhow::{Context, Result, bail};
use kube::Client;
use reachability::path::{Fate, Hop};
use reachability::{Conversation, Endpoint, Family, World};
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
    /// The family of addresses; IPv4 when both ends have it.
    #[arg(long, value_enum)]
    pub family: Option<Named>,
    /// json, yaml.
    #[arg(short, long, value_parser = ["json", "yaml"], value_name = "FORM")]
    pub output: Option<String>,
    /// Leave out the line of headings.
    #[arg(long)]
    pub no_headers: bool,
}

/// Explains the way.
pub async fn run(client: &Client, namespace: &str, args: &TraceArgs) -> Result<ExitCode> {
    let asked = asked(args)?;
    let world = world(client, Some(namespace)).await?;
    let (from, to) = (end(&world, namespace, &args.from)?, end(&world, namespace, &args.to)?);
    if std::ptr::eq(from, to) {
        bail!(Ending::Usage(format!(
            "{} and {} are one Port; what it says to itself is on no network",
            args.from, args.to
        )));
    }
    let (what, other) =
        in_families(asked, args.family.map(Family::from), |family| from.shares_family_with(to, family))?;
    let (verdict, hops) = (world.verdict(from, to, what), world.path(from, to, what));
    let open = verdict.is_open();
    let word = if open { "open" } else { "closed" };
    if let Some(form) = &args.output {
        let document = json!({"from": from.name, "to": to.name, "conversation": what.to_string(),
            "family": what.family().to_string(), "open": open, "decidedBy": verdict.to_string(), "hops": hops});
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
        if let Some(other) = other {
            let (verdict, family) = (world.verdict(from, to, other), other.family());
            let word = if verdict.is_open() { "open" } else { "closed" };
            println!(
                "Over {family} it is {word}, by {verdict}; --family {} explains it.",
                family.to_string().to_lowercase()
            );
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

/// What is explained, and the same in the other family where both ends have that, too.
fn in_families(
    asked: Conversation,
    named: Option<Family>,
    both_have: impl Fn(Family) -> bool,
) -> Result<(Conversation, Option<Conversation>)> {
    // Each family has an echo of its own; who asks for either without more means this.
    let over = |family| match (asked, family) {
        (Conversation::PING, Family::Six) => Some(Conversation::PING6),
        _ => asked.over(family),
    };
    if let Some(family) = named {
        let what = over(family);
        return what
            .map(|what| (what, None))
            .with_context(|| Ending::Usage(format!("{asked} is not said over {family}: leave out --family")));
    }
    let mut shared = Family::ALL.into_iter().filter(|family| both_have(*family)).filter_map(over);
    let first = shared.next();
    Ok(first.map_or((asked, None), |what| (what, shared.next())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_family_that_both_have_is_explained_and_the_other_told() {
        let told = |what: &str, named, have: &[Family]| {
            let what = what.parse().unwrap();
            in_families(what, named, |family| have.contains(&family))
                .map(|(what, other)| (what.to_string(), other.map(|other| other.to_string())))
                .map_err(|error| error.to_string())
        };
        let (four, six) = (&[Family::Four][..], &[Family::Six][..]);
        let of = |what: &str, other: Option<&str>| Ok((what.to_owned(), other.map(str::to_owned)));
        assert_eq!(told("tcp/80", None, &Family::ALL), of("tcp/80", Some("tcp6/80")));
        assert_eq!(told("tcp/80", None, six), of("tcp6/80", None));
        assert_eq!(told("icmp", None, &Family::ALL), of("icmp", Some("icmpv6")));
        assert_eq!(told("icmpv6", None, &Family::ALL), of("icmpv6", None));
        assert_eq!(told("icmpv6", None, four), of("icmpv6", None), "it is told that there is no address for it");
        assert_eq!(told("tcp/80", None, &[]), of("tcp/80", None));
        assert_eq!(told("udp/53", Some(Family::Six), four), of("udp6/53", None));
        assert!(told("icmpv6", Some(Family::Four), four).unwrap_err().contains("leave out --family"));
    }
}
