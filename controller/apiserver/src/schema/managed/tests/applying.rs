//! What an apply does to an object, and when it is refused.

use super::*;

#[test]
fn who_applies_owns_what_it_says() {
    let bench = Bench::new().applied(
        "one",
        json!({"size": 1, "flags": ["x"], "args": ["a"], "labels": {"l": "1"},
        "selector": {"s": "1"}, "ports": [{"port": 80}], "free": {"deep": {"er": [1]}}}),
    );
    let owned = bench.owns("one");
    let expected = [
        ".spec.args",
        ".spec.flags[=\"x\"]",
        ".spec.free.deep",
        ".spec.free.deep.er",
        ".spec.labels.l",
        ".spec.ports[port=80,protocol=\"TCP\"]",
        ".spec.ports[port=80,protocol=\"TCP\"].port",
        ".spec.selector",
        ".spec.size",
    ];
    assert_eq!(owned, expected);
    let entry = &serde_json::to_value(&bench.managed).unwrap()[0];
    assert_eq!(entry["operation"], "Apply");
    assert_eq!(entry["fieldsType"], "FieldsV1");
    assert_eq!(
        entry["fieldsV1"]["f:spec"]["f:ports"]["k:{\"port\":80,\"protocol\":\"TCP\"}"],
        json!({".": {}, "f:port": {}})
    );
}

#[test]
fn disjoint_fields_of_two_appliers_live_together() {
    let bench = Bench::new().applied("one", json!({"size": 1, "ports": [{"port": 80, "name": "web"}], "flags": ["a"]}));
    let bench = bench.applied("two", json!({"note": "x", "ports": [{"port": 443}], "flags": ["b"]}));
    let ports = json!([{"port": 80, "name": "web"}, {"port": 443}]);
    assert_eq!(bench.spec(), json!({"size": 1, "note": "x", "ports": ports, "flags": ["a", "b"]}));
    let again = bench.clone().applied("one", json!({"ports": [{"port": 80}]}));
    let ports = json!([{"port": 80}, {"port": 443}]);
    assert_eq!(again.spec(), json!({"note": "x", "ports": ports, "flags": ["b"]}));
    let none = bench.applied("one", json!({}));
    assert_eq!(none.spec(), json!({"note": "x", "ports": [{"port": 443}], "flags": ["b"]}));
}

#[test]
fn what_is_applied_no_longer_goes_unless_somebody_else_has_it() {
    // case, first apply, others' apply, second apply, result
    let table = [
        ("a field", json!({"size": 1, "note": "x"}), json!({}), json!({"size": 1}), json!({"size": 1})),
        ("a shared field", json!({"note": "x"}), json!({"note": "x"}), json!({}), json!({"note": "x"})),
        (
            "a key of a map",
            json!({"labels": {"a": "1", "b": "2"}}),
            json!({}),
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"a": "1"}}),
        ),
        ("a whole map", json!({"size": 1, "labels": {"a": "1"}}), json!({}), json!({"size": 1}), json!({"size": 1})),
        (
            "a map others use",
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"b": "2"}}),
            json!({}),
            json!({"labels": {"b": "2"}}),
        ),
        (
            "an item by key",
            json!({"ports": [{"port": 1}, {"port": 2}]}),
            json!({}),
            json!({"ports": [{"port": 2}]}),
            json!({"ports": [{"port": 2}]}),
        ),
        (
            "a field of a shared item",
            json!({"ports": [{"port": 1, "note": "n"}]}),
            json!({"ports": [{"port": 1}]}),
            json!({}),
            json!({"ports": [{"port": 1}]}),
        ),
        (
            "a member of a set",
            json!({"flags": ["a", "b"]}),
            json!({"flags": ["c"]}),
            json!({"flags": ["b"]}),
            json!({"flags": ["b", "c"]}),
        ),
        ("a shared member", json!({"flags": ["a"]}), json!({"flags": ["a"]}), json!({}), json!({"flags": ["a"]})),
        ("an atomic list", json!({"size": 1, "args": ["a"]}), json!({}), json!({"size": 1}), json!({"size": 1})),
        (
            "an atomic map",
            json!({"size": 1, "selector": {"a": "1"}}),
            json!({}),
            json!({"size": 1}),
            json!({"size": 1}),
        ),
        (
            "in a nested map",
            json!({"groups": {"g": {"a": "1", "b": "2"}}}),
            json!({}),
            json!({"groups": {"g": {"a": "1"}}}),
            json!({"groups": {"g": {"a": "1"}}}),
        ),
        (
            "where no schema speaks",
            json!({"free": {"x": {"a": 1, "b": 2}, "y": 1}}),
            json!({"free": {"x": {"c": 3}}}),
            json!({"free": {"x": {"a": 1}}}),
            json!({"free": {"x": {"a": 1, "c": 3}}}),
        ),
        ("to an empty list", json!({"ports": [{"port": 1}]}), json!({}), json!({"ports": []}), json!({"ports": []})),
        ("to an empty map", json!({"labels": {"a": "1"}}), json!({}), json!({"labels": {}}), json!({"labels": {}})),
    ];
    for (case, first, others, second, result) in table {
        let bench = Bench::new().applied("one", first).applied("two", others).applied("one", second.clone());
        assert_eq!(bench.spec(), result, "{case}");
        let again = bench.clone().applied("one", second);
        assert_eq!((again.spec(), again.managed), (bench.spec(), bench.managed), "{case}, applied again");
    }
}

