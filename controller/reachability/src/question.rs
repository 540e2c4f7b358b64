//! Which conversations are worth asking about: one of each sort that the rules tell apart.
//!
//! Rules speak of ranges of ports. Cut at every range's ends, the ports fall into pieces within which no rule tells one
//! port from another, so one question about each piece answers for all of it. What no range covers behaves alike, too, and is
//! one question, `tcp/other`.

use std::collections::BTreeSet;

use traffic::{Conversation, Traffic, Transport};

use crate::rule::Rule;

/// A question, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `tcp/80`, `tcp/1000-1999`, `udp/other`, `icmp`, ….
    pub label: String,
    /// One conversation of the sort.
    pub example: Conversation,
}

impl From<Conversation> for Question {
    fn from(example: Conversation) -> Self {
        Question { label: example.to_string(), example }
    }
}

/// One question for each sort of conversation that these rules tell apart.
#[must_use]
pub fn questions<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Vec<Question> {
    let mut ranges: [BTreeSet<(u16, u16)>; 2] = Default::default();
    let (mut icmp, mut others) = (BTreeSet::from([Conversation::PING]), BTreeSet::new());
    for rule in rules {
        match rule.traffic {
            Traffic::Ports(Transport::Tcp, first, last) => drop(ranges[0].insert((first, last))),
            Traffic::Ports(Transport::Udp, first, last) => drop(ranges[1].insert((first, last))),
            Traffic::Icmp(kind, code) => drop(icmp.insert(Conversation::Icmp(kind, code.unwrap_or(0)))),
            Traffic::Icmp6(kind, code) => drop(icmp.insert(Conversation::Icmp6(kind, code.unwrap_or(0)))),
            Traffic::Protocol(1 | 6 | 17 | 58) | Traffic::Any => {}
            Traffic::Protocol(number) => drop(others.insert(Conversation::Other(number))),
        }
    }
    let [tcp, udp] = ranges;
    let mut all = sorts("tcp", &tcp, Conversation::Tcp);
    all.extend(sorts("udp", &udp, Conversation::Udp));
    all.extend(icmp.into_iter().chain(others).map(Question::from));
    all
}

fn sorts(protocol: &str, ranges: &BTreeSet<(u16, u16)>, of: fn(u16) -> Conversation) -> Vec<Question> {
    let begins = ranges.iter().flat_map(|(first, last)| [Some(*first), last.checked_add(1)]).flatten();
    let cuts: Vec<u16> = BTreeSet::from([1]).into_iter().chain(begins).collect::<BTreeSet<u16>>().into_iter().collect();
    let (mut pieces, mut other) = (Vec::new(), None);
    for (index, first) in cuts.iter().copied().enumerate() {
        let last = cuts.get(index + 1).map_or(u16::MAX, |next| next - 1);
        if ranges.iter().any(|(from, to)| (*from..=*to).contains(&first)) {
            let label =
                if first == last { format!("{protocol}/{first}") } else { format!("{protocol}/{first}-{last}") };
            pieces.push(Question { label, example: of(first) });
        } else {
            // High ones are the least likely to have a listener that somebody minds.
            other = Some(last);
        }
    }
    let label = if pieces.is_empty() { protocol.to_owned() } else { format!("{protocol}/other") };
    pieces.extend(other.map(|port| Question { label, example: of(port) }));
    pieces
}
