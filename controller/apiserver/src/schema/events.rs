//! One storage for `v1` and `events.k8s.io/v1` Events.
//!
//! Events are stored as `v1`. The two forms differ in names only, so the newer one is a view: renamed on the way out and
//! back on the way in.

use serde_json::{Map, Value, json};

/// The newer form's group.
pub(super) const GROUP: &str = "events.k8s.io";

/// (`v1` name, `events.k8s.io` name).
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A stored event as `events.k8s.io/v1`.
pub(super) fn to_events_group(event: &mut Value) {
    rename(event, |(old, new)| (old, new));
}

/// An `events.k8s.io/v1` event as it is stored.
pub(super) fn to_core_group(event: &mut Value) {
    rename(event, |(old, new)| (new, old));
    if let Value::Object(map) = event {
        map.insert("apiVersion".to_owned(), "v1".into());
        default_reference(map);
    }
}

/// `v1` requires involvedObject; an event about nothing is about its own namespace.
fn default_reference(map: &mut Map<String, Value>) {
    if !map.contains_key("involvedObject") {
        map.insert("involvedObject".to_owned(), json!({}));
    }
}

fn rename(event: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Value::Object(map) = event else { return };
    for pair in RENAMED {
        let (from, to) = direction(pair);
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_turn_into_each_other() {
        let stored = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Started", "type": "Normal", "count": 2,
            "message": "up", "involvedObject": {"kind": "Node", "name": "n"}, "source": {"component": "agent"},
            "reportingComponent": "photoncloud.dev/agent",
        });
        let mut seen = stored.clone();
        to_events_group(&mut seen);
        assert_eq!(seen["note"], "up");
        assert_eq!(seen["regarding"]["name"], "n");
        assert_eq!(seen["reportingController"], "photoncloud.dev/agent");
        assert_eq!(seen.get("message"), None);
        to_core_group(&mut seen);
        assert_eq!(seen, stored);
    }
}
