//! What happened, in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use testkit::history::{Call, History, Moment, Outcome, Seen};

use super::faults::Injected;
use super::rooms::COUNT;

/// Counts over all rounds.
#[derive(Default)]
pub struct Figures {
    operations: BTreeMap<(&'static str, &'static str), usize>,
    faults: BTreeMap<&'static str, usize>,
    /// Why outcomes are unknown.
    reasons: BTreeMap<String, usize>,
    versions: usize,
    events: usize,
    resumed: usize,
    relisted: usize,
    terms: usize,
    leader_writes: usize,
    without_read: Duration,
    without_write: Duration,
    /// The longest time in which one server, which had members of etcd left to ask, answered nothing.
    unanswered: BTreeMap<&'static str, Duration>,
}

impl Figures {
    /// Counts faults, and how long they kept servers from answering that had members of etcd left to ask.
    pub fn add_faults(&mut self, faults: &[Injected], history: &History) {
        for Injected { fault, from, until } in faults {
            *self.faults.entry(fault.word()).or_default() += 1;
            for server in (0..COUNT).filter(|_| fault.spares_servers()) {
                let its = history.operations.iter().filter(|operation| operation.server == server);
                let answered = its.filter(|operation| !matches!(operation.outcome, Outcome::Unknown(_)));
                let within = answered.map(|operation| operation.ended).filter(|at| (from..until).contains(&at));
                let gap = longest_gap(within.chain([*from, *until]).collect());
                let longest = self.unanswered.entry(fault.word()).or_default();
                *longest = gap.max(*longest);
            }
        }
    }

    /// Counts a round.
    pub fn add(&mut self, history: &History) {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for operation in &history.operations {
            let verb = match &operation.call {
                Call::Write { verb, .. } => verb,
                Call::Delete { .. } => "delete",
                Call::Get => "get",
                Call::List { .. } => "list",
            };
            let (outcome, answered) = match &operation.outcome {
                Outcome::Stored(..) | Outcome::Removed(_) | Outcome::Listed(..) => ("done", true),
                Outcome::Absent => ("not found", true),
                Outcome::Refused(409) => ("conflict", true),
                Outcome::Refused(_) => ("refused", true),
                Outcome::Unknown(_) => ("unknown", false),
            };
            *self.operations.entry((verb, outcome)).or_default() += 1;
            if let Outcome::Unknown(reason) = &operation.outcome {
                *self.reasons.entry(shape(reason)).or_default() += 1;
            }
            let kind = if matches!(operation.call, Call::Get | Call::List { .. }) { &mut reads } else { &mut writes };
            if answered {
                kind.push(operation.ended);
            }
        }
        self.without_read = self.without_read.max(longest_gap(reads));
        self.without_write = self.without_write.max(longest_gap(writes));
        for seen in history.watches.iter().flat_map(|watched| &watched.seen) {
            match seen {
                Seen::Event(..) => self.events += 1,
                Seen::Resumed(..) => self.resumed += 1,
                Seen::Listed(..) => self.relisted += 1,
                Seen::Bookmark(_) => {}
            }
        }
        self.relisted -= history.watches.len().min(self.relisted);
        self.versions += history.chain.len();
        self.terms += history.terms.len().saturating_sub(1);
        self.leader_writes += history.leader_writes.len();
    }
}

/// A reason without names and numbers, so that like ones are counted together.
fn shape(reason: &str) -> String {
    let words = reason.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '/'));
    words.take(12).collect::<Vec<_>>().join(" ")
}

fn longest_gap(mut moments: Vec<Moment>) -> Duration {
    moments.sort_unstable();
    Duration::from_micros(moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default())
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.operations.values().sum();
        writeln!(f, "  {total} operations, {} versions of objects", self.versions)?;
        for ((verb, outcome), count) in &self.operations {
            writeln!(f, "    {verb:<14} {outcome:<10} {count:>7}")?;
        }
        for (reason, count) in &self.reasons {
            writeln!(f, "    unknown: {reason} {count:>7}")?;
        }
        writeln!(f, "  faults: {:?}", self.faults)?;
        writeln!(f, "  longest time in which one server answered nothing: {:.1?}", self.unanswered)?;
        let Figures { events, resumed, relisted, terms, leader_writes, .. } = self;
        writeln!(f, "  watches: {events} events, {resumed} times begun or resumed, {relisted} times listed again")?;
        writeln!(f, "  leaders: {terms} new terms, {leader_writes} writes under one")?;
        let (read, write) = (self.without_read, self.without_write);
        write!(f, "  longest time in which no client at all was answered: reads {read:.1?}, writes {write:.1?}")
    }
}
