use std::sync::Arc;

use super::*;

fn thing() -> Arc<Definition> {
    let crd = json!({
        "metadata": {"name": "things.test.dev"},
        "spec": {
            "group": "test.dev", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
                "type": "object", "description": "A thing.", "required": ["spec"],
                "properties": {
                    "spec": {"type": "object", "description": "What is wished.", "properties": {
                        "size": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                        "note": {"type": "string", "nullable": true, "maxLength": 5},
                        "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "maxItems": 3},
                    }},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                },
            }}}],
        },
    });
    Arc::new(Definition::from_crd(&crd).expect("definition"))
}

#[test]
fn the_third_version_describes_a_kind_whole() {
    let mut document = v3_document(&[thing()], "test.dev", "v1").expect("document");
    // The shared schemas are many and the same for every kind; their own test looks at them.
    document["components"]["schemas"].as_object_mut().expect("schemas").retain(|name, _| name.starts_with("dev."));
    insta::assert_json_snapshot!(document);
    assert_eq!(v3_document(&[thing()], "test.dev", "v2"), None);
}

#[test]
fn the_second_version_leaves_out_what_it_cannot_say() {
    let document = v2_document(&[thing()]);
    insta::assert_json_snapshot!(document["definitions"]["dev.test.v1.Thing"]);
}

#[test]
fn every_reference_leads_somewhere() {
    let kinds: Vec<Arc<Definition>> = crate::schema::builtin().into_iter().map(Arc::new).chain([thing()]).collect();
    for (group, version) in group_versions(&kinds) {
        let document = v3_document(&kinds, &group, &version).expect("document");
        check(&document, &document);
    }
    let document = v2_document(&kinds);
    check(&document, &document);
}

fn check(root: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                let pointer = target.trim_start_matches('#');
                assert!(root.pointer(pointer).is_some(), "{target} leads nowhere");
            }
            map.values().for_each(|inner| check(root, inner));
        }
        Value::Array(items) => items.iter().for_each(|inner| check(root, inner)),
        _ => {}
    }
}

#[test]
fn the_index_names_every_group_version_and_changes_with_it() {
    let kinds: Vec<Arc<Definition>> = crate::schema::builtin().into_iter().map(Arc::new).collect();
    let before = v3_index(&kinds);
    let with: Vec<Arc<Definition>> = kinds.iter().cloned().chain([thing()]).collect();
    let after = v3_index(&with);
    let keys: Vec<&String> = after["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(
        keys,
        [
            "api/v1",
            "apis/apiextensions.k8s.io/v1",
            "apis/authentication.k8s.io/v1",
            "apis/authorization.k8s.io/v1",
            "apis/coordination.k8s.io/v1",
            "apis/events.k8s.io/v1",
            "apis/rbac.authorization.k8s.io/v1",
            "apis/test.dev/v1"
        ]
    );
    assert_eq!(before["paths"]["api/v1"], after["paths"]["api/v1"]);
    assert!(
        after["paths"]["apis/test.dev/v1"]["serverRelativeURL"]
            .as_str()
            .expect("url")
            .starts_with("/openapi/v3/apis/test.dev/v1?hash=")
    );
}
