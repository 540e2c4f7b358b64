use serde_json::json;

use super::*;

#[test]
fn merge_patch_follows_the_rfc() {
    let mut object = json!({"a": "b", "c": {"d": "e", "f": "g"}, "l": [1, 2]});
    merge_patch(&mut object, json!({"a": "z", "c": {"f": null}, "l": [3], "n": {"x": null, "y": 1}})).expect("patch");
    assert_eq!(object, json!({"a": "z", "c": {"d": "e"}, "l": [3], "n": {"y": 1}}));
    assert_eq!(merge_patch(&mut object, json!([])).expect_err("no object").code(), 400);
}

#[test]
fn json_patch_applies_whole_or_not_at_all() {
    let mut object = json!({"a": [1, 2], "b": {"c": 1}});
    json_patch(
        &mut object,
        json!([
            {"op": "test", "path": "/b/c", "value": 1},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/b/c"},
            {"op": "copy", "from": "/a", "path": "/d"},
        ]),
    )
    .expect("patch");
    assert_eq!(object, json!({"a": [1, 2, 3], "b": {}, "d": [1, 2, 3]}));
    let before = object.clone();
    let failed = json_patch(&mut object, json!([{"op": "remove", "path": "/d"}, {"op": "remove", "path": "/nope"}]));
    assert_eq!(failed.expect_err("missing").code(), 422);
    assert_eq!(object, before);
    assert_eq!(json_patch(&mut object, json!({"op": "x"})).expect_err("shape").code(), 400);
}

#[test]
fn a_small_json_patch_cannot_grow_an_object_without_end() {
    let mut object = json!({"a": ["x".repeat(1000)]});
    let doubling: Vec<Value> = (0..30).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})).collect();
    assert_eq!(json_patch(&mut object, doubling.into()).expect_err("wide").code(), 413);
    let nesting: Vec<Value> = (0..5000).map(|_| json!({"op": "copy", "from": "", "path": "/b"})).collect();
    let mut small = json!({"a": 1});
    assert_eq!(json_patch(&mut small, nesting.into()).expect_err("deep").code(), 422);
    let many: Vec<Value> = (0..10_001).map(|_| json!({"op": "test", "path": "/a", "value": 1})).collect();
    assert_eq!(json_patch(&mut object, many.into()).expect_err("many").code(), 413);
}

#[test]
fn strategic_patch_merges_known_lists_by_key() {
    let kinds = crate::schema::builtin();
    let namespace = kinds.iter().find(|kind| kind.kind == "Namespace").expect("kind");
    let mut object = json!({
        "metadata": {"finalizers": ["a/b", "c/d"], "ownerReferences": [{"uid": "1", "name": "x"}]},
        "status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]},
    });
    strategic_patch(
        namespace,
        &mut object,
        json!({
            "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["a/b"], "$setElementOrder/finalizers": ["c/d", "e/f"],
                "finalizers": ["e/f"], "ownerReferences": [{"uid": "2", "name": "y"}],
            },
            "status": {"conditions": [{"type": "A", "status": "False"}, {"$patch": "delete", "type": "B"}]},
        }),
    )
    .expect("patch");
    assert_eq!(
        object,
        json!({
            "metadata": {"finalizers": ["c/d", "e/f"], "ownerReferences": [{"uid": "1", "name": "x"}, {"uid": "2", "name": "y"}]},
            "status": {"conditions": [{"type": "A", "status": "False"}]},
        })
    );
}
