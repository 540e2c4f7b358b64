//! `net matrix --probe`: the guests try it.

use crate::commands::guest;
use crate::print::Ending;
use anyhow::{Result, bail};
use crds::exec::{ExecRequest, ExecState};
use futures::{StreamExt, stream};
use kube::Client;
use reachability::World;
use reachability::matrix::Cell;
use reachability::probe::{AT_ONCE, End, Findings, Plan, Try, by_machine, command, end};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// Machines that try at the same time.
const MACHINES: usize = 6;
/// How often what disagrees is tried: a rule that has just been changed may be on its way to a host.
const ROUNDS: usize = 3;
/// What a guest may take over the time that its tries wait: emulated ones start programs slowly.
const SLACK: Duration = Duration::from_secs(60);

/// Bounds of a probe.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most tries.
    pub tries: usize,
    /// Seconds that each waits for an answer.
    pub seconds: u32,
}

/// What a probe found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    tries: usize,
    findings: Findings,
    left_out: BTreeMap<String, usize>,
}

impl Report {
    /// Whether something was tried, and all of it ended as the objects say.
    pub fn agrees(&self) -> bool {
        self.tries > 0 && self.findings.mismatches.is_empty() && self.findings.unknown.is_empty()
    }

    /// For programs.
    pub fn document(&self) -> Value {
        json!({
            "tries": self.tries,
            "agreed": self.findings.agreed,
            "mismatches": self.findings.mismatches,
            "unknown": self.findings.unknown,
            "leftOut": self.left_out,
        })
    }
}

/// For people.
pub fn print(report: &Report) {
    for (what, lines) in [("MISMATCH", &report.findings.mismatches), ("UNKNOWN", &report.findings.unknown)] {
        lines.iter().for_each(|line| println!("{what}: {line}"));
    }
    for (why, count) in &report.left_out {
        eprintln!("not tried: {count} conversations: {why}");
    }
    let Findings { agreed, mismatches, unknown } = &report.findings;
    let all = report.tries;
    println!("{all} tries: {agreed} as the objects say, {} not, {} unknown", mismatches.len(), unknown.len());
    if all == 0 {
        println!("Nothing could be tried: a probe needs two VirtualMachines that are ready, each with a Port.");
    }
}

/// Tries what can be tried, and what disagrees again.
pub async fn run(client: &Client, world: &World, cells: &[Cell<'_>], limits: Limits) -> Result<Report> {
    let Plan { tries, left_out } = world.plan(cells.iter().cloned());
    if tries.len() > limits.tries {
        bail!(Ending::Usage(format!(
            "the probe needs {} tries and may make {}: choose by --network, --from, --to or --port, or raise --max-tries",
            tries.len(),
            limits.tries
        )));
    }
    let count = tries.len();
    let (mut agreed, mut left, mut last) = (0, tries, Vec::new());
    for _ in 0..ROUNDS {
        last = ends(client, &left, limits.seconds).await;
        let mut again = Vec::new();
        for (one, end) in left.iter().zip(&last) {
            let mut found = Findings::default();
            world.compare(one, end, &mut found);
            agreed += found.agreed;
            if found.agreed == 0 {
                again.push((one.clone(), end.clone()));
            }
        }
        (left, last) = again.into_iter().unzip();
        if left.is_empty() {
            break;
        }
    }
    let mut findings = Findings { agreed, ..Findings::default() };
    left.iter().zip(&last).for_each(|(one, end)| world.compare(one, end, &mut findings));
    Ok(Report { tries: count, findings, left_out })
}

/// What came of each try, in their order.
async fn ends(client: &Client, tries: &[Try<'_>], seconds: u32) -> Vec<End> {
    let machines = by_machine(tries).into_iter().map(|tries| of_machine(client, tries, seconds));
    // Collected before polling: a lazy iterator of borrowing futures is not Send.
    let machines: Vec<_> = machines.collect();
    stream::iter(machines).buffered(MACHINES).concat().await
}

async fn of_machine(client: &Client, tries: &[Try<'_>], seconds: u32) -> Vec<End> {
    let mut all = Vec::new();
    for some in tries.chunks(AT_ONCE) {
        let time = Duration::from_secs(u64::from(seconds)) + SLACK;
        let said = timeout(time, printed(client, some, seconds)).await;
        let said = said.unwrap_or_else(|_| Err(format!("the guest took longer than {} s", time.as_secs())));
        all.extend(some.iter().map(|one| match &said {
            Ok(printed) => end(one, printed),
            Err(why) => End::Unknown(why.clone()),
        }));
    }
    all
}

/// What the command printed in the guest, or why there is nothing.
async fn printed(client: &Client, tries: &[Try<'_>], seconds: u32) -> Result<String, String> {
    let (namespace, machine) = (&tries[0].cell.from.namespace, tries[0].machine);
    let request = ExecRequest {
        name: format!("net-{}", uuid::Uuid::new_v4()),
        command: command(tries, seconds),
        stdin: None,
        wait_seconds: 20,
        tail_bytes: 262_144,
        forget: true,
    };
    loop {
        let result = guest::ask(client, namespace, machine, &request).await;
        let result = result.map_err(|error| format!("VirtualMachine {machine} does not take the command: {error}"))?;
        match result.state {
            ExecState::Running => {}
            ExecState::Exited => return Ok(result.stdout),
            ExecState::Lost => return Err(format!("VirtualMachine {machine} was restarted")),
        }
    }
}

#[cfg(test)]
mod tests;
