//! What was written as leader was written by the leader.

use super::{History, Kind, Revision, Violation};

/// A term of leadership: from its revision to the next one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// When it began.
    pub revision: Revision,
    /// Which server leads.
    pub server: usize,
}

/// Something written as leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderWrite {
    /// The version it made.
    pub revision: Revision,
    /// Which server made it.
    pub server: usize,
    /// What it was, for people.
    pub what: String,
}

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut terms: Vec<&Term> = history.terms.iter().collect();
    terms.sort_by_key(|term| term.revision);
    let mut found = Vec::new();
    for write in &history.leader_writes {
        let leading = terms.iter().rev().find(|term| term.revision < write.revision);
        if leading.is_none_or(|term| term.server != write.server) {
            let text = format!("server {} wrote {} in {leading:?}", write.server, write.revision);
            found.push(Violation::new(Kind::StaleLeader, &write.what, text));
        }
    }
    found
}
