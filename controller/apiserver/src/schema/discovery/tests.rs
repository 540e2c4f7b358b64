use super::*;
use crate::schema::builtin;

fn definitions() -> Vec<Arc<Definition>> {
    let crd = serde_json::json!({
        "metadata": {"name": "things.test.dev"},
        "spec": {
            "group": "test.dev", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}}, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v2alpha1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v0", "served": false, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}},
            ],
        },
    });
    let mut thing = Definition::from_crd(&crd).expect("definition");
    thing.connect = vec!["exec".to_owned()];
    builtin().into_iter().chain([thing]).map(Arc::new).collect()
}

#[test]
fn plain_discovery_lists_groups_and_resources() {
    let definitions = definitions();
    insta::assert_json_snapshot!("groups", api_group_list(&definitions));
    insta::assert_json_snapshot!("group", api_group(&definitions, "test.dev"));
    insta::assert_json_snapshot!("resources", api_resource_list(&definitions, "test.dev", "v1"));
    insta::assert_json_snapshot!("core_resources", api_resource_list(&definitions, "", "v1"));
    assert_eq!(api_group(&definitions, "nope"), None);
    assert_eq!(api_group(&definitions, ""), None);
    assert_eq!(api_resource_list(&definitions, "test.dev", "v0"), None);
}

#[test]
fn aggregated_discovery_holds_everything_at_once() {
    let definitions = definitions();
    insta::assert_json_snapshot!("aggregated_api", aggregated(&definitions, true, Form::V2));
    insta::assert_json_snapshot!("aggregated_apis", aggregated(&definitions, false, Form::V2Beta1));
}
