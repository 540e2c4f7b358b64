//! What somebody breaks by hand, and how long it stays broken.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use host::link::Links;
use host::netns::Namespace;
use kube::ResourceExt;
use testkit::Random;

use super::host::NetHost;
use super::ports::milliseconds;
use super::raw::run;
use crate::figure::{Bound, Report, Sample};
use agent::names;

/// After this it does not count as repaired.
const DEADLINE: Duration = Duration::from_secs(10);

/// One thing that is broken: how, and how one sees that it is whole.
struct Harm {
    what: &'static str,
    /// A program and its words.
    breaks: (&'static str, Vec<String>),
    whole: Whole,
}

enum Whole {
    /// There is a link of this name.
    Link(String),
    /// The link has an address.
    Address(String),
    /// What this prints holds this word.
    Printed(&'static str, Vec<String>, String),
}

/// Breaks things of the network at random and waits for each.
pub async fn measure(host: &NetHost, harms: usize, report: &mut Report) -> Result<()> {
    let (mut random, seed) = Random::seeded("what is broken")?;
    let (cell, mut times) = (host.cell()?, Sample::default());
    let links = Links::open(&cell).await?;
    let mut slowest = (Duration::ZERO, "nothing");
    for _ in 0..harms {
        host.quiet().await?;
        let harm = harm(host, &mut random)?;
        let (program, words) = &harm.breaks;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run(&cell, program, &words, String::new()).await.with_context(|| harm.what)?;
        let begun = Instant::now();
        while !is_whole(&cell, &links, &harm.whole).await? {
            if begun.elapsed() > DEADLINE {
                bail!("{} was never repaired; SEED={seed}", harm.what);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = begun.elapsed();
        slowest = slowest.max((took, harm.what));
        times.add(milliseconds(took));
    }
    report.add("drift repaired", "ms", &times, None, "200 ms p99");
    report.bound(Bound::P99(200.0));
    report.note(format!("the slowest was {}; SEED={seed}", slowest.1));
    Ok(())
}

fn harm(host: &NetHost, random: &mut Random) -> Result<Harm> {
    let ports = host.ports();
    let port = &ports[random.index(ports.len())];
    let mac = port.spec.mac.clone().unwrap_or_default();
    let network = host.network()?;
    let (tap, bridge) = (names::tap(&port.uid().unwrap_or_default()), names::bridge(&network));
    let (guard, firewall) = (names::filter(&network), names::firewall(&network));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let printed = |program, text: &str, word: &str| Whole::Printed(program, words(text), word.to_owned());
    let elsewhere = super::objects::address(ports.len() + random.index(20));
    Ok(match random.below(6) {
        0 => Harm { what: "a tap", breaks: ("ip", words(&format!("link delete {tap}"))), whole: Whole::Link(tap) },
        1 => Harm {
            what: "the bridge's address",
            breaks: ("ip", words(&format!("address flush dev {bridge}"))),
            whole: Whole::Address(bridge),
        },
        2 => {
            let element = format!("element bridge {guard} guests {{ \"{tap}\" . {mac} }}");
            Harm {
                what: "an element of the guard",
                breaks: ("nft", vec![format!("delete {element}")]),
                whole: Whole::Printed("nft", vec![format!("get {element}")], mac),
            }
        }
        3 => {
            let element = format!("element bridge {firewall} said_by {{ \"{tap}\" }}");
            Harm {
                what: "an element of the firewall",
                breaks: ("nft", vec![format!("delete {element}")]),
                whole: Whole::Printed("nft", vec![format!("get {element}")], tap),
            }
        }
        4 => Harm {
            what: "the whole firewall",
            breaks: ("nft", words(&format!("delete table bridge {firewall}"))),
            whole: printed("nft", &format!("list map bridge {firewall} said_by"), &tap),
        },
        _ => Harm {
            what: "an entry for another host",
            breaks: ("ip", words(&format!("neighbour delete {elsewhere} dev {bridge}"))),
            whole: printed("ip", &format!("neighbour show {elsewhere} nud permanent"), &elsewhere),
        },
    })
}

async fn is_whole(cell: &Namespace, links: &Links, whole: &Whole) -> Result<bool> {
    Ok(match whole {
        Whole::Link(name) => links.find(name).await?.is_some_and(|link| link.master.is_some() && link.up),
        Whole::Address(name) => links.find(name).await?.is_some_and(|link| !link.addresses.is_empty()),
        Whole::Printed(program, words, word) => {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // Where there is no table at all, nft says so by failing.
            run(cell, program, &words, String::new()).await.is_ok_and(|printed| printed.contains(word))
        }
    })
}
