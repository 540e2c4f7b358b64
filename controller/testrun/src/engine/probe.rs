//! `probe`: connections tried from inside the nodes, every `from` to every `to`.

use super::Engine;
use super::attempt::Notes;
use crate::effects::Effects;
use crate::judge::Attempt;
use crate::judge::connection::{self, Pair, Reach};
use crds::reference::ObjectReference;
use crds::testrun::Probe;
use futures::StreamExt;
use futures::stream;
use serde_json::Value;
use std::net::IpAddr;

/// Machines that try at the same time.
const AT_ONCE: usize = 6;

impl<E: Effects> Engine<'_, E> {
    pub(super) async fn probe(&self, probe: &Probe, id: &str, notes: &Notes) -> Attempt {
        let pairs = match self.pairs(probe, notes).await {
            Ok(pairs) if pairs.is_empty() => {
                return Attempt::hopeless("the probe names no pair of two nodes");
            }
            Ok(pairs) => pairs,
            Err(end) => return end,
        };
        let machines: Vec<&[Pair]> = pairs.chunk_by(|one, next| one.from == next.from).collect();
        let tries = machines.into_iter().enumerate().map(|(number, pairs)| async move {
            let addresses: Vec<IpAddr> = pairs.iter().map(|pair| pair.address).collect();
            let command = connection::command(probe, &addresses);
            let id = format!("{id}-p{number}");
            (pairs, self.run_harmless(&pairs[0].from, &id, &command, notes).await)
        });
        // Collected before polling: a lazy iterator of borrowing futures is not Send.
        let tries: Vec<_> = tries.collect();
        let mut ends: Vec<(&Pair, Reach)> = Vec::with_capacity(pairs.len());
        let mut running = stream::iter(tries).buffered(AT_ONCE);
        while let Some((pairs, end)) = running.next().await {
            match end {
                Ok(result) => ends.extend(pairs.iter().map(|pair| (pair, connection::reach(&result, pair.address)))),
                Err(end) => return end,
            }
        }
        connection::judge(probe, &ends)
    }

    /// Every try, with the addresses looked up.
    async fn pairs(&self, probe: &Probe, notes: &Notes) -> Result<Vec<Pair>, Attempt> {
        let everyone =
            if probe.from.is_empty() || probe.to.is_empty() { self.everyone(notes).await? } else { Vec::new() };
        let or_everyone = |names: &[String]| match names {
            [] => everyone.clone(),
            names => names.to_vec(),
        };
        let mut targets = Vec::new();
        for name in or_everyone(&probe.to) {
            let address = match name.parse() {
                Ok(address) => address,
                Err(_) => self.address(&name, notes).await?,
            };
            targets.push((name, address));
        }
        let mut pairs = Vec::new();
        for from in or_everyone(&probe.from) {
            for (to, address) in targets.iter().filter(|(to, _)| *to != from) {
                pairs.push(Pair { from: from.clone(), to: to.clone(), address: *address });
            }
        }
        Ok(pairs)
    }

    /// The names of the cluster's nodes.
    async fn everyone(&self, notes: &Notes) -> Result<Vec<String>, Attempt> {
        let Some(name) = self.spec.cluster.clone() else {
            return Err(Attempt::hopeless("the probe is for every node of the cluster, but the run names no cluster"));
        };
        let kind = "Cluster".to_owned();
        let cluster = self.existing(&ObjectReference { kind, name }, notes).await?;
        let nodes = cluster.pointer("/spec/nodes").and_then(Value::as_array);
        let names = nodes.into_iter().flatten().filter_map(|n| n["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// The address of a node, as soon as it has one.
    async fn address(&self, name: &str, notes: &Notes) -> Result<IpAddr, Attempt> {
        let node = ObjectReference { kind: "Node".to_owned(), name: name.to_owned() };
        self.look(&node, notes, |found| {
            let address = found.and_then(|node| node.pointer("/status/ip")?.as_str()?.parse().ok()).map(Ok);
            if address.is_none() {
                let why = if found.is_some() { "has no address" } else { "does not exist" };
                notes.say(format!("Node/{name} {why}"));
            }
            address
        })
        .await
    }
}
