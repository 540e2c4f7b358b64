use serde_json::json;

use super::super::attributes::Named;
use super::*;

fn role(rules: Value) -> Value {
    json!({"rules": rules})
}

fn binding(namespace: &str, role: (&str, &str), subjects: Value) -> Value {
    json!({"metadata": {"namespace": namespace}, "roleRef": {"kind": role.0, "name": role.1}, "subjects": subjects})
}

fn get_port(namespace: &'static str) -> Attributes<'static> {
    Attributes::special("get", Named { group: "p.dev", resource: "ports", namespace, name: "a", ..Named::default() })
}

fn allowed(policy: &Policy, caller: &Identity, asked: &Attributes<'_>) -> bool {
    matches!(policy.decide(caller, asked), Decision::Allowed(_))
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    let ports = role(json!([{"apiGroups": ["p.dev"], "resources": ["ports"], "verbs": ["get"]}]));
    policy.set_role("", "reader", Some(&ports));
    policy.set_role("a", "local", Some(&ports));
    policy
}

#[test]
fn a_binding_holds_in_its_namespace_and_nowhere_else() {
    let mut policy = policy();
    let jane = Identity::new("jane", &["dev"]);
    let subjects = json!([{"kind": "User", "name": "jane"}]);
    policy.set_binding("a", "b", Some(&binding("a", ("ClusterRole", "reader"), subjects.clone())));
    assert!(allowed(&policy, &jane, &get_port("a")));
    assert!(!allowed(&policy, &jane, &get_port("b")));
    assert!(!allowed(&policy, &jane, &get_port("")));
    assert!(!allowed(&policy, &Identity::new("john", &["dev"]), &get_port("a")));
    policy.set_binding("", "b", Some(&binding("", ("ClusterRole", "reader"), subjects)));
    for namespace in ["a", "b", ""] {
        assert!(allowed(&policy, &jane, &get_port(namespace)), "{namespace}");
    }
    policy.set_binding("", "b", None);
    policy.set_binding("a", "b", None);
    assert!(!allowed(&policy, &jane, &get_port("a")));
    assert!(policy.users.is_empty() && policy.bindings.is_empty(), "nothing is kept of what is gone");
}

#[test]
fn a_changed_binding_forgets_whom_it_was_for() {
    let mut policy = policy();
    let of = |name: &str| binding("a", ("Role", "local"), json!([{"kind": "Group", "name": name}]));
    policy.set_binding("a", "b", Some(&of("dev")));
    policy.set_binding("a", "b", Some(&of("ops")));
    assert!(!allowed(&policy, &Identity::new("x", &["dev"]), &get_port("a")));
    assert!(allowed(&policy, &Identity::new("x", &["ops"]), &get_port("a")));
}

#[test]
fn a_role_of_another_namespace_cannot_be_meant() {
    let mut policy = policy();
    policy.set_binding("b", "b", Some(&binding("b", ("Role", "local"), json!([{"kind": "User", "name": "x"}]))));
    let Decision::NoOpinion(why) = policy.decide(&Identity::new("x", &[]), &get_port("b")) else { panic!("allowed") };
    assert_eq!(why, "RBAC: role.rbac.authorization.k8s.io \"local\" not found");
}

#[test]
fn a_service_account_is_a_user_of_its_namespace() {
    let mut policy = policy();
    let subjects = json!([{"kind": "ServiceAccount", "name": "robot", "namespace": "c"}]);
    policy.set_binding("a", "b", Some(&binding("a", ("Role", "local"), subjects)));
    let robot = Identity::new("system:serviceaccount:c:robot", &[]);
    let Decision::Allowed(grant) = policy.decide(&robot, &get_port("a")) else { panic!("refused") };
    assert_eq!(grant.reason(), "RBAC: allowed by RoleBinding \"b/a\" of Role \"local\" to ServiceAccount \"robot/c\"");
    assert!(!allowed(&policy, &Identity::new("system:serviceaccount:a:robot", &[]), &get_port("a")));
    assert_eq!(policy.rules_of(&robot, "a").len(), 1);
    assert!(policy.rules_of(&robot, "").is_empty());
}
