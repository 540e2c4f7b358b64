//! Conditions as Kubernetes defines them (meta/v1 Condition), with the kstatus types `Ready`, `Reconciling`, `Stalled`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The object does what its spec says.
pub const READY: &str = "Ready";
/// The reconciler is still converging (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// The reconciler cannot go on until the object or something it names changes (kstatus).
pub const STALLED: &str = "Stalled";
/// A run or fault has ended well.
pub const COMPLETE: &str = "Complete";
/// A run or fault has ended badly.
pub const FAILED: &str = "Failed";

/// One observation of an object's state.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, an adjective: `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(regex(pattern = r"^(True|False|Unknown)$"))]
    pub status: String,
    /// The cause in one PascalCase word.
    pub reason: String,
    /// The cause in a sentence, with the remedy where there is one.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// The `metadata.generation` this was observed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Sets one condition in `conditions`, keeping the transition time when the status stays the same.
///
/// Returns whether anything but the time changed, so that a caller can skip a write that says nothing new.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: bool,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
) -> bool {
    let wanted = Condition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        last_transition_time: now(),
        observed_generation: generation,
    };
    put(conditions, wanted)
}

/// As [`set`], for a condition made by the caller.
pub fn put(conditions: &mut Vec<Condition>, mut wanted: Condition) -> bool {
    let Some(found) = conditions.iter_mut().find(|c| c.type_ == wanted.type_) else {
        conditions.push(wanted);
        return true;
    };
    if found.status == wanted.status {
        wanted.last_transition_time = found.last_transition_time;
    }
    let changed = *found != wanted;
    *found = wanted;
    changed
}

/// Removes a condition; returns whether it was there.
pub fn clear(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != type_);
    before != conditions.len()
}

/// The condition of that type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition is there and `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

/// The present time in whole seconds, as Kubernetes writes its times.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_status_keeps_its_transition_time() {
        let mut all = Vec::new();
        assert!(set(&mut all, READY, false, "Booting", "", Some(1)));
        all[0].last_transition_time = Timestamp::UNIX_EPOCH;
        assert!(set(&mut all, READY, false, "StillBooting", "", Some(1)));
        assert_eq!(all[0].last_transition_time, Timestamp::UNIX_EPOCH);
        assert!(!set(&mut all, READY, false, "StillBooting", "", Some(1)));
        assert!(set(&mut all, READY, true, "Up", "", Some(1)));
        assert!(all[0].last_transition_time > Timestamp::UNIX_EPOCH);
        assert!(is_true(&all, READY));
        assert!(clear(&mut all, READY) && all.is_empty());
    }
}
