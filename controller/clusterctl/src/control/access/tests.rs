use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;

fn named<'d>(documents: &'d [Value], kind: &str, name: &str) -> Option<&'d Value> {
    documents.iter().find(|d| d["kind"] == kind && d["metadata"]["name"] == name)
}

#[test]
fn every_binding_names_a_role_that_is_there() {
    let documents = documents().unwrap();
    for binding in documents.iter().filter(|d| d["roleRef"].is_object()) {
        let role = binding["roleRef"]["name"].as_str().unwrap();
        assert!(named(&documents, binding["roleRef"]["kind"].as_str().unwrap(), role).is_some(), "{role}");
    }
}

#[test]
fn every_resource_in_a_rule_is_one_that_is_served() {
    let crds = crds::all();
    for role in documents().unwrap() {
        for rule in role["rules"].as_array().into_iter().flatten() {
            if rule["apiGroups"][0] != crds::GROUP {
                continue;
            }
            for resource in rule["resources"].as_array().unwrap() {
                let plural = resource.as_str().unwrap().split('/').next().unwrap();
                assert!(crds.iter().any(|crd| crd.spec.names.plural == plural), "{resource}");
            }
        }
    }
}

#[test]
fn tenants_may_see_every_kind_that_lives_in_a_namespace_and_no_other() {
    let documents = documents().unwrap();
    let role = named(&documents, "ClusterRole", "photoncloud:aggregate-to-view").unwrap();
    let seen: BTreeSet<&str> = role["rules"][0]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .filter(|resource| !resource.contains('/'))
        .collect();
    let crds = crds::all();
    let tenants: BTreeSet<&str> =
        crds.iter().filter(|crd| crd.spec.scope == "Namespaced").map(|crd| crd.spec.names.plural.as_str()).collect();
    assert_eq!(seen, tenants);
}

/// What goes into a machine or comes out of one is for who may work in the tenant, and for nobody who only looks at it; nor do agents
/// or nodes ask for it.
#[test]
fn doors_are_for_those_who_may_edit() {
    let documents = documents().unwrap();
    for door in ["ports/capture", "virtualmachines/console", "virtualmachines/exec", "virtualmachines/portforward"] {
        let has = |rule: &Value| rule["resources"].as_array().into_iter().flatten().any(|resource| resource == door);
        let with = documents.iter().filter(|role| role["rules"].as_array().into_iter().flatten().any(has));
        let names: Vec<&str> = with.filter_map(|role| role["metadata"]["name"].as_str()).collect();
        assert!(names.contains(&"photoncloud:aggregate-to-edit"), "{door}: {names:?}");
        let others = ["photoncloud:aggregate-to-view", "host-agent", "node-agent"];
        assert!(!names.iter().any(|name| others.contains(name)), "{door}: {names:?}");
    }
}

/// A part of the server without a role would be refused everything, at run time.
#[tokio::test]
async fn every_part_of_the_server_has_a_role_of_its_own() {
    let asked = Mutex::new(vec!["testrun".to_owned(), "relay".to_owned()]);
    let over = tokio_util::sync::CancellationToken::new();
    over.cancel();
    let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>().await
    });
    let client = kube::Client::new(nobody, "default");
    let parts = reconcilers::run(
        |name| {
            asked.lock().unwrap().push(name.to_owned());
            client.clone()
        },
        over,
    );
    // The parts are named when they begin; whether they end at once does not matter here.
    let _ = futures::FutureExt::now_or_never(Box::pin(parts));
    let documents = documents().unwrap();
    let asked = asked.into_inner().unwrap();
    assert!(asked.len() > 5, "{asked:?}");
    for name in asked {
        let user = reconciler(&name);
        assert!(named(&documents, "ClusterRole", &user).is_some(), "{user} has no role");
        let binding = named(&documents, "ClusterRoleBinding", &user).unwrap();
        assert_eq!(binding["subjects"][0]["name"], user.as_str());
        assert_eq!(binding["roleRef"]["name"], user.as_str());
    }
}

#[test]
fn agents_are_confined_in_whatever_is_bound_to_a_host() {
    let confined = confinements();
    for crd in crds::all() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let bound = schema.pointer("/openAPIV3Schema/properties/spec/properties/host").is_some();
        let plural = &crd.spec.names.plural;
        let found = confined[0].resources.iter().find(|c| c.resource == *plural);
        match found.map(|c| &c.tie) {
            Some(Tie::Field(path)) if path == "status.host" => assert_eq!(plural, "nodes"),
            Some(Tie::Field(path)) => assert!(bound && path == "spec.host", "{plural}"),
            Some(Tie::Name) => assert_eq!(plural, "hosts"),
            Some(Tie::Led(_)) => panic!("{plural} is not led to"),
            None => assert!(!bound, "{plural} is bound to hosts and every agent may reach all of them"),
        }
    }
}

/// Where a Secret's certificate is served is told by fields that are there, so that a field that is renamed does not lock agents out.
#[test]
fn what_leads_to_a_secret_are_fields_of_our_kinds() {
    let confined = confinements();
    let secrets = confined[0].resources.iter().find(|one| one.resource == "secrets").unwrap();
    let Tie::Led(steps) = &secrets.tie else { panic!("{:?}", secrets.tie) };
    assert_eq!(steps.last().unwrap().to, "spec.host");
    let crds = crds::all();
    for step in steps {
        let crd = crds.iter().find(|crd| crd.spec.names.plural == step.resource).unwrap();
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        for path in [&step.from, &step.to].into_iter().filter(|path| *path != "metadata.name") {
            let mut at = &schema["openAPIV3Schema"];
            for part in path.split('.') {
                at = if at["items"].is_object() { &at["items"]["properties"][part] } else { &at["properties"][part] };
            }
            assert!(at.is_object(), "{}: {path}", step.resource);
        }
    }
}
