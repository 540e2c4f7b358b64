use serde_json::{Value, json};

use super::*;
use crate::schema::Definition;

fn document() -> Value {
    json!({
        "metadata": {"name": "things.test.dev"},
        "spec": {
            "group": "test.dev", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"], "categories": ["all"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                 "selectableFields": [{"jsonPath": ".spec.host"}],
                 "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
                 "schema": {"openAPIV3Schema": {"type": "object"}}},
            ],
        },
    })
}

#[test]
fn a_sound_document_compiles() {
    let definition = Definition::from_crd(&document()).expect("definition");
    assert_eq!(definition.versions.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["v1", "v1beta1"]);
    assert_eq!(definition.storage().name, "v1");
    assert_eq!((definition.singular.as_str(), definition.list_kind.as_str()), ("thing", "ThingList"));
    assert_eq!(definition.storage().selectable, ["spec.host"]);
    assert!(definition.storage().status_subresource && definition.storage().scale.is_some());
    assert_eq!(definition.versions[1].warning(&definition).as_deref(), Some("test.dev/v1beta1 Thing is deprecated"));
    let mut object = json!({"apiVersion": "test.dev/v1beta1"});
    definition.encode(&mut object);
    assert_eq!(object["apiVersion"], "test.dev/v1");
}

#[test]
fn every_fault_of_a_document_is_named() {
    for (pointer, value, text) in [
        ("/spec/group", json!("dev"), "spec.group: Invalid value: \"dev\": should be a domain with at least one dot"),
        (
            "/metadata/name",
            json!("x"),
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            "/spec/scope",
            json!("Both"),
            "spec.scope: Unsupported value: \"Both\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        ("/spec/scope", json!(null), "spec.scope: Required value"),
        (
            "/spec/versions/0/storage",
            json!(true),
            "spec.versions: Invalid value: [{\"name\":\"v1beta1\",\"storage\":true},{\"name\":\"v1\",\"storage\":true}]: must have exactly one version marked as storage version",
        ),
        ("/spec/versions/0/name", json!("v1"), "spec.versions[1].name: Duplicate value: \"v1\""),
        (
            "/spec/versions/1/additionalPrinterColumns/0/type",
            json!("text"),
            "spec.versions[1].additionalPrinterColumns[0].type: Unsupported value: \"text\": supported values: \"boolean\", \"date\", \"integer\", \"number\", \"string\"",
        ),
        (
            "/spec/versions/1/additionalPrinterColumns/0/jsonPath",
            json!("..a"),
            "spec.versions[1].additionalPrinterColumns[0].jsonPath: Invalid value: \"..a\": must be a valid JSON path: recursive descent is not supported",
        ),
        (
            "/spec/versions/1/subresources/scale/specReplicasPath",
            json!(".status.n"),
            "spec.versions[1].subresources.scale.specReplicasPath: Invalid value: \".status.n\": should be a json path under .spec.",
        ),
        (
            "/spec/versions/1/schema",
            json!({}),
            "spec.versions[1].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        ("/spec/names/kind", json!(""), "spec.names.kind: Required value"),
    ] {
        let mut document = document();
        *document.pointer_mut(pointer).expect(pointer) = value;
        let errors = Definition::from_crd(&document).expect_err(pointer);
        assert!(errors.iter().any(|error| error.to_string() == text), "{pointer}: {errors:?}");
    }
}

#[test]
fn versions_are_ordered_as_kubernetes_orders_them() {
    let mut names = ["v1alpha1", "foo1", "v10", "v2beta1", "v1", "v1beta2", "v11beta2", "v2", "v11alpha2", "foo10"];
    names.sort_by_key(|name| std::cmp::Reverse(version_order(name)));
    assert_eq!(names, ["v10", "v2", "v1", "v11beta2", "v2beta1", "v1beta2", "v11alpha2", "v1alpha1", "foo1", "foo10"]);
}

#[test]
fn updates_keep_what_objects_depend_on() {
    let mut old = document();
    old["status"] = accepted_status(&old, "2024-01-01T00:00:00Z");
    assert_eq!(old["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(old["status"]["acceptedNames"]["listKind"], "ThingList");
    let mut new = document();
    assert!(validate_update(&new, &old).is_empty());
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["versions"].as_array_mut().expect("versions").pop();
    let said: Vec<String> = validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions",
        ]
    );
}
