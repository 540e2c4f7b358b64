use proptest::prelude::*;

use super::*;

fn rule(value: Value) -> Rule {
    Rule::of(&value)
}

fn asks<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes::special(verb, Named { group, resource, subresource, namespace: "n", name })
}

#[test]
fn a_rule_allows_what_it_says_and_nothing_else() {
    let ports = rule(json!({"apiGroups": ["p.dev"], "resources": ["ports", "ports/status"], "verbs": ["get", "list"]}));
    let table = [
        (asks("get", "p.dev", "ports", "a"), true),
        (asks("get", "p.dev", "ports/status", "a"), true),
        (asks("list", "p.dev", "ports", ""), true),
        (asks("delete", "p.dev", "ports", "a"), false),
        (asks("get", "", "ports", "a"), false),
        (asks("get", "p.dev", "ports/log", "a"), false),
        (asks("get", "p.dev", "port", "a"), false),
        (Attributes::of_path("/ports", "get"), false),
    ];
    for (asked, allowed) in table {
        assert_eq!(ports.allows(&asked), allowed, "{asked:?}");
    }
}

#[test]
fn wildcards_mean_every_one() {
    let all = rule(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
    assert!(all.allows(&asks("impersonate", "", "users", "x")));
    assert!(all.allows(&asks("get", "p.dev", "virtualmachines/exec", "x")));
    assert!(!all.allows(&Attributes::of_path("/metrics", "get")));
    let status = rule(json!({"apiGroups": ["*"], "resources": ["*/status"], "verbs": ["update"]}));
    assert!(status.allows(&asks("update", "p.dev", "ports/status", "a")));
    assert!(!status.allows(&asks("update", "p.dev", "ports", "a")));
    let paths = rule(json!({"nonResourceURLs": ["/api/*", "/version"], "verbs": ["get"]}));
    for (path, allowed) in [("/api/v1", true), ("/api", false), ("/version", true), ("/versions", false)] {
        assert_eq!(paths.allows(&Attributes::of_path(path, "get")), allowed, "{path}");
    }
}

#[test]
fn names_limit_a_rule_to_objects() {
    let one = rule(
        json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get", "list", "create"]}),
    );
    assert!(one.allows(&asks("get", "", "secrets", "a")));
    assert!(!one.allows(&asks("get", "", "secrets", "b")));
    assert!(!one.allows(&asks("list", "", "secrets", "")));
    assert!(!one.allows(&asks("create", "", "secrets", "")));
}

#[test]
fn what_is_missing_is_told_by_resource() {
    let held = [rule(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}))];
    let wanted = [rule(json!({"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get", "list"]}))];
    let described: Vec<String> = missing(&held, &wanted).iter().map(Rule::described).collect();
    assert_eq!(
        described,
        [
            r#"{APIGroups:[""], Resources:["secrets"], Verbs:["list"]}"#,
            r#"{APIGroups:[""], Resources:["configmaps"], Verbs:["get" "list"]}"#,
        ]
    );
    assert!(missing(&Rule::everything(), &wanted).is_empty());
    let named = [rule(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get"]}))];
    assert!(missing(&held, &named).is_empty());
    assert_eq!(missing(&named, &held).len(), 1, "one name is less than all");
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(words).prop_map(str::to_owned), 1..3)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    (
        word(&["get", "list", "*"]),
        word(&["", "p.dev", "*"]),
        word(&["ports", "ports/status", "*/status", "*", "vms"]),
        prop::option::of(word(&["a", "b"])),
    )
        .prop_map(|(verbs, api_groups, resources, names)| Rule {
            verbs,
            api_groups,
            resources,
            resource_names: names.unwrap_or_default(),
            non_resource_urls: Vec::new(),
        })
}

proptest! {
    /// Whoever holds all of a rule, by `missing`, may do whatever that rule allows.
    #[test]
    fn containing_a_rule_means_allowing_what_it_allows(
        held in prop::collection::vec(any_rule(), 0..4),
        wanted in any_rule(),
    ) {
        if missing(&held, std::slice::from_ref(&wanted)).is_empty() {
            for verb in ["get", "list"] {
                for group in ["", "p.dev"] {
                    for resource in ["ports", "ports/status", "vms", "vms/status"] {
                        for name in ["", "a", "b"] {
                            let asked = asks(verb, group, resource, name);
                            if wanted.allows(&asked) {
                                prop_assert!(held.iter().any(|rule| rule.allows(&asked)), "{asked:?}");
                            }
                        }
                    }
                }
            }
        }
    }
}
