//! What is noted of whom.

use super::*;

#[test]
fn an_object_nobody_was_noted_for_belongs_to_the_time_before() {
    let mut bench = Bench::new();
    bench.object =
        Some(json!({"apiVersion": "example.dev/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"size": 1}}));
    let refused = bench.apply("one", json!({"size": 2})).unwrap_err();
    assert!(refused.contains("conflict with \"before-first-apply\" using example.dev/v1: .spec.size"), "{refused}");
    bench.apply("one", json!({"note": "x"})).unwrap();
    assert_eq!(bench.owns("before-first-apply"), [".spec", ".spec.size"]);
    // Without an apply such an object stays unnoted.
    let mut other = Bench { managed: Managed::default(), ..bench };
    other = other.updated("hand", json!({"size": 3}));
    assert!(other.managed.entries.is_empty());
}

#[test]
fn entries_of_versions_that_are_gone_go_and_remove_nothing() {
    let mut bench = Bench::new().applied("one", json!({"size": 1}));
    bench.managed.entries[0].api_version = "example.dev/v0".to_owned();
    let bench = bench.applied("one", json!({"note": "x"}));
    assert_eq!(bench.spec(), json!({"size": 1, "note": "x"}));
}

#[test]
fn what_became_atomic_is_owned_as_one() {
    let mut bench = Bench::new().applied("one", json!({"args": ["a"], "selector": {"k": "v"}}));
    let inner = json!([{"manager": "one", "operation": "Apply", "apiVersion": "example.dev/v1", "fieldsV1":
        {"f:spec": {"f:args": {"v:\"a\"": {}}, "f:selector": {".": {}, "f:k": {}}}}}]);
    bench.managed = Managed::from_client(inner).unwrap();
    let bench = bench.applied("two", json!({"size": 1}));
    assert_eq!(bench.owns("one"), [".spec.args", ".spec.selector"]);
}

#[test]
fn a_created_object_belongs_to_its_maker_down_to_the_containers() {
    let mut bench = Bench::new();
    let object = json!({"apiVersion": "example.dev/v1", "kind": "Thing", "spec": {"size": 1},
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"l": "1"}, "generation": 1,
            "finalizers": ["f/x"], "ownerReferences": [{"uid": "o", "name": "q"}]}});
    bench.write("maker", "", NOW, object);
    let expected = [
        ".metadata.finalizers",
        ".metadata.finalizers[=\"f/x\"]",
        ".metadata.labels",
        ".metadata.labels.l",
        ".metadata.ownerReferences",
        ".metadata.ownerReferences[uid=\"o\"]",
        ".spec",
        ".spec.size",
    ];
    assert_eq!(bench.owns("maker"), expected);
}

#[test]
fn a_write_of_the_status_is_an_entry_of_its_own() {
    let mut bench = Bench::new().applied("one", json!({"size": 1}));
    let mut new = bench.object.clone().unwrap();
    new["status"] = json!({"phase": "Ready"});
    bench.write("one", "status", NOW, new.clone());
    let entry = bench.managed.entries.iter().find(|e| e.subresource == "status").unwrap();
    assert_eq!(
        (entry.operation, entry.fields.paths()),
        (Operation::Update, vec![".status".to_owned(), ".status.phase".to_owned()])
    );
    // The same again, later, is nothing new.
    let before = bench.managed.clone();
    bench.write("one", "status", LATER, new);
    assert_eq!(bench.managed, before);
}

#[test]
fn many_updaters_are_put_together() {
    let mut bench = Bench::new().applied("one", json!({}));
    for at in 0..14 {
        let mut new = bench.object.clone().unwrap();
        new["spec"]["labels"][format!("k{at}")] = json!("v");
        bench.write(&format!("hand{at:02}"), "", &format!("2026-01-01T00:00:{at:02}Z"), new);
    }
    let updaters = bench.managed.entries.iter().filter(|e| e.operation == Operation::Update);
    let updaters: Vec<&str> = updaters.map(|e| e.manager.as_str()).collect();
    assert_eq!(updaters.len(), 10);
    assert!(updaters.contains(&"ancient-changes") && updaters.contains(&"hand13"));
    assert_eq!(bench.owns("ancient-changes").len(), 6, "five keys and the map");
}

#[test]
fn what_clients_write_is_read_in_any_form_or_not_at_all() {
    let entry = |fields: Value| json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
    let read = |fields: Value| Managed::from_client(entry(fields)).map(|m| m.entries[0].fields.paths());
    assert_eq!(read(json!({"f:l": {"k:{\"b\":1, \"a\":2}": {}}})), Some(vec![".l[a=2,b=1]".to_owned()]));
    assert_eq!(read(json!({"f:l": {"i:3": {}}})), Some(vec![".l[3]".to_owned()]));
    for broken in
        [json!({"x:l": {}}), json!({"f:l": 1}), json!({"k:[": {}}), json!({"k:1": {}}), json!({"i:x": {}}), json!([])]
    {
        assert_eq!(read(broken.clone()), None, "{broken}");
    }
    assert!(Managed::from_client(json!([{"manager": "m", "operation": "Sing"}])).is_none());
}

#[test]
fn items_given_twice_are_found() {
    let kind = kind();
    let root = &kind.version("v1").unwrap().schema.root;
    let twice = duplicates(
        root,
        &json!({"spec": {"flags": ["a", "a"], "args": ["a", "a"], "ports": [{"port": 1}, {"port": 1}]}}),
    );
    let fields: Vec<&str> = twice.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["spec.flags[1]", "spec.ports[1]"]);
}

#[test]
fn a_hundred_thousand_items_are_noted_at_once() {
    let flags =
        |from: usize| -> Value { (0..100_000).map(|n| json!(format!("{:05}", (n * 7919 + from) % 200_000))).collect() };
    let started = std::time::Instant::now();
    let bench = Bench::new().applied("one", json!({"flags": flags(0)})).applied("two", json!({"flags": flags(50)}));
    let bench = bench.applied("one", json!({})).updated("hand", json!({"flags": flags(3)}));
    assert!(!bench.owns("hand").is_empty());
    let took = started.elapsed();
    assert!(took < std::time::Duration::from_secs(60), "{took:?}: what is added one by one takes many minutes");
}
