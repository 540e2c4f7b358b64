//! `reachability`: the guests try whom they reach, and what is derived from the objects is compared with that.

use super::Engine;
use super::attempt::Notes;
use crate::effects::{Effects, ReachError};
use crate::judge::{Attempt, reachability};
use ::reachability::probe::{AT_ONCE, End, Findings, Try, by_machine, command, end};
use ::reachability::{Conversation, Endpoint, Objects, Question, World};
use crds::testrun::Reachability;
use futures::{StreamExt, stream};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Machines that try at the same time.
const MACHINES: usize = 6;
/// Pause before objects are asked for again.
const PAUSE: Duration = Duration::from_secs(1);

impl<E: Effects> Engine<'_, E> {
    pub(super) async fn reachability(&self, wanted: &Reachability, id: &str, notes: &Notes) -> Attempt {
        let world = match self.world(notes).await {
            Ok(world) => world,
            Err(end) => return end,
        };
        let chosen = match chosen(&world, wanted) {
            Ok(chosen) => chosen,
            Err(why) => return Attempt::errored(why),
        };
        let questions = questions(&world, wanted, &chosen);
        let plan = world.plan(world.matrix(&chosen, &chosen, &questions));
        if let Some(end) = reachability::refuse(wanted, &plan) {
            return end;
        }
        let machines = by_machine(&plan.tries).into_iter().enumerate().map(|(number, tries)| {
            let id = format!("{id}-p{number}");
            async move { self.ends(tries, wanted.wait_seconds, &id, notes).await }
        });
        // Collected before polling: a lazy iterator of borrowing futures is not Send.
        let machines: Vec<_> = machines.collect();
        let mut running = stream::iter(machines).buffered(MACHINES);
        let mut ends = Vec::with_capacity(plan.tries.len());
        while let Some(of_machine) = running.next().await {
            match of_machine {
                Ok(some) => ends.extend(some),
                Err(end) => return end,
            }
        }
        let mut findings = Findings::default();
        plan.tries.iter().zip(&ends).for_each(|(one, end)| world.compare(one, end, &mut findings));
        reachability::judge(wanted, &plan, &findings)
    }

    /// What came of the tries of one machine.
    async fn ends(&self, tries: &[Try<'_>], seconds: u32, id: &str, notes: &Notes) -> Result<Vec<End>, Attempt> {
        let mut ends = Vec::with_capacity(tries.len());
        for (number, some) in tries.chunks(AT_ONCE).enumerate() {
            let id = format!("{id}x{number}");
            let result = self.run_harmless(some[0].machine, &id, &command(some, seconds), notes).await?;
            ends.extend(some.iter().map(|one| end(one, &result.stdout)));
        }
        Ok(ends)
    }

    async fn world(&self, notes: &Notes) -> Result<World, Attempt> {
        Ok(World::of(Objects {
            networks: self.all("TenantNetwork", notes).await?,
            ports: self.all("Port", notes).await?,
            groups: self.all("SecurityGroup", notes).await?,
            routers: self.all("Router", notes).await?,
            machines: self.all("VirtualMachine", notes).await?,
            hosts: self.all("Host", notes).await?,
            ..Objects::default()
        }))
    }

    /// All objects of a kind, as soon as the API answers.
    async fn all<K: DeserializeOwned>(&self, kind: &str, notes: &Notes) -> Result<Vec<K>, Attempt> {
        loop {
            match self.effects.list(kind).await {
                Ok(found) => {
                    let read = found.into_iter().map(|one| serde_json::from_value(one));
                    return read
                        .collect::<Result<_, _>>()
                        .map_err(|error| Attempt::errored(format!("a {kind} cannot be read: {error}")));
                }
                Err(ReachError::Refused(why)) => {
                    return Err(Attempt::hopeless(format!("{kind}s cannot be listed: {why}")));
                }
                Err(error) => notes.say(format!("cannot list {kind}s: {error}")),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The Ports that are meant, or which name is nobody's.
fn chosen<'a>(world: &'a World, wanted: &Reachability) -> Result<Vec<&'a Endpoint>, String> {
    let all = || world.endpoints().iter();
    if let Some(network) = wanted.networks.iter().find(|network| !all().any(|one| one.network == **network)) {
        return Err(format!("no Port is on TenantNetwork {network}"));
    }
    if let Some(port) = wanted.ports.iter().find(|port| !all().any(|one| one.name == **port)) {
        return Err(format!("there is no Port {port}"));
    }
    let on_network = |one: &&Endpoint| wanted.networks.is_empty() || wanted.networks.contains(&one.network);
    let by_name = |one: &&Endpoint| wanted.ports.is_empty() || wanted.ports.contains(&one.name);
    Ok(all().filter(on_network).filter(by_name).collect())
}

fn questions(world: &World, wanted: &Reachability, of: &[&Endpoint]) -> Vec<Question> {
    let mut all: Vec<Question> = if wanted.tcp_ports.is_empty() {
        world.questions(of).into_iter().filter(|one| matches!(one.example, Conversation::Tcp(_))).collect()
    } else {
        wanted.tcp_ports.iter().map(|port| Question::from(Conversation::Tcp(*port))).collect()
    };
    if wanted.icmp {
        all.push(Question::from(Conversation::PING));
        let dual = of.iter().filter(|one| one.six.is_some()).count() > 1;
        all.extend(dual.then(|| Question::from(Conversation::PING6)));
    }
    all
}
