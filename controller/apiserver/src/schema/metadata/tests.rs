use serde_json::json;

use super::*;

fn said(kind: &str, metadata: Value) -> Vec<String> {
    let kinds = crate::schema::builtin();
    let definition = kinds.iter().find(|definition| definition.kind == kind).expect(kind);
    validate_metadata(definition, &json!({"metadata": metadata})).iter().map(ToString::to_string).collect()
}

#[test]
fn sound_metadata_passes() {
    let metadata = json!({
        "name": "a.b-c", "namespace": "ns", "labels": {"x.dev/y": "Z_1", "empty": ""},
        "annotations": {"Kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "finalizers": ["photoncloud.dev/agent", "foregroundDeletion"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "o", "uid": "u", "controller": true}],
    });
    assert_eq!(said("ConfigMap", metadata), [""; 0]);
    assert_eq!(said("ConfigMap", json!({"generateName": "x-"})), [""; 0]);
}

#[test]
fn every_fault_is_named_as_kubectl_names_it() {
    for (kind, metadata, text) in [
        ("ConfigMap", json!({}), "metadata.name: Required value: name or generateName is required"),
        (
            "ConfigMap",
            json!({"name": "Bad_Name"}),
            "metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            "Namespace",
            json!({"name": "a.b"}),
            "metadata.name: Invalid value: \"a.b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (
            "Namespace",
            json!({"name": "a", "namespace": "b"}),
            "metadata.namespace: Forbidden: not allowed on this type",
        ),
        (
            "ConfigMap",
            json!({"name": "a", "labels": {"a": "b c"}}),
            "metadata.labels: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            "ConfigMap",
            json!({"name": "a", "labels": {"/a": "b"}}),
            "metadata.labels: Invalid value: \"/a\": prefix part must be non-empty",
        ),
        (
            "ConfigMap",
            json!({"name": "a", "labels": {"a": 1}}),
            "metadata.labels.a: Invalid value: \"integer\": metadata.labels.a in body must be of type string: \"integer\"",
        ),
        (
            "ConfigMap",
            json!({"name": "a", "finalizers": ["a/"]}),
            "metadata.finalizers[0]: Invalid value: \"a/\": name part must be non-empty",
        ),
        (
            "ConfigMap",
            json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "o"}]}),
            "metadata.ownerReferences[0].uid: Invalid value: \"\": uid must not be empty",
        ),
    ] {
        assert_eq!(said(kind, metadata), [text]);
    }
    let long = said("ConfigMap", json!({"name": "a", "annotations": {"a": "x".repeat(300_000)}}));
    assert_eq!(long, ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
}

#[test]
fn updates_keep_identity() {
    let kinds = crate::schema::builtin();
    let definition = kinds.iter().find(|definition| definition.kind == "ConfigMap").expect("kind");
    let old = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["a/b"]}});
    assert!(validate_metadata_update(definition, &old, &old).is_empty());
    let mut new = old.clone();
    new["metadata"]["uid"] = json!("2");
    new["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
    let said: Vec<String> = validate_metadata_update(definition, &new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "metadata.uid: Invalid value: \"2\": field is immutable",
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"c/d\"}",
        ]
    );
    let mut odd = json!({"metadata": {"name": "a", "zzz": 1}});
    assert_eq!(prune_metadata(&mut odd), ["metadata.zzz"]);
    assert_eq!(odd, json!({"metadata": {"name": "a"}}));
}
