use serde_json::json;

use super::*;
use crate::schema::builtin;

fn options(include: Include) -> Options<'static> {
    let now = "2024-01-01T01:00:00Z".parse().expect("time");
    Options { api_version: "meta.k8s.io/v1", include, headers: true, now }
}

#[test]
fn durations_read_as_kubectl_writes_them() {
    for (seconds, text) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_000, "3h3m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (8 * 86_400, "8d"),
        (800 * 86_400, "2y70d"),
        (3000 * 86_400, "8y"),
    ] {
        assert_eq!(human_duration(seconds), text, "{seconds}");
    }
}

#[test]
fn a_kind_without_columns_shows_name_and_age() {
    let crd = json!({
        "metadata": {"name": "things.test.dev"},
        "spec": {"group": "test.dev", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                 "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    });
    let definition = Definition::from_crd(&crd).expect("definition");
    let object = json!({"metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:54:28Z"}});
    let table = render(
        &definition,
        definition.storage(),
        [&object],
        json!({"resourceVersion": "5"}),
        options(Include::Metadata),
    );
    insta::assert_json_snapshot!(table);
}

#[test]
fn columns_follow_their_types_and_paths() {
    let crd = json!({
        "metadata": {"name": "things.test.dev"},
        "spec": {"group": "test.dev", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [{
            "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}},
            "additionalPrinterColumns": [
                {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
                {"name": "F", "type": "number", "jsonPath": ".spec.f", "priority": 1},
                {"name": "B", "type": "boolean", "jsonPath": ".spec.b"},
                {"name": "Wrong", "type": "integer", "jsonPath": ".spec.b"},
                {"name": "All", "type": "string", "jsonPath": ".spec.l[*].x"},
                {"name": "Object", "type": "string", "jsonPath": ".spec.l[0]"},
                {"name": "None", "type": "string", "jsonPath": ".spec.none"},
                {"name": "Since", "type": "date", "jsonPath": ".status.since"},
            ],
        }]},
    });
    let definition = Definition::from_crd(&crd).expect("definition");
    let object = json!({
        "metadata": {"name": "a"}, "spec": {"n": 3, "f": 1.5, "b": true, "l": [{"x": "p"}, {"x": "q"}]},
        "status": {"since": "2024-01-01T00:59:58Z", "conditions": [{"type": "Other", "status": "?"}, {"type": "Ready", "status": "True"}]},
    });
    let table = render(&definition, definition.storage(), [&object], json!({}), options(Include::None));
    assert_eq!(table["rows"][0]["cells"], json!(["a", "True", 3, 1.5, true, null, "p q", "{\"x\":\"p\"}", null, "2s"]));
    assert_eq!(table["rows"][0]["object"], json!(null));
    assert_eq!(table["columnDefinitions"][3]["priority"], 1);
}

#[test]
fn built_in_kinds_show_what_kubectl_users_expect() {
    let now = "2024-01-01T00:55:00Z";
    let cells = |kind: &str, group: &str, object: serde_json::Value| {
        let kinds = builtin();
        let definition = kinds.iter().find(|d| d.kind == kind && d.group == group).expect(kind);
        let table = render(definition, definition.storage(), [&object], json!({}), options(Include::Object));
        (
            table["columnDefinitions"]
                .as_array()
                .expect("columns")
                .iter()
                .map(|c| c["name"].clone())
                .collect::<Vec<_>>(),
            table["rows"][0]["cells"].clone(),
        )
    };
    let (names, row) = cells(
        "Secret",
        "",
        json!({"metadata": {"name": "s", "creationTimestamp": now}, "type": "Opaque", "data": {"a": "", "b": ""}}),
    );
    assert_eq!(json!(names), json!(["Name", "Type", "Data", "Age"]));
    assert_eq!(row, json!(["s", "Opaque", 2, "5m"]));
    let (_, row) = cells(
        "Namespace",
        "",
        json!({"metadata": {"name": "n", "creationTimestamp": now}, "status": {"phase": "Active"}}),
    );
    assert_eq!(row, json!(["n", "Active", "5m"]));
    let event = json!({
        "metadata": {"name": "e"}, "type": "Warning", "reason": "Lost", "message": " gone \n", "lastTimestamp": now, "firstTimestamp": now,
        "count": 3, "involvedObject": {"kind": "Node", "name": "n1"}, "source": {"component": "agent", "host": "h"},
    });
    let (names, row) = cells("Event", "", event.clone());
    assert_eq!(
        json!(names),
        json!([
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "Subobject",
            "Source",
            "Message",
            "First Seen",
            "Count",
            "Name"
        ])
    );
    let expected = json!(["5m", "Warning", "Lost", "node/n1", "", "agent, h", "gone", "5m", 3, "e"]);
    assert_eq!(row, expected);
    let mut newer = event;
    crate::schema::events::to_events_group(&mut newer);
    assert_eq!(cells("Event", "events.k8s.io", newer).1, expected);
}
