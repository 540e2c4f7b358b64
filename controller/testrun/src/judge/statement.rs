//! Is it true of the object what `assert` states?

use super::condition::{because, title};
use super::{Attempt, path};
use crds::testrun::{Assert, Metric, ValueAt};
use jiff::Timestamp;
use serde_json::Value;

/// Rounding allowed between two times of whole seconds.
const ROUNDING: f64 = 1.0;

/// Judges one state of the object; `other` is the object of `notBefore`.
#[must_use]
pub fn judge(object: &Value, assert: &Assert, other: Option<&Value>) -> Attempt {
    match examine(object, assert, other) {
        Ok((printed, metrics)) => Attempt { metrics, ..Attempt::passed(format!("{} is {printed}", place(assert))) },
        Err(Objection::Path(error)) => Attempt::hopeless(error.to_string()),
        Err(Objection::False(why)) => Attempt::failed(format!("{why}{}", because(object))),
    }
}

enum Objection {
    Path(path::PathError),
    False(String),
}

impl From<path::PathError> for Objection {
    fn from(error: path::PathError) -> Self {
        Self::Path(error)
    }
}

fn examine(object: &Value, assert: &Assert, other: Option<&Value>) -> Result<(String, Vec<Metric>), Objection> {
    let found = path::values(object, &assert.json_path)?;
    let place = place(assert);
    if found.is_empty() || found.iter().all(|value| value.is_null()) {
        return Err(Objection::False(format!("{place} is not set")));
    }
    let printed = path::print(&found);
    if let Some(wanted) = &assert.equals
        && printed != *wanted
    {
        return Err(Objection::False(format!("{place} is {printed:?}, not {wanted:?}")));
    }
    let number = one_number(&found);
    let bound = |limit: Option<f64>, within: fn(f64, f64) -> bool, word: &str| match (limit, number) {
        (None, _) => Ok(()),
        (Some(limit), Some(number)) if within(number, limit) => Ok(()),
        (Some(limit), _) => Err(Objection::False(format!("{place} is {printed}, not {word} {limit}"))),
    };
    bound(assert.at_least, |number, limit| number >= limit, "at least")?;
    bound(assert.at_most, |number, limit| number <= limit, "at most")?;
    if let Some(bound) = &assert.not_before {
        in_order(&found, &place, bound, other)?;
    }
    let metrics = match &assert.metric {
        None => Vec::new(),
        Some(name) => vec![Metric {
            name: name.clone(),
            value: number.ok_or_else(|| Objection::False(format!("{place} is {printed}, no number")))?,
            unit: assert.unit.clone().unwrap_or_else(|| "1".to_owned()),
            step: String::new(),
        }],
    };
    Ok((printed, metrics))
}

fn in_order(found: &[&Value], place: &str, bound: &ValueAt, other: Option<&Value>) -> Result<(), Objection> {
    let there = format!("{} of {}", bound.json_path, title(&bound.object));
    let other = other.ok_or_else(|| Objection::False(format!("{there} is not set")))?;
    let earliest = quantity(&path::values(other, &bound.json_path)?)
        .ok_or_else(|| Objection::False(format!("{there} is no time or number")))?;
    let added = match &bound.plus_json_path {
        None => 0.0,
        Some(plus) => one_number(&path::values(other, plus)?)
            .ok_or_else(|| Objection::False(format!("{plus} of {} is no number", title(&bound.object))))?,
    };
    let here = quantity(found).ok_or_else(|| Objection::False(format!("{place} is no time or number")))?;
    if here + ROUNDING < earliest + added {
        return Err(Objection::False(format!(
            "{place} is {}, {:.0} s before {there}{}",
            path::print(found),
            earliest + added - here,
            bound.plus_json_path.as_ref().map(|plus| format!(" plus {plus}")).unwrap_or_default()
        )));
    }
    Ok(())
}

fn place(assert: &Assert) -> String {
    format!("{} of {}", assert.json_path, title(&assert.object))
}

fn one_number(found: &[&Value]) -> Option<f64> {
    match found {
        [Value::Number(number)] => number.as_f64(),
        [Value::String(text)] => text.parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

/// A number, or a time as seconds.
fn quantity(found: &[&Value]) -> Option<f64> {
    one_number(found).or_else(|| match found {
        [Value::String(text)] => text.parse::<Timestamp>().ok().map(|time| time.as_duration().as_secs_f64()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::testrun::StepPhase;
    use serde_json::json;

    fn phase(assert: Value, object: Value, other: Option<Value>) -> (StepPhase, String) {
        let mut assert = assert;
        assert["object"] = json!({"kind": "Node", "name": "n"});
        let assert: Assert = serde_json::from_value(assert).unwrap();
        let end = judge(&object, &assert, other.as_ref());
        (end.phase, end.message)
    }

    #[test]
    fn only_what_is_there_and_fits_passes() {
        let object = json!({"status": {"restarts": 2, "ip": "10.0.0.1", "empty": null}});
        let is = |assert: Value| phase(assert, object.clone(), None).0;
        assert_eq!(is(json!({"jsonPath": ".status.restarts"})), StepPhase::Passed);
        assert_eq!(is(json!({"jsonPath": ".status.empty"})), StepPhase::Failed);
        assert_eq!(is(json!({"jsonPath": ".status.nope"})), StepPhase::Failed);
        assert_eq!(
            is(json!({"jsonPath": ".status.restarts", "equals": "2", "atLeast": 2, "atMost": 2})),
            StepPhase::Passed
        );
        assert_eq!(is(json!({"jsonPath": ".status.restarts", "atLeast": 3})), StepPhase::Failed);
        assert_eq!(is(json!({"jsonPath": ".status.ip", "atMost": 3})), StepPhase::Failed);
        assert_eq!(is(json!({"jsonPath": ".status.ip", "metric": "ip"})), StepPhase::Failed);
        assert_eq!(is(json!({"jsonPath": ".status["})), StepPhase::Errored);
    }

    #[test]
    fn order_in_time_is_judged_to_the_second() {
        let assert = json!({"jsonPath": ".status.bootStartedAt", "notBefore":
            {"object": {"kind": "Node", "name": "first"}, "jsonPath": ".status.bootStartedAt",
             "plusJsonPath": ".status.bootSeconds"}});
        let other = json!({"status": {"bootStartedAt": "2026-01-01T00:00:00Z", "bootSeconds": 30.5}});
        let at =
            |time: &str, other: Option<Value>| phase(assert.clone(), json!({"status": {"bootStartedAt": time}}), other);
        assert_eq!(at("2026-01-01T00:00:30Z", Some(other.clone())).0, StepPhase::Passed);
        let (phase, message) = at("2026-01-01T00:00:10Z", Some(other));
        assert_eq!(phase, StepPhase::Failed);
        assert!(message.contains("before .status.bootStartedAt of Node/first"), "{message}");
        assert_eq!(at("2026-01-01T00:00:30Z", None).0, StepPhase::Failed);
        assert_eq!(at("2026-01-01T00:00:30Z", Some(json!({}))).0, StepPhase::Failed);
    }
}
