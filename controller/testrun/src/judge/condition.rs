//! Has a condition come about?

use crds::reference::ObjectReference;
use crds::testrun::Wait;
use jiff::Timestamp;
use serde_json::Value;

/// The status of a condition that nobody can judge.
const UNKNOWN: &str = "Unknown";

/// Whether a wait is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The condition has the wanted status, since then.
    Met(Option<Timestamp>),
    /// Not yet, and why.
    NotYet(String),
    /// The object says the opposite of what is waited for, and why.
    Opposed(String),
}

/// Looks at one state of the object. `since`: the condition must not have come about before.
#[must_use]
pub fn check(object: Option<&Value>, wait: &Wait, since: Option<Timestamp>) -> Check {
    let Some(object) = object else {
        return Check::NotYet(missing(&wait.object));
    };
    let Some(condition) = find(object, &wait.condition) else {
        return Check::NotYet(format!(
            "{} has no condition {} yet{}",
            title(&wait.object),
            wait.condition,
            because(object)
        ));
    };
    let status = text(condition, "status");
    let stale = is_stale(object, condition);
    if status != wait.status {
        let why = format!(
            "{} is {}={status} ({}), not {}",
            title(&wait.object),
            wait.condition,
            reason(condition),
            wait.status
        );
        // `Unknown` is no judgement, and one over an older generation is none over this.
        return if stale || status == UNKNOWN { Check::NotYet(why) } else { Check::Opposed(why) };
    }
    if stale {
        return Check::NotYet(format!(
            "the condition {} of {} speaks of an older generation",
            wait.condition,
            title(&wait.object)
        ));
    }
    let came: Option<Timestamp> = text(condition, "lastTransitionTime").parse().ok();
    match since {
        // Conditions carry whole seconds.
        Some(since) if came.is_none_or(|came| came.as_second() < since.as_second()) => Check::NotYet(format!(
            "{} has been {}={status} from before, and has not left it since",
            title(&wait.object),
            wait.condition
        )),
        _ => Check::Met(came),
    }
}

/// `Kind/name`.
#[must_use]
pub fn title(object: &ObjectReference) -> String {
    format!("{}/{}", object.kind, object.name)
}

/// The sentence for an object that is not there.
#[must_use]
pub fn missing(object: &ObjectReference) -> String {
    format!("{} does not exist", title(object))
}

/// ` (reason: message)` of the object's `Ready` condition when that is not true, else nothing.
#[must_use]
pub fn because(object: &Value) -> String {
    match find(object, crds::condition::READY) {
        Some(ready) if text(ready, "status") != "True" => {
            format!("; it is not Ready: {}", reason(ready))
        }
        _ => String::new(),
    }
}

fn find<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|condition| text(condition, "type") == type_)
}

fn is_stale(object: &Value, condition: &Value) -> bool {
    let wanted = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let seen = condition.get("observedGeneration").and_then(Value::as_i64);
    matches!((wanted, seen), (Some(wanted), Some(seen)) if seen < wanted)
}

fn reason(condition: &Value) -> String {
    match (text(condition, "reason"), text(condition, "message")) {
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wait() -> Wait {
        serde_json::from_value(json!({"object": {"kind": "Node", "name": "node02"}})).unwrap()
    }

    fn node(status: &str, since: &str, generations: (i64, i64)) -> Value {
        json!({"metadata": {"generation": generations.0}, "status": {"conditions": [
            {"type": "Ready", "status": status, "reason": "Booting", "message": "no guest agent",
             "lastTransitionTime": since, "observedGeneration": generations.1}]}})
    }

    #[test]
    fn a_condition_is_met_only_when_it_is_there_true_fresh_and_new_enough() {
        let noon = "2026-01-01T12:00:00Z";
        let met = |object: Option<Value>, since: Option<&str>| {
            let since = since.map(|t| t.parse::<Timestamp>().unwrap());
            matches!(check(object.as_ref(), &wait(), since), Check::Met(_))
        };
        assert!(!met(None, None));
        assert!(!met(Some(json!({})), None));
        assert!(!met(Some(node("False", noon, (1, 1))), None));
        assert!(!met(Some(node("True", noon, (2, 1))), None));
        assert!(met(Some(node("True", noon, (1, 1))), None));
        assert!(met(Some(node("True", noon, (1, 1))), Some("2026-01-01T12:00:00.900Z")));
        assert!(!met(Some(node("True", noon, (1, 1))), Some("2026-01-01T12:00:01Z")));
    }

    #[test]
    fn what_is_missing_is_named_with_its_cause() {
        let now = |status, generations| check(Some(&node(status, "2026-01-01T12:00:00Z", generations)), &wait(), None);
        let why = "Node/node02 is Ready=False (Booting: no guest agent), not True".to_owned();
        assert_eq!(now("False", (1, 1)), Check::Opposed(why.clone()));
        assert_eq!(now("False", (2, 1)), Check::NotYet(why), "it speaks of an older generation");
        assert!(matches!(now("Unknown", (1, 1)), Check::NotYet(_)), "what nobody knows contradicts nothing");
        assert_eq!(check(None, &wait(), None), Check::NotYet("Node/node02 does not exist".to_owned()));
    }
}
