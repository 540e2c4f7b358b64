//! A list is the whole truth of one revision, however many pages it came in.

use super::{Chain, History, Kind, Listed, Outcome, Revision, Violation};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for operation in &history.operations {
        if let Outcome::Listed(revision, items) = &operation.outcome {
            found.extend(compare(&history.chain, *revision, items, None));
        }
    }
    found
}

/// Compares a list, of one key or of all, with the chain.
pub(super) fn compare(chain: &Chain, revision: Revision, items: &Listed, only: Option<&str>) -> Vec<Violation> {
    let mut found = Vec::new();
    for key in chain.keys().filter(|key| only.is_none_or(|only| only == *key)) {
        let (version, state) = chain.at(key, revision);
        let wanted = state.map(|state| (version, state));
        let listed = items.get(key).map(|(version, state)| (*version, state));
        if wanted != listed {
            let text = format!("at {revision} the list has {listed:?}, the store had {wanted:?}");
            found.push(Violation::new(Kind::TornList, key, text));
        }
    }
    for key in items.keys().filter(|key| chain.versions(key).next().is_none()) {
        found.push(Violation::new(Kind::TornList, key, format!("listed at {revision} and never stored")));
    }
    found
}
