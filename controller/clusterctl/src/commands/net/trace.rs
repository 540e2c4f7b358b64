//! `net trace`: one way, hop by hop.

use super::objects::{world, world_with_services};
use super::questions::{self, Named, Protocol};
use crate::commands::output;
use crate::print::Ending;
use crate::print::table::Table;
use anyhow::{Context, Result, bail};
use kube::Client;
use reachability::path::{Fate, Hop};
use reachability::service::{Outcome, Served};
use reachability::{Conversation, Endpoint, Family, Verdict, World};
use serde_json::json;
use std::process::ExitCode;

/// From where to where, and what about.
#[derive(clap::Args, Debug)]
pub struct TraceArgs {
    /// Who begins: a Port, or vm/NAME for a machine's first one.
    pub from: String,
    /// Whom it speaks to: a Port, vm/NAME for a machine's first one, or service/NAME for a ServiceIP.
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
    if let Some(service) = service(&args.to) {
        return served(client, namespace, service, asked, args).await;
    }
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
        print_document(form, &document)?;
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

/// The ServiceIP that a word names.
fn service(word: &str) -> Option<&str> {
    let (kind, name) = word.split_once('/')?;
    ["service", "serviceip", "serviceips", "sip"].contains(&kind).then_some(name)
}

/// Explains who answers at a service's address, and which of them are reached.
async fn served(
    client: &Client,
    namespace: &str,
    name: &str,
    asked: Conversation,
    args: &TraceArgs,
) -> Result<ExitCode> {
    if args.family == Some(Named::Ipv6) {
        bail!(Ending::Usage("services are of IPv4: leave out --family".to_owned()));
    }
    let world = world_with_services(client, namespace).await?;
    let from = end(&world, namespace, &args.from)?;
    let served = world.served(from, name, asked).with_context(|| {
        let all: Vec<String> = world.services(namespace).collect();
        format!(
            "there is no ServiceIP {name} in namespace {namespace}; there is {}",
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        )
    })?;
    match &args.output {
        Some(form) => print_document(form, &document(from, name, asked, &served))?,
        None => print!("{}", told(from, name, asked, &served, !args.no_headers)),
    }
    Ok(if served.outcome == Outcome::Open { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(from: &Endpoint, service: &str, what: Conversation, served: &Served, headers: bool) -> String {
    let mut table =
        Table::new(["BACKEND", "PORT", "SELECTED BY", "GETS", "WAY", "DECIDED BY"].map(str::to_owned).to_vec());
    for one in &served.behind {
        let gets = one.idle.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"));
        let (way, why) = match &one.verdict {
            Some(verdict) => (if verdict.is_open() { "open" } else { "closed" }, verdict.to_string()),
            None => ("-", "the asker himself".to_owned()),
        };
        table.push(vec![one.port.clone(), one.target.to_string(), one.selected_by.clone(), gets, way.to_owned(), why]);
    }
    let rows = if served.behind.is_empty() { String::new() } else { table.render(headers) };
    let by = served.balancer.as_ref().map(|name| format!(", by LoadBalancer {name}")).unwrap_or_default();
    let at = served.address.map(|address| format!(" ({address})")).unwrap_or_default();
    format!("{rows}{} → service {service}{at} {what}{by}: {}: {}\n", from.name, served.outcome, served.why)
}

fn document(from: &Endpoint, service: &str, what: Conversation, served: &Served) -> serde_json::Value {
    let behind = served.behind.iter().map(|one| {
        json!({"port": one.port, "targetPort": one.target, "selectedBy": one.selected_by,
            "gets": one.idle.is_none(), "idle": one.idle, "open": one.verdict.as_ref().map(Verdict::is_open),
            "decidedBy": one.verdict.as_ref().map(ToString::to_string)})
    });
    json!({"from": from.name, "to": {"serviceIP": service, "address": served.address}, "conversation": what.to_string(),
        "loadBalancer": served.balancer, "outcome": served.outcome, "open": served.outcome == Outcome::Open,
        "why": served.why, "backends": behind.collect::<Vec<_>>()})
}

fn print_document(form: &str, document: &serde_json::Value) -> Result<()> {
    match form {
        "yaml" => print!("{}", output::yaml(document)?),
        _ => println!("{}", serde_json::to_string_pretty(document).context("failed to render JSON")?),
    }
    Ok(())
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
        other => bail!(Ending::Usage(format!(
            "a way leads from a Port or vm/NAME to one, or to service/NAME, not from or to a {other}"
        ))),
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

    #[test]
    fn of_a_service_each_backend_is_told() {
        let port = |name: &str, ip: &str| -> crds::Port {
            let metadata = json!({"name": name, "namespace": "t", "labels": {"app": name}});
            let spec = json!({"network": "net", "ip": ip, "mac": "52:54:00:00:00:01", "host": "host01"});
            serde_json::from_value(
                json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port", "metadata": metadata, "spec": spec}),
            )
            .unwrap()
        };
        let object = |kind: &str, name: &str, spec: serde_json::Value, status: serde_json::Value| json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "t"}, "spec": spec, "status": status});
        let read = |value| serde_json::from_value(value).unwrap();
        let spec = json!({"serviceIP": "shop", "listeners": [{"protocol": "TCP", "port": 80, "targetPort": 8080}],
            "backends": [{"selector": {"matchLabels": {"app": "web"}}}, {"selector": {"matchLabels": {"app": "old"}}, "weight": 0}]});
        let world = World::of(reachability::Objects {
            networks: vec![
                serde_json::from_value(object("TenantNetwork", "net", json!({"subnet": "10.0.0.0/24"}), json!(null)))
                    .unwrap(),
            ],
            ports: vec![port("client", "10.0.0.2"), port("web", "10.0.0.3"), port("old", "10.0.0.4")],
            services: vec![read(object("ServiceIP", "shop", json!({"network": "net"}), json!({"ip": "10.0.0.50"})))],
            balancers: vec![serde_json::from_value(object("LoadBalancer", "lb", spec, json!(null))).unwrap()],
            ..reachability::Objects::default()
        });
        let (client, what) = (world.find("t", "client").unwrap(), Conversation::Tcp(80));
        let served = world.served(client, "shop", what).unwrap();
        insta::assert_snapshot!(told(client, "shop", what, &served, true), @r"
        BACKEND   PORT   SELECTED BY     GETS                  WAY    DECIDED BY
        web       8080   spec.backends   yes                   open   no group: open
        old       8080   spec.backends   no: its weight is 0   open   no group: open
        client → service shop (10.0.0.50) tcp/80, by LoadBalancer lb: open: reached are 1 of the 1 backends that get connections
        ");
        let read = document(client, "shop", what, &served);
        assert_eq!((&read["outcome"], &read["backends"][1]["idle"]), (&json!("Open"), &json!("its weight is 0")));
        assert_eq!(service("sip/shop"), Some("shop"));
        assert_eq!(service("vm/shop"), None);
    }
}
