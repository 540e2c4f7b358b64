//! What the tries of a `reachability` step prove together.

use super::Attempt;
use super::connection::listing;
use crds::testrun::{Metric, Reachability};
use reachability::probe::{Findings, Plan};

/// Most tries that a message names; each is a long sentence, and all of them are the step's output.
const MOST_NAMED: usize = 3;
/// Most reasons that a message names for what was not tried.
const MOST_REASONS: usize = 3;

/// Why a plan is not carried out, if it is not: it proves nothing, or takes more than it may.
#[must_use]
pub fn refuse(wanted: &Reachability, plan: &Plan<'_>) -> Option<Attempt> {
    if plan.tries.is_empty() {
        return Some(Attempt::errored(format!("nothing could be tried{}", not_tried(plan))));
    }
    let (needs, may) = (plan.tries.len(), wanted.max_tries as usize);
    let why =
        format!("the step needs {needs} tries and may make {may}: name networks, ports or tcpPorts, or raise maxTries");
    (needs > may).then(|| Attempt::hopeless(why))
}

/// Judges all tries together. One that could not be made is never taken for one that was not answered.
#[must_use]
pub fn judge(wanted: &Reachability, plan: &Plan<'_>, findings: &Findings) -> Attempt {
    let all = plan.tries.len();
    let attempt = if !findings.mismatches.is_empty() {
        Attempt::failed(listing(&findings.mismatches, MOST_NAMED, all, "tries are not as the objects say"))
    } else if !findings.unknown.is_empty() || findings.agreed != all {
        Attempt::errored(listing(&findings.unknown, MOST_NAMED, all, "tries could not be made"))
    } else {
        Attempt::passed(format!("all {all} tries are as the objects say{}", not_tried(plan)))
    };
    let left: usize = plan.left_out.values().sum();
    let numbers = [("tries", all), ("mismatches", findings.mismatches.len()), ("not_tried", left)];
    let metric = |prefix: &String| {
        numbers.map(|(name, value)| Metric {
            name: format!("{prefix}_{name}"),
            value: value as f64,
            unit: "1".to_owned(),
            step: String::new(),
        })
    };
    let metrics = wanted.metric_prefix.iter().flat_map(metric).collect();
    let output = findings.mismatches.iter().chain(&findings.unknown).map(|line| format!("{line}\n")).collect();
    Attempt { metrics, output, ..attempt }
}

fn not_tried(plan: &Plan<'_>) -> String {
    let reasons = plan.left_out.iter().map(|(why, count)| format!("{count} because {why}"));
    let shown: Vec<String> = reasons.take(MOST_REASONS).collect();
    let left: usize = plan.left_out.values().sum();
    match left {
        0 => String::new(),
        left => {
            let more = if plan.left_out.len() > MOST_REASONS { ", …" } else { "" };
            format!(" ({left} conversations not tried: {}{more})", shown.join(", "))
        }
    }
}
