//! Each acknowledged write is in the chain, on its condition; each refused one is not.

use std::collections::BTreeMap;

use super::{Call, Expected, History, Kind, Operation, Outcome, Revision, Violation};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut removals: BTreeMap<(&str, &str), &Operation> = BTreeMap::new();
    for operation in &history.operations {
        match (&operation.call, &operation.outcome) {
            (Call::Write { field, token, expected, .. }, outcome) => {
                found.extend(write(history, operation, (field, token), *expected, outcome));
            }
            (Call::Delete { expected }, Outcome::Removed(uid)) => {
                found.extend(removal(history, operation, uid, *expected));
                if let Some(other) = removals.insert((&operation.key, uid), operation) {
                    let text = format!("{uid} was removed for two clients:\n  {other}\n  {operation}");
                    found.push(Violation::new(Kind::LostCas, &operation.key, text));
                }
            }
            _ => {}
        }
    }
    found
}

fn write(
    history: &History,
    operation: &Operation,
    (field, token): (&str, &str),
    expected: Expected,
    outcome: &Outcome,
) -> Option<Violation> {
    let key = operation.key.as_str();
    let violation = |kind, text: String| Some(Violation::new(kind, key, format!("{text}: {operation}")));
    let places = history.chain.introductions(key, field, token);
    if places.len() > 1 {
        return violation(Kind::MadeTwice, format!("made at {places:?}"));
    }
    match outcome {
        Outcome::Stored(revision, _) if places != [*revision] => {
            violation(Kind::LostWrite, format!("acknowledged at {revision}, made at {places:?}"))
        }
        Outcome::Stored(revision, _) => match broken(history, key, *revision, expected) {
            Some(before) => violation(Kind::LostCas, format!("made after {before}, expected {expected:?}")),
            None => None,
        },
        Outcome::Refused(_) | Outcome::Absent if !places.is_empty() => {
            violation(Kind::RefusedButMade, format!("made at {places:?}"))
        }
        // The condition counts whether the answer came or not.
        Outcome::Unknown(_) => places.first().and_then(|place| {
            let before = broken(history, key, *place, expected)?;
            violation(Kind::LostCas, format!("made after {before}, expected {expected:?}"))
        }),
        _ => None,
    }
}

fn removal(history: &History, operation: &Operation, uid: &str, expected: Expected) -> Option<Violation> {
    let key = operation.key.as_str();
    let Some((_, before)) = history.chain.removal(key, uid) else {
        return Some(Violation::new(Kind::LostWrite, key, format!("{uid} was not removed: {operation}")));
    };
    match expected {
        Expected::Version(version) if version != before => {
            Some(Violation::new(Kind::LostCas, key, format!("{before} was removed: {operation}")))
        }
        _ => None,
    }
}

/// The version before `revision`, where that is not the expected one.
fn broken(history: &History, key: &str, revision: Revision, expected: Expected) -> Option<Revision> {
    let (before, state) = history.chain.before(key, revision);
    let kept = match expected {
        Expected::Anything => true,
        Expected::Absent => state.is_none(),
        Expected::Version(version) => before == version,
    };
    (!kept).then_some(before)
}