#[test]
fn another_value_for_anothers_field_is_a_conflict() {
    let table = [
        (json!({"size": 1}), json!({"size": 2}), ".spec.size"),
        (json!({"labels": {"a": "1"}}), json!({"labels": {"a": "2"}}), ".spec.labels.a"),
        (json!({"args": ["a"]}), json!({"args": ["a", "b"]}), ".spec.args"),
        (json!({"selector": {"a": "1"}}), json!({"selector": {"b": "1"}}), ".spec.selector"),
        (json!({"limit": 1}), json!({"limit": "1"}), ".spec.limit"),
        (
            json!({"ports": [{"port": 1, "note": "x"}]}),
            json!({"ports": [{"port": 1, "note": "y"}]}),
            ".spec.ports[port=1,protocol=\"TCP\"].note",
        ),
    ];
    for (first, second, path) in table {
        let mut bench = Bench::new().applied("one", first.clone());
        let refused = bench.apply("two", second.clone()).unwrap_err();
        assert_eq!(refused, format!("Apply failed with 1 conflict: conflict with \"one\": {path}"));
        assert_eq!(bench.spec(), first, "a refused apply changes nothing");
        bench.apply_as("two", "v1", second.clone(), true).unwrap();
        assert_eq!(bench.spec(), second);
        assert!(!bench.owns("one").contains(&path.to_owned()), "{path} was taken from the other");
    }
}

#[test]
fn the_same_value_is_shared_and_given_up_without_harm() {
    let bench = Bench::new().applied("one", json!({"size": 1})).applied("two", json!({"size": 1}));
    assert_eq!((bench.owns("one"), bench.owns("two")), (bench.owns("two"), vec![".spec.size".to_owned()]));
    let mut refused = bench.clone();
    assert!(refused.apply("one", json!({"size": 2})).unwrap_err().contains("\"two\""));
    let bench = bench.applied("two", json!({}));
    assert_eq!(bench.spec(), json!({"size": 1}));
    assert_eq!(bench.owns("two"), [".spec"], "an empty map is all it says");
    let bench = bench.applied("one", json!({"size": 2}));
    assert_eq!(bench.spec(), json!({"size": 2}));
}

#[test]
fn an_update_takes_what_it_changes_and_conflicts_in_kubectls_words() {
    let mut bench =
        Bench::new().applied("one", json!({"size": 1, "note": "x"})).updated("hand", json!({"size": 2, "note": "x"}));
    assert_eq!((bench.owns("one"), bench.owns("hand")), (vec![".spec.note".to_owned()], vec![".spec.size".to_owned()]));
    let refused = bench.apply("one", json!({"size": 1, "note": "x"})).unwrap_err();
    assert_eq!(refused, "Apply failed with 1 conflict: conflict with \"hand\" using example.dev/v1: .spec.size");
    // To agree with the other, or to be silent, is no conflict.
    let silent = bench.clone().applied("one", json!({"note": "x"}));
    assert_eq!(silent.spec(), json!({"size": 2, "note": "x"}));
    let agreed = bench.applied("one", json!({"size": 2, "note": "x"}));
    assert_eq!(agreed.owns("one"), [".spec.note", ".spec.size"]);
    assert_eq!(agreed.owns("hand"), [".spec.size"]);
}

#[test]
fn several_conflicts_are_told_by_manager() {
    let mut bench = Bench::new().applied("two", json!({"note": "x"})).applied("one", json!({"size": 1, "args": []}));
    let refused = bench.apply("three", json!({"size": 2, "note": "y", "args": ["z"]})).unwrap_err();
    let text = "Apply failed with 3 conflicts: conflicts with \"one\":\n- .spec.args\n- .spec.size\n\
                conflicts with \"two\":\n- .spec.note";
    assert_eq!(refused, text);
}

#[test]
fn what_an_updater_or_nobody_made_stays() {
    let bench = Bench::new().applied("one", json!({"labels": {"a": "1"}}));
    let bench = bench.updated("hand", json!({"labels": {"a": "1", "b": "2"}, "size": 5}));
    let bench = bench.applied("one", json!({}));
    assert_eq!(bench.spec(), json!({"labels": {"b": "2"}, "size": 5}));
}

#[test]
fn order_follows_the_configuration_and_keeps_others_in_place() {
    let port = |n: i32| json!({"port": n});
    let bench = Bench::new().applied("one", json!({"ports": [port(1), port(2), port(3)]}));
    let bench = bench.updated("hand", json!({"ports": [port(9), port(1), port(2), port(8), port(3)]}));
    let bench = bench.applied("one", json!({"ports": [port(3), port(4), port(1), port(2)]}));
    let order: Vec<i64> =
        bench.spec()["ports"].as_array().unwrap().iter().map(|p| p["port"].as_i64().unwrap()).collect();
    assert_eq!(order, [9, 8, 3, 4, 1, 2]);
}

#[test]
fn an_applier_is_the_same_in_every_version() {
    let mut bench = Bench::new().applied("one", json!({"size": 1, "note": "x"}));
    bench.apply_as("one", "v2", json!({"size": 1}), false).unwrap();
    assert_eq!(bench.spec(), json!({"size": 1}));
    assert_eq!(bench.managed.entries.len(), 1);
    assert_eq!(bench.managed.entries[0].api_version, "example.dev/v2");
    let refused = bench.apply("two", json!({"size": 9})).unwrap_err();
    assert!(refused.contains("\"one\": .spec.size"), "{refused}");
}
